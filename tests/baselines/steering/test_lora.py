"""The training loop of SFT, DPO and the organism: it changes its adapter and nothing else."""

from __future__ import annotations

import itertools

import pytest
import torch

from latentqa.baselines.steering.finetuned import sft_loss
from latentqa.baselines.steering.likelihood import Scored, sequence_logprobs
from latentqa.baselines.steering.lora import LoraSettings, _order, _schedule, trained_adapter, with_adapter
from latentqa.decoder import Target
from latentqa.errors import TrainingError
from latentqa.models import adapter_names, adapter_parameters
from tests.baselines.steering.conftest import logits
from tests.decoder.conftest import random_adapter

SEQUENCES = [Scored((5, 9, 30, 41, 60), 2), Scored((7, 8, 12, 60), 1)]
SETTINGS = LoraSettings(rank=2, alpha=4, steps=12, batch_size=2, learning_rate=2e-2)


def test_it_learns_and_leaves_nothing_behind(target: Target) -> None:
    random_adapter(target.model, "other")
    before = logits(target)
    state = {name: tensor.clone() for name, tensor in target.model.state_dict().items()}
    flags = {name: p.requires_grad for name, p in target.model.named_parameters()}

    def likelihood(one: Target) -> float:
        return float(torch.cat(sequence_logprobs(one, SEQUENCES)).mean())

    plain = likelihood(target)
    with trained_adapter(target, sft_loss(SEQUENCES), 2, SETTINGS) as name:
        assert likelihood(with_adapter(target, name)) > plain + 0.5
        assert likelihood(target) == plain
    assert adapter_names(target.model) == ("other",)
    assert torch.equal(logits(target), before)
    assert {name: p.requires_grad for name, p in target.model.named_parameters()} == flags
    for key, tensor in target.model.state_dict().items():
        assert torch.equal(tensor, state[key]), key


def test_the_adapter_lies_on_the_blocks_asked_for(target: Target) -> None:
    settings = LoraSettings(rank=2, alpha=4, layers=(1,), steps=1, batch_size=1)
    with trained_adapter(target, sft_loss(SEQUENCES), 2, settings) as name:
        named = {id(p): key for key, p in target.model.named_parameters()}
        assert {named[id(p)].split("layers.")[1][0] for p in adapter_parameters(target.model, name)} == {"1"}


def test_after_a_failure_no_adapter_is_left(target: Target) -> None:
    def broken(live: Target, numbers) -> torch.Tensor:
        return sft_loss(SEQUENCES)(live, numbers) * float("nan")

    with pytest.raises(TrainingError, match="learning rate"):
        with trained_adapter(target, broken, 2, SETTINGS):
            pass
    assert adapter_names(target.model) == ()
    with pytest.raises(TrainingError, match="no examples"):
        with trained_adapter(target, broken, 0, SETTINGS):
            pass


def test_every_example_is_seen_before_any_is_seen_again() -> None:
    settings = LoraSettings(batch_size=2)
    steps = list(itertools.islice(_order(5, settings, seed=0), 5))
    assert all(len(step) == 2 for step in steps)
    seen = [number for step in steps for number in step]
    assert sorted(seen[:5]) == sorted(seen[5:]) == list(range(5))
    assert steps == list(itertools.islice(_order(5, settings, seed=0), 5))


def test_the_rate_rises_and_falls_to_nothing() -> None:
    assert _schedule(0.05) == 0.5 and _schedule(0.1) == 1.0 and _schedule(1.0) < 1e-9
    assert _schedule(0.3) > _schedule(0.6)


def test_it_is_the_adapter_of_steering_by_weights() -> None:
    from latentqa.steering import WeightsSettings

    given, made = WeightsSettings(), LoraSettings.like_weights((0, 1))
    assert (made.rank, made.alpha, made.steps, made.layers) == (given.rank, given.alpha, given.steps, (0, 1))
