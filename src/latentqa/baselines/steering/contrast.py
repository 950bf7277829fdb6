"""Contrast vectors: how activations under a control differ from those without, as a direction to add."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentqa.baselines.reads import GRID, depth
from latentqa.baselines.steering.completions import user_turn
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.treatment import Treated, Treatment
from latentqa.types import Message

Where = Literal["completion", "last"]
STRENGTHS = (1.0, 2.0, 4.0, 0.5, 8.0)
"""Of the difference itself; the search tries others only within its budget."""


@dataclass(frozen=True)
class Contrast:
    """Activations with and without a control.

    Attributes:
        controlled: `[N, L, D]` float32, one mean per stimulus.
        plain: the same without, or under the opposite.
        layers: the `L` layers.
    """

    controlled: Tensor
    plain: Tensor
    layers: tuple[int, ...]

    def mean(self, layer: int) -> Tensor:
        """Difference of the means at a layer, `[D]`.

        Source: Contrastive Activation Addition (Rimsky et al. 2024).
        """
        place = self.layers.index(layer)
        return (self.controlled[:, place] - self.plain[:, place]).mean(0)

    def principal(self, layer: int) -> Tensor:
        """First principal component of the differences, `[D]`, with the norm and side of their mean.

        It is taken about zero, since each difference and its negative say the same: that is what swapping the
        two sides of every second pair does in the original.

        Source: Representation Engineering (Zou et al. 2023), its reading vector by PCA.
        """
        place = self.layers.index(layer)
        differences = self.controlled[:, place] - self.plain[:, place]
        mean = differences.mean(0)
        direction = torch.linalg.svd(differences, full_matrices=False).Vh[0]
        sign = torch.sign(direction @ mean)
        return direction * mean.norm() * (sign if sign != 0 else 1.0)


def make_contrast(context: MethodContext) -> Treatment:
    """Difference of means, added at the layer, span and strength that serve the aim best."""
    return _make(context, "contrast")


def make_principal_component(context: MethodContext) -> Treatment:
    """Principal component of the differences, chosen alike."""
    return _make(context, "principal-component")


def layer_choices(context: MethodContext) -> tuple[int, ...]:
    """Layers to choose from: six depths, the middle one first."""
    return tuple(dict.fromkeys(depth(context.target, share) for share in GRID))


def read_contrast(context: MethodContext, where: Where, layers: Sequence[int]) -> Contrast:
    """Mean activations of each stimulus' dialog with the control and without, at some of its tokens.

    Args:
        context: target, aim and stimuli.
        where: `last` is the last token of the generation prompt; `completion` the tokens of what the target
            writes itself on either side, which lie nearer to what will be steered.
        layers: to read.
    """
    aim = context.aim
    sides = []
    for control in (aim.control, aim.opposite):
        treated = Treated(context.target, control)
        dialogs = [treated.dialog(user_turn(text)) for text in context.stimuli]
        span = "last:1"
        if where == "completion":
            written = context.completions.under(control, context.stimuli)
            # Nothing written has no tokens: then the turn's header stands for it.
            span = "completion"
            dialogs = [
                [*dialog, Message(role="assistant", content=said)]
                for dialog, said in zip(dialogs, written, strict=True)
            ]
        readings = [context.target.reading(dialog, span) for dialog in dialogs]
        activations = context.target.read_many(readings, layers)
        sides.append(torch.stack([one.vectors.float().mean(1).cpu() for one in activations]))
    return Contrast(sides[0], sides[1], tuple(layers))


def _make(context: MethodContext, method: Literal["contrast", "principal-component"]) -> Treatment:
    from latentqa.steering import Steering

    layers = layer_choices(context)
    kept: dict[Where, Contrast] = {}

    def made(settings: dict[str, object]) -> Treatment:
        where: Where = settings["where"]  # pyright: ignore[reportAssignmentType]
        layer = int(settings["layer"])  # pyright: ignore[reportArgumentType]
        if where not in kept:
            kept[where] = context.contrast(where, layers)
        contrast = kept[where]
        vector = contrast.mean(layer) if method == "contrast" else contrast.principal(layer)
        steering = Steering.from_vectors(
            context.target, (layer,), vector[None], method=method, control=context.aim.control
        )
        return Treatment(method, steering, strength=float(settings["strength"]))  # pyright: ignore

    axes = {"layer": layers, "strength": STRENGTHS, "where": ("completion", "last")}
    return context.search(made, axes)
