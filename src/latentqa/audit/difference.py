"""Difference mode: what a finetune computes minus what its base does, as activations that a decoder can read.

A bare difference is foreign to a decoder that was trained on whole states: it lies at another place and has
another norm. So it is put where those states lie: the reference mean of the decoder plus the difference, made
as long as the base's own states lie from that mean. A decoder that adds its vectors by direction alone
(`norm_add`) takes the bare difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from latentqa.decoder import Decoder
from latentqa.errors import ConfigError
from latentqa.types import Activation

NOTHING = 1e-4
"""Share of the base's spread below which a difference counts as none: rounding, at most."""


def differences(
    decoder: Decoder, model: Sequence[Activation], base: Sequence[Activation]
) -> list[Activation | None]:
    """Norm-matched differences of a finetune's activations and its base's on the same tokens.

    Args:
        decoder: that will read them.
        model: of the finetune.
        base: of the base, token by token the same text.

    Returns:
        Activations `[L, T, D]`; None where nothing differs. The dialogs' token 0, whose norm would swamp the
        rest, shows no difference.
    """
    centers = [center(decoder, activation) for activation in base]
    spread = _spread(base, centers)
    found: list[Activation | None] = []
    for one, other, middle in zip(model, base, centers, strict=True):
        gap = (one.vectors.float() - other.vectors.float()) * _later(other).to(other.vectors.device)
        size = gap.square().sum(-1).mean(-1).sqrt()  # [L]
        if bool((size < NOTHING * spread.to(size.device)).all()):
            found.append(None)
            continue
        scaled = gap * (spread.to(size.device) / size.clamp(min=1e-12))[:, None, None]
        placed = scaled if decoder.card.injection == "norm_add" else middle.to(scaled.device) + scaled
        found.append(replace(one, vectors=placed.to(one.vectors.dtype)))
    return found


def without_difference(decoder: Decoder, activation: Activation) -> Activation:
    """What difference mode would read if nothing differed: the control for its answers."""
    middle = center(decoder, activation)
    if decoder.card.injection == "norm_add":
        middle = torch.zeros_like(middle)
    return replace(activation, vectors=middle.to(activation.vectors))


def center(decoder: Decoder, activation: Activation) -> Tensor:
    """Where the decoder's states lie, `[L, T, D]` float32: its reference mean, else the span's own mean."""
    references = decoder.references
    if decoder.card.sampled_layer:
        references = references.of_layer(decoder.card.read_layers.index(activation.layers[0]))
    try:
        (found,) = references.stand_ins("mean", activation)
    except ConfigError:
        found = None
    if found is None:
        found = activation.vectors.float().mean(1, keepdim=True).expand_as(activation.vectors)
    return found.float().to(activation.vectors.device)


def _spread(base: Sequence[Activation], centers: Sequence[Tensor]) -> Tensor:
    """Root mean square distance `[L]` of the base's states from the mean, tokens 0 left out."""
    total, count = torch.zeros(()), torch.zeros(())
    for activation, middle in zip(base, centers, strict=True):
        later = _later(activation)
        squares = (activation.vectors.float() - middle).square().sum(-1).cpu() * later[..., 0]
        total = total + squares.sum(-1)
        count = count + later.sum()
    return (total / count.clamp(min=1)).sqrt()


def _later(activation: Activation) -> Tensor:
    """`[1, T, 1]`, 0 at the dialog's token 0 and 1 elsewhere."""
    return torch.tensor([float(position > 0) for position in activation.positions]).view(1, -1, 1)
