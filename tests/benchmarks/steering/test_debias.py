"""Debias: what is read of the file, the flattened twins, planned tests, and a run that goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.benchmarks import Run, find_experiment, summarize
from latentqa.benchmarks.report import build_report
from latentqa.benchmarks.steering import DebiasSettings, SteeringTools, debias
from latentqa.benchmarks.steering.debias import read_pairs
from latentqa.decoder import Target
from latentqa.errors import DataError

METHODS = "no-control,prompting,contrast,random"
SMALL = {"windows": 2, "neutral": 1, "stimuli": 3}


def test_pairs_are_read_and_what_is_left_out_is_counted(root: Path) -> None:
    filtered: Counter[str] = Counter()
    pairs = read_pairs(root, (), filtered)
    assert [pair.type for pair in pairs] == ["gender", "age", "socioeconomic", "gender"]
    assert filtered == {"row comes twice": 1, "an empty sentence": 1, "both sentences are the same": 1}
    assert len(read_pairs(root, ("age",), Counter())) == 1
    with pytest.raises(DataError, match='no bias type "aeg". There are: age, gender, socioeconomic'):
        read_pairs(root, ("aeg",), Counter())
    (root / "crows_pairs" / "crows_pairs.csv").write_text("sent_more,sent_less\na,b\n")
    with pytest.raises(DataError, match="lacks the column bias_type"):
        read_pairs(root, (), Counter())


def test_the_real_file(data_file: Callable[[str], Path], target: Target) -> None:
    root = data_file("crows_pairs/crows_pairs.csv").parents[1]
    data_file("wikitext2/valid.txt")
    found = debias(root, DebiasSettings(windows=1, neutral=0), SteeringTools(target)).experiment
    assert sum(item.meta["measure"] == "pair" for item in found.items) == 754 - sum(found.filtered.values())
    assert len(found.groups) == 10 and found.pooled and any("Blodgett" in note for note in found.notes)


def test_a_run_has_all_figures_twins_and_planned_tests(session: Callable[..., Run]) -> None:
    finished = session("debias", METHODS, **SMALL)
    assert finished.missing == 0
    names = (
        "no-control",
        "prompting",
        "flat-prompting",
        "contrast",
        "flat-contrast",
        "random",
        "flat-random",
    )
    assert finished.readers == names
    found = summarize(finished)
    difference = found.figure("no-control", "mean", "difference")
    assert difference is not None and difference.n == 4
    for metric in ("stereotype share", "distance from 50 %", "perplexity", "perplexity ratio"):
        assert all(found.figure(name, "mean", metric) for name in names), metric
    ratio = found.figure("no-control", "mean", "perplexity ratio")
    assert ratio is not None and ratio.mean == 1.0
    assert found.figure("contrast", "mean", "KL") is not None
    tested = {(test.a, test.b) for test in found.tests if test.metric == "difference"}
    assert tested == {
        ("no-control", "prompting"),
        ("no-control", "contrast"),
        ("no-control", "random"),
        ("prompting", "flat-prompting"),
        ("contrast", "flat-contrast"),
        ("random", "flat-random"),
    }
    assert all(test.method == "bootstrap" for test in found.tests if test.metric == "difference")
    temperature = finished.header["readers"]["flat-contrast"]["choices"]["temperature"]
    assert temperature >= 1.0


def test_a_run_goes_on_with_the_treatments_that_it_made(
    session: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = session("debias", METHODS, **SMALL)
    lines = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()
    (tmp_path / "run" / "rows.jsonl").write_text("\n".join(lines[:9]) + "\n")

    def never(*_: object) -> None:
        raise AssertionError("it was made again")

    monkeypatch.setattr("latentqa.benchmarks.steering.lineup.make_treatment", never)
    again = session("debias", METHODS, **SMALL)
    assert [(row.item, row.reader, row.values) for row in again.rows] == [
        (row.item, row.reader, row.values) for row in first.rows
    ]


def test_a_method_that_finds_nothing_to_do_is_kept_and_says_why(
    session: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from latentqa.errors import SteeringError

    def refuse(*_: object) -> None:
        raise SteeringError("The decoder gives these answers already.")

    monkeypatch.setattr("latentqa.benchmarks.steering.lineup.make_treatment", refuse)
    finished = session("debias", "contrast", **SMALL)
    assert "answers already" in finished.header["readers"]["contrast"]["choices"]["not_made"]
    assert finished.missing == 0


def test_the_report_marks_the_papers_figures(session: Callable[..., Run], tmp_path: Path) -> None:
    session("debias", METHODS, **SMALL)
    report = build_report([tmp_path / "run"])
    assert "another model&#x27;s figures" in report.page and "4.05" in report.page
    assert "| contrast | " in report.markdown and "*4.38*" in report.markdown
    assert "Steering tiny" in report.page and "A <b>method</b>" in report.page
    assert "difference against perplexity ratio" in report.page
    assert "flat-contrast" in report.page and "Blodgett" in report.page


def test_a_limit_leaves_the_side_effects(session: Callable[..., Run]) -> None:
    finished = session("debias", "no-control", limit=2, **SMALL)
    measured = Counter("window" if "window" in row.item else row.item.split(":")[0] for row in finished.rows)
    assert measured == {"pair": 2, "window": 2, "debias": 1}


def test_the_experiment_is_listed_with_what_it_needs() -> None:
    entry = find_experiment("debias")
    assert entry.kind == "steering" and entry.needs == ("crows_pairs", "wikitext2")
