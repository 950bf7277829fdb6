"""Teacher-forced scores of given answers, in batches under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from latentqa.decoder.forward import (
    Row,
    answer_logprobs,
    encode,
    following_logprobs,
    prefill,
    without_gaps,
)
from latentqa.decoder.wiring import Slot, Wiring

SLOTS_PER_PREFILL = 16
TOKENS_PER_PASS = 1024  # of rows, padded; more is no faster on a CPU and takes memory
CACHED_PER_PASS = 8192  # of the keys and values of all rows of a pass; 190 MB in the builtin model


@torch.no_grad()
def token_scores(wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row]) -> list[Tensor]:
    """Log-probabilities of each row's answer tokens, in nats; call inside `wiring.active()`.

    A question that has several answers on one slot is run once for all of them.

    Returns:
        For each row a float32 tensor of its answer's length, on the CPU.
    """
    found: dict[int, Tensor] = {}
    asked = {(row.slot, row.question) for row in rows}
    if wiring.prompt.placeholders_first and len(asked) < len(rows):
        parts = _question_once(wiring, slots, rows)
    else:
        parts = _row_by_row(wiring, slots, rows)
    for numbers, values, row_index in parts:
        counts = torch.bincount(row_index.cpu(), minlength=len(numbers)).tolist()
        found.update(zip(numbers, values.cpu().split(counts), strict=True))
    return [found[number] for number in range(len(rows))]


def mean_scores(wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row]) -> list[float]:
    """Mean log-probability per answer token of each row, in nats."""
    return [float(part.mean()) for part in token_scores(wiring, slots, rows)]


Part = tuple[list[int], Tensor, Tensor]
"""Numbers of rows, values of all their answers' tokens, and which of the rows each value belongs to."""


def _row_by_row(wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row]) -> Iterator[Part]:
    """Rows on the slots that they share."""
    used = sorted({row.slot for row in rows}, key=lambda number: slots[number].n)
    lengths = {n: len(wiring.prompt.tail(row.question)) + len(row.answer) for n, row in enumerate(rows)}
    for first in range(0, len(used), SLOTS_PER_PREFILL):
        place = {number: i for i, number in enumerate(used[first : first + SLOTS_PER_PREFILL])}
        chosen = [slots[number] for number in place]
        prefix = prefill(wiring, chosen) if wiring.prompt.placeholders_first else None
        for numbers in _passes({n: lengths[n] for n, row in enumerate(rows) if row.slot in place}):
            batch = [Row(place[rows[n].slot], rows[n].question, rows[n].answer) for n in numbers]
            values, row_index = answer_logprobs(wiring, chosen, batch, prefix=prefix)
            yield numbers, values, row_index


def _question_once(wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row]) -> Iterator[Part]:
    """Answers on the questions and slots that they share."""
    asked: dict[tuple[int, str], list[int]] = {}
    for number, row in enumerate(rows):
        asked.setdefault((row.slot, row.question), []).append(number)
    order = sorted(asked, key=lambda key: (slots[key[0]].n, key[0]))
    for first in range(0, len(order), SLOTS_PER_PREFILL):
        keys = order[first : first + SLOTS_PER_PREFILL]
        place = {slot: i for i, slot in enumerate(dict.fromkeys(slot for slot, _ in keys))}
        questions = [Row(place[slot], question) for slot, question in keys]
        encoded = without_gaps(encode(wiring, [slots[slot] for slot in place], questions))
        row_of = {number: i for i, key in enumerate(keys) for number in asked[key]}
        lengths = {number: len(rows[number].answer) for number in row_of}
        for numbers in _passes(lengths, context=encoded.mask.shape[1]):
            index = [row_of[number] for number in numbers]
            answers = [rows[number].answer for number in numbers]
            values, row_index = following_logprobs(wiring, encoded, index, answers)
            yield numbers, values, row_index


def _passes(lengths: Mapping[int, int], *, context: int = 0) -> Iterator[list[int]]:
    """Cut rows into passes of like length under the token budget, longest first.

    Args:
        lengths: number of a row → tokens that are run for it.
        context: cached tokens that are copied for each row.
    """
    order = sorted(lengths, key=lambda number: -lengths[number])
    while order:
        longest = max(1, lengths[order[0]])
        size = TOKENS_PER_PASS // longest
        if context:
            size = min(size, CACHED_PER_PASS // (context + longest))
        yield order[: max(1, size)]
        order = order[max(1, size) :]
