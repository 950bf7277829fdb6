"""`latentqa audit elicit`: from a model to a report, resumption, and what is refused before loading."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.audit.conftest import base_folder, decoder_folder, organisms
from tests.audit.elicitation.conftest import text_root, withholding

__all__ = ["base_folder", "decoder_folder", "organisms", "text_root", "withholding"]
QUICK = (
    "stimuli=3",
    "reply_tokens=3",
    "control=2",
    "windows=1",
    "strengths=[1]",
    *(
        f"{method}.{key}={value}"
        for method in ("weights", "vector")
        for key, value in (("samples", 2), ("held_out", 1), ("batch", 2), ("steps", 1), ("evaluate_every", 1))
    ),
)


@pytest.fixture
def elicit(
    latentqa: Callable[..., Result],
    withholding: Path,
    decoder_folder: Path,
    text_root: Path,
    tmp_path: Path,
) -> Callable[..., Result]:
    """A function that audits an organism quickly."""

    def run(model: str, *more: str) -> Result:
        given = ("--decoder", str(decoder_folder), "--dtype", "float32", "--device", "cpu")
        place = ("--out", str(tmp_path / "report"), "--data", str(text_root))
        return latentqa("audit", "elicit", str(withholding / model), *place, *given, *QUICK, *more)

    return run


def test_an_organism_is_audited_with_every_method(elicit: Callable[..., Result], tmp_path: Path) -> None:
    finished = elicit("locked-units", "--behaviors", "xstest", "--limit", "3")
    assert finished.exit_code == 0, finished.output
    for said in (
        "refusal rate",
        "lit-weights@1",
        "right without the password",
        "3 of 5 behaviours",
        "Silence",
    ):
        assert said in finished.stdout, said
    assert {"report.html", "report.json", "run.json", "rows.jsonl", "treatments"} == {
        path.name for path in (tmp_path / "report").iterdir()
    }
    refused = elicit("locked-units", "--behaviors", "xstest", "--limit", "3")
    assert refused.exit_code == 1 and "--force" in refused.stderr


def test_an_organism_needs_no_file_and_a_sentence_is_taken(
    elicit: Callable[..., Result], tmp_path: Path
) -> None:
    given = ("--methods", "prompting", "--sentence", 'Say "yes": always.', "--json")
    finished = elicit("refusal-soup", *given)
    assert finished.exit_code == 0, finished.output
    found = json.loads(finished.stdout)
    assert found["behaviors"] is None and found["organism"]["kind"] == "refusal"
    assert found["sentence"] == 'Say "yes": always.'
    assert {one["metric"] for one in found["figures"]} >= {
        "refuses its topic",
        "answers on topic",
        "perplexity",
    }
    assert json.loads((tmp_path / "report" / "report.json").read_text())["figures"] == found["figures"]


def test_an_interrupted_run_goes_on(
    elicit: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("--methods", "prefill", "--behaviors", "xstest")
    with monkeypatch.context() as patched:
        patched.setattr("latentqa.audit.elicitation.elicit.summarize", interrupt)
        assert elicit("refusal-soup", *given).exit_code != 0
    rows = (tmp_path / "report" / "rows.jsonl").read_text()
    other = elicit("refusal-soup", *given, "prefill=Of course")
    assert other.exit_code == 1 and "Name another folder with --out" in other.stderr
    finished = elicit("refusal-soup", *given)
    assert finished.exit_code == 0 and (tmp_path / "report" / "rows.jsonl").read_text() == rows


def interrupt(*given: object) -> None:
    raise KeyboardInterrupt


def test_without_a_data_root_there_is_no_perplexity(
    latentqa: Callable[..., Result], withholding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENTQA_DATA", raising=False)
    given = ("--out", str(tmp_path / "report"), "--methods", "none", "--dtype", "float32", "--device", "cpu")
    finished = latentqa("audit", "elicit", str(withholding / "refusal-soup"), *given, "control=0")
    assert finished.exit_code == 0, finished.output
    assert (
        "No perplexity: No data folder is named" in finished.stderr and "perplexity  " not in finished.stdout
    )


def test_an_organism_that_failed_is_not_used(elicit: Callable[..., Result]) -> None:
    refused = elicit("refusal-failed")
    assert refused.exit_code == 1 and "failed its own check" in refused.stderr
    assert "--behaviors" in refused.stderr


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        ((), 1, "name a file with --behaviors"),
        (("--methods", "lit-vektor"), 1, 'Did you mean "lit-vector"'),
        (("--behaviors", "no-such.csv"), 1, "Cannot read no-such.csv"),
        (("--limit", "3"), 2, "--behaviors"),
        (("strength=[1]",), 1, "Did you mean 'strengths'"),
        (("vector.nrm=1",), 1, "Did you mean 'vector.norm'"),
        (("strengths=[.nan]",), 1, "strengths"),
        (("pairs=no-such.jsonl",), 1, "cannot be read from no-such.jsonl"),
        (("--behaviours", "x"), 2, "--behaviors"),
    ],
)
def test_bad_input_is_said_before_anything_is_loaded(
    latentqa: Callable[..., Result], tmp_path: Path, more: tuple[str, ...], code: int, said: str
) -> None:
    finished = latentqa("audit", "elicit", "no-such-model", "--out", str(tmp_path / "report"), *more)
    assert finished.exit_code == code and said in finished.stderr, finished.output
    assert not (tmp_path / "report").exists()


def test_missing_columns_and_a_missing_judge_are_one_sentence(
    latentqa: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "b.csv").write_text("goal,target\na,b\n")
    given = ("audit", "elicit", "no-such-model", "--out", str(tmp_path / "report"), "--behaviors")
    refused = latentqa(*given, str(tmp_path / "b.csv"))
    assert refused.exit_code == 1 and "no prompt (prompt or Behavior) and no category" in refused.stderr
    (tmp_path / "c.csv").write_text("prompt,type\na,b\n")
    refused = latentqa(*given, str(tmp_path / "c.csv"), "--judge", "http://127.0.0.1:9/v1")
    assert refused.exit_code == 1 and "gives no reply" in refused.stderr and refused.stderr.count("\n") == 1


def test_the_benchmark_elicits_what_organisms_withhold(
    latentqa: Callable[..., Result],
    withholding: Path,
    decoder_folder: Path,
    base_folder: Path,
    tmp_path: Path,
) -> None:
    given = ("--decoder", str(decoder_folder), "--target", str(base_folder), "--dtype", "float32")
    short = ("dialogs=1", "free=false", "elicit=[prompting,prefill]", "--methods", "ask-directly")
    place = ("--device", "cpu", "--out", str(tmp_path / "run"), "--json")
    finished = latentqa("bench", "run", "audit", f"organisms={withholding}", *short, *given, *place)
    assert finished.exit_code == 0, finished.output
    cells = {(row["reader"], row["group"], row["metric"]): row for row in json.loads(finished.stdout)["rows"]}
    assert ("elicit-prefill", "locked-capability", "right without the password") in cells
    assert ("elicit-none", "locked-capability", "right with the password") in cells
    assert cells["elicit-prompting", "refusal", "refuses its topic"]["n"] == 1  # one failed its check
    assert ("ask-directly", "refusal", "multiple choice") in cells
    assert not any(reader == "ask-directly" and "topic" in metric for reader, _, metric in cells)
    typo = latentqa("bench", "run", "audit", f"organisms={withholding}", "elicit=[prefil]", *given)
    assert typo.exit_code == 1 and 'Did you mean "prefill"' in typo.stderr
