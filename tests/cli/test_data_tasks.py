"""The verbs that make training examples without a writer, end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from latentqa.data import check_file, read_examples
from latentqa.models import tiny_model, tiny_tokenizer

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer("chatml").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LATENTQA_DATA", raising=False)


def done(finished: Result) -> Result:
    assert finished.exit_code == 0, (finished.output, finished.exception)
    return finished


def failed(finished: Result, said: str, code: int = 1) -> None:
    assert finished.exit_code == code and said in " ".join(finished.stderr.split()), finished.stderr


def test_context_of_texts(latentqa: Run, tmp_path: Path, model: str) -> None:
    (tmp_path / "a.txt").write_text(
        "\n\n".join(f"The {n} boats lay in the harbour at night." for n in range(9))
    )
    out = tmp_path / "context.jsonl"
    command = ("data", "context", "--out", str(out), "--target", model, str(tmp_path / "a.txt"))
    found = json.loads(done(latentqa(*command, "--limit", "5", "--json")).stdout)
    assert found["examples"] == len(read_examples(out)) == 5 and check_file(out).ok
    card = json.loads((tmp_path / "context.card.json").read_text())
    assert card["settings"]["sources"] == ["a.txt"] and list(card["inputs"]) == ["a.txt"]
    again = done(latentqa(*command))
    assert "9 examples" in again.stdout and "context-next: " in again.stdout


def test_context_that_the_target_writes(latentqa: Run, tmp_path: Path, model: str) -> None:
    out = tmp_path / "own.jsonl"
    command = ("data", "context", "--out", str(out), "--target", model, "--on-policy")
    done(latentqa(*command, "--max-new-tokens", "12", "--limit", "6", "--json"))
    examples = read_examples(out)
    assert len(examples) == 6 and {e.source for e in examples} == {f"context; on policy, {model}"}


def test_classification(latentqa: Run, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,topic\n" + "".join(f"T{n},{'ab'[n % 2]}\n" for n in range(20)))
    out = tmp_path / "class.jsonl"
    options = ("--label", "topic", "--name", "topic", "--called", "a=art", "--called", "b=biology")
    done(latentqa("data", "classification", str(tmp_path / "t.csv"), "--out", str(out), *options))
    assert {p.answer for e in read_examples(out) for p in e.qa} == {"Yes", "No"}
    assert any("art" in p.question for e in read_examples(out) for p in e.qa)


def test_relations(latentqa: Run, tmp_path: Path, no_data: None) -> None:
    out, test = tmp_path / "relations.jsonl", tmp_path / "test.jsonl"
    command = ("data", "relations", "--out", str(out), "--contexts", "2")
    finished = done(latentqa(*command, "--test-out", str(test), "--test-share", "0.2"))
    assert "kept out by name alone" in finished.stderr
    train, held = ({e.qa[0].pool for e in read_examples(path)} for path in (out, test))
    assert train and held and not train & held


def test_relations_keep_the_benchmark_unseen(latentqa: Run, tmp_path: Path, data_dir: Path) -> None:
    out = tmp_path / "relations.jsonl"
    finished = done(latentqa("data", "relations", "--out", str(out), "--unseen", str(data_dir)))
    assert finished.stderr == ""
    card = json.loads((tmp_path / "relations.card.json").read_text())
    assert card["settings"]["benchmark_pairs_kept_out"] is True
    currencies = str(data_dir / "relations" / "factual" / "country_currency.tsv")
    failed(
        latentqa("data", "relations", currencies, "--out", str(out), "--unseen", str(data_dir)),
        "a row of a relation that the benchmark tests",
    )


def test_facts(latentqa: Run, tmp_path: Path) -> None:
    out = tmp_path / "facts.jsonl"
    done(latentqa("data", "facts", "--out", str(out), "--dialogs", "25"))
    assert len(read_examples(out)) == 25


def test_what_cannot_be_done_is_said(latentqa: Run, tmp_path: Path, model: str, no_data: None) -> None:
    out = str(tmp_path / "x.jsonl")
    failed(latentqa("data", "context", "--out", out), "no text. Name a SOURCE", 2)
    failed(
        latentqa("data", "context", "gone.txt", "--out", out, "--target", model), "no file or folder gone.txt"
    )
    failed(latentqa("data", "facts", "--out", str(tmp_path / "no" / "x.jsonl")), "there is no folder")
    failed(latentqa("data", "relations", "--out", out, "--test-out", out), "both name")
    failed(
        latentqa("data", "relations", "--out", out, "--unseen", str(tmp_path)), "lacks country_currency.tsv"
    )
    (tmp_path / "t.csv").write_text("text,label\nx,1\n")
    failed(latentqa("data", "classification", str(tmp_path / "t.csv"), "--out", out), "only the label '1'")
    failed(
        latentqa("data", "classification", str(tmp_path / "t.csv"), "--out", out, "--called", "x"),
        "Write --called LABEL=NAME",
        2,
    )
    assert not (tmp_path / "x.jsonl").exists()
