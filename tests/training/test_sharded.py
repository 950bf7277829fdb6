"""FSDP2 gives the loss and gradients of one process; used directly, as accelerate does not shard on a CPU."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.training.conftest import REPOSITORY, gradients, in_groups, make_entries, make_module, torchrun
from tests.training.test_loss import CONTRAST


def test_fully_sharded_gives_the_same_loss_and_gradients(tmp_path: Path) -> None:
    module = make_module(contrast=CONTRAST)
    losses = module(in_groups(make_entries(), 2))
    losses["loss"].backward()
    expected = gradients(module)
    worker = REPOSITORY / "tests" / "training" / "sharded_worker.py"
    torchrun(str(worker), str(tmp_path / "found.pt"))
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    own = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}
    assert set(found["before"]) == set(own)
    for name, value in own.items():  # gathered to be saved, and scattered to go on
        assert torch.equal(found["before"][name], value)
        assert torch.equal(found["after"][name], value + 1.0)
    torch.testing.assert_close(found["loss"], losses["loss"].detach(), rtol=1e-4, atol=1e-4)
    assert set(found["gradients"]) == set(expected)
    for name, gradient in expected.items():
        torch.testing.assert_close(found["gradients"][name], gradient, rtol=1e-3, atol=1e-4)
