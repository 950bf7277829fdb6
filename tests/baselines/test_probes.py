"""The linear probe: planted labels, and every way in which a training split can be too poor."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentqa.baselines import FitItem, ReaderContext, ReaderError
from latentqa.baselines.probes import UNSEEN, LinearProbe, _folds, _Inputs
from latentqa.decoder import Target
from latentqa.errors import DataError, MissingPackageError
from latentqa.types import Query
from tests.baselines.conftest import JOBS, LAYERS, QUESTION, activation

DIALOG = [{"role": "user", "content": "Hi"}]


def planted(count: int, *, seed: int = 0, question: str = QUESTION) -> list[FitItem]:
    """Items whose label is one of four directions, at layer 2 only."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(4, 32, generator=torch.Generator().manual_seed(99))
    items = []
    for number in range(count):
        vectors = torch.randn(2, 6, 32, generator=generator)
        vectors[1] += 2 * directions[number % 4]
        query = Query(DIALOG, "stimulus", question, activation(vectors))
        items.append(FitItem(query, f"a {JOBS[number % 4]}", JOBS[number % 4]))
    return items


@pytest.fixture
def context(target: Target) -> ReaderContext:
    return ReaderContext(target, layers=LAYERS, budget=4)


def test_planted_labels_are_found_and_their_layer_chosen(context: ReaderContext) -> None:
    reader = LinearProbe(context)
    reader.fit(planted(40))
    fresh = planted(20, seed=5)
    scores = reader.score([item.query for item in fresh], [["a nurse", "a pirate", "a monk", "a poet"]] * 20)
    right = [ranked[0].answer == item.answer for ranked, item in zip(scores, fresh, strict=True)]
    assert sum(right) >= 18
    assert reader.choices["layer"] == 2 and reader.choices["tried"] == 4
    assert [answer.text for answer in reader.ask([fresh[0].query])] == [fresh[0].answer]


def test_an_answer_without_label_ranks_last(context: ReaderContext) -> None:
    reader = LinearProbe(context)
    reader.fit(planted(12))
    [ranked] = reader.score([planted(1)[0].query], [["a king", "A Pirate ", "monk", "a nurse"]])
    assert ranked[-1].answer == "a king" and ranked[-1].support == UNSEEN
    assert all(score.support > UNSEEN for score in ranked[:-1])


def test_questions_have_probes_of_their_own(context: ReaderContext) -> None:
    reader = LinearProbe(context)
    items = planted(12)
    other = [FitItem(item.query, "other", f"not {item.label}") for item in planted(12, question="Why?")]
    reader.fit(items + other)
    assert reader.ask([other[0].query])[0].text == "other"
    with pytest.raises(ReaderError, match="none of them"):
        reader.ask([Query(DIALOG, "stimulus", "Where?", items[0].query.activation)])


def test_a_class_of_one_trains_and_is_counted(context: ReaderContext) -> None:
    reader = LinearProbe(context)
    items = planted(9)[:9] + [FitItem(planted(1, seed=8)[0].query, "a king", "king")]
    reader.fit(items)
    assert reader.choices["classes"] == 5 and reader.choices["classes of one"] == 1


def test_items_of_a_unit_are_held_out_together() -> None:
    units = [("nurse", f"subject {n // 4}") for n in range(24)] + [("monk", "one")] * 5
    folds, count = _folds(units, 0)
    assert count == {"nurse": 6, "monk": 1}
    assert folds[24:] == [-1] * 5  # a class of one unit always trains
    by_unit = [set(folds[first : first + 4]) for first in range(0, 24, 4)]
    assert all(len(own) == 1 for own in by_unit)
    assert sorted(own.pop() for own in by_unit) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("unit", ["", "the label's own"])
def test_without_units_to_tell_apart_each_item_is_alone(unit: str) -> None:
    folds, count = _folds([("nurse", unit)] * 7 + [("monk", unit)], 0)
    assert sorted(folds) == [-1, 0, 0, 0, 1, 1, 2, 2] and count == {"nurse": 7, "monk": 1}


def test_what_a_unit_gives_away_is_not_what_is_chosen(target: Target) -> None:
    """Layer 1 names the unit, layer 2 hints at its class: only the second reads units never trained on."""
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(4, 32, generator=torch.Generator().manual_seed(99))
    names = torch.randn(12, 32, generator=torch.Generator().manual_seed(5))
    items = []
    for number, item in enumerate(planted(48)):
        unit = number % 12  # four items of each, all of one class
        vectors = torch.randn(2, 6, 32, generator=generator)
        vectors[0] = 0.05 * vectors[0] + names[unit]
        vectors[1] += 0.3 * directions[unit % 4]
        query = replace(item.query, activation=activation(vectors))
        items.append(replace(item, query=query, unit=f"subject {unit}"))
    chosen = {}
    for name, given in (("units", items), ("alone", [replace(item, unit="") for item in items])):
        reader = LinearProbe(ReaderContext(target, layers=(1, 2), budget=2))
        reader.fit(given)
        chosen[name] = reader.choices["layer"]
    assert chosen == {"units": 2, "alone": 1}


def test_poor_splits_are_refused(context: ReaderContext) -> None:
    reader = LinearProbe(context)
    items = planted(8)
    with pytest.raises(DataError, match="no training item"):
        reader.fit([])
    with pytest.raises(DataError, match="never varies"):
        reader.fit([FitItem(item.query, "a", "a") for item in items])
    with pytest.raises(DataError, match="one training item"):
        reader.fit(items[:4])


def test_a_missing_package_is_one_sentence_with_the_command(
    context: ReaderContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'latentqa\[bench\]'"):
        LinearProbe(context).fit(planted(8))


def test_turned_inputs_keep_every_product() -> None:
    raw = np.random.default_rng(0).normal(size=(5, 9))
    inputs = _Inputs.of(raw)
    standard = (raw - raw.mean(0)) / (raw.std(0) + 1e-6)
    assert inputs.rows.shape == (5, 4)  # five centred rows span four directions
    assert np.allclose(inputs.rows @ inputs.rows.T, standard @ standard.T)
    assert np.allclose(inputs(raw), inputs.rows)


def test_another_layer_is_fitted_with_what_was_chosen(target: Target) -> None:
    reader = LinearProbe(ReaderContext(target, layers=(2,), budget=2, moved=(1, 2)))
    reader.fit(planted(40))
    fresh = planted(20, seed=5)
    queries, texts = [item.query for item in fresh], [["a nurse", "a pirate", "a monk", "a poet"]] * 20

    def right(probe: LinearProbe) -> int:
        scores = probe.score(queries, texts)
        return sum(one[0].answer == item.answer for one, item in zip(scores, fresh, strict=True))

    assert right(reader.at_layer(2)) == right(reader) >= 18
    assert right(reader.at_layer(1)) <= 12  # the labels were planted in layer 2
    assert reader.at_layer(1).ask(queries[:1])[0].read_layers == (1,)
    with pytest.raises(ReaderError, match="layer 3"):
        reader.at_layer(3)
