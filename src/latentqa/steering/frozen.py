"""Models that are computed with and not changed: no parameter takes a gradient, no dropout is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Within the block these models are in eval mode and none of their parameters requires a gradient.

    Adapters that are put on within the block are free. Flags and modes are restored afterwards, also after an
    exception. In eval mode gradient checkpointing is off too, so no block is computed again under another
    adapter than in its forward pass.
    """
    parameters = {id(p): (p, p.requires_grad) for model in models for p in model.parameters()}
    modes = {id(m): (m, m.training) for model in models for m in model.modules()}
    try:
        for parameter, _ in parameters.values():
            parameter.requires_grad_(False)
        for model in models:
            model.eval()
        yield
    finally:
        for parameter, flag in parameters.values():
            parameter.requires_grad_(flag)
        for module, training in modes.values():
            module.training = training
