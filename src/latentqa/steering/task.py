"""What a steering is made of, prepared once: stimuli rendered, pairs tokenized, the order of both drawn."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Reading, Target
from latentqa.errors import SpanError, SteeringError
from latentqa.models import scaled_adapter, weights_hash
from latentqa.steering.card import adapter_hash, pair_cards
from latentqa.steering.objective import (
    AskedPair,
    PairLosses,
    asked_pairs,
    pair_losses,
    slots_of,
    stimulus_reading,
    with_ceilings,
)
from latentqa.steering.pairs import Pair, check_pairs
from latentqa.steering.settings import MakeSettings

REPLY = "completion"
MEASURED = 6
"""Pairs asked on each held-out stimulus, at least, before and after."""


@dataclass(frozen=True)
class Batch:
    """One step's stimuli with the pairs asked on each."""

    readings: tuple[Reading, ...]
    groups: tuple[tuple[AskedPair, ...], ...]


@dataclass(frozen=True)
class SteeringTask:
    """Everything that does not change while a steering is made.

    Attributes:
        target: what is steered.
        decoder: whose loss counts.
        given: the pairs as they were given, each once.
        pairs: the pairs as the decoder is asked them.
        readings: stimuli that steps are taken on.
        held_out: other stimuli, that the loss is measured on.
        before: losses on these before anything is changed.
        settings: of the making.
    """

    target: Target
    decoder: Decoder
    given: tuple[Pair, ...]
    pairs: tuple[AskedPair, ...]
    readings: tuple[Reading, ...]
    held_out: tuple[Reading, ...]
    before: PairLosses
    settings: MakeSettings

    def measure(self, changed: AbstractContextManager[object], *, per_slot: int | None = None) -> PairLosses:
        """Losses on the held-out stimuli.

        Args:
            changed: under which the target runs, and the decoder does not.
            per_slot: pairs asked on each stimulus; by default at least six, and every pair somewhere.
        """
        with changed:
            slots = slots_of(self.target, self.decoder, self.held_out)
        count = _enough(len(self.pairs), len(slots)) if per_slot is None else per_slot
        return pair_losses(self.decoder, slots, self.pairs, per_slot=count)

    def softly(self) -> AbstractContextManager[None]:
        """Within it the decoder's adapter is at `decoder_strength`: how steerings are sought."""
        return softened(self.decoder, self.settings)

    def batches(self) -> Iterator[Batch]:
        """Batches without end: a pure function of the seed. All stimuli and all pairs come equally often."""
        settings = self.settings
        generator = random.Random(f"steer:{settings.seed}")
        stimuli, pairs = _endless(self.readings, generator), _endless(self.pairs, generator)
        count = min(settings.pairs_per_sample, len(self.pairs))
        size = min(settings.batch, len(self.readings))
        while True:
            readings = tuple(next(stimuli) for _ in range(size))
            yield Batch(readings, tuple(tuple(next(pairs) for _ in range(count)) for _ in readings))

    def card(self, **fields: Any) -> dict[str, Any]:
        """What the card of a steering of this task holds besides the model and the change itself.

        Args:
            fields: more of them, such as `seconds`.
        """
        wiring = self.decoder.wiring
        made_by = adapter_hash(wiring.model, wiring.adapter) or weights_hash(wiring.model)
        return {
            "decoder": self.decoder.name,
            "decoder_hash": made_by,
            "pairs": pair_cards(self.given),
            "settings": self.settings.model_dump(mode="json"),
            "loss_before": rounded(self.before.wanted),
            "unwanted_before": rounded(self.before.unwanted),
            **fields,
        }


