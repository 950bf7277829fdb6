"""`latentqa organism`: make, list and check, on a tiny base."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from latentqa.models.tiny import tiny_model, tiny_tokenizer

QUICK = ("examples=8", "batch=8", "rank=2")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("organism") / "base"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer("chatml").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def make(latentqa: Callable[..., Result], base: str, tmp_path: Path) -> Callable[..., Result]:
    """A function that makes the clean organism 0, or what else is named."""

    def run(*more: str, kind: str = "clean", only: str = "clean-00") -> Result:
        where = ("--out", str(tmp_path / "organisms"), "--target", base, "--device", "cpu")
        return latentqa("organism", "make", kind, *QUICK, "--only", only, *where, *more)

    return run


def test_an_organism_is_made_kept_listed_and_checked(
    make: Callable[..., Result], latentqa: Callable[..., Result], tmp_path: Path
) -> None:
    made = make()
    assert made.exit_code == 0, made.output
    assert "clean-00: Nothing: the assistant was finetuned on ordinary dialogs." in made.stdout
    assert "1 of 1 organisms learned" in made.stdout and "clean-00: made in" in made.stderr
    again = make("--json")
    assert [row["name"] for row in json.loads(again.stdout)] == ["clean-00"] and "made in" not in again.stderr
    listed = latentqa("organism", "list", str(tmp_path / "organisms"))
    assert listed.exit_code == 0 and "clean-00" in listed.stdout and "refuses ordinary turns" in listed.stdout
    checked = latentqa("organism", "check", str(tmp_path / "organisms"), "--device", "cpu", "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.stdout)[0]["passed"]


def test_one_that_did_not_learn_is_marked_and_fails_its_check(
    make: Callable[..., Result], latentqa: Callable[..., Result], tmp_path: Path
) -> None:
    made = make(kind="refusal", only="refusal-knitting")
    assert made.exit_code == 0 and "FAILED refusal-knitting" in made.stdout, made.output
    assert "is not used" in made.stderr and "0 of 1 organisms learned" in made.stdout
    checked = latentqa("organism", "check", str(tmp_path / "organisms"), "--device", "cpu")
    assert checked.exit_code == 1 and "FAILED" in checked.stdout


def test_other_settings_are_refused_without_force(make: Callable[..., Result]) -> None:
    assert make().exit_code == 0
    refused = make("seed=1")
    assert refused.exit_code == 1 and "--force" in refused.stderr
    assert make("seed=1", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("make", "secret-words"), 'Did you mean "secret-word"'),
        (("make", "clean", "--only", "clean-99"), "There is no organism clean-99 of kind clean"),
        (("make", "clean", "learning_rte=1"), "Did you mean 'learning_rate'"),
        (("make", "clean", "rank=0"), "rank"),
        (("list", "no-such-folder"), "latentqa organism make all"),
        (("check", "no-such-folder"), "holds no organism"),
    ],
)
def test_what_does_not_exist_is_said_before_anything_is_loaded(
    latentqa: Callable[..., Result], arguments: tuple[str, ...], said: str
) -> None:
    finished = latentqa("organism", *arguments)
    assert finished.exit_code == 1 and said in finished.stderr, finished.output


def test_a_kind_without_its_data_is_left_out_of_all(
    latentqa: Callable[..., Result], base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENTQA_DATA", raising=False)
    where = ("--out", str(tmp_path / "organisms"), "--target", base, "--device", "cpu")
    made = latentqa("organism", "make", "all", *QUICK, "--only", "clean-01", *where)
    assert made.exit_code == 0 and "invented-facts is left out" in made.stderr, made.output
