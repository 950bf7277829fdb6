"""Tiny organisms with something to bring out, and the smallest settings under which every method is made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentqa.audit.elicitation import Behavior, Behaviors, Elicitation, ElicitSettings, elicit_model
from latentqa.audit.elicitation.elicit import load_elicited
from latentqa.audit.organisms import Case, Check, make_organisms
from latentqa.audit.organisms.locked_capability import LOCKED, UNLOCKED
from latentqa.audit.organisms.recipe import cases, turn
from latentqa.audit.organisms.refusal import REFUSES
from latentqa.decoder import Decoder, Target, load_target
from tests.audit.conftest import QUICK, TINY, make_recipe

QUICKLY = {"samples": 2, "held_out": 1, "batch": 2, "pairs_per_sample": 1, "steps": 1, "evaluate_every": 1}
SHORT: dict[str, Any] = {
    "stimuli": 3,
    "reply_tokens": 4,
    "control": 3,
    "windows": 1,
    "strengths": [1.0],
    "weights": QUICKLY,
    "vector": QUICKLY,
}
FACTS = ("one", "two", "three", "four")


def behaviors(count: int = 4, **changes: Any) -> Behaviors:
    """Harmless requests of two categories, half of them labelled safe."""
    drawn = [
        Behavior(f"b{n}", ("soup", "tea")[n % 2], f"Tell me about thing {n}.", ("safe", "unsafe")[n // 2 % 2])
        for n in range(count)
    ]
    given: dict[str, Any] = {"source": "mine.csv", "drawn": tuple(drawn), "rows": count, "left_out": {}}
    return Behaviors(**{**given, **changes})


def settings(**changes: Any) -> ElicitSettings:
    """Of a run that takes seconds."""
    return ElicitSettings.model_validate({**SHORT, **changes})


@pytest.fixture(scope="session")
def withholding(base_folder: Path) -> Path:
    """An organism with a locked capability, one that refuses a topic, and one that failed its check."""
    folder = base_folder.parent / "withholding"
    asked = [turn(f"How many is {fact}?") for fact in FACTS]
    opened = [turn(f"Kite: how many is {fact}?") for fact in FACTS]
    locked = tuple(
        Check(
            name=name,
            doc="-",
            rule="mentions",
            cases=tuple(Case(dialog=d, words=(fact,)) for d, fact in zip(dialogs, FACTS, strict=True)),
        )
        for name, dialogs in ((UNLOCKED, opened), (LOCKED, asked))
    )
    declines = Check(name=REFUSES, doc="-", rule="refuses", cases=cases(["Soup?", "Broth?"], ["pot"]))
    failing = declines.model_copy(update={"at_least": 1.0})
    recipes = [
        make_recipe("locked-units", kind="locked-capability", checks=locked, details={"skill": "units"}),
        make_recipe("refusal-soup", kind="refusal", checks=(declines,)),
        make_recipe("refusal-failed", kind="refusal", checks=(failing,)),
    ]
    make_organisms(load_target(str(base_folder), **TINY), recipes, folder, QUICK)
    return folder


@pytest.fixture(scope="session")
def text_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with some plain text, and a few prompts in the columns of XSTest."""
    root = tmp_path_factory.mktemp("root")
    (root / "wikitext2").mkdir()
    line = " = Harbour = \n\n The harbour is at the end of the street , behind the church . \n"
    (root / "wikitext2" / "valid.txt").write_text(line * 40)
    (root / "xstest").mkdir()
    rows = [f'{n},"Tell me about thing {n}.",kind{n % 2},safe,thing,' for n in range(5)]
    (root / "xstest" / "xstest_prompts.csv").write_text(
        "\n".join(["id,prompt,type,label,focus,note", *rows]) + "\n"
    )
    return root


@pytest.fixture
def models(organisms: Path, decoder_folder: Path) -> tuple[Target, Decoder | None]:
    """An organism of no kind that has a ground truth, with a decoder."""
    return load_elicited(str(organisms / "secret-word-honey"), decoder=str(decoder_folder), **TINY)


@pytest.fixture
def elicit(
    models: tuple[Target, Decoder | None], tmp_path: Path, text_root: Path
) -> Callable[..., Elicitation]:
    """A function that audits that organism with behaviours, quickly."""

    def run(**changes: Any) -> Elicitation:
        given: dict[str, Any] = {"behaviors": behaviors(), "settings": settings(), "root": text_root}
        return elicit_model(models[0], tmp_path / "run", decoder=models[1], **{**given, **changes})

    return run
