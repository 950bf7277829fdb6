"""Checks: each reason to reject, and that good rows pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from latentqa.data.generate.checks import Checker, Corpus, Fits, check_controls, is_english, sample_corpus
from latentqa.data.generate.config import CheckSettings, ControlSettings
from latentqa.data.generate.rows import Control, Draft, Paired, Rejected, Seed
from latentqa.data.generate.stages import kind_of_reason
from latentqa.data.schema import QA

NAMES = (
    "baker",
    "sailor",
    "nurse",
    "judge",
    "tailor",
    "pilot",
    "miner",
    "clown",
    "monk",
    "spy",
    "cook",
    "poet",
)
PLACES = (
    "mill",
    "harbor",
    "ward",
    "court",
    "shop",
    "cockpit",
    "shaft",
    "circus",
    "abbey",
    "embassy",
    "kitchen",
    "attic",
)


def row(
    number: int = 0, pairs: Sequence[QA] = (), stimulus: str = "What a long week.", **changes: Any
) -> Paired:
    name, place = NAMES[number % len(NAMES)], PLACES[number % len(PLACES)]
    label = f"persona-job-{name}-{number}"
    text = f"You are a {name} who talks of the {place} number {number} and nothing else."
    seed = Seed(label, label, "persona-job", f"a {name}")
    control = Control(label, label, changes.get("text", text), seed)
    turns: Any = ({"role": "system", "content": control.text}, {"role": "user", "content": stimulus})
    found = pairs or (
        QA(question="Who speaks here?", answer=f"A {name} from the {place}.", kind="description"),
    )
    return Paired(Draft(changes.get("id", label), control, "system", turns), tuple(found))


ROWS = [row(number) for number in range(len(NAMES))]
CORPUS = sample_corpus(ROWS, 0)


def reasons(made: Paired, fits: Fits | None = None, corpus: Corpus = CORPUS, **settings: Any) -> list[str]:
    checker = Checker(CheckSettings.model_validate(settings), corpus, fits)
    return [one.reason for one in checker.check(made)[1]]


def asking(question: str, answer: str, kind: Any = "description") -> Paired:
    return row(0, [QA(question=question, answer=answer, kind=kind)])


def test_good_rows_pass_unchanged() -> None:
    checker = Checker(CheckSettings(), CORPUS)  # pyright: ignore[reportCallIssue]
    assert [checker.check(one) for one in ROWS] == [(one, []) for one in ROWS]


@pytest.mark.parametrize(
    ("question", "answer", "kind", "reason"),
    [
        (
            "Does the assistant love bread ovens?",
            "It loves bread ovens.",
            "reasoning",
            "hold the answer: bread, love",
        ),
        (
            "Why is the assistant a baker?",
            "It kneads dough.",
            "description",
            "the question names the control: baker",
        ),
        ("Who speaks?", "I'm sorry, but I can't say.", "description", "the answer is a refusal"),
        (
            "Who speaks?",
            "Er wird wie ein alter Bäcker sprechen, der das Mehl und die Mühle liebt.",
            "description",
            "not in English",
        ),
        ("What color is the red boat?", "Red boat.", "extractive", "the question holds the answer"),
        ("Who speaks?", "The assistant.", "description", "it says nothing of its own"),
        (
            "Who speaks?",
            "Sailor, nurse, judge, tailor, pilot, miner, monk.",
            "description",
            "generic: it fits",
        ),
    ],
)
def test_each_reason(question: str, answer: str, kind: str, reason: str) -> None:
    found = reasons(asking(question, answer, kind), others=11)
    assert len(found) == 1 and (reason in found[0] or reason.split(": ")[0] in found[0]), found


def test_a_generic_answer_shares_words_with_everybody() -> None:
    corpus = sample_corpus(
        [
            row(n, [QA(question="Who?", answer=f"A {NAMES[n % 12]} being helpful.", kind="description")])
            for n in range(200)
        ],
        0,
    )
    assert (
        "all its words are said of many" in reasons(asking("Who speaks?", "Being helpful."), corpus=corpus)[0]
    )


def test_lengths_are_bounded() -> None:
    long = asking("Who speaks?", "A baker " + "very " * 80)
    assert reasons(long) == ["the answer has 82 words (1 to 70 are allowed)"]
    assert kind_of_reason(reasons(long)[0]) == "the answer has # words"


def test_only_the_bad_pairs_go() -> None:
    good = QA(question="Who speaks here?", answer="A baker from the mill.", kind="description")
    bad = QA(question="Who else?", answer="As an AI, no.", kind="description")
    kept, rejected = Checker(CheckSettings(), CORPUS).check(row(0, [good, bad]))  # pyright: ignore[reportCallIssue]
    assert kept is not None and kept.pairs == (good,)
    assert rejected[0].row == {"question": "Who else?", "answer": "As an AI, no.", "kind": "description"}


def test_copies_of_dialogs_and_of_pairs() -> None:
    checker = Checker(CheckSettings(), CORPUS)  # pyright: ignore[reportCallIssue]
    checker.check(row(0))
    assert [one.reason for one in checker.check(row(0))[1]] == ["the dialog repeats another"]
    again = row(0, stimulus="My bus was late.")
    assert [one.reason for one in checker.check(again)[1]] == ["the pair repeats another of its label"]


def test_a_stimulus_that_tells_and_a_refusing_reply() -> None:
    told = row(0, stimulus="How is the baker at the mill?")
    assert reasons(told) == ["the stimulus gives the control away: baker, mill"]
    turns: Any = (
        {"role": "user", "content": "Be a baker."},
        {"role": "assistant", "content": "I cannot do that, sorry."},
        {"role": "user", "content": "Hello."},
    )
    made = row(0)
    refused = Paired(Draft("x", made.draft.control, "stimulus", turns), made.pairs)
    assert reasons(refused) == ["the reply to the control is a refusal"]


def test_another_measure_can_be_handed_in() -> None:
    def fits(answers: Sequence[str], controls: Sequence[Sequence[str]]) -> list[list[float]]:
        assert "baker" in controls[0][0]
        return [[0.0] + [1.0] * (len(texts) - 1) for texts in controls]

    assert reasons(row(0), fits, generic="embedding") == [
        "the answer is generic: it fits 9 of 9 other controls better"
    ]
    assert reasons(row(0), fits, generic="none") == []


def test_controls_are_filtered() -> None:
    made = [row(0).draft.control, row(1).draft.control, row(0, id="b").draft.control]
    refusal = row(2, text="I'm sorry, but I can't write that.").draft.control
    short = row(3, text="Hi.").draft.control
    found = list(check_controls([*made, refusal, short], ControlSettings()))  # pyright: ignore[reportCallIssue]
    assert found[:2] == made[:2]
    assert [one.reason for one in found[2:] if isinstance(one, Rejected)] == [
        f"the control nearly repeats another: {made[0].id}",
        "the control is a refusal",
        "the control has 1 words (3 to 160 are allowed)",
    ]


def test_the_sample_of_controls_is_the_same_each_time_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentqa.data.generate.checks.SAMPLE", 20)
    made = [row(number) for number in range(300)]
    one, other = sample_corpus(made, 0), sample_corpus(made, 0)
    assert one == other and len(one.texts) == 20 and sample_corpus(made, 1) != one
    assert len({label for label, _ in one.texts}) == 20


@pytest.mark.parametrize(
    "text",
    ["Привет, как твои дела сегодня?", "Ceci est une phrase écrite dans une autre langue que l'anglais."],
)
def test_other_languages_are_told(text: str) -> None:
    assert not is_english(text)
