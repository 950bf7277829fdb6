"""`latentqa bench` on a tiny target with a real decoder: finetunes, layers, shared answers, all at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from latentqa import baselines
from latentqa.cli.main import app
from latentqa.decoder import Target
from latentqa.models import load_model, remove_adapter, save_adapter
from latentqa.models.tiny import tiny_model, tiny_tokenizer
from tests.benchmarks.conftest import published_root, relation_rows, word
from tests.decoder.conftest import make_decoder, random_adapter

__all__ = ["published_root"]  # a fixture
TINY = ("--device", "cpu", "--dtype", "float32")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model`, a `decoder` for it, and two finetunes of it, `mine` and `other`, as adapters."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model("llama").save_pretrained(folder / "model")
    tiny_tokenizer("chatml").save_pretrained(folder / "model")
    target = Target(load_model(str(folder / "model"), dtype="float32", device="cpu"))
    for seed, name in enumerate(("mine", "other")):
        random_adapter(target.model, name, seed=seed + 5)
        save_adapter(target.model, name, folder / name)
        remove_adapter(target.model, name)
    make_decoder(target).save_pretrained(folder / "decoder")
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One relation and one file of statements."""
    files = {
        "relations/factual/country_currency.tsv": relation_rows(12),
        "classification/cities.csv": "\n".join(
            ["statement,label", *(f"Town {word(str(n))} is in Land{n % 2}.,{n % 2}" for n in range(12))]
        ),
    }
    for name, text in files.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "data"


@pytest.fixture
def bench(models: Path, root: Path) -> Callable[..., Result]:
    """A function that runs an experiment with the tiny decoder."""

    def run(*arguments: str, target: str = "model", exit_code: int = 0) -> Result:
        given = ("--data", str(root), "--decoder", str(models / "decoder"), "--target", str(models / target))
        finished = CliRunner().invoke(app, ["bench", "run", *arguments, *given, *TINY], prog_name="latentqa")
        assert finished.exit_code == exit_code, (finished.output, finished.exception)
        return finished

    return run


