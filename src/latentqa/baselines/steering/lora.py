"""Train a LoRA on the target with a loss: one small loop for SFT, DPO and the stereotyped organism."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft import LoraConfig
from torch import Tensor

from latentqa.decoder import Target
from latentqa.errors import TrainingError
from latentqa.models import adapter_names, adapter_parameters, add_adapter, find_blocks, remove_adapter
from latentqa.steering import WeightsSettings, steering_lora
from latentqa.steering.frozen import frozen
from latentqa.steering.reads import half_precision

Loss = Callable[[Target, Sequence[int]], Tensor]
"""Mean loss of some examples, by their numbers, under the target with the adapter on."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LoraSettings:
    """The adapter that all methods which train one have in common.

    Attributes:
        rank: of the LoRA.
        alpha: its scale is `alpha / rank`.
        layers: blocks that carry it; None is all.
        targets: names of linear modules of each block, or `all-linear`.
        steps: optimiser steps.
        batch_size: examples a step.
        learning_rate: at its highest; a short warm-up, then a cosine to 0.
    """

    rank: int = 8
    alpha: float = 16.0
    layers: tuple[int, ...] | None = None
    targets: str | tuple[str, ...] = "all-linear"
    steps: int = 40
    batch_size: int = 8
    learning_rate: float = 1e-3

    def config(self, target: Target) -> LoraConfig:
        """As PEFT takes it: the one that steering by weights uses."""
        layers = range(len(find_blocks(target.model))) if self.layers is None else self.layers
        return steering_lora(target, tuple(layers), rank=self.rank, alpha=self.alpha, targets=self.targets)

    @classmethod
    def like_weights(cls, layers: Sequence[int] | None) -> LoraSettings:
        """Adapter, steps, examples a step and learning rate of steering by weights, on these blocks."""
        given = WeightsSettings()
        return cls(
            rank=given.rank,
            alpha=given.alpha,
            layers=None if layers is None else tuple(layers),
            targets=given.targets,
            steps=given.steps,
            batch_size=given.batch,
            learning_rate=given.learning_rate,
        )


WARMUP, CLIP = 0.1, 1.0


@contextmanager
def trained_adapter(
    target: Target,
    loss: Loss,
    count: int,
    settings: LoraSettings,
    *,
    name: str = "baseline",
    seed: int = 0,
    progress: Progress | None = None,
) -> Iterator[str]:
    """Within the context the target's weights carry a new adapter, trained with a loss and switched off.

    Nothing else gets a gradient, and afterwards, also after an exception, no adapter is left.

    Args:
        target: its own adapters stay on below the new one.
        loss: of some examples.
        count: of examples.
        settings: adapter, steps and learning rate.
        name: of the adapter; made free with a number.
        seed: of its weights and of the order of the examples.
        progress: called with (steps done, steps in all).

    Yields:
        The adapter's name.

    Raises:
        TrainingError: no examples, or a loss that is not finite.
    """
    if count < 1:
        raise TrainingError("An adapter was to be trained on no examples. Give at least one stimulus.")
    model = target.model
    name = free_name(target, name)
    with frozen(model):
        add_adapter(model, settings.config(target), name, seed=seed)
        try:
            _train(with_adapter(target, name), name, loss, count, settings, seed, progress)
            yield name
        finally:
            remove_adapter(model, name)


def _train(
    live: Target,
    name: str,
    loss: Loss,
    count: int,
    settings: LoraSettings,
    seed: int,
    progress: Progress | None,
) -> None:
    parameters = adapter_parameters(live.model, name)
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0)
    order = _order(count, settings, seed)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule((step + 1) / settings.steps)
        with half_precision(live):
            value = loss(live, next(order))
        if not torch.isfinite(value):
            raise TrainingError(
                f"The loss became {float(value.detach())} at step {step + 1}. Take a learning rate below "
                f"{settings.learning_rate}."
            )
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(step + 1, settings.steps)


def with_adapter(target: Target, name: str) -> Target:
    """The target with one more adapter on."""
    own = target.adapter
    before = () if own is None else (own,) if isinstance(own, str) else own
    return Target(target.loaded, adapter=(*before, name), read_layers=target.read_layers)


def free_name(target: Target, wanted: str) -> str:
    """An adapter name that the model does not have yet."""
    taken = adapter_names(target.model)
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    return name


def _order(count: int, settings: LoraSettings, seed: int) -> Iterator[list[int]]:
    """Numbers of the examples of each step; each is seen once before any is seen again."""
    waiting: list[int] = []
    epoch = 0
    while True:
        chosen: list[int] = []
        while len(chosen) < min(settings.batch_size, count):
            if not waiting:
                waiting = random.Random(f"{seed}:{epoch}:examples").sample(range(count), count)
                epoch += 1
            chosen.append(waiting.pop())
        yield chosen


def _schedule(done: float) -> float:
    """Factor on the learning rate after a share (0–1) of the steps."""
    if done < WARMUP:
        return done / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP)))
