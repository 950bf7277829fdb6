"""The steerings of this library as methods: weights, vector, closed form, at a searched strength."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.treatment import Treatment
from latentqa.decoder import Decoder
from latentqa.errors import ConfigError

if TYPE_CHECKING:
    from latentqa.steering import Pair, Steering

WEIGHTS = (1.0, 0.75, 1.5, 0.5, 2.0, 3.0)
"""Strengths of a LoRA, multiples of what it was trained at."""
VECTORS = (0.3, 0.4, 0.2, 0.5, 0.25, 0.15, 0.75, 1.0)
"""Strengths of a vector as long as it was bounded to, which is more than most targets bear at every token."""


def make_weights_method(context: MethodContext) -> Treatment:
    """A LoRA trained by the decoder's loss: the paper's."""
    from latentqa.steering import WeightsSettings, make_weights

    decoder = _decoder(context, "weights")
    steering = make_weights(
        context.target, decoder, _pairs(context, decoder), context.stimuli, WeightsSettings()
    )
    return _searched(context, steering, WEIGHTS)


def make_vector_method(context: MethodContext) -> Treatment:
    """A vector optimised by the decoder's loss and added at run time."""
    from latentqa.steering import VectorSettings, make_vector

    decoder = _decoder(context, "vector")
    steering = make_vector(
        context.target, decoder, _pairs(context, decoder), context.stimuli, VectorSettings()
    )
    return _searched(context, steering, VECTORS)


def make_closed_form_method(context: MethodContext) -> Treatment:
    """The gradient of the decoder's loss as a direction; nothing is optimised."""
    from latentqa.steering import ClosedFormSettings, make_closed_form

    decoder = _decoder(context, "closed-form")
    steering = make_closed_form(
        context.target, decoder, _pairs(context, decoder), context.stimuli, ClosedFormSettings()
    )
    return _searched(context, steering, VECTORS)


def _searched(context: MethodContext, steering: Steering, strengths: Sequence[float]) -> Treatment:
    method = steering.card.method
    made = context.search(
        lambda settings: Treatment(method, steering, strength=float(settings["strength"])),
        {"strength": strengths},
    )
    card = steering.card
    losses = {"loss_before": card.loss_before, "loss_after": card.loss_after}
    return made.chosen(**{name: round(value, 3) for name, value in losses.items() if value is not None})


def _decoder(context: MethodContext, method: str) -> Decoder:
    if context.decoder is None:
        raise ConfigError(
            f"Method {method} steers by a decoder, and none was given. Name one with --decoder."
        )
    return context.decoder


def _pairs(context: MethodContext, decoder: Decoder) -> Sequence[Pair]:
    """The aim's own pairs, or those that are made of its control; made once for all methods of the aim."""
    if context.aim.pairs:
        return context.aim.pairs
    if not context.made_pairs:
        from latentqa.steering import pairs_from_control

        report = pairs_from_control(context.target, decoder, context.aim.control)
        context.note(f"{context.aim.name}: {report.note}")
        context.made_pairs.extend(report.pairs)
    return context.made_pairs
