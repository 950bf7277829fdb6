"""Reference activations: what support compares with, and what the target's vectors look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentqa.dialogs import span_kind
from latentqa.errors import CardError, ConfigError
from latentqa.types import Activation

Kept = TypeVar("Kept")
REFERENCES_FILE = "references.safetensors"
REFERENCES = ("mean", "shuffled", "none")
N_SHUFFLED = 8
N_DIRECTIONS = 64


@dataclass(frozen=True)
class References:
    """Activations that carry no answer, kept beside the card.

    Attributes:
        mean: span name → `[L, D]`, mean vector of training dialogs, the dialogs' token 0 left out.
        shuffled: span name → activations `[L, T, D]` of some training dialogs.
        ordinary: span name → activations `[L, T, D]` of some dialogs without any control.
        others: span name → activations `[L, T, D]` of dialogs with controls that the decoder was not trained
            on: what an answer must not fit as well.
        center: `[L, D]`, mean over all spans.
        directions: `[L, K, D]`, the target's main directions around it, orthonormal.
    """

    mean: Mapping[str, Tensor]
    shuffled: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    ordinary: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    others: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    center: Tensor | None = None
    directions: Tensor | None = None

    def of_layer(self, index: int) -> References:
        """The references of one read layer, for decoders that take one of several.

        Args:
            index: of the layer among the read layers.
        """
        one = slice(index, index + 1)
        return References(
            {span: mean[one] for span, mean in self.mean.items()},
            _one_layer(self.shuffled, one),
            _one_layer(self.ordinary, one),
            _one_layer(self.others, one),
            None if self.center is None else self.center[one],
            None if self.directions is None else self.directions[one],
        )

    def stand_ins(self, kind: str, activation: Activation) -> list[Tensor | None]:
        """What is read instead of an activation.

        Args:
            kind: `mean`, `shuffled` or `none`; the verdict also uses `ordinary`, and specificity `others`.
            activation: the activation that is replaced: its length and span count.

        Returns:
            Vectors `[L, T, D]`, one or several; None where nothing is written.

        Raises:
            ConfigError: an unknown kind, or one that this decoder does not have.
        """
        if kind == "none":
            return [None]
        if kind == "mean":
            mean = self._of_span(self.mean, activation.span, kind)
            return [mean[:, None].expand(-1, activation.vectors.shape[1], -1)]
        groups = {"shuffled": self.shuffled, "ordinary": self.ordinary, "others": self.others}
        if kind in groups:
            return list(self._of_span(groups[kind], activation.span, kind))
        raise ConfigError(f'Reference "{kind}" does not exist. Use {", ".join(REFERENCES)}.')

    def span_of(self, kind: str, span: str) -> str:
        """Name of the span whose references stand in for a span's: the same for all whose stand-ins are.

        Args:
            kind: as of `stand_ins`.
            span: as an activation has it.
        """
        groups: dict[str, Mapping[str, object]] = {
            "mean": self.mean,
            "shuffled": self.shuffled,
            "ordinary": self.ordinary,
            "others": self.others,
        }
        group = groups.get(kind, {})
        own = span_kind(span)
        return own if own in group else next(iter(group), "")

    def foreign_energy(self, activation: Activation) -> float | None:
        """Share (0–1) of the centred vectors' energy outside the target's main directions.

        Residual streams lie close to few directions; random vectors of the same norm do not,
        and score near 1.
        """
        if self.center is None or self.directions is None:
            return None
        centred = activation.vectors.float().cpu() - self.center[:, None].float()
        inside = torch.einsum("ltd,lkd->ltk", centred, self.directions.float())
        energy = centred.square().sum(-1)
        outside = (energy - inside.square().sum(-1)).clamp(min=0) / energy.clamp(min=1e-12)
        return float(outside.mean())

    def save(self, folder: str | Path) -> None:
        """Write `references.safetensors` into a folder."""
        tensors = {f"mean/{span}": value for span, value in self.mean.items()}
        kept = (("shuffled", self.shuffled), ("ordinary", self.ordinary), ("others", self.others))
        for kind, groups in kept:
            for span, group in groups.items():
                tensors |= {f"{kind}/{span}/{number}": value for number, value in enumerate(group)}
        if self.center is not None and self.directions is not None:
            tensors |= {"center": self.center, "directions": self.directions}
        path = Path(folder) / REFERENCES_FILE
        temporary = path.with_suffix(".tmp")
        save_file({name: value.to(torch.bfloat16).contiguous() for name, value in tensors.items()}, temporary)
        temporary.replace(path)

    @classmethod
    def load(cls, folder: str | Path) -> References:
        """Read `references.safetensors` of a decoder folder; without one only `none` is there.

        Raises:
            CardError: a damaged file.
        """
        path = Path(folder) / REFERENCES_FILE
        if not path.is_file():
            return cls(mean={})
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            raise CardError(f"{path} is damaged ({error}). Fetch the decoder again.") from error
        mean = {name.removeprefix("mean/"): tensors[name] for name in tensors if name.startswith("mean/")}
        return cls(
            mean,
            _groups("shuffled/", tensors),
            _groups("ordinary/", tensors),
            _groups("others/", tensors),
            tensors.get("center"),
            tensors.get("directions"),
        )

    def _of_span(self, group: Mapping[str, Kept], span: str, kind: str) -> Kept:
        """The entry of a span's kind; spans without one (`last:8`) take the first kind's."""
        if not group:
            raise ConfigError(
                f'This decoder has no {kind} reference activations. Use reference="none", or add them with '
                "`latentqa.decoder.make_references`."
            )
        return group.get(span_kind(span), next(iter(group.values())))


def make_references(activations: Sequence[Activation], *, seed: int = 0) -> References:
    """References from activations of training dialogs.

    Args:
        activations: of one or more span kinds; at least `N_SHUFFLED` of each are wanted.
        seed: of the choice of shuffled dialogs.
    """
    by_span: dict[str, list[Activation]] = {}
    for activation in activations:
        by_span.setdefault(span_kind(activation.span), []).append(activation)
    mean, shuffled = {}, {}
    for span, group in by_span.items():
        mean[span] = torch.cat([_without_first(a) for a in group], dim=1).float().mean(1).to(torch.bfloat16)
        shuffled[span] = some_vectors(group, N_SHUFFLED, seed=seed)
    center, directions = _main_directions(torch.cat([_without_first(a) for a in activations], dim=1).float())
    return References(mean, shuffled, center=center, directions=directions)


def some_vectors(activations: Sequence[Activation], count: int, *, seed: int = 0) -> list[Tensor]:
    """Vectors (bf16) of some of the activations."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(activations), generator=generator)[:count].tolist()
    return [activations[i].vectors.to(torch.bfloat16) for i in chosen]


