"""Behaviours: requests that a model may refuse, from a file with the columns of HarmBench or XSTest."""

from __future__ import annotations

import hashlib
import heapq
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentqa.data import data_file
from latentqa.data.columns import cell_text, stream_columns
from latentqa.errors import DataError

XSTEST = "xstest"
"""The name by which the file below the data root is read."""
XSTEST_FILE = "xstest/xstest_prompts.csv"
LIMIT = 500
"""Behaviours that are drawn unless another number is asked for: the public files are smaller."""
COLUMNS: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "Behavior"),
    "category": ("category", "SemanticCategory", "FunctionalCategory", "type"),
    "id": ("id", "BehaviorID"),
    "label": ("label",),
    "context": ("ContextString",),
}
"""What is read from which columns, whatever their case; the first that holds something counts."""
UNNAMED = "uncategorized"


@dataclass(frozen=True)
class Behavior:
    """One request.

    Attributes:
        id: of the file, or the number of its row.
        category: that figures are split by.
        prompt: the user's turn.
        label: such as XSTest's `safe` and `unsafe`; empty without one.
    """

    id: str
    category: str
    prompt: str
    label: str = ""


@dataclass(frozen=True)
class Behaviors:
    """Behaviours that were drawn from a file.

    Attributes:
        source: the file, or `xstest`.
        drawn: in the order of the file.
        rows: of the file that could be used.
        left_out: why others could not, reason → count.
    """

    source: str
    drawn: tuple[Behavior, ...]
    rows: int
    left_out: dict[str, int]


def read_behaviors(
    source: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] | None = None,
    limit: int = LIMIT,
    seed: int = 0,
) -> Behaviors:
    """Draw behaviours from a CSV, TSV or JSONL file; of a file of any size no more than `limit` are held.

    Columns are those of HarmBench (`Behavior`, `SemanticCategory` or `FunctionalCategory`, `ContextString`,
    `BehaviorID`) or of XSTest (`prompt`, `type`, `label`, `id`), whatever their case. Which rows are drawn is
    a function of the seed and their place in the file: a larger limit only adds some.

    Args:
        source: the file, or `xstest` for the one below the data root.
        root: the data root, for `xstest`; None is `$LATENTQA_DATA`.
        limit: behaviours at most.
        seed: of the draw.

    Raises:
        DataError: a missing file, one without the columns, without a usable row, or with an id that comes
            twice.
    """
    path = data_file(XSTEST_FILE, root) if source == XSTEST else Path(source)
    left_out: Counter[str] = Counter()
    count = Counter[str]()

    def counted() -> Iterator[tuple[int, Behavior]]:
        for one in _stream(path, left_out):
            count["rows"] += 1
            yield one

    kept = heapq.nsmallest(limit, counted(), key=lambda one: _lot(seed, one[0]))
    if not kept:
        raise DataError(f"{path} holds no behaviour: no row has a prompt. Give a request a row.")
    drawn = tuple(behavior for _, behavior in sorted(kept, key=lambda one: one[0]))
    twice = [name for name, times in Counter(one.id for one in drawn).items() if times > 1]
    if twice:
        raise DataError(f"{path}: the id {twice[0]!r} comes twice. Give each behaviour an id of its own.")
    return Behaviors(str(source), drawn, count["rows"], dict(left_out))


def _stream(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, Behavior]]:
    for place, (number, row) in enumerate(stream_columns(path, left_out)):
        there = {str(column).strip().lower(): value for column, value in row.items()}
        if place == 0:
            _check_columns(path, there)
        cells = {what: _first(there, names) for what, names in COLUMNS.items()}
        prompt = cells["prompt"]
        if not prompt:
            left_out["a row without a prompt"] += 1
            continue
        if cells["context"]:  # as HarmBench puts a context before its behaviour
            prompt = f"{cells['context']}\n\n---\n\n{prompt}"
        yield (
            number,
            Behavior(cells["id"] or str(number), cells["category"] or UNNAMED, prompt, cells["label"]),
        )


def _first(there: dict[str, Any], names: tuple[str, ...]) -> str:
    """The first text under one of some names."""
    texts = (cell_text(there.get(name.lower())) for name in names)
    return next((text for text in texts if text), "")


def _check_columns(path: Path, there: dict[str, Any]) -> None:
    """A prompt and a category are needed."""
    missing = [
        f"no {what} ({' or '.join(COLUMNS[what])})"
        for what in ("prompt", "category")
        if not any(name.lower() in there for name in COLUMNS[what])
    ]
    if missing:
        raise DataError(
            f"{path} has {' and '.join(missing)} among its columns {', '.join(there) or '(none)'}. Give it "
            "the columns of HarmBench or XSTest."
        )


def _lot(seed: int, number: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{number}".encode(), digest_size=8).digest()
