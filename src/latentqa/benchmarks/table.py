"""A run's figures as lines for people, and as a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from latentqa.benchmarks.experiment import Metric
from latentqa.benchmarks.runner import Run
from latentqa.benchmarks.statistics import Interval
from latentqa.benchmarks.summary import MEAN, Summary

WIDE = 10
"""Groups beyond which a terminal shows the mean alone."""


def cell(interval: Interval | None, metric: Metric, *, bounds: bool = True) -> str:
    """One number: per cent for shares, with its interval.

    Example:
        >>> cell(Interval(0.5, 0.25, 0.75, 8), Metric("m", "", "m"))
        '50.0 (25.0–75.0)'
    """
    if interval is None or not math.isfinite(interval.mean):
        return "–"
    scale, digits = (100.0, 1) if metric.share else (1.0, 3)
    shown = f"{scale * interval.mean:.{digits}f}"
    if not bounds or not math.isfinite(interval.low):
        return shown
    return f"{shown} ({scale * interval.low:.{digits}f}–{scale * interval.high:.{digits}f})"


def heading(run: Run) -> str:
    """What was measured, in a line; a limited run says so."""
    header = run.header
    subject = header["subject"]
    decoder = f", decoder {subject['decoder']}" if subject["decoder"] else ""
    limited = f", LIMITED to {header['items']} items" if header["limit"] is not None else ""
    return f"{header['experiment']}: {subject['target']}{decoder}, seed {header['seed']}{limited}"


def lines(run: Run, summary: Summary) -> list[str]:
    """The table that a run ends with, for a terminal."""
    found = [heading(run)]
    many = len(run.header["groups"]) > WIDE
    for metric in plain_metrics(run):
        groups = [MEAN] if many else groups_of(run, summary, metric)
        rows = [[run.header.get("contender", "reader"), *groups, "n"]]
        for reader in run.readers:
            whole = summary.figure(reader, MEAN, metric.name)
            if whole is None:
                continue
            cells = [cell(summary.figure(reader, group, metric.name), metric) for group in groups]
            rows.append([reader, *cells, str(whole.n)])
        if len(rows) > 1:
            found += ["", f"{metric.name}{_unit(metric)}", *columns(rows)]
    for name, metrics in by_layer(run).items():
        rows = layer_rows(run, summary, metrics)
        if len(rows) > 1:
            found += ["", f"{name} by read layer{_unit(metrics[0])}, mean of the groups", *columns(rows)]
    found += ["", *tests(summary, run.metrics[0].name), *costs(summary)]
    found += [f"filtered: {count} {reason}" for reason, count in summary.filtered.items()]
    found += [str(note) for note in run.header["notes"]]
    if many:
        found.append(f"The {len(run.header['groups'])} groups by themselves are in table.md.")
    if summary.missing:
        found.append(f"{summary.missing} rows are missing: repeat the command and it goes on.")
    return found


def markdown(run: Run, summary: Summary) -> str:
    """The same as Markdown, one table a figure."""
    contender = run.header.get("contender", "reader")
    parts = [f"### {heading(run)}", run.header["doc"]]
    for metric in plain_metrics(run):
        groups = groups_of(run, summary, metric)
        body = []
        for reader in run.readers:
            whole = summary.figure(reader, MEAN, metric.name)
            if whole is not None:
                cells = [cell(summary.figure(reader, group, metric.name), metric) for group in groups]
                body.append(f"| {reader} | {' | '.join(cells)} | {whole.n} |")
        if body:
            parts.append(
                f"**{metric.name}**{_unit(metric)}: {metric.doc}\n\n| {contender} | {' | '.join(groups)} "
                "| n |\n"
                f"|{' --- |' * (len(groups) + 2)}\n" + "\n".join(body)
            )
    for name, metrics in by_layer(run).items():
        head, *body = layer_rows(run, summary, metrics)
        if body:
            parts.append(
                f"**{name} by read layer**{_unit(metrics[0])}, mean of the groups\n\n| {' | '.join(head)} |\n"
                f"|{' --- |' * len(head)}\n" + "\n".join(f"| {' | '.join(row)} |" for row in body)
            )
    parts.append("\n".join(f"- {line}" for line in [*tests(summary, run.metrics[0].name), *costs(summary)]))
    filtered = [f"- filtered: {count} {reason}" for reason, count in summary.filtered.items()]
    parts += ["\n".join([*filtered, *(f"- {note}" for note in run.header["notes"])])]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain_metrics(run: Run) -> list[Metric]:
    """The figures that have a table of their own: all but those of one read layer each."""
    return [metric for metric in run.metrics if metric.layer is None]


def by_layer(run: Run) -> dict[str, list[Metric]]:
    """Name of a figure → its metrics at each read layer, ascending; empty for runs without layers."""
    found: dict[str, list[Metric]] = {}
    for metric in run.metrics:
        if metric.layer is not None:
            found.setdefault(metric.name.partition(",")[0], []).append(metric)
    return found


def layer_rows(run: Run, summary: Summary, metrics: Sequence[Metric]) -> list[list[str]]:
    """A head and a row a reader: the mean over the groups at each layer."""
    contender = run.header.get("contender", "reader")
    rows = [[contender, *(str(metric.layer) for metric in metrics)]]
    for reader in run.readers:
        cells = [summary.figure(reader, MEAN, metric.name) for metric in metrics]
        if any(one is not None for one in cells):
            shown = zip(cells, metrics, strict=True)
            rows.append([reader, *(cell(one, metric, bounds=False) for one, metric in shown)])
    return rows


def groups_of(run: Run, summary: Summary, metric: Metric) -> list[str]:
    """The mean and the groups in which some contender has this figure: the columns of its table."""
    return [
        group
        for group in (MEAN, *run.header["groups"])
        if any(summary.figure(reader, group, metric.name) for reader in run.readers)
    ]


def tests(summary: Summary, metric: str) -> list[str]:
    """The paired tests of a figure on the mean over groups, one line each."""
    return [
        f"{test.a} against {test.b}, {metric}: p {p_text(test.p)} ({test.method}, Holm)"
        for test in summary.tests
        if test.metric == metric and test.group == MEAN
    ]


def costs(summary: Summary) -> list[str]:
    """Seconds, tokens and choices of each reader, one line each."""
    found = []
    for reader, cost in summary.costs.items():
        fit = f" (and {cost['fit_seconds']:.0f} s fitting)" if cost["fit_seconds"] >= 0.5 else ""
        choices = f", chose {short_choices(cost['choices'])}" if cost["choices"] else ""
        kept = f" ({cost['remembered']} answers and scores of earlier runs)" if cost["remembered"] else ""
        found.append(f"{reader}: {cost['seconds']:.0f} s{fit}, {cost['tokens']} tokens{kept}{choices}")
    return found


def short_choices(choices: object) -> str:
    """What a contender chose; of one that chose for many aims only how many."""
    if isinstance(choices, dict) and len(choices) > 4 and all(isinstance(v, dict) for v in choices.values()):
        return f"settings for {len(choices)} aims (in run.json)"
    return _choices(choices)


def p_text(p: float) -> str:
    """A p value, small ones as a bound."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines with aligned columns."""
    widths = [max(len(row[number]) for row in rows) for number in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _unit(metric: Metric) -> str:
    return (" (%)" if metric.share else "") + (", lower is better" if metric.better == "low" else "")


def _choices(choices: object) -> str:
    if isinstance(choices, dict):
        return ", ".join(f"{name} {_choices(value)}" for name, value in choices.items())
    return str(choices)