def header(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


RELATIONS = ("relations", "files=[country_currency]", "--budget", "2")


def test_a_finetune_given_by_adapter_is_read_and_kept_apart(
    bench: Callable[..., Result], tmp_path: Path
) -> None:
    readers = ("--readers", "lit,text-given,patchscopes,logit-lens,linear-probe")
    for target in ("model", "mine", "other"):
        bench(*RELATIONS, *readers, "--out", str(tmp_path / target), target=target)
    subjects = {target: header(tmp_path / target)["subject"] for target in ("model", "mine", "other")}
    assert len({subject["target_hash"] for subject in subjects.values()}) == 3
    assert subjects["model"]["adapter_hash"] == "" and len(subjects["mine"]["adapter_hash"]) == 64
    assert subjects["mine"]["adapter_hash"] != subjects["other"]["adapter_hash"]
    assert subjects["mine"]["target"].endswith("mine")
    plain, own = (
        {(row["item"], row["reader"]): row["ranking"] for row in rows(tmp_path / target)}
        for target in ("model", "mine")
    )
    assert plain.keys() == own.keys()
    for reader in ("lit", "text-given", "patchscopes", "logit-lens"):  # all of them read the finetune
        assert any(plain[key] != own[key] for key in plain if key[1] == reader), reader
    report = CliRunner().invoke(app, ["bench", "report", str(tmp_path / "mine"), str(tmp_path / "other")])
    assert report.exit_code == 1 and "another target model do not mix" in report.stderr
    assert "mine" in report.stderr and "other" in report.stderr
    again = bench(*RELATIONS, *readers, "--out", str(tmp_path / "mine"), target="other", exit_code=1)
    assert "do not mix" in again.stderr


def test_statements_are_read_in_a_finetune_too(bench: Callable[..., Result], tmp_path: Path) -> None:
    given = ("yes-no", "--readers", "lit,linear-probe", "--out", str(tmp_path / "run"), "--budget", "1")
    found = json.loads(bench(*given, "--json", target="mine").stdout)
    assert {row["reader"] for row in found["rows"]} >= {"lit", "linear-probe"}
    assert header(tmp_path / "run")["subject"]["adapter_hash"]


def test_another_seed_asks_nothing_twice(bench: Callable[..., Result], tmp_path: Path) -> None:
    for seed in ("0", "1"):
        out = str(tmp_path / f"seed{seed}")
        bench(*RELATIONS, "--readers", "lit,shuffled,linear-probe", "--seed", seed, "--out", out)
    first, second = ({(r["item"], r["reader"]): r for r in rows(tmp_path / f"seed{n}")} for n in (0, 1))
    lit = [key for key in first if key[1] == "lit"]
    assert [first[key]["ranking"] for key in lit] == [second[key]["ranking"] for key in lit]
    readers = header(tmp_path / "seed1")["readers"]
    assert readers["lit"]["remembered"] == readers["shuffled"]["remembered"] == 24 * (3 + 1)
    assert not readers["linear-probe"]["remembered"]  # it is fitted on what the seed draws
    kept = sorted(path.name.partition("-")[0] for path in (tmp_path / ".said").iterdir())
    assert kept == ["lit", "lit", "shuffled", "shuffled"]  # scores and answers
    other = tmp_path / "elsewhere"
    bench(*RELATIONS, "--readers", "lit", "--out", str(tmp_path / "third"), "--share", str(other))
    assert len(list(other.iterdir())) == 2


def test_several_seeds_share_readers_in_one_call(
    bench: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    make_reader = baselines.make_reader
    monkeypatch.setattr(
        baselines, "make_reader", lambda name, context: made.append(name) or make_reader(name, context)
    )
    seeds = ("--seed", "0", "--seed", "1", "--seed", "0")
    given = (*RELATIONS, "--readers", "lit,linear-probe", "--out", str(tmp_path))
    shown = bench(*given, *seeds, "--json").stdout.splitlines()
    assert [json.loads(line)["seed"] for line in shown] == [0, 1]
    assert made == ["lit", "linear-probe", "linear-probe", "linear-probe", "linear-probe"]  # folds are drawn
    alone = bench(*given[:-1], str(tmp_path / "alone"), "--seed", "1", "--json").stdout
    assert json.loads(alone)["rows"] == json.loads(shown[1])["rows"]
    readers = header(tmp_path / "seed1")["readers"]
    assert readers["lit"]["remembered"] == 24 * (3 + 1)
    assert header(tmp_path / "seed0")["readers"]["lit"]["remembered"] == 0


def test_relations_at_every_read_layer(bench: Callable[..., Result], tmp_path: Path) -> None:
    readers = ("--readers", "lit,text-given,selfie,logit-lens,linear-probe")
    out = tmp_path / "run"
    shown = bench(*RELATIONS, "layers=half", "layer_items=4", *readers, "--out", str(out)).stdout
    assert "substring by read layer" in shown and "trained on layer 2; at 2 of 2 layers" in shown
    layered = [row for row in rows(out) if row["flags"].get("layer") is not None]
    assert {row["reader"] for row in layered} == {"lit", "selfie", "logit-lens", "linear-probe"}
    assert len(layered) == 4 * 2 * 4
    refused = bench(*RELATIONS, "layers=[7]", "--out", str(tmp_path / "no"), exit_code=1)
    assert "4 blocks (0–3)" in refused.stderr


def test_calibration_tells_how_many_answers_are_generic(
    models: Path, published_root: Path, tmp_path: Path
) -> None:
    given = ("bench", "run", "calibration", "held_out=1", "distractors=2", "specificity=6", "--limit", "12")
    where = (
        "--data",
        str(published_root),
        "--decoder",
        str(models / "decoder"),
        "--out",
        str(tmp_path / "run"),
    )
    finished = CliRunner().invoke(app, [*given, *where, *TINY, "--json"])
    assert finished.exit_code == 0, (finished.output, finished.exception)
    assert "specificity is against held-out training labels" in finished.stderr
    cells = {(row["group"], row["metric"]): row for row in json.loads(finished.stdout)["rows"]}
    generic, mean = cells["mean", "generic answers"], cells["mean", "specificity"]
    assert generic["n"] == mean["n"] == 6 and 0 <= generic["low"] <= generic["mean"] <= generic["high"] <= 1
    found = [row["values"] for row in rows(tmp_path / "run") if "generic" in row["values"]]
    assert [one["generic"] for one in found] == [float(one["specificity"] < 0.5) for one in found]
    assert all(round(20 * one["specificity"], 6) % 1 == 0 for one in found)


def test_all_runs_what_has_data_at_its_default_limits_and_ends_in_a_report(
    models: Path, root: Path, tmp_path: Path
) -> None:
    shutil.rmtree(root / "relations")  # what is not there is named, and the rest goes on
    where = ("--data", str(root), "--decoder", str(models / "decoder"), "--out", str(tmp_path / "all"))
    finished = CliRunner().invoke(app, ["bench", "all", *where, *TINY])
    assert finished.exit_code == 0, (finished.output, finished.exception)
    for name, missing in (("relations", "relations"), ("hidden-prompts", "latentqa/eval")):
        assert f"{name} is left out: missing data file: {missing}" in finished.stderr
    page = Path(finished.stdout.split()[0]).read_text()
    assert "<h2 id=yes-no>" in page and "<h2 id=layer-map>" in page and "<h2 id=relations>" not in page
    assert "limited to" in page
    run = header(tmp_path / "all" / "yes-no-limit400-seed0")
    assert {"lit", "text-given", "selfie", "linear-probe", "retrieval-probe"} <= set(run["readers"])
    assert "text-finetuned" not in run["readers"]  # it is trained first
