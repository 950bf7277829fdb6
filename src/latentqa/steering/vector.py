"""The vector method: one added vector per chosen block that lowers the decoder's loss; no weight changes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from latentqa.activations import inject
from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Target
from latentqa.errors import ActivationError, SteeringError
from latentqa.steering.course import Progress, run_course
from latentqa.steering.frozen import frozen
from latentqa.steering.geometry import Geometry, measure_geometry
from latentqa.steering.layers import among_read, steerable
from latentqa.steering.neutral import PullBack
from latentqa.steering.objective import objective_backward
from latentqa.steering.pairs import Pair
from latentqa.steering.reads import live_slots, slots_of_every_block
from latentqa.steering.settings import DirectionSettings, VectorSettings
from latentqa.steering.steering import Steering
from latentqa.steering.task import Batch, SteeringTask, prepare_task, rounded

LOWEST_RATE = 0.1
"""Share of the learning rate that is left at the end."""


def make_vector(
    target: Target,
    decoder: Decoder,
    pairs: Sequence[Pair],
    stimuli: Sequence[str],
    settings: VectorSettings | None = None,
    progress: Progress | None = None,
) -> Steering:
    """Find norm-bounded vectors whose addition makes the decoder give the wanted answers about the target.

    Each step moves every vector by the same share of its bound along its own steepest descent, so that no
    learning rate has to be fitted to a model's norms.

    Args:
        target: what is steered; left as it was.
        decoder: whose loss is lowered; never changed.
        pairs: wanted and unwanted answers.
        stimuli: prompts that the target is read on; `load_stimuli()` gives those that ship.
        settings: layers, bound, steps.
        progress: called with (steps done, steps at most).

    Raises:
        SteeringError: no pair, pairs answered already, or a loss that is not finite.
        LayerError: a block that does not exist or lies above the read layers.
    """
    started, settings = time.monotonic(), settings or VectorSettings()
    layers = steerable(target, decoder, settings.layers, among_read(decoder))
    with torch.enable_grad(), frozen(target.model, decoder.wiring.model):
        task = prepare_task(target, decoder, pairs, stimuli, settings)
        ground = measure_geometry(target, task.readings, sorted({*layers, *decoder.read_layers}))
        search = _Search(task, settings, layers, ground, PullBack.of(target, settings))
        with task.softly():
            course = run_course(
                settings,
                task.batches(),
                step=search.step,
                measure=search.measure,
                keep=lambda: search.vectors.detach().clone(),
                progress=progress,
            )
        after = task.measure(adding(target, layers, course.best))
    return vector_steering(
        task,
        settings,
        layers,
        ground,
        course.best,
        method="vector",
        loss_after=rounded(after.wanted),
        unwanted_after=rounded(after.unwanted),
        steps=course.steps,
        seconds=round(time.monotonic() - started, 1),
    )


class _Search:
    """Vectors on their way, and the direction in which they move."""

    def __init__(
        self,
        task: SteeringTask,
        settings: VectorSettings,
        layers: tuple[int, ...],
        ground: Geometry,
        pull_back: PullBack | None,
    ) -> None:
        self._task, self._settings, self._layers, self._ground = task, settings, layers, ground
        self._pull_back = pull_back
        self._own = ground.only(layers)
        self._bound = settings.norm * self._own.spread[:, None]
        self.vectors = torch.zeros_like(self._own.mean, requires_grad=True)
        self._velocity = torch.zeros_like(self._own.mean)

    def step(self, number: int, batch: Batch) -> float:
        """Move each vector, and cut it to its bound."""
        objective = vector_backward(self._task, self._layers, self._ground, self.vectors, batch)
        if self._pull_back is not None:
            with adding(self._task.target, self._layers, self.vectors):
                objective += self._pull_back(self._task.target)
        assert self.vectors.grad is not None
        with torch.no_grad():
            direction = self._own.directions(self.vectors.grad, self._settings.metric)
            self._velocity.mul_(self._settings.momentum).add_(direction, alpha=1 - self._settings.momentum)
            along = self._velocity / self._velocity.norm(dim=1, keepdim=True).clamp(min=1e-12)
            self.vectors.add_(along * self._bound * self._rate(number))
            self.vectors.mul_((self._bound / self.vectors.norm(dim=1, keepdim=True)).clamp(max=1.0))
        self.vectors.grad = None
        return objective

    def measure(self) -> float:
        """The objective on held-out stimuli."""
        changed = adding(self._task.target, self._layers, self.vectors.detach())
        return self._task.measure(changed, per_slot=self._settings.pairs_per_sample).objective

    def _rate(self, number: int) -> float:
        falling = 0.5 * (1 + math.cos(math.pi * number / self._settings.steps))
        return self._settings.learning_rate * (LOWEST_RATE + (1 - LOWEST_RATE) * falling)


def vector_backward(
    task: SteeringTask, layers: tuple[int, ...], ground: Geometry, vectors: Tensor, batch: Batch
) -> float:
    """The objective on a batch with vectors added, and its gradient by them.

    Args:
        task: target, decoder and pairs.
        layers: blocks whose output they are added to.
        ground: states of these blocks and of the read layers.
        vectors: `[L, D]`, a leaf that requires a gradient.
        batch: stimuli and the pairs asked on them.

    Raises:
        SteeringError: a gradient that is not finite.
    """
    target, decoder, settings = task.target, task.decoder, task.settings
    every = getattr(settings, "read", "last") == "every"
    groups = list(batch.groups)
    with adding(target, layers, vectors):
        if every:
            slots = slots_of_every_block(target, decoder, batch.readings, layers, ground, target.adapter)
            groups = groups * len(layers)
        else:
            slots = live_slots(target, decoder, batch.readings, target.adapter)
    objective = objective_backward(decoder, slots, groups, settings.tokens_per_pass)
    if vectors.grad is None or not torch.isfinite(vectors.grad).all():
        raise SteeringError(
            "The gradient of the decoder's loss is not finite. Load the model in bfloat16 or float32, or "
            "use a smaller norm."
        )
    return objective


@contextmanager
def adding(target: Target, layers: Sequence[int], vectors: Tensor) -> Iterator[None]:
    """Add vectors `[L, D]` to the outputs of blocks at every position, in each call of the with-block.

    Only the target may be called in it: a decoder on the same weights would be changed too.

    Raises:
        SteeringError: vectors that are not finite.
    """
    with ExitStack() as stack:
        try:
            for layer, vector in zip(layers, vectors, strict=True):
                stack.enter_context(inject(target.model, f"block:{layer}", vector, mode="add", when="always"))
        except ActivationError as error:
            raise SteeringError(
                f"The vectors became not finite ({error}). Use a smaller norm or learning_rate."
            ) from error
        yield


def vector_steering(
    task: SteeringTask,
    settings: DirectionSettings,
    layers: tuple[int, ...],
    ground: Geometry,
    vectors: Tensor,
    *,
    method: str,
    **card: object,
) -> Steering:
    """A steering of what was found, with its card."""
    spread = tuple(round(float(value), 4) for value in ground.only(layers).spread)
    return Steering.from_vectors(
        task.target,
        layers,
        vectors,
        method=method,
        positions=settings.positions,
        spread=spread,
        **task.card(**card),
    )
