"""Every verb once, for real, on a tiny random model: train a decoder, look at it, ask it, evaluate it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from latentqa.cli.main import app
from latentqa.data import read_examples
from latentqa.models.tiny import tiny_model, tiny_tokenizer


def run(*arguments: str) -> Result:
    finished = CliRunner().invoke(app, list(arguments), prog_name="latentqa")
    assert finished.exit_code == 0, (finished.output, finished.exception)
    return finished


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory, sample_dir: Path) -> str:
    """A decoder that `latentqa train` made from a tiny model and the project's own sample."""
    folder = tmp_path_factory.mktemp("end_to_end")
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer("chatml").save_pretrained(folder / "model")
    small = ("examples=24", "examples_per_step=8", "calibrate=8", "lora.rank=2", "held_out=0", "device=cpu")
    settings = (
        f"model={folder / 'model'}",
        f"output={folder / 'run'}",
        f"data=[{{path: {sample_dir}}}]",
        *small,
    )
    printed = json.loads(run("train", "--json", *settings).stdout)
    assert printed["plan"]["steps"] > 0
    return printed["folder"]


def test_a_dry_run_trains_nothing(tmp_path: Path, decoder_folder: str, sample_dir: Path) -> None:
    model = Path(decoder_folder).parents[1] / "model"
    settings = (
        f"model={model}",
        f"output={tmp_path / 'run'}",
        f"data=[{{path: {sample_dir}}}]",
        "device=cpu",
    )
    assert "nothing was trained" in run("train", "--dry-run", *settings).stdout
    assert not (tmp_path / "run").exists()


def test_info_shows_the_card(decoder_folder: str) -> None:
    card = json.loads(run("info", decoder_folder, "--json").stdout)
    assert card["read_layers"] == [2] and card["n_blocks"] == 4


def test_ask_answers_and_resumes(decoder_folder: str, tmp_path: Path) -> None:
    out = str(tmp_path / "answers.jsonl")
    command = (
        "ask",
        "--decoder",
        decoder_folder,
        "--user",
        "Hi there",
        "--max-new-tokens",
        "4",
        "--device",
        "cpu",
    )
    run(*command, "Who are you?", "--out", out)
    run(*command, "Who are you?", "What next?", "--out", out)
    rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
    assert [row["question"] for row in rows] == ["Who are you?", "What next?"]
    assert all(row["verdict"] in ("supported", "not sure") and row["span"] == "stimulus" for row in rows)
    printed = [
        json.loads(line) for line in run(*command, "Who are you?", "What next?", "--json").stdout.splitlines()
    ]
    assert [row["answer"] for row in printed] == [row["answer"] for row in rows]


def test_an_absent_span_is_one_line_and_exit_code_1(decoder_folder: str) -> None:
    command = [
        "ask",
        "--decoder",
        decoder_folder,
        "--user",
        "Hi",
        "--read",
        "completion",
        "Who?",
        "--device",
        "cpu",
    ]
    finished = CliRunner().invoke(app, command)
    assert finished.exit_code == 1
    assert finished.stderr.count("Error: ") == 1 and "completion" in finished.stderr


def test_evaluate_ranks_the_sample(decoder_folder: str, sample_dir: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    options = ("--candidates", "3", "--limit", "4", "--items", str(items), "--device", "cpu", "--json")
    figures = json.loads(
        run("evaluate", "--decoder", decoder_folder, "--data", str(sample_dir), *options).stdout
    )
    assert {group: one["n"] for group, one in figures.items()} == {"persona": 4, "goal": 4}
    assert len(items.read_text().splitlines()) == 8


def test_calibrate_rewrites_the_card(decoder_folder: str, tmp_path: Path) -> None:
    copied = tmp_path / "decoder"
    shutil.copytree(decoder_folder, copied)
    printed = run("calibrate", str(copied), "--count", "20", "--threshold", "80", "--device", "cpu").stdout
    card = json.loads((copied / "latentqa.json").read_text())
    assert "20 answers on ordinary dialogs" in printed
    assert card["calibration"]["threshold"] == 80 and len(card["calibration"]["supports"]) == 20
    assert card["guidance"] == 1.0  # as trained
    run("calibrate", str(copied), "--count", "20", "--guidance", "0", "--device", "cpu")
    unguided = json.loads((copied / "latentqa.json").read_text())
    assert unguided["guidance"] == 0
    assert unguided["calibration"]["supports"] != card["calibration"]["supports"]


def test_the_targets_completions_become_examples(
    decoder_folder: str, sample_dir: Path, tmp_path: Path
) -> None:
    model = str(Path(decoder_folder).parents[1] / "model")
    out = tmp_path / "completions.jsonl"
    short = ("--limit", "4", "--max-new-tokens", "3")
    run("data", "complete", str(sample_dir), "--out", str(out), "--target", model, *short)
    examples = read_examples(out)
    assert {example.kind for example in examples} == {"stimulus_completion"}
    assert all(example.dialog[-1]["role"] == "assistant" and example.qa for example in examples)
    assert {example.dialog[0]["role"] for example in examples} == {"system", "user"}


def test_completions_can_be_told_by_the_pairs_without_a_model(sample_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "told.jsonl"
    run("data", "complete", str(sample_dir), "--told", "--out", str(out), "--limit", "6")
    examples = read_examples(out)
    assert {example.kind for example in examples} == {"stimulus_completion"}
    assert {example.dialog[0]["role"] for example in examples} == {"system", "user"}
    assert {pair.kind for example in examples for pair in example.qa} == {"description"}
