"""The closed form: the gradient of the decoder's loss, averaged over stimuli, as a steering direction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import islice

import torch

from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Target
from latentqa.steering.course import Progress
from latentqa.steering.frozen import frozen
from latentqa.steering.geometry import measure_geometry
from latentqa.steering.layers import among_read, steerable
from latentqa.steering.pairs import Pair
from latentqa.steering.settings import ClosedFormSettings
from latentqa.steering.steering import Steering
from latentqa.steering.task import prepare_task, rounded
from latentqa.steering.vector import adding, vector_backward, vector_steering


def make_closed_form(
    target: Target,
    decoder: Decoder,
    pairs: Sequence[Pair],
    stimuli: Sequence[str],
    settings: ClosedFormSettings | None = None,
    progress: Progress | None = None,
) -> Steering:
    """The direction of steepest descent of the decoder's loss at the unsteered target, at full norm.

    The gradients are averaged over all samples; nothing is optimised. See `make_vector` for the arguments.

    Raises:
        SteeringError: no pair, pairs answered already, or a gradient that is not finite.
        LayerError: a block that does not exist or lies above the read layers.
    """
    started, settings = time.monotonic(), settings or ClosedFormSettings()
    layers = steerable(target, decoder, settings.layers, among_read(decoder))
    with torch.enable_grad(), frozen(target.model, decoder.wiring.model):
        task = prepare_task(target, decoder, pairs, stimuli, settings)
        ground = measure_geometry(target, task.readings, sorted({*layers, *decoder.read_layers}))
        own = ground.only(layers)
        zero = torch.zeros_like(own.mean, requires_grad=True)
        size = min(settings.batch, len(task.readings))
        count = -(-min(settings.samples, len(task.readings)) // size)
        for number, batch in enumerate(islice(task.batches(), count), start=1):
            with task.softly():
                vector_backward(task, layers, ground, zero, batch)  # gradients add up in zero.grad
            if progress is not None:
                progress(number, count)
        assert zero.grad is not None
        vectors = own.directions(zero.grad, settings.metric) * settings.norm * own.spread[:, None]
        after = task.measure(adding(target, layers, vectors))
    return vector_steering(
        task,
        settings,
        layers,
        ground,
        vectors,
        method="closed-form",
        loss_after=rounded(after.wanted),
        unwanted_after=rounded(after.unwanted),
        seconds=round(time.monotonic() - started, 1),
    )
