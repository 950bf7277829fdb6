"""p(correct), agreement and specificity beside an answer."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from latentqa.decoder import Confidence, Decoder, References
from latentqa.decoder.confidence import agreement, model_for
from latentqa.errors import ConfigError
from latentqa.types import Activation
from tests.decoder.conftest import DIALOG, QUESTIONS

MODEL = Confidence(
    signals=("support",),
    center=(1.0,),
    spread=(2.0,),
    weights=(3.0,),
    intercept=-1.0,
    answers=50,
    correct=0.5,
    embedding="words",
    risk=((0.1, 0.5), (0.6, 0.2), (0.9, 0.0)),
)


@pytest.fixture
def activation(decoder: Decoder) -> Activation:
    assert decoder.target is not None
    return decoder.target.read(DIALOG)


def with_confidence(decoder: Decoder, *models: Confidence) -> Decoder:
    decoder.card = decoder.card.model_copy(update={"confidence": models})
    return decoder


def test_probability_is_the_logistic_of_scaled_signals() -> None:
    expected = 1 / (1 + math.exp(-(-1.0 + 3.0 * (2.0 - 1.0) / 2.0)))
    assert MODEL.probability({"support": 2.0, "logprob": -1.0}) == pytest.approx(expected)
    assert MODEL.probability({"support": 1e9}) == pytest.approx(1.0)


def test_the_threshold_keeps_to_the_error_that_was_asked_for() -> None:
    assert MODEL.least(0.3) == 0.6
    assert MODEL.least(0.0) == 0.9
    assert MODEL.model_copy(update={"risk": ((0.1, 0.5),)}).least(0.2) == math.inf


@pytest.mark.parametrize(
    ("samples", "share"),
    [
        (["It is a kind pirate!", "The persona is a kind pirate."], 1.0),
        (["A kind pirate", "A stern nurse"], 0.5),
        (["What persona is it?"], 0.0),
        ([], None),
    ],
)
def test_samples_agree_by_the_words_that_the_question_lacks(samples: list[str], share: float | None) -> None:
    assert agreement("It is a kind pirate.", samples, "What persona is it?") == share


def test_an_answer_carries_p_correct_of_the_richest_model_that_fits(
    decoder: Decoder, activation: Activation
) -> None:
    richer = MODEL.model_copy(
        update={"signals": ("agreement",), "center": (0.0,), "spread": (1.0,), "weights": (9.0,)}
    )
    both = richer.model_copy(
        update={"signals": ("support", "agreement")}
        | {name: (1.0, 1.0) for name in ("center", "spread", "weights")}
    )
    assert decoder.ask(activation, QUESTIONS[0]).p_correct is None
    with_confidence(decoder, MODEL, both)
    alone = decoder.ask(activation, QUESTIONS[0], max_new_tokens=4)
    assert alone.support is not None and alone.agreement is None
    assert alone.p_correct == MODEL.probability({"support": alone.support})
    sampled = decoder.ask(activation, QUESTIONS[0], max_new_tokens=4, samples=3)
    assert sampled.text == alone.text and sampled.agreement in (0.0, 1 / 3, 2 / 3, 1.0)
    assert model_for((MODEL, both), sampled) is both


def test_max_error_marks_unsure_answers_and_only_those(decoder: Decoder, activation: Activation) -> None:
    sure = MODEL.model_copy(update={"intercept": 50.0})
    unsure = MODEL.model_copy(update={"intercept": -50.0})
    before = decoder.ask(activation, QUESTIONS[0], max_new_tokens=4).verdict
    with_confidence(decoder, sure)
    assert decoder.ask(activation, QUESTIONS[0], max_new_tokens=4, max_error=0.0).verdict == before
    with_confidence(decoder, unsure)
    assert decoder.ask(activation, QUESTIONS[0], max_new_tokens=4, max_error=0.3).verdict == "not sure"


def test_max_error_without_a_confidence_says_how_to_get_one(decoder: Decoder, activation: Activation) -> None:
    with pytest.raises(ConfigError, match="latentqa calibrate DIR --labels"):
        decoder.ask(activation, QUESTIONS[0], max_error=0.2)


def test_specificity_is_the_share_of_other_dialogs_that_fit_less_well(
    decoder: Decoder, activation: Activation
) -> None:
    same = activation.vectors
    decoder.references = replace(decoder.references, others={"stimulus": [same, same]})
    assert decoder.ask(activation, QUESTIONS[0], max_new_tokens=4).specificity is None
    answer = decoder.ask(activation, QUESTIONS[0], max_new_tokens=4, specificity=True)
    assert answer.specificity in (0.0, 0.5, 1.0)
    noise = [same + 5 * same.std() * sign for sign in (1, -1)]
    tokens = [decoder.wiring.prompt.answer("a nurse")]
    decoder.references = replace(decoder.references, others={"stimulus": noise})
    elsewhere = decoder.logprobs([(activation, QUESTIONS[0])], tokens, reference="others")[0]
    assert elsewhere != decoder.logprobs([(activation, QUESTIONS[0])], tokens)[0]


def test_specificity_without_other_dialogs_is_refused(decoder: Decoder, activation: Activation) -> None:
    with pytest.raises(ConfigError, match="no others reference"):
        decoder.ask(activation, QUESTIONS[0], specificity=True)


def test_card_and_references_keep_it(decoder: Decoder, activation: Activation, tmp_path) -> None:
    with_confidence(decoder, MODEL)
    decoder.references = replace(decoder.references, others={"stimulus": [activation.vectors]})
    decoder.save_pretrained(tmp_path)
    assert type(decoder.card).load(tmp_path).confidence == (MODEL,)
    kept = References.load(tmp_path).others["stimulus"]
    assert len(kept) == 1 and kept[0].shape == activation.vectors.shape
