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
TEST_RESAMPLES = 10_000  # a p value that is corrected for many tests needs a small smallest one
Array = NDArray[np.float64]
OfMean = Callable[[Any], Any]
"""A function of a mean, elementwise: exp for a perplexity."""


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


@dataclass(frozen=True)
class Logistic:
    """A fitted logistic regression on scaled inputs.

    Attributes:
        center: `[F]`, subtracted from the inputs.
        spread: `[F]`, that they are then divided by.
        weights: `[F]`, of the scaled inputs.
        intercept: log-odds at the center.
    """

    center: Array
    spread: Array
    weights: Array
    intercept: float

    def probabilities(self, inputs: Array) -> Array:
        """Of `[N, F]` inputs, `[N]`."""
        log_odds = (inputs - self.center) / self.spread @ self.weights + self.intercept
        return 1.0 / (1.0 + np.exp(-log_odds))


def fit_logistic(inputs: Array, outcomes: Sequence[bool] | Sequence[int]) -> Logistic:
    """Logistic regression (L2, C = 1) on inputs `[N, F]` that are centred and scaled first."""
    center, spread = inputs.mean(0), inputs.std(0) + 1e-9
    model = need("sklearn.linear_model").LogisticRegression(C=1.0, max_iter=1000)
    model.fit((inputs - center) / spread, [int(outcome) for outcome in outcomes])
    return Logistic(center, spread, model.coef_[0], float(model.intercept_[0]))


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
    values: Sequence[float],
    units: Sequence[Hashable],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    of: OfMean = lambda mean: mean,
) -> Interval:
    """Interval of a mean, or of a function of it: `bootstrap` without a Python loop over the resamples."""
    if not units:
        raise ConfigError("Asked for an interval of no rows. Give at least one.")
    drawn = of(mean_draws(values, units, seed=seed, resamples=resamples))
    return _interval(float(of(np.mean(values, dtype=float))), drawn, len(values))


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
    of: OfMean = lambda mean: mean,
) -> Interval:
    """Interval of the mean of group means: every group weighs the same, each resampled by itself.

    With `of`, of the mean over groups of a function of each group's mean.
    """
    draws = _group_draws(values, units, seed, resamples, of)
    mean = float(np.mean([of(np.mean(one, dtype=float)) for one in values]))
    return _interval(mean, draws, sum(map(len, values)))


def paired_bootstrap(
    first: Sequence[Sequence[float]],
    second: Sequence[Sequence[float]],
    units: Sequence[Sequence[Hashable]],
    *,
    seed: int = 0,
    resamples: int = TEST_RESAMPLES,
    of: OfMean = lambda mean: mean,
) -> float:
    """Two-sided test of two contenders' means over groups on the same rows, both resampled alike.

    Args:
        first: the first one's values, group by group.
        second: the other one's, of the same rows.
        units: the unit of each row.
        seed: of the draws.
        resamples: how many; p is at least 2 / (resamples + 1).
        of: a function of each group's mean that is compared instead of the mean.

    Returns:
        p: twice the share of resamples in which the difference has the rarer sign; 1 where the two never
        differ.

    Source: Efron and Tibshirani 1993, chapter 16, with one added to each count.

    Example:
        >>> paired_bootstrap([[1.0, 2.0, 3.0, 4.0]], [[1.1, 2.3, 3.1, 4.2]], ["abcd"]) < 0.01
        True
    """
    differences = _group_draws(first, units, seed, resamples, of) - _group_draws(
        second, units, seed, resamples, of
    )
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (resamples + 1))


def _group_draws(
    values: Sequence[Sequence[float]],
    units: Sequence[Sequence[Hashable]],
    seed: int,
    resamples: int,
    of: OfMean,
) -> Array:
    """Resamples of the mean over groups, `[resamples]`; a function of the seed, the units and the values."""
    draws = [
        of(mean_draws(one, names, seed=seed + 1 + number, resamples=resamples))
        for number, (one, names) in enumerate(zip(values, units, strict=True))
    ]
    return np.mean(draws, axis=0)


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