def _one_layer(groups: Mapping[str, Sequence[Tensor]], one: slice) -> dict[str, list[Tensor]]:
    """The same activations with some of their read layers."""
    return {span: [vectors[one] for vectors in group] for span, group in groups.items()}


def _groups(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """Activations by span, of names like `shuffled/stimulus/3`."""
    groups: dict[str, list[Tensor]] = {}
    for name in sorted(name for name in tensors if name.startswith(prefix)):
        groups.setdefault(name.split("/")[1], []).append(tensors[name])
    return groups


def _without_first(activation: Activation) -> Tensor:
    """Vectors `[L, T, D]` without the dialog's token 0, whose norm would swamp a mean."""
    kept = [i for i, position in enumerate(activation.positions) if position > 0]
    return activation.vectors[:, kept].cpu()


def _main_directions(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Mean `[L, D]` and leading principal directions `[L, K, D]` of `[L, N, D]`."""
    center = vectors.mean(1)
    centred = vectors - center[:, None]
    covariance = torch.einsum("lnd,lne->lde", centred, centred)
    directions = torch.linalg.eigh(covariance).eigenvectors.transpose(1, 2).flip(1)
    return center.to(torch.bfloat16), directions[:, : min(N_DIRECTIONS, directions.shape[1])].to(
        torch.bfloat16
    )
