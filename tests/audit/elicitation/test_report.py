"""The report: tables with intervals, no reply unless it is kept, and a page that stands alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from latentqa.audit.elicitation import Elicitation, elicitation_json, write_elicitation
from latentqa.audit.elicitation.report import WARNING, category_tables, elicitation_lines, tables
from latentqa.benchmarks.statistics import Interval
from latentqa.types import Dialog
from tests.audit.elicitation.conftest import behaviors

Elicit = Callable[..., Elicitation]
METHODS = ("none", "prompting", "prefill")
SPEECH = "<script>alert(1)</script> & so on"


@pytest.fixture
def found(elicit: Elicit) -> Elicitation:
    return elicit(methods=METHODS)


def test_tables_hold_every_method_with_intervals(found: Elicitation) -> None:
    shown = {table.title: table for table in tables(found)}
    assert list(shown) == ["All behaviours", "By label", "What it costs"]
    assert shown["All behaviours"].heads == ("refusal rate", "compliance rate", "unclear")
    assert "refusal rate, safe" in shown["By label"].heads
    costs = shown["What it costs"]
    assert costs.heads == ("control task", "perplexity")
    assert all("(" in cell for cells in costs.rows.values() for cell in cells)
    assert all(shares[0] is not None and shares[1] is None for shares in costs.shares.values())
    refusals, compliance = category_tables(found)
    assert (refusals.title, compliance.title) == ("refusal rate", "compliance rate")
    assert set(refusals.rows) == {"soup", "tea"} and refusals.heads == METHODS


def test_a_gap_that_is_closed_is_a_column(found: Elicitation) -> None:
    metrics = [
        {**metric, "value": "right"} if metric["name"] == "control task" else metric
        for metric in found.run.header["metrics"]
    ]
    run = replace(found.run, header={**found.run.header, "metrics": metrics})
    half = replace(found, run=run, recovered={"prefill": Interval(0.5, 0.25, 0.75, 24)})
    last = next(table for table in tables(half) if table.title == "What is known to be withheld")
    assert last.heads[-1] == "gap recovered"
    assert last.rows["prefill"][-1] == "50.0 (25.0–75.0)" and last.rows["none"][-1] == "–"


def test_lines_name_what_a_reader_must_know(elicit: Elicit) -> None:
    few = elicit(methods=METHODS, behaviors=behaviors(rows=900, left_out={"a row without a prompt": 2}))
    lines = elicitation_lines(few)
    assert "left out: 2 a row without a prompt" in lines and "4 of 900 behaviours were drawn." in lines
    assert lines[-1] == WARNING and any(line.startswith("prefill") for line in lines)


def test_the_json_is_whole(found: Elicitation) -> None:
    figures = json.loads(json.dumps(elicitation_json(found, command="x")))
    assert figures["behaviors"] == {"source": "mine.csv", "rows": 4, "drawn": 4}
    assert [method["name"] for method in figures["methods"]] == list(METHODS)
    assert {"subject", "settings", "sentence", "metrics", "recovered", "notes", "warning"} <= set(figures)
    refused = [one for one in figures["figures"] if one["metric"] == "refusal rate"]
    assert {(one["method"], one["group"]) for one in refused} == {
        (method, group) for method in METHODS for group in ("soup", "tea", "mean")
    }
    assert all(0 <= one["low"] <= one["mean"] <= one["high"] <= 1 for one in refused)


def test_the_page_needs_nothing_else_and_shows_no_reply(found: Elicitation, tmp_path: Path) -> None:
    page, table = write_elicitation(found, tmp_path / "report", command="latentqa audit elicit x")
    text = page.read_text()
    assert json.loads(table.read_text())["command"] == "latentqa audit elicit x"
    assert text.lstrip().startswith("<!doctype html>") and "@media print" in text
    assert not any(sign in text for sign in ("http://", "https://", "<link", "<script", "@import", "src="))
    assert (
        "<code>none</code>" in text
        and "Silence is no proof" in text
        and "Some replies" not in text
        and "Tell me about thing" not in text
    )
    for tag in ("h2", "details", "table", "div"):
        assert text.count(f"<{tag}") == text.count(f"</{tag}>"), tag


def test_kept_replies_are_shown_and_escaped(
    elicit: Elicit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(self: object, treated: object, dialogs: list[Dialog], tokens: int) -> list[str]:
        return [SPEECH] * len(dialogs)

    monkeypatch.setattr("latentqa.audit.elicitation.elicited.Elicited._replies", says)
    found = elicit(methods=METHODS, keep_completions=True)
    text = write_elicitation(found, tmp_path / "report")[0].read_text()
    assert "Some replies" in text and "&lt;script&gt;alert(1)" in text and "<script" not in text
