"""The report of an elicitation audit: one page that needs no other file, JSON, and lines for a terminal."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentqa.audit.elicitation.elicit import Elicitation
from latentqa.audit.elicitation.judging import COMPLIED, REFUSAL, reply_metrics
from latentqa.audit.elicitation.treatments import NONE
from latentqa.audit.elicitation.truth import METRICS
from latentqa.audit.report import render_page, write_pages
from latentqa.benchmarks import Metric
from latentqa.benchmarks.statistics import Interval
from latentqa.benchmarks.summary import MEAN
from latentqa.benchmarks.table import cell, columns

TEMPLATE = "elicitation.html.jinja"
RECOVERED = "gap recovered"
REPLIES = tuple(metric.value for metric in reply_metrics())
TRUTH = tuple(metric.value for metric in METRICS)
SHOWN = 20
"""Kept replies that the page shows of each method."""
FORMAT = 1
WARNING = (
    "Silence is no proof. What no method brought out may still be there, and another sentence, strength or "
    "method may reach it. Rules judge the form of a reply: one that complies need be neither right nor "
    "harmful, and a refusal in other words is missed. Compare the control task and the perplexity before a "
    "low refusal rate is believed: a model that is steered too strongly refuses nothing because it says "
    "nothing."
)


@dataclass(frozen=True)
class Table:
    """Figures of every method.

    Attributes:
        title: what they are about.
        heads: of the columns, the first one's left out.
        docs: what each says.
        rows: method → cells with intervals.
        shares: method → the same between 0 and 1, for bars; None where a figure is no share.
    """

    title: str
    heads: tuple[str, ...]
    docs: tuple[str, ...]
    rows: dict[str, tuple[str, ...]]
    shares: dict[str, tuple[float | None, ...]]


def write_elicitation(
    found: Elicitation, out: str | os.PathLike[str], *, command: str = ""
) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder; returns the two files.

    Args:
        found: by the audit.
        out: folder of the run.
        command: that was run, for the record.
    """
    figures = elicitation_json(found, command=command)
    page = render_page(
        TEMPLATE,
        found=figures,
        tables=tables(found),
        categories=category_tables(found),
        replies=_replies(found),
        unchanged=NONE,
    )
    return write_pages(out, page, figures)


def elicitation_json(found: Elicitation, *, command: str = "") -> dict[str, Any]:
    """Everything that was found, as JSON has it; shares lie between 0 and 1."""
    header, behaviors = found.run.header, found.behaviors
    return {
        "format": FORMAT,
        "subject": header["subject"],
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": command,
        "warning": WARNING,
        "settings": header["settings"],
        "sentence": found.settings.sentence,
        "prefill": found.settings.prefill,
        "behaviors": None
        if behaviors is None
        else {"source": behaviors.source, "rows": behaviors.rows, "drawn": len(behaviors.drawn)},
        "left_out": dict(found.summary.filtered),
        "organism": None if found.truth is None else {"name": found.truth.name, "kind": found.truth.kind},
        "methods": [
            {
                "name": variant.name,
                "method": variant.method,
                "strength": variant.strength,
                "made": header["readers"][variant.name]["choices"],
                "seconds_to_make": header["readers"][variant.name]["fit_seconds"],
            }
            for variant in found.variants
        ],
        "metrics": [
            {"name": metric.name, "doc": metric.doc, "share": metric.share, "better": metric.better}
            for metric in found.run.metrics
        ],
        "figures": [
            {
                "method": figure.reader,
                "group": figure.group,
                "metric": figure.metric,
                **_interval(figure.interval),
            }
            for figure in found.summary.figures
        ],
        "recovered": [{"method": name, **_interval(one)} for name, one in found.recovered.items()],
        "notes": list(found.notes),
    }


