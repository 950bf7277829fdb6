"""Parameters that FSDP has spread over processes."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded() -> bool:
    """Whether `accelerate launch` was told to shard by FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("true", "1")


def whole(parameter: Tensor) -> Tensor:
    """The whole of a parameter, detached; every process must ask for it."""
    return parameter.full_tensor().detach() if isinstance(parameter, DTensor) else parameter.detach()


@torch.no_grad()
def fill(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    """Write whole values into parameters, of which each process keeps its part."""
    for name, parameter in parameters.items():
        value = values[name].to(parameter.device, parameter.dtype)
        if isinstance(parameter, DTensor):
            value = distribute_tensor(value, parameter.device_mesh, parameter.placements)
        parameter.copy_(value)