def prepare_task(
    target: Target,
    decoder: Decoder,
    pairs: Sequence[Pair],
    stimuli: Sequence[str],
    settings: MakeSettings,
) -> SteeringTask:
    """Check what was given, render and tokenize it, and measure the loss before.

    Raises:
        SteeringError: no pair or stimulus, pairs that the decoder answers so already, or a decoder that
            cannot be told from the target.
        SpanError: a span that the decoder was not trained on needs replies and has none, or is not there.
    """
    wiring = decoder.wiring
    if wiring.adapter is None and wiring.model is target.model:
        raise SteeringError(
            f"Decoder {decoder.name} is the bare target itself, so steering the target would steer its "
            "decoder too. Use a decoder with an adapter, or one with weights of its own."
        )
    given = tuple(check_pairs(pairs))
    readings = _readings(target, decoder, stimuli, settings)
    kept = min(settings.held_out, max(1, len(readings) // 2)) if len(readings) > 1 else 1
    held_out, rest = readings[:kept], readings[kept:] or readings
    slots = slots_of(target, decoder, held_out)
    count = _enough(len(given), len(slots))
    before = pair_losses(decoder, slots, asked_pairs(decoder, given), per_slot=count)
    _refuse_answered(before, decoder, settings.answered)
    sought = before
    if before.unwanted is not None:
        with softened(decoder, settings):
            sought = pair_losses(decoder, slots, before.pairs, per_slot=count)
    asked = with_ceilings(sought, settings.margin)
    before = PairLosses(asked, before.losses)
    return SteeringTask(target, decoder, given, asked, tuple(rest), tuple(held_out), before, settings)


def softened(decoder: Decoder, settings: MakeSettings) -> AbstractContextManager[None]:
    """The decoder at the settings' strength; one without an adapter stays as it is."""
    wiring = decoder.wiring
    if wiring.adapter is None or settings.decoder_strength == 1:
        return nullcontext()
    return scaled_adapter(wiring.model, wiring.adapter, settings.decoder_strength)


def rounded(value: float | None) -> float | None:
    """Losses as a card keeps them."""
    return None if value is None else round(value, 4)


def _enough(n_pairs: int, n_stimuli: int) -> int:
    """Pairs asked on each stimulus so that every pair is asked somewhere."""
    return max(MEASURED, -(-n_pairs // n_stimuli))


def _readings(
    target: Target, decoder: Decoder, stimuli: Sequence[str], settings: MakeSettings
) -> list[Reading]:
    """The chosen stimuli, rendered, with the target's own replies if these are read too."""
    texts = list(dict.fromkeys(text.strip() for text in stimuli if text.strip()))
    if not texts:
        raise SteeringError(
            "No stimulus prompt was given, so there is nothing to read the target on. Give at least one, or "
            "leave them out for the 200 that ship."
        )
    random.Random(f"stimuli:{settings.seed}").shuffle(texts)
    texts = texts[: settings.samples + settings.held_out]
    on_replies = any(span.endswith(REPLY) for span in decoder.card.spans)
    if "completion_tokens" in settings.model_fields_set and settings.completion_tokens:
        if settings.span is None and not on_replies:
            raise SpanError(
                f"Decoder {decoder.name} was not trained on replies, only on "
                f"{', '.join(decoder.card.spans)}. Set completion_tokens: 0, or name the span."
            )
        on_replies = True
    if not settings.completion_tokens or not on_replies:
        span = settings.span or decoder.card.span
        return [stimulus_reading(target, text, span) for text in texts]
    span = settings.span or REPLY
    dialogs = [[{"role": "user", "content": text}] for text in texts]
    replies = target.generate(dialogs, max_new_tokens=settings.completion_tokens)
    return [
        stimulus_reading(target, text, span, reply)
        for text, reply in zip(texts, replies, strict=True)
        if reply
    ]


def _refuse_answered(before: PairLosses, decoder: Decoder, answered: float) -> None:
    """Nothing to steer: every wanted answer is given already, and there is no other to lower."""
    if before.wanted is None or before.unwanted is not None:
        return
    if max(before.losses) <= answered:
        raise SteeringError(
            f"Nothing to steer: decoder {decoder.name} already gives these answers about the target as it "
            f"is (loss at most {max(before.losses):.2f} nats a token; {answered:g} or less counts as "
            "answered). Ask for something that the target does not do yet."
        )


def _endless(items: Sequence[Any], generator: random.Random) -> Iterator[Any]:
    """All items in a new order again and again."""
    while True:
        order = list(items)
        generator.shuffle(order)
        yield from order
