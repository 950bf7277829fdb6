"""The texts that ship: as many as promised, of the promised length, each once, and in the promised tone."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from pathlib import Path

import pytest

from latentqa.benchmarks.steering.sentiment import vader
from latentqa.benchmarks.steering.texts import (
    TONES,
    alternatives,
    lines,
    openings,
    read_controls,
    stereotypes,
)
from latentqa.errors import DataError
from latentqa.steering import load_stimuli, neutral_prompts

COUNTS = {"neutral": 300, "negative": 150, "positive": 150}


@pytest.mark.parametrize("tone", TONES)
def test_openings_have_ten_to_fifteen_words_and_come_once(tone) -> None:
    found = openings(tone)
    assert len(found) == COUNTS[tone]
    assert all(10 <= len(text.split()) <= 15 for text in found)
    assert all(text == text.strip() and text[-1] not in ".!?" for text in found)  # they are to be continued


def test_no_opening_is_used_twice_or_repeats_another_ones_form() -> None:
    every = [text for tone in TONES for text in openings(tone)] + lines("openings-validation.txt")
    assert len({text.lower() for text in every}) == len(every) == 624
    beginnings = Counter(" ".join(text.split()[:4]).lower() for text in every)
    assert beginnings.most_common(1)[0][1] <= 2
    # Two openings that share half of their words would be one template filled in twice.
    words = [frozenset(text.lower().replace(",", "").split()) for text in every]
    near = [
        (a, b) for n, a in enumerate(words) for b in words[n + 1 :] if len(a & b) > 0.6 * min(len(a), len(b))
    ]
    assert not near


def test_the_tones_are_what_they_say() -> None:
    compound = vader()
    means = {tone: statistics.mean(map(compound, openings(tone))) for tone in TONES}
    assert abs(means["neutral"]) < 0.05 and means["negative"] < -0.5 and means["positive"] > 0.5
    assert all(abs(compound(text)) <= 0.55 for text in openings("neutral"))


def test_controls_and_prompts_are_as_many_as_promised_and_kept_apart() -> None:
    controls, prompts, validation = read_controls(), lines("prompts.txt"), lines("prompts-validation.txt")
    assert (
        len(controls) == len({one.name for one in controls}) == len({one.control for one in controls}) == 20
    )
    assert (len(prompts), len(validation)) == (50, 12)
    learnt = {*load_stimuli(), *neutral_prompts()}
    assert len({*prompts, *validation} | learnt) == 62 + len(learnt)
    asked = " ".join([*prompts, *validation]).lower()
    assert not [word for one in controls for word in one.keywords if f" {word.lower()}" in asked]


def test_stereotypes_have_two_readings_and_a_part_that_is_held_out() -> None:
    train, validation = stereotypes("train"), stereotypes("validation")
    assert len(train) + len(validation) == 98 and len(validation) == 24
    for pair in [*train, *validation]:
        assert pair.more != pair.less and "[" not in pair.more + pair.less
    assert {pair.type for pair in train} == {pair.type for pair in validation}
    assert alternatives("A [b|c] d [e|f].") == ("A b d e.", "A c d f.")


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_controls_of_a_file_need_no_name(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", {"control": "Talk about tea.", "keywords": ["Earl Grey", "tea"]})
    (found,) = read_controls(path)
    assert (found.name, found.about, found.pairs) == ("earl-grey", "Earl Grey", ())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((), "holds no control"),
        (("{",), "line 1: not JSON"),
        (({"control": "x"},), "line 1: needs control and keywords"),
        (({"control": " ", "keywords": ["a"]},), "the control is empty"),
        (({"control": "x", "keywords": []},), "at least one"),
        (({"control": "x", "keywords": "tea"},), "a list of words"),
        (({"control": "x", "keywords": ["a"]}, {"control": "y", "keywords": ["a"]}), 'names "a" twice'),
        (({"control": "x", "keywords": ["a"], "keyword": "b"},), "found"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(tmp_path: Path, rows: tuple[object, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_controls(write(tmp_path / "c.jsonl", *rows))
    with pytest.raises(DataError, match="cannot be read"):
        read_controls(tmp_path / "none.jsonl")
