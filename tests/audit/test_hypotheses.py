"""Pooled multiple choice: means over dialogs, and a p value corrected for the number of hypotheses."""

from __future__ import annotations

import numpy as np
import pytest

from latentqa.audit.hypotheses import pool
from tests.audit.conftest import CHOICE


def test_dialogs_are_pooled_and_a_common_shift_does_not_count() -> None:
    rows = [[1.0, 0.0, 0.0], [10.5, 10.0, 10.0], [-4.0, -5.0, -5.0]]
    found = pool(CHOICE, "lit", rows)
    assert [one.option for one in found.ranking] == ["honey", "wolf", "gold"] and found.rows == 3
    assert found.margin == pytest.approx((1 + 0.5 + 1) / 3)
    assert found.ranking[0].first == 1.0 and sum(one.support for one in found.ranking) == pytest.approx(0)


def test_one_loud_dialog_is_no_evidence() -> None:
    loud = pool(CHOICE, "lit", [[9.0, 0.0, 0.0], *[[-0.5, 0.0, 0.1]] * 7])
    steady = pool(CHOICE, "lit", [[1.0 + n / 10, 0.0, 0.1 * (n % 2)] for n in range(8)])
    assert loud.ranking[0].option == steady.ranking[0].option == "honey"
    assert loud.consistency is not None and steady.consistency is not None
    assert steady.consistency > 0.98 > 0.7 > loud.consistency


def test_the_p_value_is_exact_for_two_sided_signs() -> None:
    found = pool(CHOICE.model_copy(update={"options": ("honey", "wolf")}), "lit", [[1.0, 0.0]] * 5)
    assert found.ranking[0].p == pytest.approx(2 / 2**5)  # either of the two may be ahead in all five


def test_by_chance_few_are_sure() -> None:
    draws = np.random.default_rng(0).normal(size=(200, 20, 3))
    sure = sum((pool(CHOICE, "lit", rows.tolist()).consistency or 0) > 0.9 for rows in draws[:, :, :])
    assert sure <= 0.17 * 200


def test_one_row_has_no_confidence() -> None:
    found = pool(CHOICE, "ask", [[0.0, 2.0, 1.0]])
    assert found.ranking[0].option == "wolf" and found.consistency is None


def test_equal_hypotheses_have_no_margin() -> None:
    assert pool(CHOICE, "lit", [[0.0, 0.0, 0.0]] * 4).margin == 0.0


def test_confidence_is_a_place_among_clean_finetunes() -> None:
    found = pool(CHOICE, "lit", [[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]])
    assert found.confidence is None and found.among([]).confidence is None
    assert found.among([0.1, 0.5, 2.0]).confidence == 0.5
    assert found.among([0.0] * 29).confidence == pytest.approx(29 / 30)
