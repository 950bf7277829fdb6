"""No control, the control as a prompt, and a random vector: what any steering must beat."""

from __future__ import annotations

import torch

from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.treatment import Treatment


def make_no_control(context: MethodContext) -> Treatment:
    """The target as it is."""
    del context
    return Treatment("no-control")


def make_prompting(context: MethodContext) -> Treatment:
    """The control as system prompt; before a raw text, as a prefix that is not scored."""
    return Treatment("prompting", prompt=context.aim.control)


def make_random(context: MethodContext) -> Treatment:
    """A random direction with the norm, layers and strength of the steering vector or the contrast vector.

    What it achieves is what any push of that size achieves.
    """
    from latentqa.steering import Steering

    like = context.other("vector" if context.decoder is not None else "contrast")
    assert like.steering is not None and like.steering.vectors is not None
    vectors = like.steering.vectors.float()
    generator = torch.Generator().manual_seed(context.seed)
    drawn = torch.randn(vectors.shape, generator=generator)
    drawn = drawn / drawn.norm(dim=-1, keepdim=True) * vectors.cpu().norm(dim=-1, keepdim=True)
    card = like.steering.card
    steering = Steering.from_vectors(
        context.target, tuple(card.layers), drawn, method="random", control=context.aim.control
    )
    return Treatment("random", steering, strength=like.strength).chosen(like=like.method)
