"""The judge: asked once, replayed, and never counted as wrong where it gives no verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentqa.benchmarks import Metric, run, summarize
from latentqa.benchmarks.experiment import JUDGED
from latentqa.benchmarks.judge import Judge, endpoint, parse
from latentqa.errors import ConfigError
from tests.benchmarks.conftest import SUBJECT, make_experiment, oracle


def test_a_verdict_is_asked_once_and_replayed(tmp_path: Path) -> None:
    asked = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "Yes."

    replay = tmp_path / "judge.jsonl"
    assert Judge(ask, replay)("Who?", "a pirate", "one of the sea") is True
    with replay.open("a") as file:
        file.write('{"prompt": "torn')
    assert Judge(ask, replay)("Who?", "a pirate", "one of the sea") is True
    assert len(asked) == 1 and "a pirate" in asked[0]


@pytest.mark.parametrize("failure", ["unreachable", "slow", "nonsense"])
def test_what_fails_is_repeated_then_unjudged(failure: str) -> None:
    calls, waits = [], []

    def ask(prompt: str) -> str:
        calls.append(prompt)
        if failure == "unreachable":
            raise ConnectionRefusedError
        if failure == "slow":
            raise TimeoutError
        return "As a language model"

    assert Judge(ask, sleep=waits.append)("Who?", "a pirate", "a nurse") is None
    assert len(calls) == 3 and waits == [1.0, 2.0]


def test_nobody_home_is_unjudged() -> None:
    judge = Judge(endpoint("http://127.0.0.1:9/v1", "any", timeout=0.5), sleep=lambda seconds: None)
    assert judge("Who?", "a pirate", "a nurse") is None
    with pytest.raises(ConfigError, match="http"):
        endpoint("localhost:8000", "any")


def test_unjudged_answers_count_apart(tmp_path: Path) -> None:
    experiment = make_experiment(metrics=(Metric("substring", "", "substring"), *JUDGED))
    verdicts = {"red": True, "green": False, "blue": None}
    finished = run(
        experiment,
        [oracle(experiment)],
        tmp_path,
        SUBJECT,
        judge=lambda question, gold, answer: verdicts[gold],
    )
    found = summarize(finished)
    judged, unjudged = (found.figure("oracle", "mean", name) for name in ("judged", "unjudged"))
    assert judged is not None and (judged.mean, judged.n) == (0.5, 8)
    assert unjudged is not None and unjudged.n == 12 and unjudged.mean == pytest.approx(1 / 3)


def test_replies() -> None:
    assert parse("yes") is True and parse("**No**, because") is False
    assert parse("yesterday") is None and parse("") is None
