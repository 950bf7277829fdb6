"""Windows of WikiText-2 on which perplexity is measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from latentqa.benchmarks.experiment import Item
from latentqa.benchmarks.steering.experiment import steering_item
from latentqa.data import data_file
from latentqa.errors import DataError

if TYPE_CHECKING:
    from latentqa.baselines.steering import Aim
    from latentqa.decoder import Target

FILE = "wikitext2/valid.txt"
TOKENS = 50_000
"""Tokens of the file that are tested on; settings are chosen on what follows."""
WINDOW = 512
VALIDATION_WINDOWS = 4
GROUP = "wikitext2"

Window = tuple[int, ...]


def test_windows(target: Target, root: Path, count: int = 0) -> list[Window]:
    """Windows of the first 50,000 tokens that do not overlap; 0 is all of them, else some, evenly spread.

    A window is shorter where the model's context is: it must have room for a prompt before it.

    Raises:
        DataError: the file is missing, or too short for one window.
    """
    windows = _windows(target, root, 0, TOKENS)
    if not count or count >= len(windows):
        return windows
    return [windows[place * len(windows) // count] for place in range(count)]


def validation_windows(target: Target, root: Path) -> list[Window]:
    """A few windows after those; of a shorter file its last ones."""
    found = _windows(target, root, TOKENS, TOKENS + VALIDATION_WINDOWS * WINDOW, or_last=True)
    return found[:VALIDATION_WINDOWS]


def window_items(aim: Aim, windows: list[Window], *, group: str = GROUP) -> list[Item]:
    """One item per window, for an aim."""
    return [
        steering_item(
            f"{aim.name}:window:{number}",
            aim,
            "window",
            f"{FILE}, window {number}",
            group=group,
            unit=f"window-{number}",
            tokens=window,
        )
        for number, window in enumerate(windows)
    ]


def _windows(target: Target, root: Path, first: int, last: int, *, or_last: bool = False) -> list[Window]:
    from latentqa.models import context_length

    token_ids = _tokens(target, root)
    limit = context_length(target.model)
    size = WINDOW if limit is None else min(WINDOW, limit // 2)
    part = token_ids[first:last]
    if or_last and len(part) < size:
        part = token_ids[-VALIDATION_WINDOWS * size :]
    windows = [part[start : start + size] for start in range(0, len(part) - size + 1, size)]
    if not windows:
        raise DataError(
            f"{FILE} has {len(token_ids)} tokens, and a window takes {size}. Give the whole validation text."
        )
    return windows


def _tokens(target: Target, root: Path) -> Window:
    """The first tokens of the file: no more of it is read than is needed."""
    with data_file(FILE, root).open(encoding="utf-8") as file:
        text = file.read(12 * (TOKENS + VALIDATION_WINDOWS * WINDOW))
    found = target.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return tuple(found)  # pyright: ignore[reportArgumentType]
