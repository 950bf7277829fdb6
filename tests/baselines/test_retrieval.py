"""The retrieval probe: a planted linear relation is found; its sums equal plain regressions."""

from __future__ import annotations

import pytest
import torch

from latentqa.baselines import FitItem, ReaderContext
from latentqa.baselines.retrieval import RetrievalProbe, _ends_and_mean, _Moments, _whitening
from latentqa.decoder import Target
from latentqa.decoder.mapping import fit_mapping
from latentqa.errors import DataError
from latentqa.types import Query
from tests.baselines.conftest import LAYERS, activation

DIALOG = [{"role": "user", "content": "Hi"}]
WORDS = (
    "soup",
    "church",
    "street",
    "harbour",
    "short",
    "true",
    "false",
    "long",
    "good",
    "bad",
    "keeper",
    "end",
)


def planted(reader: RetrievalProbe, count: int, seed: int) -> list[FitItem]:
    """Items whose activations are a fixed linear map of their answers' features, and noise."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.randn(32, 32, generator=torch.Generator().manual_seed(7)) / 32**0.5
    items = []
    for number in range(count):
        pair = torch.randperm(len(WORDS), generator=generator)[:2].tolist()
        answer = f"The {WORDS[pair[0]]} is at the {WORDS[pair[1]]}."
        [state] = reader._features([answer])
        vectors = (state @ turn).expand(2, 9, 32) + 0.1 * torch.randn(2, 9, 32, generator=generator)
        query = Query([{"role": "user", "content": f"{seed} {number}"}], "stimulus", "Where?")
        query = Query(query.dialog, "stimulus", "Where?", activation(vectors))
        items.append(FitItem(query, answer, f"label-{seed}-{number}"))
    return items


def share_right(reader: RetrievalProbe, items: list[FitItem]) -> float:
    """How often the right one of six answers is ranked first."""
    answers = list(dict.fromkeys(item.answer for item in items))
    candidates = [[item.answer, *[a for a in answers if a != item.answer][:5]] for item in items]
    scores = reader.score([item.query for item in items], candidates)
    return sum(r[0].answer == i.answer for r, i in zip(scores, items, strict=True)) / len(items)


@pytest.mark.parametrize("with_validation", [False, True])
def test_a_planted_relation_is_found(with_validation: bool, target: Target) -> None:
    reader = RetrievalProbe(ReaderContext(target, layers=LAYERS, budget=5))
    items = planted(reader, 90, 0)
    others = planted(reader, 10, 1)
    validation = [(item, tuple(other.answer for other in others)) for item in others]
    reader.fit(items, validation if with_validation else ())
    assert reader.choices["tried"] == 5
    fresh = planted(reader, 20, 2)
    assert share_right(reader, fresh) >= 0.8
    assert reader.ask([fresh[0].query])[0].text in {item.answer for item in items}


@pytest.mark.parametrize("inputs", ["tokens", "pooled", "both"])
def test_each_kind_of_input_finds_it(inputs: str, target: Target) -> None:
    reader = RetrievalProbe(ReaderContext(target, layers=LAYERS, budget=0))
    reader._found.settings["inputs"] = inputs
    reader.fit(planted(reader, 90, 0))
    assert reader.choices["tried"] == 0
    assert share_right(reader, planted(reader, 20, 2)) >= 0.8


def test_one_answer_is_no_training_split(target: Target) -> None:
    reader = RetrievalProbe(ReaderContext(target))
    with pytest.raises(DataError, match="two different answers"):
        reader.fit([FitItem(Query(DIALOG, "stimulus", "?"), "a", "a")] * 3)


def test_the_ridge_is_that_of_the_mapping() -> None:
    vectors, states = _data(6)
    moments = _Moments()
    moments.add(vectors[:2], states[:2])
    moments.add(vectors[2:], states[2:])
    mean, weight = moments.ridge(torch.arange(16), 0.01)
    expected = fit_mapping(vectors, states, ridge=0.01, gain=1.0)
    assert torch.allclose(mean, expected.center.flatten(), atol=1e-4)
    assert torch.allclose(weight, expected.weight, atol=1e-3)


def test_sums_of_parts_are_the_sums_of_all() -> None:
    vectors, states = _data(7)
    whole, one, other = _Moments(), _Moments(), _Moments()
    whole.add(vectors, states)
    one.add(vectors[:3], states[:3])
    other.add(vectors[3:], states[3:])
    columns = torch.tensor([0, 3, 9])
    for found, expected in zip(one.plus(other).ridge(columns, 0.1), whole.ridge(columns, 0.1), strict=True):
        assert torch.allclose(found, expected, atol=1e-4)


def test_whitening_evens_the_directions_out() -> None:
    rows = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([10.0, 1, 1, 0.1])
    white = (rows - rows.mean(0)) @ _whitening(rows - rows.mean(0), 0.0)
    assert torch.allclose(white.T @ white / 500, torch.eye(4), atol=1e-2)
    soft = (rows - rows.mean(0)) @ _whitening(rows - rows.mean(0), 1.0)
    assert 1 < float(soft.std(0).max() / soft.std(0).min()) < 100


@pytest.mark.parametrize("length", [1, 4, 20])
def test_ends_and_mean_of_any_length(length: int) -> None:
    vectors = torch.arange(float(length))[None, :, None].expand(2, length, 3)
    found = _ends_and_mean(vectors)
    assert found.shape == (2, 9, 3)
    assert found[0, 0, 0] == pytest.approx((length - 1) / 2)
    assert found[0, 1, 0] == 0 and found[0, -1, 0] == length - 1


def _data(count: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    vectors = [torch.randn(2, 5 + n, 8, generator=generator) + 3 for n in range(count)]
    return vectors, [torch.randn(4, generator=generator) for _ in range(count)]
