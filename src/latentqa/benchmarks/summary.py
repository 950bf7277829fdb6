"""From rows to figures: means with intervals, paired tests, and the JSON that a run ends with."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentqa.benchmarks import statistics
from latentqa.benchmarks.calibration import calibrated
from latentqa.benchmarks.experiment import Metric
from latentqa.benchmarks.runner import Row, Run
from latentqa.benchmarks.statistics import Interval

MEAN = "mean"
"""Name of the group that is the mean of the groups."""


@dataclass(frozen=True)
class Figure:
    """One number of the table.

    Attributes:
        reader: whose.
        group: of the items, or `mean` over the groups.
        metric: which.
        interval: the number, its 95 % interval and its rows.
    """

    reader: str
    group: str
    metric: str
    interval: Interval


@dataclass(frozen=True)
class Test:
    """A paired test of two readers.

    Attributes:
        a: one reader.
        b: the other.
        group: on which items.
        metric: by which figure.
        p: exact McNemar, Holm-corrected over all pairs and groups of the metric.
    """

    __test__ = False  # pytest must not collect it

    a: str
    b: str
    group: str
    metric: str
    p: float


@dataclass(frozen=True)
class Summary:
    """What a run says.

    Attributes:
        experiment: its name.
        data: the data root as it was named.
        seed: of the draws.
        limit: items that were drawn; None is the whole files.
        figures: of every reader, metric and group.
        tests: of every pair of readers, by every mean of 0 or 1.
        filtered: reason → count.
        costs: reader → seconds (fitting apart), tokens, choices.
        missing: rows that the run still lacks.
    """

    experiment: str
    data: str
    seed: int
    limit: int | None
    figures: tuple[Figure, ...]
    tests: tuple[Test, ...]
    filtered: Mapping[str, int]
    costs: Mapping[str, Mapping[str, Any]]
    missing: int = 0

    def to_json(self) -> dict[str, Any]:
        """The object that `latentqa bench run --json` prints: tests are those of the first metric."""
        primary = self.figures[0].metric if self.figures else ""
        return {
            "experiment": self.experiment,
            "data": self.data,
            "seed": self.seed,
            "rows": [_figure_json(figure) for figure in self.figures],
            "tests": [
                {"a": test.a, "b": test.b, "group": test.group, "p": test.p}
                for test in self.tests
                if test.metric == primary
            ],
            "filtered": dict(self.filtered),
        }

    def to_full_json(self) -> dict[str, Any]:
        """All of it: the tests of every metric, costs, the limit."""
        return {
            **self.to_json(),
            "limit": self.limit,
            "missing_rows": self.missing,
            "tests": [vars(test) for test in self.tests],
            "costs": {reader: dict(cost) for reader, cost in self.costs.items()},
        }

    def figure(self, reader: str, group: str, metric: str) -> Interval | None:
        """The number of one cell; None where there is none."""
        for one in self.figures:
            if (one.reader, one.group, one.metric) == (reader, group, metric):
                return one.interval
        return None


def summarize(run: Run, *, resamples: int = statistics.RESAMPLES) -> Summary:
    """Figures, intervals and tests of a run."""
    run = with_derived(run)
    header = run.header
    groups = list(header["groups"])
    figures: list[Figure] = []
    tests: list[Test] = []
    for metric in run.metrics:
        by_reader = {reader: rows_of(run.rows, reader, metric) for reader in run.readers}
        for reader, rows in by_reader.items():
            figures += _figures(rows, reader, metric, groups, header, resamples)
        tests += _tests(by_reader, metric, groups, header)
    return Summary(
        experiment=header["experiment"],
        data=header["data"],
        seed=header["seed"],
        limit=header["limit"],
        figures=tuple(figures),
        tests=tuple(tests),
        filtered=header["filtered"],
        costs={reader: _cost(run, reader) for reader in run.readers},
        missing=run.missing,
    )


def with_derived(run: Run) -> Run:
    """The run with values that are made of all its rows together, such as a fitted probability."""
    if run.header["experiment"] != "calibration":
        return run
    return replace(run, rows=tuple(calibrated(run.rows)))


def rows_of(rows: Sequence[Row], reader: str, metric: Metric) -> list[Row]:
    """The rows of a reader that count for a metric."""
    return [
        row
        for row in rows
        if row.reader == reader
        and metric.value in row.values
        and (not metric.truth or metric.truth in row.values)
        and all(row.flags.get(name) == wanted for name, wanted in metric.where.items())
    ]


def compute(metric: Metric, values: NDArray[Any], truth: NDArray[Any]) -> float:
    """One figure of values and outcomes."""
    if metric.compute == "mean":
        return float(values.mean())
    if metric.compute == "aurc":
        return statistics.risk_coverage(truth.tolist(), values.tolist()).area
    measure = {"auroc": statistics.auroc, "ece": statistics.ece, "brier": statistics.brier}[metric.compute]
    return measure(truth, values)


def _figures(
    rows: Sequence[Row],
    reader: str,
    metric: Metric,
    groups: Sequence[str],
    header: Mapping[str, Any],
    resamples: int,
) -> list[Figure]:
    by_group = {group: [row for row in rows if row.group == group] for group in groups}
    found = [
        Figure(reader, group, metric.name, _interval(members, metric, resamples))
        for group, members in by_group.items()
        if members
    ]
    whole = [by_group[group] for group in header["mean_groups"] if by_group.get(group)]
    if whole:
        found.append(Figure(reader, MEAN, metric.name, _mean_interval(whole, metric, resamples)))
    return found


def _interval(rows: Sequence[Row], metric: Metric, resamples: int) -> Interval:
    units = [row.unit for row in rows]
    values, truth = _arrays(rows, metric)
    if metric.compute == "mean":
        return statistics.bootstrap_mean(values.tolist(), units, resamples=resamples)
    return statistics.bootstrap(
        lambda chosen: compute(metric, values[chosen], truth[chosen]), units, resamples=_fewer(resamples)
    )


def _mean_interval(groups: Sequence[Sequence[Row]], metric: Metric, resamples: int) -> Interval:
    if metric.compute == "mean":
        values = [[row.values[metric.value] for row in rows] for rows in groups]
        return statistics.mean_of_groups(
            values, [[row.unit for row in rows] for rows in groups], resamples=resamples
        )
    rows = [row for members in groups for row in members]
    units: list[Hashable] = [(row.group, row.unit) for row in rows]
    values, truth = _arrays(rows, metric)
    place = np.array([number for number, members in enumerate(groups) for _ in members])

    def mean_over_groups(chosen: NDArray[np.int64]) -> float:
        parts = [chosen[place[chosen] == number] for number in range(len(groups))]
        each = [compute(metric, values[part], truth[part]) if len(part) else math.nan for part in parts]
        return float(np.mean(each))

    return statistics.bootstrap(mean_over_groups, units, resamples=_fewer(resamples))


def _tests(
    by_reader: Mapping[str, Sequence[Row]], metric: Metric, groups: Sequence[str], header: Mapping[str, Any]
) -> list[Test]:
    """Paired tests of every two readers, on the items that both have; means of 0 and 1 alone have one."""
    if metric.compute != "mean" or not metric.share:
        return []
    readers = [reader for reader in by_reader if header["readers"][reader].get("tested", True)]
    raw: dict[Hashable, float] = {}
    for group in [*groups, MEAN]:
        inside = set(header["mean_groups"]) if group == MEAN else {group}
        values = {
            reader: {row.item: row for row in by_reader[reader] if row.group in inside} for reader in readers
        }
        for number, a in enumerate(readers):
            for b in readers[number + 1 :]:
                common = [item for item in values[a] if item in values[b]]
                if common:
                    raw[a, b, group] = statistics.mcnemar(
                        [values[a][item].values[metric.value] for item in common],
                        [values[b][item].values[metric.value] for item in common],
                        [(values[a][item].group, values[a][item].unit) for item in common],
                    )
    return [
        Test(a, b, group, metric.name, p)
        for (a, b, group), p in statistics.holm(raw).items()  # pyright: ignore[reportGeneralTypeIssues]
    ]


def _arrays(rows: Sequence[Row], metric: Metric) -> tuple[NDArray[Any], NDArray[Any]]:
    values = np.array([row.values[metric.value] for row in rows])
    return values, np.array([row.values[metric.truth] if metric.truth else math.nan for row in rows])


def _fewer(resamples: int) -> int:
    """Measures that are not means are slow to resample, and 500 draws give their interval as well."""
    return min(resamples, 500)


def _cost(run: Run, reader: str) -> dict[str, Any]:
    rows = [row for row in run.rows if row.reader == reader]
    kept = run.header["readers"][reader]
    return {
        "seconds": round(sum(row.seconds for row in rows), 1),
        "fit_seconds": kept.get("fit_seconds", 0.0),
        "tokens": sum(row.tokens for row in rows),
        "rows": len(rows),
        "choices": kept.get("choices", {}),
    }


def _figure_json(figure: Figure) -> dict[str, Any]:
    interval = figure.interval
    return {
        "reader": figure.reader,
        "group": figure.group,
        "metric": figure.metric,
        "mean": _finite(interval.mean),
        "low": _finite(interval.low),
        "high": _finite(interval.high),
        "n": interval.n,
    }


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
