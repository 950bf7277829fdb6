"""The weights method, the paper's: a LoRA on chosen blocks of the target, trained on the decoder's loss."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Target
from latentqa.models import adapter_parameters, add_adapter, find_blocks, remove_adapter
from latentqa.steering.course import Progress, run_course
from latentqa.steering.frozen import frozen
from latentqa.steering.geometry import Geometry, measure_geometry
from latentqa.steering.layers import steerable, up_to_last_read
from latentqa.steering.lora import steering_lora
from latentqa.steering.neutral import PullBack
from latentqa.steering.objective import objective_backward
from latentqa.steering.pairs import Pair
from latentqa.steering.reads import live_slots, slots_of_every_block
from latentqa.steering.settings import WeightsSettings
from latentqa.steering.steering import PREFIX, Steering
from latentqa.steering.task import Batch, SteeringTask, prepare_task, rounded


def make_weights(
    target: Target,
    decoder: Decoder,
    pairs: Sequence[Pair],
    stimuli: Sequence[str],
    settings: WeightsSettings | None = None,
    progress: Progress | None = None,
) -> Steering:
    """Train a LoRA on the target so that the decoder gives the wanted answers about it.

    The decoder is run on the target's live activations; gradients go through it, and through its mapping,
    into the LoRA and nowhere else. See `make_vector` for the arguments.

    Raises:
        SteeringError: no pair, pairs answered already, no module to train, or a loss that is not finite.
        LayerError: a block that does not exist or lies above the read layers.
    """
    started, settings = time.monotonic(), settings or WeightsSettings()
    layers = steerable(target, decoder, settings.layers, up_to_last_read(decoder))
    name = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    config = steering_lora(target, layers, rank=settings.rank, alpha=settings.alpha, targets=settings.targets)
    with torch.enable_grad(), frozen(target.model, decoder.wiring.model):
        task = prepare_task(target, decoder, pairs, stimuli, settings)
        pull_back = PullBack.of(target, settings)
        ground = _ground(task, settings, layers)
        add_adapter(target.model, config, name, seed=settings.seed)
        try:
            search = _Search(task, settings, layers, name, ground, pull_back)
            with task.softly():
                course = run_course(
                    settings,
                    task.batches(),
                    step=search.step,
                    measure=search.measure,
                    keep=search.keep,
                    progress=progress,
                )
            search.restore(course.best)
            after = task.measure(wearing(target, name))
            return Steering.from_adapter(
                target,
                name,
                method="weights",
                **task.card(
                    loss_after=rounded(after.wanted),
                    unwanted_after=rounded(after.unwanted),
                    steps=course.steps,
                    seconds=round(time.monotonic() - started, 1),
                ),
            )
        finally:
            remove_adapter(target.model, name)


@contextmanager
def wearing(target: Target, adapter: str) -> Iterator[None]:
    """Within the block an adapter that is on the model counts as the target's, beside its own."""
    before = target.adapter
    target.adapter = (*target.adapter_names, adapter)
    try:
        yield
    finally:
        target.adapter = before


class _Search:
    """The LoRA on its way, with one optimiser, or one for each block that is read for itself."""

    def __init__(
        self,
        task: SteeringTask,
        settings: WeightsSettings,
        layers: tuple[int, ...],
        name: str,
        ground: Geometry | None,
        pull_back: PullBack | None,
    ) -> None:
        self._task, self._settings, self._layers, self._name = task, settings, layers, name
        self._ground, self._pull_back = ground, pull_back
        self._parameters = adapter_parameters(task.target.model, name)
        groups = [self._parameters] if ground is None else _by_block(task.target, name, layers)
        self._optimizers = [
            torch.optim.AdamW(
                group,
                lr=settings.learning_rate,
                weight_decay=settings.weight_decay,
            )
            for group in groups
        ]

    def step(self, number: int, batch: Batch) -> float:
        """One step of each optimiser."""
        objective = self._backward(batch)
        if self._pull_back is not None:
            objective += self._pull_back(self._task.target, adapters=(self._name,))
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._settings.learning_rate * self._rate(number)
                nn.utils.clip_grad_norm_(group["params"], self._settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return objective

    def measure(self) -> float:
        """The objective on held-out stimuli."""
        changed = wearing(self._task.target, self._name)
        return self._task.measure(changed, per_slot=self._settings.pairs_per_sample).objective

    def keep(self) -> list[Tensor]:
        """A copy of the weights."""
        return [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def restore(self, kept: Sequence[Tensor]) -> None:
        """Take weights that were kept."""
        for parameter, value in zip(self._parameters, kept, strict=True):
            parameter.copy_(value)

    def _backward(self, batch: Batch) -> float:
        target, decoder, settings = self._task.target, self._task.decoder, self._settings
        adapter, groups = (*target.adapter_names, self._name), list(batch.groups)
        if self._ground is None:
            slots = live_slots(target, decoder, batch.readings, adapter)
        else:
            slots = slots_of_every_block(target, decoder, batch.readings, self._layers, self._ground, adapter)
            groups = groups * len(self._layers)
        return objective_backward(decoder, slots, groups, settings.tokens_per_pass)

    def _rate(self, number: int) -> float:
        """Share of the learning rate: a linear rise, then a cosine."""
        rising = self._settings.warmup * self._settings.steps
        if number < rising:
            return (number + 1) / (rising + 1)
        past = (number - rising) / max(1.0, self._settings.steps - rising)
        return 0.5 * (1 + math.cos(math.pi * past))


def _by_block(target: Target, name: str, layers: Sequence[int]) -> list[list[nn.Parameter]]:
    """The adapter's parameters, block by block."""
    own = {id(parameter) for parameter in adapter_parameters(target.model, name)}
    blocks = find_blocks(target.model)
    return [[p for p in blocks[layer].parameters() if id(p) in own] for layer in layers]


def _ground(task: SteeringTask, settings: WeightsSettings, layers: tuple[int, ...]) -> Geometry | None:
    """States of every block that is read for itself; None where only the read layers are."""
    if settings.read == "last":
        return None
    needed = sorted({*layers, *task.decoder.read_layers})
    return measure_geometry(task.target, task.readings, needed)
