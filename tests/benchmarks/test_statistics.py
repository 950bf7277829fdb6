"""Intervals, tests and measures of confidence, against numbers worked out elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentqa.benchmarks import statistics
from latentqa.benchmarks.statistics import (
    auroc,
    bootstrap,
    bootstrap_mean,
    brier,
    ece,
    holm,
    mcnemar,
    mean_of_groups,
    paired_bootstrap,
    risk_coverage,
)
from latentqa.errors import ConfigError, MissingPackageError


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = [1.0] * 60 + [0.0] * 40
    found = bootstrap_mean(values, range(100))
    half = 1.96 * math.sqrt(0.6 * 0.4 / 100)
    assert found.mean == 0.6 and found.n == 100
    assert abs(found.low - (0.6 - half)) < 0.02 and abs(found.high - (0.6 + half)) < 0.02


def test_it_is_a_pure_function_of_the_seed() -> None:
    values = np.random.default_rng(0).random(50).tolist()
    assert bootstrap_mean(values, range(50), seed=3) == bootstrap_mean(values, range(50), seed=3)
    assert bootstrap_mean(values, range(50), seed=3) != bootstrap_mean(values, range(50), seed=4)


def test_the_two_bootstraps_agree() -> None:
    values = np.random.default_rng(0).random(40)
    slow = bootstrap(lambda rows: float(values[rows].mean()), range(40))
    fast = bootstrap_mean(values.tolist(), range(40))
    assert slow.mean == pytest.approx(fast.mean)
    assert slow.low == pytest.approx(fast.low, abs=0.02) and slow.high == pytest.approx(fast.high, abs=0.02)


def test_rows_of_one_unit_widen_the_interval() -> None:
    values = [1.0] * 50 + [0.0] * 50
    apart = bootstrap_mean(values, range(100))
    together = bootstrap_mean(values, [number // 10 for number in range(100)])
    assert together.high - together.low > 2 * (apart.high - apart.low)


def test_groups_weigh_the_same() -> None:
    found = mean_of_groups([[1.0] * 90, [0.0] * 10], [range(90), range(10)])
    assert found.mean == 0.5 and found.n == 100


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs() -> None:
    first, second = [1] * 8 + [0] * 2 + [1] * 5, [0] * 8 + [1] * 2 + [1] * 5
    expected = 2 * sum(math.comb(10, k) for k in range(3)) / 2**10
    assert mcnemar(first, second) == pytest.approx(expected) == pytest.approx(mcnemar(second, first))
    assert mcnemar([1, 0], [1, 0]) == 1.0


def test_a_unit_counts_once() -> None:
    assert mcnemar([1] * 10, [0] * 10, ["same"] * 10) == 1.0
    assert mcnemar([1] * 10, [0] * 10, range(10)) < 0.01


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_and_keeps_their_order(values: dict[str, float]) -> None:
    found = holm(values)
    assert list(found) == list(values)
    assert all(values[name] <= found[name] <= 1 for name in values)
    ranked = sorted(values, key=lambda name: values[name])
    assert all(found[a] <= found[b] for a, b in zip(ranked, ranked[1:], strict=False))


def test_auroc_and_its_undefined_case() -> None:
    assert auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75
    assert math.isnan(auroc([1, 1], [0.2, 0.3]))


def test_a_perfect_predictor_has_no_calibration_error() -> None:
    generator = np.random.default_rng(0)
    stated = generator.random(20_000)
    truth = (generator.random(20_000) < stated).astype(float)
    assert ece(truth.tolist(), stated.tolist()) < 0.02
    assert ece([0, 0], [1.0, 1.0]) == 1.0
    assert brier([1, 0], [0.5, 0.5]) == 0.25


def test_bins_have_equal_mass() -> None:
    bins = statistics.reliability([0, 1] * 15, [number / 30 for number in range(30)], 10)
    assert [share for _, _, share in bins] == pytest.approx([0.1] * 10)


def test_risk_falls_with_coverage_where_confidence_tells() -> None:
    found = risk_coverage([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1])
    assert found.risk == pytest.approx((0, 0, 1 / 3, 0.5)) and found.coverage == (0.25, 0.5, 0.75, 1.0)


def test_nothing_has_no_interval_and_a_missing_package_is_named() -> None:
    with pytest.raises(ConfigError, match="no rows"):
        bootstrap_mean([], [])
    with pytest.raises(MissingPackageError, match=r"pip install \"latentqa\[bench\]\""):
        statistics.need("no_such_package_at_all")


def test_a_function_of_a_mean_has_its_interval() -> None:
    values = [1.0, 2.0, 3.0, 2.0] * 10
    plain, grown = bootstrap_mean(values, range(40)), bootstrap_mean(values, range(40), of=np.exp)
    assert grown.mean == pytest.approx(math.exp(plain.mean))
    assert grown.low == pytest.approx(math.exp(plain.low), rel=1e-3)  # percentiles lie between two draws
    groups = mean_of_groups([[0.0, 0.0], [1.0, 1.0]], [["a", "b"], ["a", "b"]], of=np.exp)
    assert groups.mean == pytest.approx((1 + math.e) / 2) == groups.low


def test_the_paired_bootstrap_sees_what_pairing_shows() -> None:
    generator = np.random.default_rng(0)
    level = generator.normal(0, 10, 60)  # pairs differ far more than the contenders do
    first, second = level.tolist(), (level + 0.5 + generator.normal(0, 0.3, 60)).tolist()
    assert paired_bootstrap([first], [second], [range(60)]) < 0.001
    assert paired_bootstrap([first], [first], [range(60)]) == 1.0
    assert paired_bootstrap([first], [second], [range(60)]) == paired_bootstrap(
        [second], [first], [range(60)]
    )
    noise = (level + generator.normal(0, 1, 60)).tolist()
    assert paired_bootstrap([first], [noise], [range(60)]) > 0.01


def test_the_paired_bootstrap_counts_by_unit() -> None:
    first, second = [0.0] * 40, [0.1 if n < 20 else -0.05 for n in range(40)]
    alone = paired_bootstrap([first], [second], [range(40)])
    together = paired_bootstrap([first], [second], [[n // 20 for n in range(40)]])
    assert alone < 0.05 < together
