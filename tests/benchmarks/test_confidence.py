"""Fitting p(correct) on held-out labels, with a scripted embedding and a decoder of a tiny model."""

from __future__ import annotations

import pytest

from latentqa.benchmarks import confidence
from latentqa.benchmarks.confidence import fit_confidence, held_out_examples
from latentqa.data import Example, is_held_out
from latentqa.data.schema import QA
from latentqa.decoder import Decoder
from latentqa.errors import DataError
from latentqa.types import Query
from tests.baselines.conftest import make_target
from tests.decoder.conftest import make_decoder

QUERY = Query([{"role": "user", "content": "Hello there"}], "stimulus", "What persona is it?")


@pytest.fixture
def decoder() -> Decoder:
    """A random decoder of a tiny model."""
    return make_decoder(make_target())


def example(number: int) -> Example:
    return Example(
        id=f"system-{number}",
        source="ours",
        label=f"persona-job-{number}",
        kind="system",
        dialog=[
            {"role": "system", "content": f"You are worker number {number}."},
            {"role": "user", "content": f"Tell me about day {number}."},
        ],
        qa=[QA(question="What persona is it?", answer=f"It is worker {number}.", kind="description")],
    )


def test_only_held_out_labels_are_fitted_on(decoder: Decoder) -> None:
    examples = [example(number) for number in range(60)]
    decoder.card = decoder.card.model_copy(update={"training": {"settings": {"held_out": 0.3, "seed": 7}}})
    found = held_out_examples(decoder, examples)
    assert [one.label for one in found] == [e.label for e in examples if is_held_out(e.label, 0.3, 7)]
    with pytest.raises(DataError, match="None of 0 examples"):
        held_out_examples(decoder, [])


def test_a_card_that_does_not_say_what_was_held_out_is_refused(decoder: Decoder) -> None:
    with pytest.raises(DataError, match="does not say which labels"):
        held_out_examples(decoder, [example(0)])


def test_it_is_kept_in_the_card_and_with_the_references(decoder: Decoder, monkeypatch) -> None:
    outcomes = iter([True, False] * 100)
    monkeypatch.setattr(confidence, "score_confidence", lambda *_: {"free_right": float(next(outcomes))})
    judged = fit_confidence(decoder, [example(number) for number in range(40)], limit=60, seed=1)
    assert len(judged) == 60
    (model,) = decoder.card.confidence
    assert model.signals == ("support", "logprob")  # the decoder is not calibrated: no percentile
    assert model.correct == 0.5 and model.answers == 60
    assert [p for p, _ in model.risk] == sorted(p for p, _ in model.risk)
    answer = decoder.ask_many([decoder.pairs([QUERY])[0]])[0]
    assert answer.p_correct is not None and 0 < answer.p_correct < 1


def test_samples_give_a_second_model_with_agreement(decoder: Decoder, monkeypatch) -> None:
    outcomes = iter([True, False] * 100)
    monkeypatch.setattr(confidence, "score_confidence", lambda *_: {"free_right": float(next(outcomes))})
    fit_confidence(decoder, [example(number) for number in range(40)], limit=40, samples=2)
    signals = [model.signals for model in decoder.card.confidence]
    assert signals == [("support", "logprob"), ("support", "logprob", "agreement")]


def test_other_dialogs_are_kept_with_the_references(decoder: Decoder, monkeypatch) -> None:
    outcomes = iter([True, False] * 100)
    monkeypatch.setattr(confidence, "score_confidence", lambda *_: {"free_right": float(next(outcomes))})
    fit_confidence(decoder, [example(number) for number in range(40)], limit=60)
    assert len(decoder.references.others["stimulus"]) == confidence.N_OTHERS


def test_too_few_questions_are_refused(decoder: Decoder) -> None:
    with pytest.raises(DataError, match="at least 40 questions"):
        fit_confidence(decoder, [example(number) for number in range(12)])


def test_answers_that_are_all_wrong_fit_nothing(decoder: Decoder, monkeypatch) -> None:
    monkeypatch.setattr(confidence, "score_confidence", lambda *_: {"free_right": 0.0})
    with pytest.raises(DataError, match="0 of 80 answers are correct"):
        fit_confidence(decoder, [example(number) for number in range(40)])
