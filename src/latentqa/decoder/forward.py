"""The decoder's forward on activations: one function for asking, scoring, training and steering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from latentqa.activations import inject
from latentqa.decoder.wiring import Slot, Wiring
from latentqa.dialogs import match_positions
from latentqa.errors import ActivationError, ContextLengthError
from latentqa.models import context_length, describe, hidden_size
from latentqa.models.head import token_logprobs


@dataclass(frozen=True)
class Row:
    """One question, with or without its answer, on one slot of a batch.

    Attributes:
        slot: index of the slot.
        question: the question.
        answer: token ids of the answer, end of turn included; empty when the answer is to be generated.
    """

    slot: int
    question: str
    answer: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prefix:
    """Head and placeholders of some slots, run once for all rows on them.

    Attributes:
        cache: keys and values, one batch row per slot.
        mask: `[B, T]`, which of its tokens are real.
        next_positions: `[B]`, position of the token that follows.
    """

    cache: DynamicCache
    mask: Tensor
    next_positions: Tensor


@dataclass(frozen=True)
class Encoded:
    """Hidden states of a batch of rows.

    Attributes:
        hidden: `[S, T, D]`, last hidden states of the rows' own tokens.
        starts: `[S]`, index in `hidden` of each row's last prompt token, which predicts the answer's first.
        cache: keys and values of everything so far; None in flat mode.
        mask: `[S, T_all]`, which cached tokens are real.
        next_positions: `[S]`, position of the next token of each row.
    """

    hidden: Tensor
    starts: Tensor
    cache: DynamicCache | None
    mask: Tensor
    next_positions: Tensor


@dataclass(frozen=True)
class _Sequence:
    """Token ids and positions of one row of a forward call."""

    token_ids: tuple[int, ...]
    positions: tuple[int, ...]


def encode(
    wiring: Wiring,
    slots: Sequence[Slot],
    rows: Sequence[Row],
    *,
    share: bool = True,
    prefix: Prefix | None = None,
) -> Encoded:
    """Run the decoder over rows; rows on one slot share the pass over its placeholders.

    Args:
        wiring: the decoder; call inside `wiring.active()`.
        slots: activations of the batch.
        rows: questions (and answers) on them.
        share: run each slot's placeholders once and let its rows attend to the cached keys and values. Turned
            off by itself where the prompt has the question first. Without sharing each row is one whole
            sequence: needed under gradient checkpointing, which drops the cache.
        prefix: of these slots, if `prefill` ran them already.

    Raises:
        ContextLengthError: a row longer than the model's context.
        ActivationError: a slot whose vectors do not match its number of placeholders.
    """
    if share and wiring.prompt.placeholders_first:
        return _encode_shared(wiring, prefix or prefill(wiring, slots), rows)
    for slot in slots:
        _check_slot(slot)
    return _encode_flat(wiring, slots, rows)


def answer_logprobs(
    wiring: Wiring,
    slots: Sequence[Slot],
    rows: Sequence[Row],
    *,
    share: bool = True,
    prefix: Prefix | None = None,
) -> tuple[Tensor, Tensor]:
    """Log-probability of each row's answer tokens, teacher-forced; arguments as of `encode`.

    Returns:
        Two tensors over all answer tokens of all rows: values float32 in nats, differentiable; and
        row indices.
    """
    encoded = encode(wiring, slots, rows, share=share, prefix=prefix)
    device = encoded.hidden.device
    counts = torch.tensor([len(row.answer) for row in rows], device=device)
    row_index = torch.repeat_interleave(torch.arange(len(rows), device=device), counts)
    offsets = torch.arange(len(row_index), device=device) - (counts.cumsum(0) - counts)[row_index]
    token_ids = torch.tensor([token for row in rows for token in row.answer], device=device)
    hidden = encoded.hidden[row_index, encoded.starts[row_index] + offsets]
    return token_logprobs(wiring.model, hidden, token_ids), row_index


def following_logprobs(
    wiring: Wiring, encoded: Encoded, index: Sequence[int], answers: Sequence[tuple[int, ...]]
) -> tuple[Tensor, Tensor]:
    """Log-probability of answers to questions that were run already, teacher-forced: each question once.

    Args:
        wiring: the decoder; call inside `wiring.active()`.
        encoded: of rows without an answer, run with sharing, their cache without gaps.
        index: row of `encoded` that each answer follows.
        answers: token ids of each, end of turn included.

    Returns:
        As `answer_logprobs`.

    Raises:
        ContextLengthError: an answer that ends beyond the model's context.
    """
    device = encoded.hidden.device
    rows = torch.tensor(index, device=device)
    starts_at = encoded.next_positions[rows].tolist()
    sequences = [
        _Sequence(answer[:-1], tuple(range(first, first + len(answer) - 1)))
        for first, answer in zip(starts_at, answers, strict=True)
    ]
    _check_context(wiring, sequences)
    hidden = encoded.hidden[rows, encoded.starts[rows]][:, None]
    if max(map(len, answers)) > 1:
        assert encoded.cache is not None
        token_ids, mask, positions = _pad_right(sequences, device)
        whole = torch.cat([encoded.mask[rows], mask], dim=1)
        more = run_hidden(wiring, token_ids, whole, positions, _select(encoded.cache, rows))
        hidden = torch.cat([hidden, more], dim=1)
    counts = torch.tensor([len(answer) for answer in answers], device=device)
    row_index = torch.repeat_interleave(torch.arange(len(answers), device=device), counts)
    offsets = torch.arange(len(row_index), device=device) - (counts.cumsum(0) - counts)[row_index]
    wanted = torch.tensor([token for answer in answers for token in answer], device=device)
    return token_logprobs(wiring.model, hidden[row_index, offsets], wanted), row_index


def without_gaps(encoded: Encoded) -> Encoded:
    """Cached padding moved in front of each row's tokens: sliding windows count padding too."""
    order = encoded.mask.argsort(dim=1, stable=True)
    if encoded.cache is None or torch.equal(
        order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    ):
        return encoded
    for layer in encoded.cache.layers:
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        layer.keys = layer.keys.take_along_dim(order[:, None, :, None], dim=2)
        layer.values = layer.values.take_along_dim(order[:, None, :, None], dim=2)
    return replace(encoded, mask=encoded.mask.gather(1, order))


