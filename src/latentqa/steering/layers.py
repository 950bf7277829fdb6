"""Which blocks are changed: those that exist, and for the decoder's loss those that it can see."""

from __future__ import annotations

from collections.abc import Sequence

from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Target
from latentqa.errors import LayerError
from latentqa.models import describe, find_blocks


def check_blocks(target: Target, layers: Sequence[int]) -> tuple[int, ...]:
    """Blocks of the target, counted from 0, in the order asked for.

    Raises:
        LayerError: none, one that does not exist, or one that comes twice.
    """
    count = len(find_blocks(target.model))
    for layer in layers:
        if not -count <= layer < count:
            raise LayerError(
                f"Block {layer} cannot be steered: {describe(target.model)} has {count} blocks (0–"
                f"{count - 1}). Name blocks from 0 to {count - 1}, or -1 to -{count} from the end."
            )
    found = tuple(layer % count for layer in layers)
    if not found or len(set(found)) < len(found):
        raise LayerError(
            f"Blocks {list(layers)} cannot be steered: name at least one, and each once (0–{count - 1})."
        )
    return found


def steerable(
    target: Target, decoder: Decoder, layers: Sequence[int], default: Sequence[int]
) -> tuple[int, ...]:
    """Blocks that the decoder's loss can reach, ascending.

    Args:
        target: the model that is steered.
        decoder: what reads it.
        layers: the blocks asked for; empty for `default`.
        default: the way's own choice.

    Raises:
        LayerError: a block that does not exist, comes twice, or lies above the last read layer.
    """
    found = tuple(sorted(check_blocks(target, layers or default)))
    last = max(decoder.read_layers)
    above = [layer for layer in found if layer > last]
    if above:
        raise LayerError(
            f"Block {above[0]} lies above the last layer that decoder {decoder.name} reads ({last}), so its "
            f"loss cannot change there. Name blocks from 0 to {last}."
        )
    return found


def up_to_last_read(decoder: Decoder) -> tuple[int, ...]:
    """Every block that the decoder's loss can reach."""
    return tuple(range(max(decoder.read_layers) + 1))


def among_read(decoder: Decoder) -> tuple[int, ...]:
    """The first read layer, the last, and the block half-way: short vectors in a few blocks add up."""
    first, last = min(decoder.read_layers), max(decoder.read_layers)
    return tuple(sorted({first, (first + last) // 2, last}))
