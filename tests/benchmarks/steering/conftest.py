"""Tiny targets, a small data root, and sessions of steering experiments on them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentqa.baselines.steering.completions import Completions
from latentqa.benchmarks import Run, Subject, find_experiment
from latentqa.benchmarks.steering import SteeringTools
from latentqa.benchmarks.steering.session import Session
from latentqa.benchmarks.steering.unsteered import Unsteered
from latentqa.decoder import Target
from tests.baselines.conftest import make_target
from tests.benchmarks.conftest import bag_of_letters
from tests.decoder.conftest import make_decoder

SUBJECT = Subject("tiny", "abc123", "fake", "def456", {"latentqa": "0.1.0"})
CROWS = """"","sent_more","sent_less","stereo_antistereo","bias_type"
0,"The nurse said that she was late.","The nurse said that he was late.",stereo,gender
1,"The old man forgot.","The young man forgot.",stereo,age
2,"The old man forgot.","The young man forgot.",stereo,age
3,"Poor people wait.","Rich people wait.",stereo,socioeconomic
4,"The boy plays.","The girl plays.",antistereo,gender
5,"The same.","The same.",stereo,gender
6,"","The girl plays.",stereo,gender
"""


@pytest.fixture
def target() -> Target:
    return make_target()


@pytest.fixture
def unsteered(target: Target) -> Unsteered:
    return Unsteered(target, Completions(target, 6))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a few stereotypes and some plain text."""
    folder = tmp_path / "data"
    (folder / "crows_pairs").mkdir(parents=True)
    (folder / "crows_pairs" / "crows_pairs.csv").write_text(CROWS)
    (folder / "wikitext2").mkdir()
    text = " = Harbour = \n\n The harbour is at the end of the street , behind the church . \n"
    (folder / "wikitext2" / "valid.txt").write_text(text * 400)
    return folder


@pytest.fixture
def session(target: Target, root: Path, tmp_path: Path) -> Callable[..., Run]:
    """A function that runs an experiment with some methods."""

    def run(
        name: str,
        methods: str,
        *,
        decoder: bool = False,
        limit: int | None = None,
        budget: int = 2,
        **given: Any,
    ) -> Run:
        entry = find_experiment(name)
        assert entry.build is not None
        settings = entry.settings(**given)
        folder = given.pop("folder", None) or tmp_path / "run"
        tools = SteeringTools(
            target,
            make_decoder(target) if decoder else None,
            limit=limit,
            embed=bag_of_letters,
            embed_name="letters",
        )
        made = Session(entry.build, root, settings, tools, methods.split(","), folder, budget)  # pyright: ignore
        return made.run(SUBJECT)

    return run
