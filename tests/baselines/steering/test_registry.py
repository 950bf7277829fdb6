"""All methods: made alike, searched within one budget, undone; names and needs are said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from latentqa.baselines.steering import METHODS, make_treatment
from latentqa.baselines.steering.completions import Completions
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.treatment import Treated
from latentqa.decoder import Target
from latentqa.errors import ConfigError
from latentqa.models import active_adapter, adapter_names
from tests.baselines.steering.conftest import logits

CHANGING = [name for name in METHODS if name not in ("no-control", "prompting")]


@pytest.mark.parametrize("name", CHANGING)
def test_each_method_changes_the_target_and_is_undone(
    name: str, context: Callable[..., MethodContext]
) -> None:
    made = context(decoder=METHODS[name].needs_decoder)
    before, adapters = logits(made.target), adapter_names(made.target.model)
    treatment = make_treatment(name, made)
    assert torch.equal(logits(made.target), before) and adapter_names(made.target.model) == adapters
    with treatment.on(made.target) as treated:
        assert not torch.equal(logits(treated.target), before)
    assert torch.equal(logits(made.target), before) and adapter_names(made.target.model) == adapters
    assert treatment.method == name and treatment.seconds > 0


def test_no_control_and_prompting_leave_the_weights(context: Callable[..., MethodContext]) -> None:
    made = context()
    assert make_treatment("no-control", made).steering is None
    assert make_treatment("prompting", made).prompt == "Talk about soup."


def test_a_random_vector_has_the_norm_and_strength_of_what_it_imitates(
    context: Callable[..., MethodContext],
) -> None:
    for decoder, like in ((True, "vector"), (False, "contrast")):
        made = context(decoder=decoder, judge=lambda treated: 0.0, budget=3)
        random, model = make_treatment("random", made), made.other(like)
        assert random.steering is not None and model.steering is not None
        assert random.steering.card.layers == model.steering.card.layers
        assert random.strength == model.strength and random.choices["like"] == like
        ours, theirs = random.steering.vectors, model.steering.vectors
        torch.testing.assert_close(ours.norm(dim=1), theirs.norm(dim=1))  # pyright: ignore
        assert not torch.allclose(ours, theirs)  # pyright: ignore


@pytest.mark.parametrize("name", ["contrast", "principal-component", "sft", "vector", "weights"])
def test_every_method_that_searches_has_the_same_budget(
    name: str, context: Callable[..., MethodContext]
) -> None:
    judged: list[Treated] = []

    def judge(treated: Treated) -> float:
        judged.append(treated)
        return -float(len(judged))

    made = make_treatment(name, context(decoder=METHODS[name].needs_decoder, judge=judge, budget=4))
    assert len(judged) == 4 and made.choices["tried"] == 4
    first = {"vector": 0.3, "closed-form": 0.3}.get(name, 1.0)
    assert made.strength == first  # the first was the best


def test_pairs_are_made_of_the_control_where_there_are_none(context: Callable[..., MethodContext]) -> None:
    from latentqa.baselines.steering import Aim

    said: list[str] = []
    aim = Aim("bridge", "Talk about the Golden Gate Bridge whenever you can.")
    made = context(decoder=True, aim=aim, note=said.append)
    treatment = make_treatment("closed-form", made)
    assert treatment.steering is not None and treatment.steering.card.pairs
    assert made.made_pairs and any("derived from the sentence by rules" in text for text in said)


def test_what_cannot_be_made_is_said(context: Callable[..., MethodContext]) -> None:
    with pytest.raises(ConfigError, match='Method "vektor" does not exist. Did you mean vector'):
        make_treatment("vektor", context())
    with pytest.raises(ConfigError, match="--decoder"):
        make_treatment("weights", context())
    with pytest.raises(ConfigError, match="does not take part"):
        make_treatment("random", context(others=None))


def test_settings_that_break_the_target_lose(context: Callable[..., MethodContext]) -> None:
    from latentqa.errors import ActivationError

    def judge(treated: Treated) -> float:
        judged.append(1)
        if len(judged) != 3:
            raise ActivationError("not finite")
        return -5.0

    judged: list[int] = []
    made = make_treatment("contrast", context(judge=judge, budget=4))
    assert made.choices["validation"] == -5.0 and len(judged) == 4


@pytest.mark.parametrize("name", ["weights", "vector", "sft", "dpo"])
def test_a_finetuned_target_is_steered_on_top_of_its_own_adapter(
    name: str, context: Callable[..., MethodContext]
) -> None:
    from latentqa.baselines.steering.lora import with_adapter
    from tests.decoder.conftest import random_adapter

    made = context(decoder=METHODS[name].needs_decoder)
    random_adapter(made.target.model, "own", seed=5)
    organism = with_adapter(made.target, "own")
    bare, before = logits(made.target), logits_of(organism)
    assert not torch.equal(bare, before)
    treatment = make_treatment(name, replace(made, target=organism, completions=Completions(organism, 6)))
    with treatment.on(organism) as treated:
        assert not torch.equal(logits_of(treated.target), before)
    assert torch.equal(logits_of(organism), before) and torch.equal(logits(made.target), bare)


def logits_of(target: Target) -> torch.Tensor:
    with active_adapter(target.model, target.adapter):
        return logits(target)
