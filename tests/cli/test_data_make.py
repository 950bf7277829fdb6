"""`latentqa data make`: options, prices, errors as one line, and a whole run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from latentqa.cli.data_make import shown
from latentqa.data.generate import Status

Latentqa = Callable[..., Result]


def test_a_run_by_options_alone(latentqa: Latentqa, tmp_path: Path) -> None:
    arguments = ["data", "make", "--writer", "rules", "--controls", "20", "--out", str(tmp_path / "out")]
    finished = latentqa(*arguments, "--json")
    assert finished.exit_code == 0, finished.stderr
    found = json.loads(finished.stdout)
    assert found["rows"]["seeds"] == 20 and Path(found["data"]).is_file()
    assert "controls: 20/20" in finished.stderr
    assert "data: " in latentqa(*arguments).stdout
    assert latentqa("data", "check", found["data"]).exit_code == 0


def test_a_run_by_a_file_with_overrides(latentqa: Latentqa, tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text(
        f"output: {tmp_path / 'out'}\ncontrols: {{count: 5}}\nuntil: controls\n"
    )
    finished = latentqa("data", "make", "--config", str(tmp_path / "data.yaml"), "controls.count=7")
    assert finished.exit_code == 0 and "controls: 7 rows" in finished.stdout
    assert "stopped before the data was whole" in finished.stdout


def test_a_dry_run_makes_nothing(latentqa: Latentqa, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["data", "make", "--writer", "endpoint", "--out", str(out), "--dry-run", "writer.model=any"]
    finished = latentqa(*arguments, "writer.price.input=1", "writer.price.output=4")
    assert finished.exit_code == 0 and "US dollars" in finished.stdout and "requests" in finished.stdout
    assert json.loads(latentqa(*arguments, "--json").stdout)["dollars"] is None and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["contrls.count=3"], "There is no setting 'contrls'. Did you mean 'controls'?"),
        (["until=contols"], "until: there is no stage 'contols'. Did you mean 'controls'?"),
        (["--writer", "endpoint", "writer.model=any"], "There is no key: the environment variable"),
        (["--writer", "replay", "writer.model=any"], "A replay needs writer.recording"),
        (["seeds.files=[nowhere/persona-x.txt]"], "no such file"),
    ],
)
def test_bad_settings_are_one_line(
    latentqa: Latentqa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    finished = latentqa("data", "make", "--out", str(tmp_path), *arguments)
    assert finished.exit_code == 1
    errors = [line for line in finished.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and said in errors[0], finished.stderr


def test_no_settings_at_all_is_wrong_usage(latentqa: Latentqa) -> None:
    finished = latentqa("data", "make")
    assert finished.exit_code == 2 and "no settings" in finished.stderr


def test_progress_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 1.0, 12.0, 12.0, 13.0, 14.0, 15.0, 16.0])
    with shown(clock=lambda: next(times)) as tell:
        for done in (1, 2, 3):
            tell(Status("pairs", done, 3, 0.5, 4.0, 1200, 0.25, 0))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "pairs: 2/3, 0.5/s, 1200 tokens, 0.25 US dollars, 4 s left",
        "pairs: 3/3, 0.5/s, 1200 tokens, 0.25 US dollars",
    ]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny random model and its tokenizer."""
    from latentqa.models.tiny import tiny_model, tiny_tokenizer

    folder = tmp_path_factory.mktemp("tiny")
    tiny_model("llama", max_position_embeddings=4096).save_pretrained(folder)
    tiny_tokenizer("chatml").save_pretrained(folder)
    return str(folder)


def test_from_nothing_to_a_trained_decoder(latentqa: Latentqa, tmp_path: Path, tiny: str) -> None:
    """Rules write, the target completes on policy, and a decoder is trained on both."""
    made = latentqa(
        *("data", "make", "--writer", "rules", "--controls", "24", "--out", str(tmp_path / "data"), "--json"),
        *("dialogs.completions=target", f"dialogs.target={tiny}", "dialogs.max_new_tokens=4"),
        *("dialogs.kinds={system: 0.5, stimulus_completion: 0.5}", "checks.language=null"),
    )
    assert made.exit_code == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["tokens_per_second"] > 0 and found["counts"]["examples_by_kind"]["stimulus_completion"] > 0
    settings = (
        "examples=24",
        "examples_per_step=8",
        "calibrate=8",
        "lora.rank=2",
        "held_out=0",
        "device=cpu",
    )
    trained = latentqa(
        *(
            "train",
            f"model={tiny}",
            f"output={tmp_path / 'run'}",
            f"data=[{{path: {found['data']}}}]",
            *settings,
        ),
        "--json",
    )
    assert trained.exit_code == 0, trained.stderr
    assert Path(json.loads(trained.stdout)["folder"]).is_dir()


def test_a_local_model_too_small_to_write(latentqa: Latentqa, tmp_path: Path, tiny: str) -> None:
    made = latentqa(
        *("data", "make", "--writer", "local", "--controls", "3", "--out", str(tmp_path), "--json"),
        *(f"writer.model={tiny}", "writer.max_tokens=8"),
    )
    assert made.exit_code == 0, made.stderr
    found = json.loads(made.stdout)
    assert found["rejected"]["controls"] == 3 and found["rows"]["checks"] == 0