def mean_per_row(values: Tensor, row_index: Tensor, n_rows: int) -> Tensor:
    """Mean of token values within each row.

    Args:
        values: `[N]`.
        row_index: `[N]`, row of each value.
        n_rows: number of rows, `S`.

    Returns:
        `[S]`.
    """
    totals = values.new_zeros(n_rows).index_add(0, row_index, values)
    counts = values.new_zeros(n_rows).index_add(0, row_index, torch.ones_like(values))
    return totals / counts


def _encode_shared(wiring: Wiring, prefix: Prefix, rows: Sequence[Row]) -> Encoded:
    device = prefix.mask.device
    index = torch.tensor([row.slot for row in rows], device=device)
    starts_at = prefix.next_positions.tolist()
    sequences = []
    for row in rows:
        token_ids = wiring.prompt.tail(row.question) + row.answer[:-1]
        first = starts_at[row.slot]
        sequences.append(_Sequence(token_ids, tuple(range(first, first + len(token_ids)))))
    _check_context(wiring, sequences)
    token_ids, row_mask, positions = _pad_right(sequences, device)
    row_cache = _select(prefix.cache, index)
    mask = torch.cat([prefix.mask[index], row_mask], dim=1)
    hidden = run_hidden(wiring, token_ids, mask, positions, row_cache)
    starts = torch.tensor([len(wiring.prompt.tail(row.question)) - 1 for row in rows], device=device)
    return Encoded(hidden, starts, row_cache, mask, positions.amax(dim=1) + 1)


def _encode_flat(wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row]) -> Encoded:
    device = wiring.model.device
    sequences, marks, starts = [], [], []
    for row in rows:
        slot = slots[row.slot]
        token_ids, marked, _ = wiring.prompt.full(slot.n, row.question)
        starts.append(len(token_ids) - 1)
        token_ids = tuple(token_ids) + row.answer[:-1]
        sequences.append(_Sequence(token_ids, _positions(wiring, slot, marked, len(token_ids))))
        marks.append([i for i, mark in enumerate(marked) if mark])
    _check_context(wiring, sequences)
    token_ids, mask, positions = _pad_right(sequences, device)
    written = torch.zeros_like(mask, dtype=torch.bool)
    for i, (row, indices) in enumerate(zip(rows, marks, strict=True)):
        if slots[row.slot].vectors is not None:
            written[i, indices] = True
    vectors = [v for row in rows if (v := slots[row.slot].vectors) is not None]
    with _write(wiring, vectors, written):
        hidden = run_hidden(wiring, token_ids, mask, positions, None)
    return Encoded(hidden, torch.tensor(starts, device=device), None, mask, positions.amax(dim=1) + 1)


