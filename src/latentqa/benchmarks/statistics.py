"""Intervals, paired tests and measures of confidence: small functions on numbers, seeded.

Everything is resampled or counted by *unit*: rows of one unit (the contexts of one subject, the questions on
one label) hang together, and counting them as independent would make every interval too narrow.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentqa.errors import ConfigError, MissingPackageError

RESAMPLES = 2000
BINS = 10
CHUNK = 200  # resamples drawn at once
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval.

    Attributes:
        mean: the figure on all rows.
        low: 2.5th percentile of the resamples.
        high: 97.5th percentile.
        n: rows.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class RiskCoverage:
    """What answering only the surest questions costs.

    Attributes:
        coverage: share of questions that are answered, ascending.
        risk: share of wrong answers among them.
        area: mean risk over all coverages; lower is better.
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    area: float


def need(module: str) -> Any:
    """Import an optional package.

    Raises:
        MissingPackageError: it is not installed; the message holds the pip command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"The benchmarks need {module.partition('.')[0]}, which is not installed. "
            'Run: pip install "latentqa[bench]".'
        ) from error


def bootstrap(
    compute: Callable[[NDArray[np.int64]], float],
    units: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Percentile interval of a figure, units drawn with replacement.

    Args:
        compute: the figure of some rows, given by their numbers; rows may come more than once. NaN where it
            is not defined (an AUROC of one class); such resamples are left out.
        units: the unit of each row.
        seed: of the draws.
        resamples: how many.

    Example:
        >>> values = np.array([0.0, 1.0, 1.0, 1.0])
        >>> bootstrap(lambda rows: float(values[rows].mean()), "abcd").mean
        0.75
    """
    if not units:
        raise ConfigError("Asked for an interval of no rows. Give at least one.")
    by_unit: dict[Hashable, list[int]] = defaultdict(list)
    for row, unit in enumerate(units):
        by_unit[unit].append(row)
    groups = [np.array(rows) for rows in by_unit.values()]
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = generator.integers(0, len(groups), len(groups))
        drawn.append(compute(np.concatenate([groups[number] for number in chosen])))
    return _interval(compute(np.arange(len(units))), np.array(drawn), len(units))


def bootstrap_mean(
    values: Sequence[float], units: Sequence[Hashable], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Interval of a mean: `bootstrap` without a Python loop over the resamples."""
    if not units:
        raise ConfigError("Asked for an interval of no rows. Give at least one.")
    drawn = mean_draws(values, units, seed=seed, resamples=resamples)
    return _interval(float(np.mean(values)), drawn, len(values))


def mean_draws(
    values: Sequence[float], units: Sequence[Hashable], *, seed: int = 0, resamples: int = RESAMPLES
) -> Array:
    """Means of the resamples, `[resamples]`."""
    numbers: dict[Hashable, int] = {}
    place = np.array([numbers.setdefault(unit, len(numbers)) for unit in units])
    totals = np.bincount(place, weights=np.asarray(values, dtype=float))
    counts = np.bincount(place)
    generator = np.random.default_rng(seed)
    draws = []
    for first in range(0, resamples, CHUNK):
        chosen = generator.integers(0, len(totals), (min(CHUNK, resamples - first), len(totals)))
        draws.append(totals[chosen].sum(1) / counts[chosen].sum(1))
    return np.concatenate(draws)


def mean_of_groups(
    values: Sequence[Sequence[float]],
    units: Sequence[Sequence[Hashable]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """Interval of the mean of group means: every group weighs the same, each resampled by itself."""
    draws = [
        mean_draws(one, of, seed=seed + 1 + number, resamples=resamples)
        for number, (one, of) in enumerate(zip(values, units, strict=True))
    ]
    mean = float(np.mean([np.mean(one) for one in values]))
    return _interval(mean, np.mean(draws, axis=0), sum(map(len, values)))


def mcnemar(
    first: Sequence[float], second: Sequence[float], units: Sequence[Hashable] | None = None
) -> float:
    """Exact two-sided McNemar test of two readers on the same rows.

    With units, each unit counts once, for the reader that is right on more of its rows; with one row a unit
    it is the plain test.

    Args:
        first: 1 where the first reader is right.
        second: the same of the second.
        units: the unit of each row.

    Returns:
        p; 1 where the two never differ.

    Source: McNemar 1947; the exact form is a binomial test of the discordant pairs.

    Example:
        >>> round(mcnemar([1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]), 5)
        0.03125
    """
    differences: dict[Hashable, float] = defaultdict(float)
    names = range(len(first)) if units is None else units
    for unit, one, other in zip(names, first, second, strict=True):
        differences[unit] += one - other
    wins = sum(difference > 0 for difference in differences.values())
    losses = sum(difference < 0 for difference in differences.values())
    if wins + losses == 0:
        return 1.0
    return float(need("scipy.stats").binomtest(wins, wins + losses, 0.5).pvalue)


def holm(values: Mapping[Hashable, float]) -> dict[Hashable, float]:
    """P values corrected for their number (Holm 1979), in the order given.

    Example:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    corrected: dict[Hashable, float] = {}
    highest = 0.0
    for rank, key in enumerate(sorted(values, key=lambda key: values[key])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[key]))
        corrected[key] = highest
    return {key: corrected[key] for key in values}


