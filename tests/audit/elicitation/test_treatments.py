"""Methods at their strengths, what they are made from, and that they are made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentqa.audit.elicitation import METHODS, known_methods
from latentqa.audit.elicitation.settings import OPPOSITE, PAIRS, SENTENCE, ElicitSettings
from latentqa.audit.elicitation.treatments import STRENGTHS, Treatments, variants
from latentqa.decoder import Decoder, Target
from latentqa.errors import ConfigError
from latentqa.models import adapter_names
from tests.audit.elicitation.conftest import settings

Models = tuple[Target, Decoder | None]


def test_none_always_takes_part_and_typos_are_named() -> None:
    assert known_methods(["lit-vector", "prompting"]) == ["none", "prompting", "lit-vector"]
    with pytest.raises(ConfigError, match='Did you mean "lit-vector"'):
        known_methods(["lit-vectors"])


def test_strengths_are_the_methods_own_unless_given() -> None:
    names = [variant.name for variant in variants(METHODS)]
    assert names[:3] == ["none", "prompting", "prefill"]
    assert len(names) == 3 + sum(map(len, STRENGTHS.values())) == len(set(names))
    assert [v.name for v in variants(["prompting", "lit-weights"], [0.5, 2, 0.5])] == [
        "prompting",
        "lit-weights@0.5",
        "lit-weights@2",
    ]


def test_the_opposite_is_ours_for_our_sentence_alone() -> None:
    assert ElicitSettings().against == OPPOSITE
    assert ElicitSettings(sentence="Be brief.").against is None
    assert ElicitSettings(sentence="Be brief.", opposite="Be long.").against == "Be long."
    assert {pair.wanted for pair in PAIRS} == {True, False} and SENTENCE.endswith(".")


def test_every_method_is_made_and_kept(models: Models, tmp_path: Path) -> None:
    target, decoder = models
    before, told = list(adapter_names(target.model)), []
    first = Treatments(target, settings(), tmp_path, decoder, told.append)
    made = {method: first.of(method) for method in METHODS}
    assert made["prompting"].prompt == SENTENCE and made["none"].steering is None
    for method, kind in (
        ("contrast-vector", "vectors"),
        ("lit-vector", "vectors"),
        ("lit-weights", "adapter"),
    ):
        steering = made[method].steering
        assert steering is not None and steering.card.kind == kind and made[method].strength == 1.0
        steering.check(target)
    assert len(told) == 3 and list(adapter_names(target.model)) == before
    again = Treatments(target, settings(), tmp_path, None, told.append)  # without a decoder nothing is made
    kept = again.of("lit-vector").steering
    assert kept is not None and kept.vectors is not None and len(told) == 3
    assert kept.vectors.equal(made["lit-vector"].steering.vectors)  # pyright: ignore


def test_a_method_that_finds_nothing_to_do_says_so(models: Models, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"question": "Who?", "answer": "Me."}\n')
    answered = {"answered": 1000.0, "samples": 2, "held_out": 1}
    given = settings(pairs=str(pairs), vector=answered)
    treatments = Treatments(models[0], given, tmp_path / "t", models[1])
    assert "Nothing to steer" in str(treatments.of("lit-vector").choices["not_made"])


def test_a_method_that_needs_a_decoder_asks_for_it(models: Models, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="steers by a decoder"):
        Treatments(models[0], settings(), tmp_path).of("lit-weights")


@pytest.mark.parametrize("wrong", [{"sentence": " "}, {"strengths": [float("nan")]}, {"stimuli": 1}])
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        ElicitSettings.model_validate(wrong)
