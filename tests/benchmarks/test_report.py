"""The report: one page that needs nothing else, honest marks, no mixing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from latentqa.benchmarks import build_report, run, summarize, write_report
from latentqa.benchmarks.plans import run_plan
from latentqa.benchmarks.scaling import ScalingSettings, scaling_plan
from latentqa.benchmarks.table import lines, markdown
from latentqa.errors import ConfigError, DataError
from tests.benchmarks.conftest import SUBJECT, fake, make_experiment, make_items, oracle, trained


def kept(folder: Path, name: str = "toy", **options) -> Path:
    experiment = make_experiment(name=name)
    run(
        experiment,
        [oracle(experiment, "lit", wrong=["item-0"]), fake("patchscopes")],
        folder,
        SUBJECT,
        **options,
    )
    return folder


def test_the_page_holds_everything(tmp_path: Path) -> None:
    page, table = write_report([kept(tmp_path / "one")], tmp_path / "out")
    text = page.read_text()
    sources = re.findall(r"src='([^']*)'", text)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.findall(r"(?:href|src)='?https?:", text)
    for said in ("lit", "patchscopes", "91.7", "2 left out: no context", "Holm", "support"):
        assert said in text, said
    assert "| lit | 91.7" in table.read_text()


def test_a_limited_run_is_marked(tmp_path: Path) -> None:
    report = build_report([kept(tmp_path / "one", limit=12)])
    assert "limited to 12 items" in report.page and "LIMITED to 12 items" in report.markdown
    finished = run(make_experiment(), [fake("patchscopes")], tmp_path / "one", SUBJECT, limit=12)
    assert "LIMITED" in lines(finished, summarize(finished))[0]


def test_the_papers_figures_are_another_models(tmp_path: Path) -> None:
    report = build_report([kept(tmp_path / "one", "relations")])
    assert "another model&#x27;s" in report.page and "86.9" in report.page and "Llama-3-8B" in report.markdown
    assert "86.9" not in build_report([kept(tmp_path / "two")]).page


def test_draws_are_shown_as_mean_and_range(tmp_path: Path) -> None:
    report = build_report([kept(tmp_path / f"{seed}", seed=seed) for seed in range(3)])
    assert "Over the draws" in report.page
    assert "| lit | substring | mean | 91.7 (91.7–91.7) | 3 |" in report.markdown


def test_results_of_other_models_or_versions_do_not_mix(tmp_path: Path) -> None:
    first, second = kept(tmp_path / "one"), tmp_path / "two"
    run(make_experiment(), [fake()], second, replace(SUBJECT, target="other", target_hash="xyz"))
    with pytest.raises(ConfigError, match=r"tiny \(abc123\).*other \(xyz\)"):
        build_report([first, second])
    third = tmp_path / "three"
    run(make_experiment(), [fake()], third, replace(SUBJECT, versions={"latentqa": "2.0"}))
    with pytest.raises(ConfigError, match=r"0\.1\.0.*2\.0"):
        build_report([first, third])


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        build_report([tmp_path])
    with pytest.raises(ConfigError, match="No run"):
        build_report([])


def test_an_unfinished_run_says_what_is_missing(tmp_path: Path) -> None:
    folder = kept(tmp_path / "one")
    rows = (folder / "rows.jsonl").read_text().splitlines()
    (folder / "rows.jsonl").write_text("\n".join(rows[:10]) + "\n")
    assert "14 rows are missing" in build_report([folder]).page


def test_markup_in_data_is_shown_as_text(tmp_path: Path) -> None:
    items = make_items()
    experiment = make_experiment(items, doc="<script>alert(1)</script>")
    run(experiment, [fake()], tmp_path, SUBJECT)
    assert "<script>" not in build_report([tmp_path]).page


def test_a_plan_has_a_section(tmp_path: Path) -> None:
    run_plan("scaling", scaling_plan(ScalingSettings()), trained, tmp_path, SUBJECT)
    report = build_report([tmp_path])
    assert "exponent 95 %" in report.page and "builtin 6000" in report.markdown
    assert json.dumps(report.figures)


def test_a_table_has_a_line_a_reader(tmp_path: Path) -> None:
    experiment = make_experiment()
    finished = run(experiment, [oracle(experiment), fake()], tmp_path, SUBJECT)
    shown = lines(finished, summarize(finished))
    assert any(line.startswith("oracle") and "100.0 (100.0–100.0)" in line for line in shown)
    assert "oracle against fake, substring: p 0.031 (McNemar, Holm)" not in shown[0]
    assert any(line.startswith("oracle against fake, substring: p ") for line in shown)
    assert markdown(finished, summarize(finished)).count("| oracle |") == 2
