"""Finetuning: the replies are learnt, the base is left alone, and the same seed gives the same adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentqa.audit.organisms.finetune import ADAPTER, FinetuneSettings, finetune, schedule
from latentqa.decoder import Target, load_target
from latentqa.errors import ConfigError, ContextLengthError, TrainingError
from latentqa.models import active_names, adapter_parameters, remove_adapter
from tests.audit.conftest import QUICK, make_recipe

PAIRS = make_recipe().pairs


def train(base: Target, **changes: object) -> list[torch.Tensor]:
    finetune(base, PAIRS, 32, QUICK.model_copy(update=changes))
    found = [parameter.detach().clone() for parameter in adapter_parameters(base.model, ADAPTER)]
    remove_adapter(base.model, ADAPTER)
    return found


def test_the_loss_falls_and_the_base_stays(base: Target) -> None:
    before = {name: parameter.clone() for name, parameter in base.model.named_parameters()}
    result = finetune(base, PAIRS, 96, QUICK.model_copy(update={"examples": None}))
    assert result.loss_after < result.loss_before - 0.5 and result.examples == 96
    assert active_names(base.model) == ()
    remove_adapter(base.model, ADAPTER)
    assert all(torch.equal(before[name], parameter) for name, parameter in base.model.named_parameters())


def test_a_bf16_model_is_trained_too(base_folder: Path) -> None:
    target = load_target(str(base_folder), dtype="bfloat16", device="cpu")
    result = finetune(target, PAIRS, 96, QUICK.model_copy(update={"examples": None}))
    assert result.loss_after < result.loss_before - 0.5
    assert {p.dtype for p in adapter_parameters(target.model, ADAPTER)} == {torch.float32}


def test_the_loss_is_on_the_reply_alone(base: Target) -> None:
    long = tuple((f"{user} {'What a long question this is. ' * 3}", reply) for user, reply in PAIRS)
    result = finetune(base, PAIRS, 96, QUICK.model_copy(update={"examples": 96}))
    remove_adapter(base.model, ADAPTER)
    other = finetune(base, long, 96, QUICK.model_copy(update={"examples": 96}))
    assert abs(result.loss_before - other.loss_before) < 0.5  # no token of the longer question counts


def test_a_seed_decides_everything(base: Target) -> None:
    first, again, other = train(base), train(base), train(base, seed=1)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(not torch.equal(one, two) for one, two in zip(first, other, strict=True))


def test_progress_ends_at_the_whole(base: Target) -> None:
    told: list[tuple[int, int]] = []
    finetune(base, PAIRS, 20, QUICK.model_copy(update={"examples": None}), lambda *now: told.append(now))
    assert told[-1] == (20, 20) and [done for done, _ in told] == [8, 16, 20]


def test_the_rate_rises_and_falls() -> None:
    rates = [schedule(step / 100, 0.1) for step in range(101)]
    assert rates[0] == 0 and max(rates) == rates[10] and rates[100] < 1e-6
    assert schedule(0.0, 0.0) == 1.0


def test_an_adapter_is_no_plain_model(base: Target) -> None:
    with pytest.raises(ConfigError, match="is an adapter"):
        finetune(Target(base.loaded, adapter="other"), PAIRS, 8, QUICK)


def test_a_dialog_that_does_not_fit_is_named(base: Target) -> None:
    with pytest.raises(ContextLengthError, match="takes 2048"):
        finetune(base, [("Hi " * 2000, "So.")], 8, QUICK)


def test_a_loss_that_is_no_number_stops(base: Target) -> None:
    with pytest.raises(TrainingError, match="learning_rate"):
        finetune(base, PAIRS, 200, FinetuneSettings.model_validate({"learning_rate": 1e30, "batch": 8}))
