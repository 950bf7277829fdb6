"""Perplexity of the target, as it is now, on a plain text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from latentqa.decoder.target import Target
from latentqa.errors import DataError
from latentqa.models import context_length

TOKENS = 50_000
WINDOW = 512
BATCH = 8


@dataclass(frozen=True)
class Perplexity:
    """A perplexity with what it was measured on.

    Attributes:
        value: exp of the mean loss per scored token.
        nats: that mean loss.
        tokens: tokens scored: all of a window but its first.
        windows: number of windows.
    """

    value: float
    nats: float
    tokens: int
    windows: int


def perplexity(
    target: Target,
    text: str,
    *,
    tokens: int = TOKENS,
    window: int = WINDOW,
    progress: Callable[[int, int], None] | None = None,
) -> Perplexity:
    """Perplexity on non-overlapping windows of the first tokens of a text; steered at every position.

    Args:
        target: as it is now, steered or not.
        text: plain text, such as WikiText-2's `valid.txt`; no start token is put before a window.
        tokens: of the text that are used, at most.
        window: tokens of a window; the rest that fills none is left out, unless it is all there is.
        progress: called with (windows done, windows in all).

    Raises:
        DataError: a text of fewer than two tokens.
        ActivationError: log-probabilities that are not finite.
    """
    token_ids = _tokens(target, text, tokens)
    size = min(window, context_length(target.model) or window)
    cut = [tuple(token_ids[start : start + size]) for start in range(0, len(token_ids), size)]
    windows = [part for part in cut if len(part) == size] or [tuple(token_ids)]
    total = count = 0.0
    for first in range(0, len(windows), BATCH):
        for values in target.logprobs(windows[first : first + BATCH]):
            total -= float(values.double().sum())
            count += len(values)
        if progress is not None:
            progress(min(first + BATCH, len(windows)), len(windows))
    nats = total / count
    return Perplexity(math.exp(min(nats, 700.0)), nats, int(count), len(windows))


def read_text(path: str | Path) -> str:
    """A text file for `perplexity`.

    Raises:
        DataError: it is missing or no UTF-8 text.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The text for the perplexity cannot be read from {path}: {error}.") from error


def _tokens(target: Target, text: str, limit: int) -> list[int]:
    """The first tokens of a text, of which no more is tokenized than is needed."""
    for length in _lengths(len(text), limit):
        found = target.tokenizer(text[:length], add_special_tokens=False, verbose=False)["input_ids"]
        if len(found) > limit or length >= len(text):  # pyright: ignore[reportArgumentType]
            if len(found) < 2:  # pyright: ignore[reportArgumentType]
                raise DataError(
                    f"A text of {len(text)} characters has fewer than two tokens: no perplexity can be "
                    "taken. Give a longer one."
                )
            return list(found[:limit])  # pyright: ignore[reportIndexIssue, reportArgumentType]
    raise AssertionError("the last length is the whole text")


def _lengths(n_characters: int, n_tokens: int) -> Iterator[int]:
    """Ever longer beginnings of a text, in characters, up to the whole."""
    length = 8 * n_tokens
    while length < n_characters:
        yield length
        length *= 2
    yield n_characters
