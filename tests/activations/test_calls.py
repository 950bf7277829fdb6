"""Where the tokens of a call stand, and where gradients end."""

from __future__ import annotations

import pytest
import torch

from latentqa.activations import call_position, capture, detached_inputs
from latentqa.models.blocks import find_blocks
from latentqa.models.tiny import TINY_ARCHITECTURES, tiny_model

IDS = torch.arange(5, 17)[None]


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
@torch.no_grad()
def test_the_position_counts_what_the_cache_holds(architecture: str) -> None:
    model, seen = tiny_model(architecture), []
    with call_position(model) as position:
        hook = find_blocks(model)[0].register_forward_hook(lambda *_: seen.append(position.cached))
        model.generate(IDS, max_new_tokens=4, min_new_tokens=4, do_sample=False, pad_token_id=0)
        model(IDS)
        model.get_decoder()(input_ids=IDS)
        hook.remove()
    assert seen == [0, 12, 13, 14, 0, 0]


def test_the_position_ends_with_the_block_also_after_an_exception() -> None:
    model = tiny_model()
    with pytest.raises(RuntimeError), call_position(model):
        raise RuntimeError
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_loss_on_a_block_reaches_that_block_alone(architecture: str) -> None:
    model = tiny_model(architecture)
    with detached_inputs(model, (0, 1, 2)), capture(model, (0, 1, 2), gradients=True) as captured:
        model(IDS)
    captured.vectors[1].square().sum().backward()
    reached = [
        any(p.grad is not None and p.grad.any() for p in block.parameters()) for block in find_blocks(model)
    ]
    assert reached == [False, True, False, False]
    assert not any(module._forward_pre_hooks for module in model.modules())
    with torch.no_grad(), capture(model, (0, 1, 2)) as plain:
        model(IDS)
    assert torch.equal(plain.vectors, captured.vectors)
