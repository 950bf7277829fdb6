"""Pairs from a sentence: supported answers are kept, rules help out, and it is said which."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from latentqa.decoder import Decoder, Target
from latentqa.errors import SteeringError
from latentqa.steering import pairs_from_control, pairs_from_rules
from latentqa.steering.focus import focus_of
from latentqa.types import Activation, Answer

CONTROL = "Talk about the Golden Gate Bridge whenever you can."
QUESTIONS = ["Who is speaking?", "What will it talk about?", "How?", "Why?"]


class ScriptedDecoder:
    """Answers from a script; what it does not know it is not sure of."""

    read_layers = (2,)
    card = SimpleNamespace(span="stimulus")

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[tuple[Activation, str]] = []

    def ask_many(self, pairs: Sequence[tuple[Activation, str]], *, on_answer: Any = None) -> list[Answer]:
        self.asked += pairs
        found = []
        for number, (activation, question) in enumerate(pairs):
            known = question in self.answers
            verdict = "supported" if known else "not sure"
            text = self.answers.get(question, "It will help.")
            found.append(Answer(text, question, (), 1.0, 99.0, verdict, (2,), activation.span, "x", 3))
            if on_answer is not None:
                on_answer(number, found[-1])
        return found


def scripted(answers: dict[str, str]) -> Any:
    return cast(Decoder, ScriptedDecoder(answers))


def test_supported_answers_are_kept_and_the_others_are_not(target: Target) -> None:
    decoder = scripted(
        {
            "What will it talk about?": "Bridges.",
            "Why?": "It wants to show the golden gate.",
            "How?": "In rhymes.",  # supported, but not what the sentence says
        }
    )
    report = pairs_from_control(
        target, decoder, CONTROL, questions=QUESTIONS, stimuli=["Hi", "Hello"], minimum=2
    )
    assert [(pair.question, pair.answer) for pair in report.pairs] == [
        ("What will it talk about?", "Bridges."),
        ("Why?", "It wants to show the golden gate."),
    ]
    assert (report.asked, report.supported, report.derived) == (8, 2, 0)
    assert len(report.rejected) == 4 and ("How?", "In rhymes.") in report.rejected
    assert report.note == (
        "2 of the decoder's 8 answers under the control were supported and spoke of what it is about; these "
        "were kept."
    )


def test_the_decoder_reads_the_user_turn_under_the_control(target: Target) -> None:
    decoder = scripted({})
    pairs_from_control(target, decoder, CONTROL, questions=["How?"], stimuli=["Hi there"])
    (activation, question) = decoder.asked[0]
    dialog = [{"role": "system", "content": CONTROL}, {"role": "user", "content": "Hi there"}]
    expected = target.read(dialog, "stimulus", (2,))
    assert question == "How?" and activation.positions == expected.positions
    assert (activation.vectors == expected.vectors).all()


def test_rules_help_out_where_too_few_are_supported(target: Target) -> None:
    decoder = scripted({"Why?": "Bridges are what it loves."})
    report = pairs_from_control(
        target, decoder, CONTROL, questions=QUESTIONS, stimuli=["Hi"], minimum=3, maximum=6
    )
    assert report.pairs[0].answer == "Bridges are what it loves." and len(report.pairs) == 6
    assert report.derived == 5 and all("Golden Gate Bridge" in pair.answer for pair in report.pairs[1:])
    assert "1 of the decoder's 4 answers" in report.note
    assert "too few: 5 pairs were derived from the sentence by rules" in report.note


def test_the_default_questions_are_general_and_fixed_by_the_seed(target: Target) -> None:
    first, again, other = scripted({}), scripted({}), scripted({})
    for decoder, seed in ((first, 0), (again, 0), (other, 1)):
        pairs_from_control(target, decoder, CONTROL, seed=seed)
    asked = [[question for _, question in decoder.asked] for decoder in (first, again, other)]
    assert asked[0] == asked[1] != asked[2]
    assert len(asked[0]) == 32 and not any("Golden" in question for question in asked[0])


def test_rules_alone_ask_no_decoder(target: Target) -> None:
    decoder = scripted({"Why?": "It was told to."})
    report = pairs_from_control(target, decoder, CONTROL, source="rules")
    assert decoder.asked == [] and report.pairs == pairs_from_rules(CONTROL).pairs
    assert "All 12 pairs were derived from the sentence by rules" in report.note


@pytest.mark.parametrize(
    ("control", "word"),
    [
        (CONTROL, "golden gate bridge"),
        ("You are a pirate.", "pirate"),
        ("Speak only in rhymes.", "rhymes"),
        ("cats, cats, cats", "cats"),
    ],
)
def test_every_sentence_gives_pairs_that_hold_its_words(control: str, word: str) -> None:
    pairs = pairs_from_rules(control).pairs
    assert len(pairs) >= 4 and len(set(pairs)) == len(pairs)
    assert len({pair.question for pair in pairs}) >= 4
    assert all(word in pair.answer.lower() for pair in pairs)


@pytest.mark.parametrize(
    ("control", "focus"),
    [
        ("Always work in a remark about tree frogs, please.", ["tree frogs"]),
        (
            "You are an old sailor. Mention the sea, salt and gulls.",
            ["an old sailor", "the sea", "salt", "gulls"],
        ),
        ("Don't ever stop talking.", []),
        ("Sprich über Brücken", ["Sprich über Brücken"]),
    ],
)
def test_the_focus_is_what_no_other_instruction_would_say(control: str, focus: list[str]) -> None:
    assert focus_of(control) == focus


def test_half_of_the_rules_pairs_name_the_focus_and_several_things_take_turns() -> None:
    pairs = pairs_from_rules(CONTROL).pairs
    assert {pair.focus for pair in pairs} == {"the Golden Gate Bridge"}
    assert pairs[0].answer == "It will talk about the Golden Gate Bridge."
    both = [pair.focus for pair in pairs_from_rules("Talk about owls and foxes.", maximum=8).pairs[:4]]
    assert both == ["owls", "foxes", "owls", "foxes"]
    assert "Answer" not in {pair.answer for pair in pairs_from_rules("Answer.").pairs}


@pytest.mark.parametrize("control", ["", "  ", " ?! "])
def test_an_empty_control_is_refused(target: Target, control: str) -> None:
    for use in (pairs_from_rules, lambda text: pairs_from_control(target, scripted({}), text)):
        with pytest.raises(SteeringError, match="The control is empty. Say what the target should do"):
            use(control)
