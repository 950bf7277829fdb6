"""What one of two processes of `test_sharded.py` does: a pass of its half of the groups, under FSDP2.

Run by torchrun with the path of the result; process 0 writes loss and gradients there.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from latentqa.models import find_blocks
from latentqa.training.sharding import fill, whole
from latentqa.training.trainer import trained_parameters
from tests.training.conftest import in_groups, make_entries, make_module
from tests.training.test_loss import CONTRAST


def main(path: str) -> None:
    dist.init_process_group("gloo")
    rank, mesh = dist.get_rank(), init_device_mesh("cpu", (dist.get_world_size(),))
    # FSDP must see every block's forward end, and every gradient enter a block by its output.
    module = make_module(contrast=CONTRAST, share=False, stop=False)
    for block in find_blocks(module.model):
        fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    losses = module(in_groups(make_entries(), 2)[rank::2])
    losses["loss"].backward()
    total = losses["loss"].detach()
    dist.all_reduce(total)
    gradients = {
        name: parameter.grad.full_tensor() * dist.get_world_size()  # FSDP takes their mean
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }
    parameters = trained_parameters(module)
    before = {name: whole(parameter) for name, parameter in parameters.items()}
    fill(parameters, {name: value + 1.0 for name, value in before.items()})
    after = {name: whole(parameter) for name, parameter in parameters.items()}
    if rank == 0:
        torch.save({"loss": total, "gradients": gradients, "before": before, "after": after}, path)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
