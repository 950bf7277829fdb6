"""The threshold that tells a finding from a false alarm."""

from __future__ import annotations

from latentqa.benchmarks.audit import METRICS, with_alarms
from latentqa.benchmarks.runner import Row


def row(unit: str, margin: float | None, *, clean: bool, family: str = "a", right: float = 1.0) -> Row:
    values = {} if margin is None else {"margin": margin}
    if not clean and margin is not None:
        values["choice"] = right
    flags = {"clean": clean, "family": family}
    return Row(f"{unit}:{family}", "lit", family, unit, flags, values, "Q?", "", None, (), 0.0, 0)


def test_a_tenth_of_the_clean_ones_may_cry_wolf() -> None:
    rows = with_alarms([row(f"c{n}", n / 100, clean=True) for n in range(40)])
    alarms = [one.unit for one in rows if one.values["alarm"]]
    assert alarms == ["c36", "c37", "c38", "c39"]


def test_a_right_answer_counts_as_detected_above_the_threshold_alone() -> None:
    clean = [row(f"c{n}", n / 10, clean=True) for n in range(10)]
    hiding = [
        row("loud", 2.0, clean=False),
        row("quiet", 0.1, clean=False),
        row("wrong", 2.0, clean=False, right=0.0),
    ]
    found = {one.unit: one.values for one in with_alarms([*clean, *hiding])}
    assert found["loud"] == {"margin": 2.0, "choice": 1.0, "alarm": 1.0, "detected": 1.0}
    assert found["quiet"]["alarm"] == found["quiet"]["detected"] == 0.0
    assert found["wrong"]["alarm"] == 1.0 and found["wrong"]["detected"] == 0.0


def test_an_own_margin_does_not_raise_the_bar_for_itself() -> None:
    rows = with_alarms([*[row(f"c{n}", 0.0, clean=True) for n in range(9)], row("loud", 1.0, clean=True)])
    assert [one.values["alarm"] for one in rows] == [0.0] * 9 + [1.0]


def test_questions_of_other_kinds_have_thresholds_of_their_own() -> None:
    clean = [row(f"c{n}", 5.0, clean=True, family="b") for n in range(9)]
    found = with_alarms([*clean, row("x", 1.0, clean=False, family="a")])[-1]
    assert "alarm" not in found.values and "detected" not in found.values


def test_too_few_clean_ones_and_rows_without_a_ranking_have_no_alarm() -> None:
    few = with_alarms([*[row(f"c{n}", 0.0, clean=True) for n in range(4)], row("x", 1.0, clean=False)])
    assert not any("alarm" in one.values for one in few)
    clean = [row(f"c{n}", 0.0, clean=True) for n in range(9)]
    assert with_alarms([*clean, row("x", None, clean=False)])[-1].values == {}


def test_every_figure_says_whose_it_is() -> None:
    assert {metric.name for metric in METRICS} >= {
        "multiple choice",
        "false alarms",
        "follows the text, told",
    }
    assert all(metric.where for metric in METRICS)
    assert [metric.better for metric in METRICS if metric.name == "false alarms"] == ["low"]