def prefill(wiring: Wiring, slots: Sequence[Slot]) -> Prefix:
    """Run head and placeholders of each slot once; padded on the left, so that rows follow without a gap.

    Raises:
        ContextLengthError: a slot longer than the model's context.
        ActivationError: a slot whose vectors do not match its number of placeholders.
    """
    for slot in slots:
        _check_slot(slot)
    head, placeholder = wiring.prompt.head, wiring.prompt.placeholder_id
    sequences = []
    for slot in slots:
        token_ids = head + (placeholder,) * slot.n
        marked = [False] * len(head) + [True] * slot.n
        sequences.append(_Sequence(token_ids, _positions(wiring, slot, marked, len(token_ids))))
    token_ids, mask, positions = _pad_left(sequences, wiring.model.device)
    written = torch.zeros_like(mask, dtype=torch.bool)
    for i, slot in enumerate(slots):
        if slot.vectors is not None and slot.n:
            written[i, -slot.n :] = True
    _check_context(wiring, sequences)
    cache = DynamicCache()  # made without the config it keeps every token; windows are the mask's business
    with _write(wiring, [slot.vectors for slot in slots if slot.vectors is not None], written):
        run_hidden(wiring, token_ids, mask, positions, cache)
    return Prefix(cache, mask, positions.amax(dim=1) + 1)


def run_hidden(
    wiring: Wiring, token_ids: Tensor, mask: Tensor, positions: Tensor, cache: DynamicCache | None
) -> Tensor:
    """Last hidden states `[B, T, D]` of the decoder: its blocks and last norm, no logits."""
    return wiring.model.get_decoder()(
        input_ids=token_ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
    ).last_hidden_state


def _write(wiring: Wiring, vectors: list[Tensor], mask: Tensor):
    flat = torch.cat(vectors) if vectors else torch.zeros(0, hidden_size(wiring.model))
    return inject(
        wiring.model,
        wiring.site,
        flat,
        mask=mask,
        mode=wiring.mode,
        scale=wiring.scale,
        path=wiring.blocks_path,
    )


def _select(cache: DynamicCache, index: Tensor) -> DynamicCache:
    """A new cache whose row i is row `index[i]` of `cache`; gradients flow through it."""
    chosen = DynamicCache()
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        chosen.update(layer.keys[index], layer.values[index], number)
    return chosen


def _positions(wiring: Wiring, slot: Slot, marked: Sequence[bool], length: int) -> tuple[int, ...]:
    """Positions of a prompt's tokens: counted through, or with placeholders where the read tokens stood."""
    if not wiring.shift_positions or not slot.positions:
        return tuple(range(length))
    head = marked.index(True)
    return match_positions(head, slot.positions, length - head - slot.n)


def _pad_right(sequences: Sequence[_Sequence], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return _pad(sequences, device, left=False)


def _pad_left(sequences: Sequence[_Sequence], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return _pad(sequences, device, left=True)


def _pad(
    sequences: Sequence[_Sequence], device: torch.device, *, left: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and positions, each `[B, T]` long."""
    length = max(len(sequence.token_ids) for sequence in sequences)
    padded = torch.zeros(3, len(sequences), length, dtype=torch.long)
    for i, sequence in enumerate(sequences):
        n = len(sequence.token_ids)
        where = slice(length - n, length) if left else slice(0, n)
        padded[0, i, where] = torch.tensor(sequence.token_ids)
        padded[1, i, where] = 1
        padded[2, i, where] = torch.tensor(sequence.positions)
    token_ids, mask, positions = padded.to(device)
    return token_ids, mask, positions


def _check_slot(slot: Slot) -> None:
    if slot.vectors is not None and (slot.vectors.dim() != 2 or len(slot.vectors) != slot.n):
        raise ActivationError(
            f"{slot.n} placeholders need vectors [{slot.n}, D], but they are {list(slot.vectors.shape)}."
        )


def _check_context(wiring: Wiring, sequences: Sequence[_Sequence]) -> None:
    limit = context_length(wiring.model)
    longest = max((sequence.positions[-1] + 1 for sequence in sequences if sequence.positions), default=0)
    if limit is not None and longest > limit:
        raise ContextLengthError(
            f"The decoder prompt has {longest} tokens, but {describe(wiring.model)} takes {limit}. "
            "Read a shorter span (for example last:64) or fewer layers."
        )
