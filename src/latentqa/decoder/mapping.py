"""The mapping: a closed-form affine map that takes activations to where the decoder reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentqa.errors import CardError, DataError

MAPPING_FILE = "mapping.safetensors"
FIELDS = ("center", "weight", "bias")


@dataclass(frozen=True)
class Mapping:
    """Takes the vectors of one token at all read layers to one vector at the write site.

    What an answer needs lies in directions of small variance, which a decoder finds slowly by gradient steps.
    Ridge regression finds them at once: the map predicts, from each token, the mean state that the decoder's
    own base has at the write site over the words of the answer.

    Attributes:
        center: `[L, D]`, mean activation.
        weight: `[L · D, E]`, float32; `E` is the width of the decoder, which may differ from `D`.
        bias: `[E]`, what the mean activation is taken to.

    Source: the mapping `f` of Patchscopes (Ghandeharioun et al. 2024); in place of the projector that visual
    instruction tuning learns (Liu et al. 2023).
    """

    center: Tensor
    weight: Tensor
    bias: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Map `[L, T, D]` to `[1, T, E]`, in the vectors' dtype and on the map's device; differentiable."""
        centred = vectors.to(self.weight.device).float() - self.center[:, None]
        return (self.bias + centred.transpose(0, 1).flatten(1) @ self.weight).to(vectors.dtype)[None]

    def to(self, device: torch.device) -> Mapping:
        """The map on a device."""
        return Mapping(self.center.to(device), self.weight.to(device), self.bias.to(device))

    def save(self, folder: str | Path) -> None:
        """Write `mapping.safetensors` into a folder."""
        path = Path(folder) / MAPPING_FILE
        temporary = path.with_suffix(".tmp")
        save_file({name: getattr(self, name).float().contiguous().cpu() for name in FIELDS}, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, folder: str | Path) -> Mapping:
        """Read `mapping.safetensors` of a decoder folder.

        Raises:
            CardError: no such file, or a damaged one.
        """
        path = Path(folder) / MAPPING_FILE
        try:
            tensors = load_file(path)
            return cls(*(tensors[name] for name in FIELDS))
        except (SafetensorError, OSError, KeyError) as error:
            raise CardError(
                f"The card in {folder} names a mapping, but {MAPPING_FILE} cannot be read ({error}). Fetch "
                "the decoder again."
            ) from error


def fit_mapping(
    activations: Iterable[Tensor], states: Iterable[Tensor], *, ridge: float, gain: float
) -> Mapping:
    """Ridge regression, token by token, from activations to the states of their answers.

    Args:
        activations: `[L, T, D]` each; gone through once, so they need not all be in memory.
        states: `[E]` each, mean state of the answer at the write site.
        ridge: penalty, as a share of the number of tokens times the variance of each input.
        gain: factor on the predicted difference from the mean state. Ridge shrinks it; a decoder learns
            faster from one about as large as between real answers.
    """
    sums = _Sums()
    for vectors, state in zip(activations, states, strict=True):
        sums.add(vectors.cpu().double(), state.cpu().double())
    return sums.solve(ridge, gain)


class _Sums:
    """First and second moments of inputs and outputs, one dialog at a time."""

    def __init__(self) -> None:
        self._count = 0
        self._parts: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self._n_layers = 0

    def add(self, vectors: Tensor, state: Tensor) -> None:
        """Take in `[L, T, D]` whose tokens all have output `[E]`."""
        inputs = vectors.transpose(0, 1).flatten(1)
        if self._parts is None:
            self._n_layers = len(vectors)
            width, out = inputs.shape[1], len(state)
            zeros = inputs.new_zeros
            self._parts = (zeros(width), zeros(out), zeros(width, width), zeros(width, out))
        x, y, xx, xy = self._parts
        total = inputs.sum(0)
        self._count += len(inputs)
        x += total
        y += len(inputs) * state
        xx.addmm_(inputs.T, inputs)
        xy.addr_(total, state)

    def solve(self, ridge: float, gain: float) -> Mapping:
        """The regression."""
        if self._parts is None:
            raise DataError("No activation to fit the mapping on: no training example has a pair.")
        x, y, xx, xy = (part / self._count for part in self._parts)
        covariance = xx - torch.outer(x, x)
        penalty = torch.diag(ridge * covariance.diagonal().clamp(min=1e-12))
        weight = gain * torch.linalg.solve(covariance + penalty, xy - torch.outer(x, y))
        return Mapping(x.view(self._n_layers, -1).float(), weight.float().contiguous(), y.float())