def auroc(truth: Sequence[float], scores: Sequence[float]) -> float:
    """Area under the ROC curve, by ranks (ties count half); NaN where only one class occurs.

    The same as scikit-learn's `roc_auc_score`, and 50 times faster in a bootstrap.
    """
    labels = np.asarray(truth) > 0.5
    if labels.all() or not labels.any():
        return float("nan")
    ranks = need("scipy.stats").rankdata(np.asarray(scores, dtype=float))
    n_right, n_wrong = int(labels.sum()), int((~labels).sum())
    return float((ranks[labels].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def brier(truth: Sequence[float], probabilities: Sequence[float]) -> float:
    """Mean squared difference of probability (0–1) and outcome; lower is better."""
    return float(np.mean((np.asarray(probabilities, dtype=float) - np.asarray(truth, dtype=float)) ** 2))


def ece(truth: Sequence[float], probabilities: Sequence[float], bins: int = BINS) -> float:
    """Expected calibration error: how far stated and found shares lie apart, over bins of equal mass.

    Ties may be cut by a bin's edge; rows keep their order among ties.

    Source: Naeini et al. 2015; equal-mass bins as in Nixon et al. 2019.
    """
    total = 0.0
    for stated, found, share in reliability(truth, probabilities, bins):
        total += share * abs(stated - found)
    return total


def reliability(
    truth: Sequence[float], probabilities: Sequence[float], bins: int = BINS
) -> list[tuple[float, float, float]]:
    """For each bin of equal mass: mean stated probability, share that was right, share of all rows."""
    stated, found = np.asarray(probabilities, dtype=float), np.asarray(truth, dtype=float)
    order = np.argsort(stated, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return [(float(stated[p].mean()), float(found[p].mean()), len(p) / len(order)) for p in parts]


def risk_coverage(truth: Sequence[float], confidence: Sequence[float]) -> RiskCoverage:
    """Share of wrong answers among the surest, at every coverage.

    Source: El-Yaniv and Wiener 2010.
    """
    order = np.argsort(-np.asarray(confidence, dtype=float), kind="stable")
    wrong = 1.0 - np.asarray(truth, dtype=float)[order]
    counts = np.arange(1, len(wrong) + 1)
    risk = np.cumsum(wrong) / counts
    return RiskCoverage(tuple((counts / len(wrong)).tolist()), tuple(risk.tolist()), float(risk.mean()))


def _interval(figure: float, drawn: Array, n: int) -> Interval:
    drawn = drawn[~np.isnan(drawn)]
    if not len(drawn):
        return Interval(figure, float("nan"), float("nan"), n)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(figure, float(low), float(high), n)
