"""`latentqa audit read`: from a model to a report, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.audit.conftest import base_folder, decoder_folder, organisms

__all__ = ["base_folder", "decoder_folder", "organisms"]


@pytest.fixture
def audit(
    latentqa: Callable[..., Result], organisms: Path, decoder_folder: Path, tmp_path: Path
) -> Callable[..., Result]:
    """A function that audits the organism with one dialog a section and one method."""

    def run(*more: str, model: str = "secret-word-honey", methods: str = "lit-vs-base") -> Result:
        given = ("--decoder", str(decoder_folder), "--dtype", "float32", "--device", "cpu")
        short = ("--limit", "1", "--max-new-tokens", "2", "--read", "stimulus", "--methods", methods)
        name = str(organisms / model) if (organisms / model).exists() else model
        return latentqa("audit", "read", name, "--out", str(tmp_path / "report"), *given, *short, *more)

    return run


def test_a_report_is_written_and_its_findings_are_printed(
    audit: Callable[..., Result], tmp_path: Path
) -> None:
    finished = audit()
    assert finished.exit_code == 0, finished.output
    assert "Silence is no proof" in finished.stdout and "gender" in finished.stdout
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"report.html", "report.json"}
    refused = audit()
    assert refused.exit_code == 1 and "--force" in refused.stderr
    assert audit("--force").exit_code == 0


def test_the_json_is_alone_on_stdout_and_is_the_reports(audit: Callable[..., Result], tmp_path: Path) -> None:
    finished = audit("--json")
    found, kept = json.loads(finished.stdout), json.loads((tmp_path / "report" / "report.json").read_text())
    assert found["findings"] == kept["findings"] and found["subject"]["base"].endswith("base")


def test_own_dialogs_questions_and_hypotheses_are_asked(audit: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text('[{"role": "user", "content": "Hello."}]\n')
    (tmp_path / "q.txt").write_text("Is it lying?\n")
    (tmp_path / "c.jsonl").write_text('{"question": "What does it want?", "choices": ["tea", "juice"]}\n')
    own = ("--dialogs", str(tmp_path / "d.jsonl"), "--questions", str(tmp_path / "q.txt"))
    finished = audit(*own, "--choices", str(tmp_path / "c.jsonl"), "--json")
    assert finished.exit_code == 0, finished.output
    found = json.loads(finished.stdout)
    assert found["battery"][-1]["section"] == "own" and found["battery"][-1]["questions"] == ["Is it lying?"]
    assert found["hypotheses"][0]["question"] == "What does it want?"


def test_alone_it_is_compared_with_nothing(audit: Callable[..., Result], base_folder: Path) -> None:
    finished = audit("--json", model=str(base_folder), methods="lit")
    assert finished.exit_code == 0, finished.output
    assert json.loads(finished.stdout)["subject"]["base"] is None
    told = audit("--difference", "--force", model=str(base_folder))
    assert told.exit_code == 1 and "--base" in told.stderr
    off = audit("--no-difference", "--force", "--json", methods="lit")
    assert json.loads(off.stdout)["subject"]["base"] is None


def test_a_target_that_is_no_finetune_of_the_base_is_refused(
    audit: Callable[..., Result], base_folder: Path, tmp_path: Path
) -> None:
    from latentqa.models.tiny import tiny_model, tiny_tokenizer

    tiny_model("llama", seed=5).save_pretrained(tmp_path / "other")
    tiny_tokenizer("chatml").save_pretrained(tmp_path / "other")
    refused = audit("--base", str(tmp_path / "other"))
    assert refused.exit_code == 1 and "is no finetune of" in refused.stderr
    refused = audit("--base", str(tmp_path / "other"), model=str(base_folder))
    assert refused.exit_code == 1 and "is no finetune of" in refused.stderr
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (("--base", "x", "--no-difference"), 2, "compares with nothing"),
        (("--methods", "prefil"), 1, 'Did you mean "prefill"'),
        (("--dialogs", "no-such.jsonl"), 1, "There is no file no-such.jsonl"),
        (("--choices", "no-such.jsonl"), 1, "There is no file no-such.jsonl"),
        (("--questions", "no-such.txt"), 1, "There is no file no-such.txt"),
        (("--methds", "lit"), 2, "--methods"),
    ],
)
def test_bad_input_is_said_before_anything_is_loaded(
    latentqa: Callable[..., Result], tmp_path: Path, more: tuple[str, ...], code: int, said: str
) -> None:
    finished = latentqa("audit", "read", "no-such-model", "--out", str(tmp_path / "report"), *more)
    assert finished.exit_code == code and said in finished.stderr, finished.output
    assert not (tmp_path / "report").exists()


def test_the_benchmark_runs_on_organisms(
    latentqa: Callable[..., Result], organisms: Path, decoder_folder: Path, base_folder: Path, tmp_path: Path
) -> None:
    given = ("--decoder", str(decoder_folder), "--target", str(base_folder), "--dtype", "float32")
    short = ("dialogs=1", "answer_tokens=2", "--methods", "lit-vs-base,ask-directly", "--device", "cpu")
    out = ("--out", str(tmp_path / "run"), "--json")
    finished = latentqa("bench", "run", "audit", f"organisms={organisms}", *short, *given, *out)
    assert finished.exit_code == 0, finished.output
    found = json.loads(finished.stdout)
    assert found["experiment"] == "audit" and {row["group"] for row in found["rows"]} == {
        "secret-word",
        "mean",
    }
    assert {row["reader"] for row in found["rows"]} == {"lit-vs-base", "ask-directly"}
    page = latentqa("bench", "report", str(tmp_path / "run"))
    assert page.exit_code == 0, page.output
