"""From rows to figures: means with intervals, paired tests, and the JSON that a run ends with."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentqa.benchmarks import statistics
from latentqa.benchmarks.audit import with_alarms
from latentqa.benchmarks.calibration import calibrated
from latentqa.benchmarks.experiment import Metric
from latentqa.benchmarks.runner import Row, Run
from latentqa.benchmarks.statistics import Interval, OfMean
from latentqa.benchmarks.steering.diversity import with_diversity

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
        p: Holm-corrected over all pairs and groups of the metric.
        method: how it was tested, `McNemar` or `bootstrap`.
    """

    __test__ = False  # pytest must not collect it

    a: str
    b: str
    group: str
    metric: str
    p: float
    method: str = "McNemar"


OF_MEAN: dict[str, OfMean] = {
    "mean": lambda mean: mean,
    "exp_mean": np.exp,
    "off_half": lambda mean: abs(mean - 0.5),
}
"""Figures that are functions of a mean, by name: their intervals and tests need no loop over resamples."""


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
        return self._by_cell.get((reader, group, metric))

    @cached_property
    def _by_cell(self) -> dict[tuple[str, str, str], Interval]:
        return {(one.reader, one.group, one.metric): one.interval for one in self.figures}


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
    derived = {"audit": with_alarms, "calibration": calibrated, "sentiment": with_diversity}.get(
        run.header["experiment"]
    )
    return run if derived is None else replace(run, rows=tuple(derived(run.rows)))


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
    if metric.compute in OF_MEAN:
        return float(OF_MEAN[metric.compute](values.mean()))
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
    if whole and header.get("pooled"):
        whole = [[row for members in whole for row in members]]
    if whole:
        found.append(Figure(reader, MEAN, metric.name, _mean_interval(whole, metric, resamples)))
    return found


def _interval(rows: Sequence[Row], metric: Metric, resamples: int) -> Interval:
    units = [row.unit for row in rows]
    values, truth = _arrays(rows, metric)
    if metric.compute in OF_MEAN:
        of = OF_MEAN[metric.compute]
        return statistics.bootstrap_mean(values.tolist(), units, resamples=resamples, of=of)
    return statistics.bootstrap(
        lambda chosen: compute(metric, values[chosen], truth[chosen]), units, resamples=_fewer(resamples)
    )


def _mean_interval(groups: Sequence[Sequence[Row]], metric: Metric, resamples: int) -> Interval:
    if metric.compute in OF_MEAN:
        values = [[row.values[metric.value] for row in rows] for rows in groups]
        units_of = [[row.unit for row in rows] for rows in groups]
        of = OF_MEAN[metric.compute]
        return statistics.mean_of_groups(values, units_of, resamples=resamples, of=of)
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
    """Paired tests of two readers, on the items that both have; measures of confidence have none."""
    if metric.test == "bootstrap" and metric.compute in OF_MEAN:
        return _bootstrap_tests(by_reader, metric, header)
    if metric.compute != "mean" or not metric.share or metric.test == "none":
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
                if not _asked(a, b, header):
                    continue
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


def _bootstrap_tests(
    by_reader: Mapping[str, Sequence[Row]], metric: Metric, header: Mapping[str, Any]
) -> list[Test]:
    """Tests on all groups together, as the group `mean` is made."""
    readers = [reader for reader in by_reader if header["readers"][reader].get("tested", True)]
    inside = list(header["mean_groups"])
    rows = {reader: {row.item: row for row in by_reader[reader] if row.group in inside} for reader in readers}
    raw: dict[Hashable, float] = {}
    for number, a in enumerate(readers):
        for b in readers[number + 1 :]:
            common = [item for item in rows[a] if item in rows[b]]
            if not common or not _asked(a, b, header):
                continue
            grouped: dict[str, list[str]] = {}
            for item in common:
                grouped.setdefault("" if header.get("pooled") else rows[a][item].group, []).append(item)
            first, second = (
                [[rows[one][item].values[metric.value] for item in items] for items in grouped.values()]
                for one in (a, b)
            )
            units = [[rows[a][item].unit for item in items] for items in grouped.values()]
            raw[a, b] = statistics.paired_bootstrap(first, second, units, of=OF_MEAN[metric.compute])
    return [
        Test(a, b, MEAN, metric.name, p, "bootstrap")
        for (a, b), p in statistics.holm(raw).items()  # pyright: ignore[reportGeneralTypeIssues]
    ]


def _asked(a: str, b: str, header: Mapping[str, Any]) -> bool:
    """Whether these two are to be compared: every two are, unless one of them says against whom it stands."""
    first, second = (header["readers"][name].get("against") for name in (a, b))
    if first is None and second is None:
        return True
    return b in (first or ()) or a in (second or ())


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
        "remembered": kept.get("remembered", 0),
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
