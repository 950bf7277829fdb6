"""Small data files in the shapes of the shared ones, and scripted readers: no model at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from latentqa.benchmarks import Contender, Experiment, Item, Metric, Subject
from latentqa.benchmarks.plans import Outcome, PlannedRun
from latentqa.reader import FakeReader
from latentqa.types import Answer, Query, Score

SUBJECT = Subject("tiny", "abc123", "fake", "def456", {"latentqa": "0.1.0"})


class Oracle(FakeReader):
    """Knows the right answer to each question about each dialog, but for some items."""

    name = "oracle"

    def __init__(self, experiment: Experiment, wrong: Sequence[str] = ()) -> None:
        super().__init__({})
        self.asked: list[Query] = []
        self._gold = {key(item.query): item.gold for item in experiment.items if item.id not in wrong}

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        self.asked += queries
        return [
            Answer(f"It is {self._said(q)}.", q.question, (-0.5,), 1.0, 50.0, "supported", (), q.span, "o", 3)
            for q in queries
        ]

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        self.asked += queries
        return [
            sorted(
                [Score(text, -1.0 if text == self._said(q) else -3.0, float(text == self._said(q)), 2)
                 for text in texts],
                key=lambda score: -score.support,
            )
            for q, texts in zip(queries, candidates, strict=True)
        ]  # fmt: skip

    def _said(self, query: Query) -> str:
        return self._gold.get(key(query), "nothing at all")


def key(query: Query) -> str:
    return json.dumps([[dict(m) for m in query.dialog], query.span, query.question])


def make_items(count: int = 12, groups: Sequence[str] = ("a", "b")) -> tuple[Item, ...]:
    """Items with three candidates each, two to a unit."""
    return tuple(
        Item(
            id=f"item-{number}",
            group=groups[number % len(groups)],
            query=Query([{"role": "user", "content": f"text {number}"}], "stimulus", "Which?"),
            question="Which?",
            gold=("red", "green", "blue")[number % 3],
            candidates=("red", "green", "blue"),
            scorer="relation",
            meta={"unit": f"unit-{number // 2}", "label": ("red", "green", "blue")[number % 3]},
        )
        for number in range(count)
    )


def make_experiment(items: Sequence[Item] | None = None, name: str = "toy", **changes) -> Experiment:
    given = {
        "name": name,
        "doc": "A toy.",
        "items": tuple(make_items() if items is None else items),
        "filtered": {"no context": 2},
        "metrics": (Metric("substring", "Holds it.", "substring"), Metric("ranked", "First.", "ranked")),
    }
    return Experiment(**given | changes)


def oracle(experiment: Experiment, name: str = "oracle", wrong: Sequence[str] = ()) -> Contender:
    return Contender(name, lambda: Oracle(experiment, wrong))


def fake(name: str = "fake") -> Contender:
    return Contender(name, lambda: FakeReader({}))


def bag_of_letters(texts: Sequence[str]) -> np.ndarray:
    """An embedding that needs nothing: counts of letters, normed."""
    counts = np.array(
        [[text.lower().count(chr(c)) for c in range(97, 123)] for text in texts], dtype=np.float32
    )
    return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


def trained(planned: PlannedRun) -> Outcome:
    size = planned.x or 100.0
    return Outcome(
        {"persona_loss_true": 4 * size**-0.1, "goal_loss_true": 4 * size**-0.1, "top1": 0.5}, 2.0, 10**6
    )


@pytest.fixture
def relation_root(tmp_path: Path) -> Callable[[str], Path]:
    """A function that writes one relation file and gives the data root."""

    def write(text: str, name: str = "factual/country_currency") -> Path:
        path = tmp_path / "relations" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    return write


def relation_rows(count: int = 6) -> str:
    """Subjects with two contexts each, objects in turn."""
    lines = ["subject\tobject\tcontext\tquery"]
    for number in range(count):
        thing = ("Euro", "Dollar", "Yen")[number % 3]
        for context in ("They sailed to {} in May.", "A letter from {} came."):
            subject = f"Land{number}"
            lines.append(f"{subject}\t{thing}\t{context.format(subject)}\tThe official currency of x")
    return "\n".join(lines) + "\n"


@pytest.fixture
def published_root(tmp_path: Path) -> Path:
    """A data root with LatentQA files of both groups: 24 labels to test, 24 to train on."""
    for part, start in (("eval", 0), ("train", 100)):
        folder = tmp_path / "latentqa" / part
        folder.mkdir(parents=True)
        labels = [f"{group}-cat{n % 4}-{start + n:03d}" for group in ("persona", "goal") for n in range(12)]
        items = [
            {"system": f"Please be thing {word(label)}.", "stimulus_user": "Hello there.", "label": label}
            for label in labels
        ]
        pairs = {
            label: [
                ["What will the assistant be?", f"The assistant will be {word(label)}."],
                ["How would it reply?", f"It would speak of {word(label)} at length."],
            ]
            for label in labels
        }
        if part == "eval":
            passages = [
                {"control_user": f"Anna saw {n} grey geese near lake {word(str(n))}.", "label": f"sqa-x-{n}"}
                for n in range(8)
            ]
            pairs |= {
                f"sqa-x-{n}": [["How many geese?", f"{n} geese"], ["Where?", f"Near lake {word(str(n))}"]]
                for n in range(8)
            }
            (folder / "control.json").write_text(json.dumps(passages))
            turns = [
                {
                    "control_user": f"Please be thing {word(label)}.",
                    "control_model": "Certainly.",
                    "stimulus_user": "Hello there.",
                    "stimulus_model": "Good day to you.",
                    "label": label,
                }
                for label in labels
            ]
            (folder / "stimulus_completion.json").write_text(json.dumps(turns))
            for turn in turns:
                turn.pop("stimulus_model")
            (folder / "stimulus.json").write_text(json.dumps(turns))
        (folder / "system.json").write_text(json.dumps(items))
        (folder / "qa.json").write_text(json.dumps(pairs))
    return tmp_path


def word(seed: str) -> str:
    """A word made of a text, so that answers differ."""
    number = sum(ord(c) * 31**i for i, c in enumerate(seed)) % 17576
    return "".join(chr(97 + (number // 26**i + i * 7) % 26) for i in range(3)) * 2
