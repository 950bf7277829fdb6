"""How the target's states lie around their mean: unit and metric of an added vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentqa.decoder.target import Reading, Target
from latentqa.dialogs import resolve_span

RIDGE = 0.01
"""Share of a sphere in the states' covariance: keeps directions open that no stimulus shows."""
MOST_STATES = 8192
"""States kept of each block."""


@dataclass(frozen=True)
class Geometry:
    """States of some blocks over stimuli, each dialog's token 0 left out: it is a sink of huge norm.

    Attributes:
        layers: the blocks.
        mean: `[L, D]` float32.
        spread: `[L]`, root mean square distance from the mean.
        centred: `[L, N, D]` float32, the states without their mean.
    """

    layers: tuple[int, ...]
    mean: Tensor
    spread: Tensor
    centred: Tensor

    def only(self, layers: Sequence[int]) -> Geometry:
        """The same of some of the blocks."""
        index = [self.layers.index(layer) for layer in layers]
        return Geometry(tuple(layers), self.mean[index], self.spread[index], self.centred[index])

    def directions(self, gradients: Tensor, metric: str) -> Tensor:
        """Unit vectors along which a loss falls fastest.

        With the metric `states`, fastest among steps that are equally likely under the states' covariance C:
        -C g. A linear read-out g of activations is their pattern C g seen through C⁻¹; adding the pattern is
        what changes the states as the read quantity does, while g itself favours directions in which the
        target hardly moves, and which it hardly uses.

        Args:
            gradients: `[L, D]`, of the loss by an added vector.
            metric: `states` or `euclidean`.

        Source: patterns and filters of linear models, Haufe et al. 2014.
        """
        found = -gradients.float()
        if metric == "states":
            n_states, width = self.centred.shape[1:]
            along = torch.einsum("lnd,ld->ln", self.centred, found)
            stretched = torch.einsum("lnd,ln->ld", self.centred, along) / n_states
            sphere = RIDGE * self.spread.square()[:, None] / width
            found = stretched + sphere * found
        return found / found.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)

    def moved(self, states: Tensor, layer: int, to: int) -> Tensor:
        """States `[T, D]` of one block with the mean and spread that another block has; differentiable."""
        here, there = self.layers.index(layer), self.layers.index(to)
        scale = self.spread[there] / self.spread[here]
        return ((states.float() - self.mean[here]) * scale + self.mean[there]).to(states.dtype)


def measure_geometry(target: Target, readings: Sequence[Reading], layers: Sequence[int]) -> Geometry:
    """Mean, spread and states of some blocks over all tokens of some dialogs but their first.

    Args:
        target: as it is now.
        readings: rendered dialogs; their spans do not matter.
        layers: blocks, 0-based.
    """
    layers = tuple(layers)
    whole = [Reading(reading.rendered, resolve_span(reading.rendered, "all")) for reading in readings]
    activations = target.read_many(whole, layers)
    vectors = torch.cat([one.vectors[:, 1:] for one in activations], dim=1).float()
    vectors = vectors[:, :: -(-vectors.shape[1] // MOST_STATES)]
    mean = vectors.mean(1)
    centred = vectors - mean[:, None]
    spread = centred.square().sum(-1).mean(1).sqrt()
    return Geometry(layers, mean, spread, centred)
