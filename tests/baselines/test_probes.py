"""The linear probe: planted labels, and every way in which a training split can be too poor."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from latentqa.baselines import FitItem, ReaderContext, ReaderError
from latentqa.baselines.probes import UNSEEN, LinearProbe, _Inputs
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
