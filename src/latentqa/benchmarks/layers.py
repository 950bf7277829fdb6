"""A decoder asked at layers that it was not trained on: what must be said beside such figures."""

from __future__ import annotations

from collections.abc import Sequence


def foreign_note(read_layers: Sequence[int], layers: Sequence[int], *, sampled: bool = False) -> str:
    """How a decoder was asked at other layers than its own; see `baselines.reads.move`.

    Args:
        read_layers: that it was trained on.
        layers: that it is asked at.
        sampled: whether it takes any one of its read layers.
    """
    own = list(read_layers)
    at_home = set(own) if sampled else {max(own)}
    foreign = [layer for layer in layers if layer not in at_home]
    if sampled:
        meant = f"The decoder was trained on any one of the layers {own}"
    elif len(own) == 1:
        meant = f"The decoder was trained on layer {own[0]}"
    else:
        meant = (
            f'The decoder takes layers {own} together; "layer k" puts the highest of them at k and the '
            "others as far below it as they were, down to layer 0"
        )
    return (
        f"{meant}; at {len(foreign)} of {len(layers)} layers it reads states of a kind that it never saw in "
        "that place."
    )
