"""Pairs in and out of files, and the prompts that ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latentqa.data import plain_turns
from latentqa.errors import DataError, SteeringError
from latentqa.steering import Pair, load_stimuli, neutral_prompts, read_pairs, write_pairs

PAIRS = [
    Pair("Who?", "A keeper — of a lighthouse.", focus="lighthouse"),
    Pair("Who?", "A nurse.", wanted=False),
]


def test_pairs_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, PAIRS)
    assert read_pairs(path) == PAIRS
    first, second = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    assert "wanted" not in first and second["wanted"] is False
    assert first["focus"] == "lighthouse" and "focus" not in second


def test_pairs_are_stripped_and_come_once(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"question": " Who? ", "answer": "A."}\n\n{"question": "Who?", "answer": "A. "}\n')
    assert read_pairs(path) == [Pair("Who?", "A.")]


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        ("", SteeringError, "holds no question-answer pair"),
        ("\n \n", SteeringError, "holds no question-answer pair"),
        ('{"question": "Who?", "answer": ""}', SteeringError, "pair with an empty answer"),
        ('{"question": "Who?"}', DataError, "row 1: needs question and answer"),
        ('{"question": "Who?", "answer": "A", "colour": 1}', DataError, "row 1: needs question and answer"),
        ('{"question": "Who?", "answer": 3}', DataError, "row 1: question, answer and focus are text"),
        ('{"question": "Who?", "answer": "A", "wanted": "no"}', DataError, "wanted is true or false"),
        ('{"question": "Who?", "answer": "A", "focus": 1}', DataError, "question, answer and focus are text"),
        (
            '{"question": "Who?", "answer": "A", "focus": "B"}',
            SteeringError,
            "focus 'B', which its answer 'A'",
        ),
        ("[1]", DataError, "row 1: needs question and answer"),
        ("Who? A.", DataError, "row 1: not JSON"),
        (
            '{"question": "Who?", "answer": "A"}\n{"question": "Who?", "answer": "A", "wanted": false}',
            SteeringError,
            "both raised and lowered",
        ),
    ],
)
def test_files_that_hold_no_pairs(tmp_path: Path, content: str, error: type, sentence: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(content)
    with pytest.raises(error, match=sentence):
        read_pairs(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read from .*nowhere.jsonl"):
        read_pairs(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="cannot be read from .*nowhere.txt"):
        load_stimuli(tmp_path / "nowhere.txt")


def test_two_hundred_stimuli_and_sixty_neutral_prompts_ship() -> None:
    stimuli, neutral = load_stimuli(), neutral_prompts()
    assert len(set(stimuli)) == len(stimuli) == 200
    assert len(set(neutral)) == len(neutral) == 60
    assert not set(stimuli) & set(neutral)
    assert not set(stimuli + neutral) & set(plain_turns())
    assert all(text == text.strip() and 2 <= len(text.split()) <= 40 for text in stimuli + neutral)
    assert len({text.split()[0] for text in stimuli}) > 40


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "Hello there\n\n  How? \nHello there\n---\n", ["Hello there", "How?"]),
        ("a.jsonl", '"Hello"\n{"prompt": "How?"}\n{"instruction": "Do it."}\n', ["Hello", "How?", "Do it."]),
    ],
)
def test_stimuli_of_a_file(tmp_path: Path, name: str, content: str, expected: list[str]) -> None:
    (tmp_path / name).write_text(content)
    assert load_stimuli(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.txt", "", "has no usable prompt"),
        ("a.txt", "\n --- \n...\n", "has no usable prompt: none of its 4 lines holds a word"),
        ("a.jsonl", '""\n', "has no usable prompt"),
        ("a.jsonl", "{}", "row 1: no prompt"),
        ("a.jsonl", "Hello", "row 1: not JSON"),
        ("a.jsonl", "3", "row 1: no prompt"),
    ],
)
def test_stimuli_that_cannot_be_used(tmp_path: Path, name: str, content: str, sentence: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=sentence):
        load_stimuli(tmp_path / name)
