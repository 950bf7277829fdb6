"""Spread and metric of the target's states."""

from __future__ import annotations

import torch

from latentqa.decoder import Target
from latentqa.steering import measure_geometry
from latentqa.steering.geometry import RIDGE
from latentqa.steering.objective import stimulus_reading
from tests.steering.conftest import STIMULI


def geometry(target: Target):
    readings = [stimulus_reading(target, text, "stimulus") for text in STIMULI]
    return measure_geometry(target, readings, (1, 2)), readings


def states(target: Target, readings, layer: int) -> torch.Tensor:
    """All states of a block but those of each dialog's first token, `[N, D]`."""
    parts = [target.read_many([reading], [layer])[0].vectors[0] for reading in readings]
    whole = [
        target.read([{"role": "user", "content": text}], "all", [layer]).vectors[0, 1:] for text in STIMULI
    ]
    assert len(parts) == len(whole)
    return torch.cat(whole)


def test_spread_is_the_root_mean_square_distance_from_the_mean(target: Target) -> None:
    ground, readings = geometry(target)
    for index, layer in enumerate((1, 2)):
        vectors = states(target, readings, layer)
        centred = vectors - vectors.mean(0)
        torch.testing.assert_close(ground.mean[index], vectors.mean(0), rtol=1e-4, atol=1e-5)
        expected = centred.square().sum(1).mean().sqrt()
        torch.testing.assert_close(ground.spread[index], expected, rtol=1e-4, atol=1e-5)


def test_directions_are_the_gradient_seen_through_the_states_covariance(target: Target) -> None:
    ground, readings = geometry(target)
    gradients = torch.randn(2, 32, generator=torch.Generator().manual_seed(0))
    found = ground.directions(gradients, "states")
    for index, layer in enumerate((1, 2)):
        covariance = torch.cov(states(target, readings, layer).T, correction=0)
        sphere = RIDGE * covariance.trace() / 32 * torch.eye(32)
        expected = -(covariance + sphere) @ gradients[index]
        torch.testing.assert_close(found[index], expected / expected.norm(), rtol=1e-3, atol=1e-4)
    plain = ground.directions(gradients, "euclidean")
    torch.testing.assert_close(plain, -gradients / gradients.norm(dim=1, keepdim=True))


def test_a_zero_gradient_has_no_direction(target: Target) -> None:
    ground, _ = geometry(target)
    for metric in ("states", "euclidean"):
        assert torch.equal(ground.directions(torch.zeros(2, 32), metric).abs(), torch.zeros(2, 32))


def test_moved_states_have_the_mean_and_spread_of_the_other_block(target: Target) -> None:
    ground, readings = geometry(target)
    moved = ground.moved(states(target, readings, 1), 1, 2)
    torch.testing.assert_close(moved.mean(0), ground.mean[1], rtol=1e-3, atol=1e-4)
    spread = (moved - moved.mean(0)).square().sum(1).mean().sqrt()
    torch.testing.assert_close(spread, ground.spread[1], rtol=1e-3, atol=1e-4)


def test_only_some_blocks(target: Target) -> None:
    ground, _ = geometry(target)
    one = ground.only((2,))
    assert one.layers == (2,) and torch.equal(one.mean[0], ground.mean[1])