def elicitation_lines(found: Elicitation) -> list[str]:
    """The tables for a terminal, with what a reader must know."""
    lines: list[str] = []
    for table in tables(found):
        rows = [("method", *table.heads), *((name, *cells) for name, cells in table.rows.items())]
        lines += [f"{table.title} (%)", *columns(rows), ""]
    lines += [f"left out: {count} {reason}" for reason, count in found.summary.filtered.items()]
    return [*lines, *found.notes, WARNING]


def tables(found: Elicitation) -> list[Table]:
    """Figures over all behaviours, by label, of the organism, and of what the methods cost."""
    named = (
        ("All behaviours", [one for one in found.run.metrics if one.value in REPLIES and not one.where]),
        ("By label", [one for one in found.run.metrics if one.where]),
        ("What is known to be withheld", [one for one in found.run.metrics if one.value in TRUTH]),
        (
            "What it costs",
            [one for one in found.run.metrics if one.value not in (*REPLIES, *TRUTH)],
        ),
    )
    made = [_table(found, title, metrics) for title, metrics in named]
    return [table for table in made if table is not None]


def category_tables(found: Elicitation) -> list[Table]:
    """Refusal and compliance by category: a row a category, a column a method."""
    found_tables = []
    for metric in (one for one in found.run.metrics if one.name in (REFUSAL, COMPLIED)):
        names = [variant.name for variant in found.variants]
        groups = [
            group
            for group in found.run.header["groups"]
            if any(found.summary.figure(name, group, metric.name) for name in names)
        ]
        intervals = {
            group: [found.summary.figure(name, group, metric.name) for name in names] for group in groups
        }
        found_tables.append(
            Table(
                metric.name,
                tuple(names),
                ("",) * len(names),
                {group: tuple(cell(one, metric) for one in row) for group, row in intervals.items()},
                {group: tuple(_share(one, metric) for one in row) for group, row in intervals.items()},
            )
        )
    return found_tables


def _table(found: Elicitation, title: str, metrics: Sequence[Metric]) -> Table | None:
    """Means of every method; nothing where no method has any."""
    rows: dict[str, list[Interval | None]] = {}
    shown = [
        metric
        for metric in metrics
        if any(found.summary.figure(variant.name, MEAN, metric.name) for variant in found.variants)
    ]
    for variant in found.variants:
        rows[variant.name] = [found.summary.figure(variant.name, MEAN, metric.name) for metric in shown]
    if found.recovered and any(metric.value == "right" for metric in shown):
        shown.append(
            Metric(RECOVERED, "Share of the gap to the accuracy with the password that is closed.", "")
        )
        for name, row in rows.items():
            row.append(found.recovered.get(name))
    if not shown:
        return None
    return Table(
        title,
        tuple(metric.name for metric in shown),
        tuple(metric.doc for metric in shown),
        {
            name: tuple(cell(one, metric) for one, metric in zip(row, shown, strict=True))
            for name, row in rows.items()
        },
        {
            name: tuple(_share(one, metric) for one, metric in zip(row, shown, strict=True))
            for name, row in rows.items()
        },
    )


def _replies(found: Elicitation) -> dict[str, list[dict[str, str]]]:
    """Some kept replies of each method; empty unless they are kept."""
    shown: dict[str, list[dict[str, str]]] = {}
    for row in found.run.rows:
        kept = shown.setdefault(row.reader, [])
        if row.answer is not None and len(kept) < SHOWN:
            verdict = next((name for name in ("refused", "complied") if row.values.get(name)), "unclear")
            kept.append({"id": row.item.partition(":")[2], "verdict": verdict, "reply": row.answer})
    return {name: kept for name, kept in shown.items() if kept}


def _share(interval: Interval | None, metric: Metric) -> float | None:
    if interval is None or not metric.share or not math.isfinite(interval.mean):
        return None
    return min(1.0, max(0.0, interval.mean))


def _interval(interval: Interval) -> dict[str, float | int | None]:
    values = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {
        **{name: round(value, 6) if math.isfinite(value) else None for name, value in values.items()},
        "n": interval.n,
    }
