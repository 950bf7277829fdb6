"""The finetuned text control: it learns, keeps its adapter, and leaves the target as it was."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from latentqa.baselines import ReaderContext, ReaderError, finetuned
from latentqa.baselines.finetuned import FINGERPRINT, GROUP, TextFinetuned, _groups
from latentqa.baselines.search import reciprocal_rank
from latentqa.baselines.unfinished import UNFINISHED_FILE, load_unfinished, save_unfinished
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


def test_a_stopped_training_goes_on_to_the_same_weights(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuned, "SAVE_EVERY", 2)
    items = toy_items(12)
    judged = validation_of(items[:4])
    query, candidates = [items[0].query], [["a pirate", "a nurse"]]

    def supports(reader: TextFinetuned) -> list[float]:
        found = [score.support for score in reader.score(query, candidates)[0]]
        reader.close()
        return found

    whole = TextFinetuned(ReaderContext(target, finetune_examples=128, folder=tmp_path / "whole"))
    whole.fit(items, judged)
    expected = supports(whole)
    context = ReaderContext(target, finetune_examples=128, folder=tmp_path / "stopped")
    stopped = TextFinetuned(context)
    step, taken = stopped._step, []

    def failing(*given: Any) -> None:
        taken.append(step(*given) if len(taken) < 5 else 1 / 0)

    monkeypatch.setattr(stopped, "_step", failing)
    with pytest.raises(ZeroDivisionError):
        stopped.fit(items, judged)
    stopped.close()
    assert (tmp_path / "stopped" / UNFINISHED_FILE).is_file()
    again = TextFinetuned(context)
    again.fit(items, judged)
    assert again.choices == whole.choices and supports(again) == pytest.approx(expected, abs=1e-6)
    assert not (tmp_path / "stopped" / UNFINISHED_FILE).exists()


@pytest.mark.parametrize("damage", ["other", "torn", "absent"])
def test_a_state_of_another_training_is_left_alone(tmp_path: Path, damage: str) -> None:
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(2))]
    optimizer = torch.optim.AdamW(weights)
    sum(one.square().sum() for one in weights).backward()
    optimizer.step()
    if damage != "absent":
        save_unfinished(tmp_path, weights, optimizer, [], {"fingerprint": "mine", "step": 1})
        assert load_unfinished(tmp_path, weights, optimizer, {"fingerprint": "mine"}) is not None
    if damage == "torn":
        path = tmp_path / UNFINISHED_FILE
        path.write_bytes(path.read_bytes()[:50])
    fresh = [torch.nn.Parameter(torch.zeros_like(one)) for one in weights]
    asked = "other" if damage == "other" else "mine"
    assert load_unfinished(tmp_path, fresh, torch.optim.AdamW(fresh), {"fingerprint": asked}) is None
    assert not any(one.detach().any() for one in fresh)


def test_groups_hold_different_answers_and_every_item_once() -> None:
    items = toy_items(30)
    groups = _groups(items, random.Random(0))
    assert sorted(id(item) for group in groups for item in group) == sorted(map(id, items))
    for group in groups:
        assert len({item.answer for item in group}) == len(group) <= GROUP
