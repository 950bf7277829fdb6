"""Writes the examples of a task as they come, and a card beside them that says what they are made of."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from latentqa.data.jsonl import write_examples, write_text
from latentqa.data.roots import data_hash
from latentqa.data.schema import Example
from latentqa.errors import DataError


@dataclass(frozen=True)
class TaskReport:
    """What was written.

    Attributes:
        path: the JSONL file.
        task: `context`, `classification`, `relations` or `facts`.
        examples: rows.
        pairs: question-answer pairs in them.
        kinds: pairs by what they ask (the pool's name up to its second `-`).
        left_out: reason → count of what could not be used.
    """

    path: str
    task: str
    examples: int
    pairs: int
    kinds: dict[str, int]
    left_out: dict[str, int]

    def __str__(self) -> str:
        """The counts, a line each."""
        lines = [f"{self.path}: {self.examples} examples, {self.pairs} pairs"]
        lines += [f"  {kind}: {count} pairs" for kind, count in self.kinds.items()]
        return "\n".join(lines + [f"left out, {reason}: {count}" for reason, count in self.left_out.items()])

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))


def write_task(
    path: str | os.PathLike[str],
    task: str,
    examples: Iterable[Example],
    left_out: Counter[str],
    *,
    settings: Mapping[str, Any],
    inputs: Sequence[Path] = (),
) -> TaskReport:
    """Writes examples as they come, whole or not at all, then `NAME.card.json` with what they are made of.

    Args:
        path: JSONL file.
        task: its name.
        examples: gone through once, and never all in memory.
        left_out: reason → count; filled by whoever makes the examples, while they are made.
        settings: what the task was asked for; kept in the card.
        inputs: files or folders that were read; their hashes are kept in the card.

    Raises:
        DataError: there is no example; the file or card cannot be written; an id comes twice.
    """
    rows = iter(examples)
    first = next(rows, None)
    if first is None:
        why = ", ".join(f"{reason}: {count}" for reason, count in left_out.items()) or "nothing was read"
        raise DataError(f"The task {task} made no example for {path} (left out: {why}). Nothing is written.")
    kinds: Counter[str] = Counter()
    written = write_examples(path, _counted(chain([first], rows), kinds))
    reasons = {reason: count for reason, count in sorted(left_out.items()) if count}
    report = TaskReport(str(path), task, written, kinds.total(), dict(sorted(kinds.items())), reasons)
    card = {
        **asdict(report),
        "path": Path(path).name,
        "settings": dict(settings),
        "inputs": {one.name: data_hash([one]) for one in inputs},
        "version": version("latentqa"),
    }
    write_text(Path(path).with_suffix(".card.json"), json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return report


def _counted(examples: Iterable[Example], kinds: Counter[str]) -> Iterator[Example]:
    for example in examples:
        kinds.update("-".join(pair.pool.split("-")[:2]) for pair in example.qa)
        yield example
