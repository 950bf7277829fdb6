"""Teacher-forced scores of given answers, in batches under a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from latentqa.decoder.forward import Row, answer_logprobs, prefill
from latentqa.decoder.wiring import Slot, Wiring

SLOTS_PER_PREFILL = 16
TOKENS_PER_PASS = 1024  # of rows, padded; more is no faster on a CPU and takes memory


@torch.no_grad()
def token_scores(wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row]) -> list[Tensor]:
    """Log-probabilities of each row's answer tokens, in nats; call inside `wiring.active()`.

    Returns:
        For each row a float32 tensor of its answer's length, on the CPU.
    """
    found: list[Tensor | None] = [None] * len(rows)
    used = sorted({row.slot for row in rows}, key=lambda number: slots[number].n)
    for first in range(0, len(used), SLOTS_PER_PREFILL):
        place = {number: i for i, number in enumerate(used[first : first + SLOTS_PER_PREFILL])}
        chosen = [slots[number] for number in place]
        prefix = prefill(wiring, chosen) if wiring.prompt.placeholders_first else None
        for numbers in _passes(wiring, rows, [n for n, row in enumerate(rows) if row.slot in place]):
            batch = [Row(place[rows[n].slot], rows[n].question, rows[n].answer) for n in numbers]
            values, row_index = answer_logprobs(wiring, chosen, batch, prefix=prefix)
            parts = values.cpu().split(torch.bincount(row_index.cpu(), minlength=len(batch)).tolist())
            for number, part in zip(numbers, parts, strict=True):
                found[number] = part
    return [part for part in found if part is not None]


def mean_scores(wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row]) -> list[float]:
    """Mean log-probability per answer token of each row, in nats."""
    return [float(part.mean()) for part in token_scores(wiring, slots, rows)]


def _passes(wiring: Wiring, rows: Sequence[Row], numbers: Sequence[int]) -> Iterator[list[int]]:
    """Cut rows into passes of like length under the token budget, longest first."""
    lengths = {n: len(wiring.prompt.tail(rows[n].question)) + len(rows[n].answer) for n in numbers}
    order = sorted(numbers, key=lambda n: -lengths[n])
    while order:
        size = max(1, TOKENS_PER_PASS // lengths[order[0]])
        yield order[:size]
        order = order[size:]
