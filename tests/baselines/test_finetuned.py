"""The finetuned text control: it learns, keeps its adapter, and leaves the target as it was."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from latentqa.baselines import ReaderContext, ReaderError
from latentqa.baselines.finetuned import FINGERPRINT, GROUP, TextFinetuned, _groups
from latentqa.baselines.search import reciprocal_rank
from latentqa.decoder import Target
from latentqa.models import adapter_names
from tests.baselines.conftest import toy_items, validation_of


def test_it_learns_and_closes(target: Target) -> None:
    token_ids = torch.tensor([[5, 6, 7]])
    before = target.model(token_ids).logits
    items = toy_items(12)
    reader = TextFinetuned(ReaderContext(target, finetune_examples=320))
    reader.fit(items)
    assert torch.equal(target.model(token_ids).logits, before)
    assert reciprocal_rank(reader.score, validation_of(items)) > 0.9
    assert reader.choices["steps"] == 20 and reader.choices["tried"] == 0
    reader.close()
    assert adapter_names(target.model) == ()
    assert torch.equal(target.model(token_ids).logits, before)
    with pytest.raises(ReaderError, match="not been fitted"):
        reader.score([items[0].query], [["a"]])


def test_the_folder_keeps_the_adapter_of_the_same_run(target: Target, tmp_path: Path) -> None:
    items = toy_items(6)
    context = ReaderContext(target, finetune_examples=32, folder=tmp_path)
    first = TextFinetuned(context)
    first.fit(items, validation_of(items[:2]))
    again = TextFinetuned(context)
    again._train = None  # pyright: ignore[reportAttributeAccessIssue]  # it must not train
    again.fit(items, validation_of(items[:2]))
    assert first.choices == again.choices and first.choices["tried"] == 2
    query, candidates = [items[0].query], [["a pirate", "a nurse"]]
    one, other = first.score(query, candidates)[0], again.score(query, candidates)[0]
    assert [s.support for s in one] == pytest.approx([s.support for s in other], abs=1e-6)
    with pytest.raises(TypeError):
        again.fit(toy_items(5))
    (tmp_path / FINGERPRINT).write_text("{", encoding="utf-8")
    with pytest.raises(TypeError):
        again.fit(items, validation_of(items[:2]))


def test_groups_hold_different_answers_and_every_item_once() -> None:
    items = toy_items(30)
    groups = _groups(items, random.Random(0))
    assert sorted(id(item) for group in groups for item in group) == sorted(map(id, items))
    for group in groups:
        assert len({item.answer for item in group}) == len(group) <= GROUP
