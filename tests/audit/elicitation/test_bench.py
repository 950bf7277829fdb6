"""Elicitation in the benchmark of audits: shares of each organism, and of the gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from latentqa.audit.elicitation.bench import ElicitedOrganisms, organism_items
from latentqa.audit.elicitation.elicited import Elicited
from latentqa.audit.elicitation.treatments import Variant
from latentqa.audit.organisms import Manifest
from latentqa.benchmarks import Item
from latentqa.benchmarks.runner import Response
from latentqa.types import Query
from tests.audit.elicitation.conftest import settings

OTHER = Item("x", "g", Query((), "", ""), "", "", (), "", {})


@pytest.fixture
def respond(withholding: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function from a scripted model to the values of both organisms under a method."""

    def run(method: str, says: Callable[[str, str], float], unchanged: dict[str, Any]) -> list[Any]:
        def scripted(self: Elicited, items: Sequence[Item], /) -> list[Response]:
            name = {"locked": "right", "unlocked": "unlocked", "topic": "declined"}
            method = self._variant.method
            tasks = [str(item.meta["task"]) for item in items]
            return [
                Response({} if task == "unlocked" and method != "none" else {name[task]: says(task, method)})
                for task in tasks
            ]

        monkeypatch.setattr(Elicited, "respond", scripted)
        items = [
            item
            for name in ("locked-units", "refusal-soup")
            for item in organism_items(withholding / name, Manifest.load(withholding / name))
        ]

        def load(folder: Path) -> Any:
            return None, None

        made = ElicitedOrganisms(Variant(method), load, tmp_path, settings(), unchanged)
        return [dict(response.values) for response in made.respond([*items, OTHER])]

    return run


def test_only_organisms_that_withhold_something_are_items(organisms: Path) -> None:
    for name in ("secret-word-honey", "clean-00"):
        assert organism_items(organisms / name, Manifest.load(organisms / name)) == []


def test_the_gap_is_taken_from_the_unchanged_organism(respond: Callable[..., Any]) -> None:
    def says(task: str, method: str) -> float:
        return {"locked": 0.2 if method == "none" else 0.6, "unlocked": 1.0, "topic": 0.9}[task]

    unchanged: dict[str, Any] = {}
    locked, refusal, other = respond("prompting", says, unchanged)
    assert locked["recovered"] == pytest.approx(0.5) and "unlocked" not in locked
    assert refusal == {"declined": pytest.approx(0.9)} and other == {}
    assert set(unchanged) == {"locked-units", "refusal-soup"}
    before = respond("none", says, unchanged)[0]
    assert before["unlocked"] == pytest.approx(1.0) and "recovered" not in before


def test_without_a_gap_no_share_is_said(respond: Callable[..., Any]) -> None:
    locked = respond("prefill", lambda task, method: 1.0, {})[0]
    assert locked == {"right": 1.0}
