"""Topic: what replies are worth, strengths, other controls, and readers of the steered target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.benchmarks import Run, summarize
from latentqa.benchmarks.report import build_report
from latentqa.benchmarks.steering import SteeringTools, TopicSettings, topic
from latentqa.benchmarks.steering.texts import read_controls
from latentqa.benchmarks.steering.topic import TopicValues, chosen_controls
from latentqa.decoder import Target
from latentqa.errors import ConfigError
from tests.benchmarks.conftest import bag_of_letters

SMALL = {"prompts": 2, "windows": 1, "neutral": 1, "readings": 1, "stimuli": 4, "reply_tokens": 6}


def test_a_reply_is_worth_its_keywords_and_its_likeness() -> None:
    controls = chosen_controls(read_controls(), ("tango", "llamas"))
    values = TopicValues(controls, bag_of_letters)

    class Aimed:
        meta = {"aim": "tango"}

    given = ["We dance the tango.", "A contango is no dance.", "My llamas"]
    found = values([Aimed()] * 3, given)  # pyright: ignore
    assert [one["mentioned"] for one in found] == [1.0, 0.0, 0.0]
    assert found[0]["likeness"] > found[2]["likeness"] and found[2]["nearest"] == 0.0


def test_names_of_controls_are_checked_with_a_hint() -> None:
    with pytest.raises(ConfigError, match='no control "lamas". Did you mean "llamas"'):
        chosen_controls(read_controls(), ("lamas",))


def test_all_twenty_are_asked_all_prompts(target: Target, root: Path) -> None:
    tools = SteeringTools(target, embed=bag_of_letters)
    made = topic(root, TopicSettings(), tools)
    replies = [item for item in made.experiment.items if item.meta["measure"] == "reply"]
    assert len(replies) == 20 * 50 and len(made.aims) == 20
    assert made.experiment.groups == tuple(made.aims)
    order = [str(item.meta["aim"]) for item in made.experiment.items]
    assert order == sorted(
        order, key=order.index
    )  # one aim after another: each treatment is put on once a batch


def test_readers_choose_among_all_controls_however_few_are_steered_to(target: Target, root: Path) -> None:
    made = topic(root, TopicSettings(aims=("tango",)), SteeringTools(target, embed=bag_of_letters))
    assert {str(item.meta["aim"]) for item in made.experiment.items} == {"tango"}
    assert len(made.aims) == 20 and made.experiment.groups == ("tango",)


def test_a_run_against_strength_with_readers(session: Callable[..., Run], tmp_path: Path) -> None:
    methods = "no-control,prompting,closed-form,contrast"
    finished = session("topic", methods, decoder=True, aims=("tango", "llamas"), strengths=(0.5,), **SMALL)
    names = ("no-control", "prompting", "closed-form", "closed-form@0.5", "contrast", "contrast@0.5")
    assert finished.missing == 0 and finished.readers == names
    found = summarize(finished)
    for metric in ("mentioned", "nearest", "likeness", "fluency", "perplexity ratio", "KL"):
        assert found.figure("closed-form", "tango", metric) is not None, metric
    for reader in ("steering-decoder", "probe", "text"):
        assert found.figure("closed-form", "mean", f"read by {reader}") is not None, reader
    tested = {frozenset((test.a, test.b)) for test in found.tests}
    assert frozenset(("closed-form", "contrast")) in tested
    assert frozenset(("prompting", "contrast")) not in tested
    assert not any("@" in test.a + test.b for test in found.tests)
    assert set(finished.header["readers"]["closed-form"]["choices"]) == {"tango", "llamas"}
    report = build_report([tmp_path / "run"])
    assert "mentioned against strength" in report.page and "mentioned against perplexity ratio" in report.page


def test_controls_of_a_file_take_part(session: Callable[..., Run], tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"control": "Talk about tea.", "keywords": ["tea"]}) + "\n")
    finished = session("topic", "no-control", controls=path, strengths=(), **SMALL)
    assert finished.header["groups"] == ["tea"] and "mine.jsonl" in finished.header["files"]
    assert summarize(finished).figure("no-control", "tea", "nearest") is None  # there is no other control


def test_a_limited_run_asks_the_drawn_controls_alone(session: Callable[..., Run]) -> None:
    finished = session("topic", "no-control", limit=3, strengths=(), **{**SMALL, "windows": 8})
    assert len(finished.header["groups"]) == 3
    assert sum("window" in row.item for row in finished.rows) <= 6
