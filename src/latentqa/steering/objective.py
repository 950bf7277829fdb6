"""What steering lowers: the decoder's loss on question-answer pairs, given the target's live activations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentqa.decoder.decoder import Decoder
from latentqa.decoder.forward import Row, answer_logprobs, mean_per_row
from latentqa.decoder.score import token_scores
from latentqa.decoder.target import Reading, Target
from latentqa.decoder.wiring import Slot
from latentqa.dialogs import DecoderPrompt
from latentqa.errors import ConfigError
from latentqa.steering.pairs import Pair, check_pairs


@dataclass(frozen=True)
class AskedPair:
    """A pair as the decoder is asked it.

    Attributes:
        question: the question.
        answer: token ids of the answer, end of turn included.
        counted: which of them the loss is a mean of.
        wanted: whether its loss is lowered; otherwise it is raised.
        ceiling: the loss up to which an unwanted answer is raised, in nats a token.
    """

    question: str
    answer: tuple[int, ...]
    counted: tuple[bool, ...]
    wanted: bool
    ceiling: float = float("inf")


@dataclass(frozen=True)
class PairLosses:
    """Mean loss of each pair over some stimuli.

    Attributes:
        pairs: the pairs.
        losses: of each, in nats a counted token.
    """

    pairs: tuple[AskedPair, ...]
    losses: tuple[float, ...]

    @property
    def wanted(self) -> float | None:
        """Mean over the wanted pairs; None without any."""
        return self._mean(True)

    @property
    def unwanted(self) -> float | None:
        """Mean over the unwanted pairs; None without any."""
        return self._mean(False)

    @property
    def objective(self) -> float:
        """What the optimiser sees: wanted losses, and what unwanted ones lack to their ceiling."""
        parts = (term(pair, loss) for pair, loss in zip(self.pairs, self.losses, strict=True))
        return sum(parts) / len(self.pairs)

    def _mean(self, wanted: bool) -> float | None:
        chosen = [loss for pair, loss in zip(self.pairs, self.losses, strict=True) if pair.wanted == wanted]
        return sum(chosen) / len(chosen) if chosen else None


def term(pair: AskedPair, loss: float) -> float:
    """A pair's part of the objective, from its loss."""
    return loss if pair.wanted else max(0.0, pair.ceiling - loss)


def asked_pairs(decoder: Decoder, pairs: Sequence[Pair]) -> tuple[AskedPair, ...]:
    """Pairs with their answers tokenized.

    Raises:
        SteeringError: no pair, an empty one, or one that is both wanted and unwanted.
    """
    prompt = decoder.wiring.prompt
    return tuple(
        AskedPair(pair.question, prompt.answer(pair.answer), _counted(prompt, pair), pair.wanted)
        for pair in check_pairs(pairs)
    )


def _counted(prompt: DecoderPrompt, pair: Pair) -> tuple[bool, ...]:
    """Which tokens of the answer belong to the pair's focus; all where it has none.

    The words around a topic are the decoder's own way of speaking. Pushing them too spends the change on
    them, and a topic that opens the answer drags its capital letter along (docs/results.md).
    """
    answer = prompt.answer(pair.answer)
    if not pair.focus:
        return (True,) * len(answer)
    start = pair.answer.index(pair.focus)
    before = pair.answer[:start].rstrip()
    end = len(prompt.end_of_turn)
    first = len(prompt.answer(before)) - end if before else 0
    last = len(prompt.answer(pair.answer[: start + len(pair.focus)])) - end
    return tuple(first <= number < max(last, first + 1) for number in range(len(answer)))


def with_ceilings(losses: PairLosses, margin: float) -> tuple[AskedPair, ...]:
    """Pairs that know how far the unwanted ones are raised: `margin` nats a token above where they are."""
    return tuple(
        pair if pair.wanted else replace(pair, ceiling=loss + margin)
        for pair, loss in zip(losses.pairs, losses.losses, strict=True)
    )


def objective_backward(
    decoder: Decoder,
    slots: Sequence[Slot],
    groups: Sequence[Sequence[AskedPair]],
    tokens_per_pass: int,
) -> float:
    """The mean objective over rows, and its gradients by whatever the slots' vectors depend on.

    The decoder's passes run one after the other, each backward to the vectors it was given; these gradients
    then go through the target in one backward pass. So one decoder pass is in memory at a time.

    Args:
        decoder: frozen; its wiring is made active here.
        slots: activations with their graph.
        groups: pairs asked on each of them; rows on one slot share the pass over its placeholders.
        tokens_per_pass: padded tokens of a decoder pass.
    """
    live = [_vectors(slot) for slot in slots]
    leaves = [replace(slot, vectors=_vectors(slot).detach().requires_grad_()) for slot in slots]
    n_rows = sum(map(len, groups))
    total = 0.0
    for numbers in _passes(decoder, leaves, groups, tokens_per_pass):
        part = _objective(decoder, [leaves[n] for n in numbers], [groups[n] for n in numbers]) / n_rows
        part.backward()
        total += float(part.detach())
    gradients = [
        torch.zeros_like(vectors) if (found := _vectors(leaf).grad) is None else found
        for vectors, leaf in zip(live, leaves, strict=True)
    ]
    torch.autograd.backward(live, gradients)
    return total


