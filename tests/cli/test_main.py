"""How a command ends: exit codes, one line for an error, suggestions for a slip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from typer.testing import Result

from latentqa.errors import LatentQAError

ASK = ("ask", "--user", "Hi", "Who?")


def test_success_leaves_with_0(latentqa: Callable[..., Result], decoder) -> None:
    assert latentqa(*ASK).exit_code == 0


@pytest.mark.parametrize("failure", [LatentQAError("Two\n  lines."), OSError(28, "No space left on device")])
def test_an_error_is_one_line_on_stderr(latentqa: Callable[..., Result], decoder, failure: Exception) -> None:
    decoder.fail_at, decoder.failure = 0, failure
    finished = latentqa(*ASK)
    assert finished.exit_code == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("Error: ") and finished.stderr.count("\n") == 1


def test_debug_shows_the_traceback(latentqa: Callable[..., Result], decoder) -> None:
    decoder.fail_at, decoder.failure = 0, LatentQAError("No.")
    finished = latentqa("--debug", *ASK)
    assert finished.exit_code == 1
    assert isinstance(finished.exception, LatentQAError)


def test_a_bug_is_not_dressed_up_as_an_error(latentqa: Callable[..., Result], decoder) -> None:
    decoder.fail_at, decoder.failure = 0, ZeroDivisionError("bug")
    assert isinstance(latentqa(*ASK).exception, ZeroDivisionError)


def test_an_interruption_leaves_with_130(latentqa: Callable[..., Result], decoder) -> None:
    decoder.fail_at = 0
    assert latentqa(*ASK).exit_code == 130


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (("aks",), "Did you mean 'ask'?"),
        (("ask", "--usr", "Hi"), "--user"),
        (("ask", "--reference", "median", "--user", "Hi", "Who?"), "'none', 'mean', 'shuffled'"),
        (("evaluate", "--kind", "stimuli"), "'stimulus_completion'"),
        (("train",), "--config run.yaml"),
        (("ask", "--user", "Hi"), "no question"),
        (("ask", "Who?"), "--dialogs FILE"),
        (("ask", "--user", "Hi", "--dialogs", "some.jsonl", "Who?"), "give the dialog once"),
        (("ask", "--user", "Hi", "--samples", "0", "Who?"), "--samples"),
    ],
)
def test_wrong_usage_leaves_with_2_and_a_way_out(
    latentqa: Callable[..., Result], arguments: tuple[str, ...], suggestion: str
) -> None:
    finished = latentqa(*arguments)
    assert finished.exit_code == 2
    assert finished.stdout == ""
    assert suggestion in finished.stderr


def test_no_verb_prints_the_verbs(latentqa: Callable[..., Result]) -> None:
    finished = latentqa()
    for verb in ("ask", "evaluate", "train", "data", "info"):
        assert f"\n  {verb} " in finished.output


def test_version(latentqa: Callable[..., Result]) -> None:
    assert latentqa("--version").stdout.startswith("latentqa ")


def test_the_module_runs_like_the_command() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "latentqa", "ask", "Who?"], capture_output=True, text=True
    )
    assert finished.returncode == 2
    assert "Usage: latentqa ask" in finished.stderr
