"""The search: within its budget, in order, and never twice the same."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentqa.baselines.fit import FitItem
from latentqa.baselines.search import first_settings, reciprocal_rank, search
from latentqa.types import Query, Score

AXES = {"a": (0, 1, 2), "b": ("x", "y"), "c": (1.0, 2.0)}


@given(st.integers(0, 20))
def test_the_budget_holds_and_no_setting_is_tried_twice(budget: int) -> None:
    seen: list[dict[str, Any]] = []

    def judge(settings: dict[str, Any]) -> float:
        assert settings not in seen
        seen.append(settings)
        return settings["a"] * settings["c"] - (settings["b"] == "x")

    found = search(AXES, judge, budget)
    assert found.tried == len(seen) <= budget
    assert found.settings in [*seen, first_settings(AXES)]
    if budget >= 12:
        assert found.settings == {"a": 2, "b": "y", "c": 2.0}


def test_ties_keep_what_was_tried_first() -> None:
    assert search(AXES, lambda settings: 0.0, 12).settings == first_settings(AXES)


def test_choices_tell_settings_and_count() -> None:
    found = search({"a": (1, 2)}, lambda settings: settings["a"], 12)
    assert found.choices() == {"a": 2, "tried": 2, "validation": 2}


@pytest.mark.parametrize(
    ("supports", "expected"), [((2.0, 1.0, 0.0), 1.0), ((1.0, 1.0, 0.0), 0.5), ((0.0, 2.0, 1.0), 1 / 3)]
)
def test_ties_count_against_the_right_answer(supports: tuple[float, ...], expected: float) -> None:
    item = FitItem(Query([{"role": "user", "content": "Hi"}], "stimulus", "Who?"), "right", "r")

    def score(queries, candidates):  # noqa: ANN001, ANN202
        assert list(candidates[0]) == ["right", "b", "c"]
        return [[Score(t, 0.0, s, 1) for t, s in zip(candidates[0], supports, strict=True)]]

    assert reciprocal_rank(score, [(item, ("b", "c"))]) == pytest.approx(expected)
