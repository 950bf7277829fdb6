"""Labelled texts as yes/no and multiple-choice questions."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from latentqa.data import Example
from latentqa.data.tasks import ClassificationSettings, classification_examples
from latentqa.errors import ConfigError, DataError

TOPICS = ("sports", "music", "cooking", "travel", "law", "physics", "gardening")


@pytest.fixture
def topics(tmp_path: Path) -> Path:
    path = tmp_path / "topics.csv"
    rows = [f'"Text {n}, which is about a thing.",{TOPICS[n % 7]}' for n in range(210)]
    path.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return path


def made(path: Path, left_out: Counter[str] | None = None, **settings: object) -> list[Example]:
    chosen = ClassificationSettings.model_validate(settings)
    return list(classification_examples(path, chosen, Counter() if left_out is None else left_out))


def test_answers_are_right_and_balanced(topics: Path) -> None:
    examples = made(topics, name="topic")
    assert len(examples) == 210 and len({e.id for e in examples}) == len({e.label for e in examples}) == 210
    said: Counter[str] = Counter()
    for example in examples:
        assert example.read == "stimulus" and [m["role"] for m in example.dialog] == ["user"]
        number = int(example.dialog[0]["content"].split(",")[0].removeprefix("Text "))
        right = TOPICS[number % 7]
        for pair in example.qa:
            kind, asked = pair.pool.removeprefix("class-topics-").split("-", 1)
            if kind == "is":
                assert pair.answer == ("Yes" if asked == right else "No") and asked in pair.question
                said[pair.answer] += 1
            else:
                assert pair.answer == right and right in pair.question
    assert 0.4 < said["Yes"] / said.total() < 0.6


def test_pairs_of_a_pool_ask_the_same(topics: Path) -> None:
    """Multiple-choice questions of a pool offer the same labels, in any order."""
    offered: dict[str, set[frozenset[str]]] = {}
    for example in made(topics, choices=["Which of these: {choices}"], pairs=6):
        for pair in example.qa:
            if pair.question.startswith("Which of these: "):
                listed = pair.question.removeprefix("Which of these: ").replace(" or ", ", ").split(", ")
                offered.setdefault(pair.pool, set()).add(frozenset(listed))
    assert len(offered) == 2 and all(len(sets) == 1 for sets in offered.values())
    assert {len(names) for sets in offered.values() for names in sets} == {3, 4}


def test_a_question_of_your_own_with_its_yes(tmp_path: Path) -> None:
    path = tmp_path / "facts.jsonl"
    path.write_text("\n".join(json.dumps({"statement": f"S{n}", "label": n % 2}) for n in range(20)))
    examples = made(path, text="statement", questions=["Is this true?", "Is it so?"], yes="1")
    pairs = [(int(e.dialog[0]["content"][1:]) % 2, pair) for e in examples for pair in e.qa]
    assert {pair.question for _, pair in pairs} == {"Is this true?", "Is it so?"}
    assert all(pair.answer == ("Yes" if odd else "No") for odd, pair in pairs)
    assert {pair.pool for _, pair in pairs} == {"class-facts-is-1"}


def test_labels_can_be_called_otherwise(topics: Path) -> None:
    names = {"law": "the law of the land"}
    answers = {pair.answer for e in made(topics, names=names) for pair in e.qa}
    assert "the law of the land" in answers and "law" not in answers


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label\na,1\na,1\nb,\n,2\nc,2\n")
    counts: Counter[str] = Counter()
    assert len(made(path, counts)) == 2
    assert counts == {"a text that was there before": 1, "a row without text or label": 2}


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        ("a,b\n1,2\n", {}, "has no column 'text': found a, b"),
        ("text,label\nx,1\ny,1\n", {}, "only the label '1'"),
        ("text,label\n", {}, "no row with a text and a label"),
        ("text,label\nx,1\ny,2\n", {"yes": "3", "questions": ["Q?"]}, r"has the label '3' \(--yes\)"),
        ("text,label\nx,1\ny,2\n", {"names": {"4": "four"}}, r"has the label '4' \(--called\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, content: str, settings: dict[str, object], said: str
) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(DataError, match=said):
        made(tmp_path / "x.csv", **settings)


def test_too_many_labels_are_no_labels(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\n" + "".join(f"t{n},l{n}\n" for n in range(1100)))
    with pytest.raises(DataError, match="more than 1000 different labels"):
        made(tmp_path / "x.csv")
    with pytest.raises(DataError, match="Cannot read"):
        made(tmp_path / "none.csv")


def test_questions_that_say_too_little_are_refused(topics: Path) -> None:
    with pytest.raises(ConfigError, match="which label its yes stands for"):
        made(topics, questions=["Is it?"])
    with pytest.raises(ConfigError, match="needs {choices}"):
        made(topics, choices=["Which?"])
    with pytest.raises(ConfigError, match="called the same"):
        made(topics, names={"law": "x", "music": "x"})