def _objective(decoder: Decoder, slots: Sequence[Slot], groups: Sequence[Sequence[AskedPair]]) -> Tensor:
    """Sum of the objective's terms over the rows of one decoder pass."""
    asked = [pair for group in groups for pair in group]
    rows = [Row(place, pair.question, pair.answer) for place, group in enumerate(groups) for pair in group]
    with decoder.wiring.active():
        values, row_index = answer_logprobs(decoder.wiring, slots, rows)
    counted = torch.tensor([flag for pair in asked for flag in pair.counted], device=values.device)
    losses = -mean_per_row(values[counted], row_index[counted], len(rows))
    wanted = torch.tensor([pair.wanted for pair in asked], device=losses.device)
    ceilings = torch.tensor([pair.ceiling for pair in asked], device=losses.device)
    lacking = (ceilings - losses).clamp(min=0).masked_fill(wanted, 0.0)
    return (losses * wanted + lacking).sum()


def _vectors(slot: Slot) -> Tensor:
    assert slot.vectors is not None, "a slot of a read target has vectors"
    return slot.vectors


@torch.no_grad()
def pair_losses(
    decoder: Decoder, slots: Sequence[Slot], pairs: Sequence[AskedPair], *, per_slot: int | None = None
) -> PairLosses:
    """Loss of each pair, averaged over the slots; those on one slot share its prefix.

    Args:
        decoder: the decoder.
        slots: activations of the target as it is now.
        pairs: the pairs.
        per_slot: ask only so many on each slot, another stretch of the pairs on the next; all by default.
    """
    count = len(pairs) if per_slot is None else min(per_slot, len(pairs))
    chosen = [
        (slot, (slot * count + offset) % len(pairs)) for slot in range(len(slots)) for offset in range(count)
    ]
    rows = [Row(slot, pairs[number].question, pairs[number].answer) for slot, number in chosen]
    with decoder.wiring.active():
        scores = token_scores(decoder.wiring, slots, rows)
    found: dict[int, list[float]] = {}
    for (_, number), values in zip(chosen, scores, strict=True):
        counted = torch.tensor(pairs[number].counted, device=values.device)
        found.setdefault(number, []).append(-float(values[counted].mean()))
    asked = sorted(found)
    return PairLosses(
        tuple(pairs[number] for number in asked),
        tuple(sum(found[number]) / len(found[number]) for number in asked),
    )


def decoder_loss(target: Target, decoder: Decoder, pairs: Sequence[Pair], stimuli: Sequence[str]) -> float:
    """The decoder's loss on pairs given the target as it is now, steered or not.

    Args:
        target: what is read.
        decoder: what answers.
        pairs: the wanted ones count; the unwanted ones only if there are no others.
        stimuli: user turns on which the target is read, at the decoder's own span.

    Returns:
        Mean over stimuli and pairs of the loss per counted answer token, in nats.

    Raises:
        SteeringError: no pair, or an empty one.
        ConfigError: no stimulus.
    """
    if not stimuli:
        raise ConfigError("The decoder's loss is taken on stimuli, and none was given. Give at least one.")
    asked = asked_pairs(decoder, pairs)
    wanted = [pair for pair in asked if pair.wanted] or list(asked)
    readings = [stimulus_reading(target, text, decoder.card.span) for text in stimuli]
    losses = pair_losses(decoder, slots_of(target, decoder, readings), wanted)
    return sum(losses.losses) / len(losses.losses)


def stimulus_reading(target: Target, stimulus: str, span: str, reply: str | None = None) -> Reading:
    """A stimulus as a dialog, with the span of it that is read.

    Raises:
        SpanError: the dialog has no such span.
        ContextLengthError: it is longer than the target's context.
    """
    dialog = [{"role": "user", "content": stimulus}]
    if reply is not None:
        dialog.append({"role": "assistant", "content": reply})
    return target.reading(dialog, span)


def slots_of(target: Target, decoder: Decoder, readings: Sequence[Reading]) -> list[Slot]:
    """What the decoder sees of the target as it is now, without gradients."""
    activations = target.read_many(readings, decoder.read_layers)
    return [decoder.wiring.slot(one.vectors, one.positions) for one in activations]


def _passes(
    decoder: Decoder, slots: Sequence[Slot], groups: Sequence[Sequence[AskedPair]], limit: int
) -> list[list[int]]:
    """Cut slots into passes of at most so many padded tokens, at least one slot each."""
    prompt = decoder.wiring.prompt
    lengths = [max(len(prompt.tail(pair.question)) + len(pair.answer) for pair in group) for group in groups]
    passes: list[list[int]] = []
    longest = rows = 0
    for number, group in enumerate(groups):
        longest, rows = max(longest, lengths[number]), rows + len(group)
        if passes and rows * longest + sum(slots[n].n for n in (*passes[-1], number)) <= limit:
            passes[-1].append(number)
        else:
            passes.append([number])
            longest, rows = lengths[number], len(group)
    return passes
