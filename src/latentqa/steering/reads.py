"""The target read with gradients: as the decoder was trained to, or at every changed block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor

from latentqa.activations import detached_inputs
from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Reading, Target, read_vectors
from latentqa.decoder.wiring import Slot
from latentqa.steering.geometry import Geometry

Adapter = str | tuple[str, ...] | None


def live_slots(target: Target, decoder: Decoder, readings: Sequence[Reading], adapter: Adapter) -> list[Slot]:
    """What the decoder sees of the target in one pass, with the graph of that pass.

    Args:
        target: steered by whatever surrounds this call; frozen but for what is made.
        decoder: names the read layers, and maps what is read.
        readings: dialogs of one batch, each once.
        adapter: adapters that are on: the target's own, and the one that is trained.
    """
    with half_precision(target):
        read = read_vectors(
            target.model,
            [reading.rendered.token_ids for reading in readings],
            [[reading.span] for reading in readings],
            decoder.read_layers,
            adapter=adapter,
            gradients=True,
        )
    return [
        decoder.wiring.slot(vectors, reading.span.indices)
        for (vectors,), reading in zip(read, readings, strict=True)
    ]


def slots_of_every_block(
    target: Target,
    decoder: Decoder,
    readings: Sequence[Reading],
    layers: Sequence[int],
    geometry: Geometry,
    adapter: Adapter,
) -> list[Slot]:
    """Each changed block read for itself: what it put out stands in for the read layers above it.

    A loss on the slots of a block reaches that block alone: its input is detached, and so are the read layers
    below it. The decoder was trained on other layers, so the states of block k that stand in for layer r are
    moved and scaled to the mean and spread that r has over the stimuli.

    Args:
        target: as for `live_slots`.
        decoder: likewise.
        readings: likewise.
        layers: the changed blocks, ascending.
        geometry: mean and spread of the states of these blocks and of the read layers.
        adapter: as for `live_slots`.

    Returns:
        For each block the slots of all readings: block after block.

    Source: the layer-wise variant of the control experiments of LatentQA (Pan et al. 2024).
    """
    captured = sorted({*layers, *(layer for layer in decoder.read_layers if layer < max(layers))})
    with half_precision(target), detached_inputs(target.model, layers):
        read = read_vectors(
            target.model,
            [reading.rendered.token_ids for reading in readings],
            [[reading.span] for reading in readings],
            captured,
            adapter=adapter,
            gradients=True,
        )
    slots = []
    for layer in layers:
        for (vectors,), reading in zip(read, readings, strict=True):
            states = dict(zip(captured, vectors, strict=True))
            stood_in = _stand_ins(decoder, layer, states, geometry)
            slots.append(decoder.wiring.slot(stood_in, reading.span.indices))
    return slots


def _stand_ins(decoder: Decoder, layer: int, states: dict[int, Tensor], geometry: Geometry) -> Tensor:
    """`[L, T, D]` for the decoder's read layers, of which only block `layer` keeps its graph."""
    if decoder.card.sampled_layer and layer in decoder.card.read_layers:
        return states[layer][None]  # the decoder reads any of its layers, one at a time
    parts = []
    for read in decoder.read_layers:
        if read < layer:
            parts.append(states[read].detach())
        elif read == layer:
            parts.append(states[layer])
        else:
            parts.append(geometry.moved(states[layer], layer, read))
    return torch.stack(parts)


@contextmanager
def half_precision(target: Target) -> Iterator[None]:
    """Lets a LoRA in float32 compute in the model's own half precision, if it has one."""
    dtype = target.model.dtype
    if dtype not in (torch.bfloat16, torch.float16):
        yield
        return
    with torch.autocast(target.model.device.type, dtype=dtype), disable_input_dtype_casting(target.model):
        yield
