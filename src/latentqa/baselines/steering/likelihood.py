"""Log-probabilities of given tokens under a target, as it is at the moment: steered, adapted or plain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentqa.decoder import Target
from latentqa.decoder.target import last_hidden
from latentqa.errors import ContextLengthError
from latentqa.models import active_adapter, context_length, describe
from latentqa.models.head import logits, token_logprobs

TOKENS_PER_PASS = 2048
ROWS_OF_LOGITS = 256  # hidden states whose logits are made at once: 50 MB with 49,152 words


@dataclass(frozen=True)
class Scored:
    """A sequence of tokens of which the later part is scored.

    Attributes:
        token_ids: the whole sequence.
        first: the first token that is scored, at least 1: what comes before is only read.
    """

    token_ids: tuple[int, ...]
    first: int = 1

    @property
    def scored(self) -> tuple[int, ...]:
        """The tokens that are scored."""
        return self.token_ids[self.first :]


@torch.no_grad()
def sequence_logprobs(
    target: Target, sequences: Sequence[Scored], *, temperature: float = 1.0
) -> list[Tensor]:
    """Log-probability of each scored token of each sequence.

    Args:
        target: as it is now; with its own adapters on.
        sequences: at least one scored token each.
        temperature: that the logits are divided by; above 1 the target is flatter.

    Returns:
        For each sequence float32 values `[T]` in nats, on the CPU.

    Raises:
        ContextLengthError: a sequence longer than the model's context.
    """
    if not sequences:
        return []
    _check_context(target, sequences)
    if temperature == 1.0:
        return target.logprobs([one.token_ids for one in sequences], [one.first for one in sequences])
    return [values[0] for values in tempered_logprobs(target, sequences, (temperature,))]


@torch.no_grad()
def tempered_logprobs(
    target: Target, sequences: Sequence[Scored], temperatures: Sequence[float]
) -> list[Tensor]:
    """The same at several temperatures, in one pass: for each sequence `[K, T]`."""
    found: list[Tensor] = [torch.empty(0)] * len(sequences)
    for numbers in _batches(sequences):
        batch = [sequences[number] for number in numbers]
        hidden, token_ids, rows = predicting_states(target, batch)
        parts = []
        for first in range(0, len(hidden), ROWS_OF_LOGITS):
            chunk = slice(first, first + ROWS_OF_LOGITS)
            values = logits(target.model, hidden[chunk]).float()
            parts.append(torch.stack([_logprobs(values / t, token_ids[chunk]) for t in temperatures]))
        counts = torch.bincount(rows.cpu(), minlength=len(batch)).tolist()
        for number, part in zip(numbers, torch.cat(parts, dim=1).cpu().split(counts, dim=1), strict=True):
            found[number] = part
    return found


def batch_logprobs(target: Target, sequences: Sequence[Scored]) -> tuple[Tensor, Tensor]:
    """Log-probabilities in one pass and with gradients, for losses.

    Returns:
        Values `[N]` float32 in nats of all scored tokens, sequence by sequence, and the sequence of each,
        `[N]`.
    """
    hidden, token_ids, rows = predicting_states(target, sequences)
    return token_logprobs(target.model, hidden, token_ids), rows


def predicting_states(target: Target, sequences: Sequence[Scored]) -> tuple[Tensor, Tensor, Tensor]:
    """Last hidden states from which each scored token is predicted, in one pass.

    Returns:
        States `[N, D]`, the tokens that they predict `[N]`, and the sequence of each, `[N]`.
    """
    _check_context(target, sequences)
    with active_adapter(target.model, target.adapter):
        hidden = last_hidden(target.model, [one.token_ids for one in sequences])
    parts = [hidden[row, one.first - 1 : len(one.token_ids) - 1] for row, one in enumerate(sequences)]
    token_ids = torch.tensor([token for one in sequences for token in one.scored], device=hidden.device)
    rows = [row for row, one in enumerate(sequences) for _ in one.scored]
    return torch.cat(parts), token_ids, torch.tensor(rows, device=hidden.device)


def _logprobs(values: Tensor, token_ids: Tensor) -> Tensor:
    return -torch.nn.functional.cross_entropy(values, token_ids, reduction="none")


def _batches(sequences: Sequence[Scored]) -> Iterator[list[int]]:
    """Numbers of the sequences, of like length together, `TOKENS_PER_PASS` padded tokens at most."""
    batch: list[int] = []
    for number in sorted(range(len(sequences)), key=lambda number: len(sequences[number].token_ids)):
        if batch and (len(batch) + 1) * len(sequences[number].token_ids) > TOKENS_PER_PASS:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _check_context(target: Target, sequences: Sequence[Scored]) -> None:
    limit = context_length(target.model)
    longest = max(len(one.token_ids) for one in sequences)
    if limit is not None and longest > limit:
        raise ContextLengthError(
            f"A text of {longest} tokens was to be scored, but {describe(target.model)} takes {limit}. "
            "Shorten it, or take shorter windows."
        )
