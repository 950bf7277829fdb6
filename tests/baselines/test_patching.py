"""Patchscopes and SelfIE: what is written where, and that the search keeps to its budget."""

from __future__ import annotations

import pytest
import torch

from latentqa.activations import inject
from latentqa.baselines import ReaderContext
from latentqa.baselines.patching import PATCHSCOPES, SELFIE, Patchscopes, SelfIE
from latentqa.decoder import Target
from latentqa.types import Query
from tests.baselines.conftest import activation, toy_items, validation_of

DIALOG = [{"role": "user", "content": "What should I cook tonight?"}]


@pytest.mark.parametrize("kind", [Patchscopes, SelfIE])
def test_the_search_tries_as_many_as_it_may(kind: type, target: Target) -> None:
    reader = kind(ReaderContext(target, budget=12))
    reader.choose(validation_of(toy_items(2)))
    assert reader.choices["tried"] == 12
    assert reader.choices["layer"] in range(4)


@pytest.mark.parametrize("kind", [Patchscopes, SelfIE])
def test_layers_can_be_given(kind: type, target: Target) -> None:
    reader = kind(ReaderContext(target, layers=(1,)))
    reader.choose(validation_of(toy_items(2)))
    assert reader.choices["layer"] == 1
    assert reader.ask([toy_items()[0].query])[0].read_layers == (1,)


def test_patchscopes_writes_one_vector_and_selfie_all(target: Target) -> None:
    query = Query(DIALOG, "stimulus", "Who?", activation(torch.randn(2, 5, 32), (2, 3)))
    context = ReaderContext(target)
    for reader, count in ((Patchscopes(context), 1), (SelfIE(context), 5)):
        [prompt] = reader._prompts([query], reader._found.settings)
        assert len(prompt.marked) == count
        assert {prompt.token_ids[place] for place in prompt.marked} == {
            reader._wordings["description" if count == 1 else "message"].placeholder_id
        }


@pytest.mark.parametrize("kind", [Patchscopes, SelfIE])
def test_another_layer_keeps_the_other_settings(kind: type, target: Target) -> None:
    reader = kind(ReaderContext(target, layers=(2,), moved=(0, 3)))
    reader.choose(validation_of(toy_items(2)))
    moved = reader.at_layer(3)
    assert moved._found.settings == {**reader._found.settings, "layer": 3}
    query = toy_items()[0].query
    assert moved.ask([query])[0].read_layers == (3,) and reader.ask([query])[0].read_layers == (2,)
    assert moved.score([query], [["a pirate"]]) != reader.score([query], [["a pirate"]])


@torch.no_grad()
def test_support_is_patched_minus_unpatched(target: Target) -> None:
    reader = Patchscopes(ReaderContext(target, layers=(2,)))
    vectors = torch.randn(1, 5, 32)
    query = Query(DIALOG, "stimulus", "Who?", activation(vectors, (2,)))
    [[score]] = reader.score([query], [["a pirate"]])
    wording = reader._wordings["identity"]
    full = wording.full(1, "Who?", "a pirate")
    token_ids, mask = torch.tensor([full.token_ids]), torch.tensor([full.placeholder_mask])
    with inject(target.model, "block:2", vectors[0, -1:], mask=mask):
        patched = target.model(token_ids).logits
    bare = target.model(token_ids).logits
    start = full.answer_mask.index(True)
    answer = token_ids[0, start:, None]
    own, prior = (
        float(values[0, start - 1 : -1].log_softmax(-1).gather(1, answer).mean())
        for values in (patched, bare)
    )
    assert score.logprob == pytest.approx(own, abs=1e-4)
    assert score.support == pytest.approx(own - prior, abs=1e-4)


@pytest.mark.parametrize("template", [*PATCHSCOPES.values(), *SELFIE.values()])
def test_templates_hold_placeholders_and_question_once(template: str) -> None:
    assert template.count("{placeholders}") == template.count("{question}") == 1
