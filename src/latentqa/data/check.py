"""Checks a data file or folder: counts what is in it and reports every bad row with its number and reason."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from latentqa.data.jsonl import stream_rows
from latentqa.data.published import FIELDS, PAIRS_FILE, Problem, load_items, load_pairs, load_published
from latentqa.data.schema import Example, ExampleKind
from latentqa.data.seen import Seen
from latentqa.errors import DataError


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        path: what was checked.
        layout: `examples` (our JSONL), `items` (a published item file), `pairs` (`qa.json`) or `folder`.
        good: rows that can be used; in `qa.json` pairs.
        problems: every row or pair that cannot, with its number and reason.
        kinds: good rows by kind.
        groups: good rows by label group.
        labels: different labels.
        pairs: question-answer pairs.
        without_pairs: good rows that have none.
    """

    path: Path
    layout: str
    good: int
    problems: list[Problem]
    kinds: dict[str, int]
    groups: dict[str, int]
    labels: int
    pairs: int
    without_pairs: int

    @property
    def ok(self) -> bool:
        """True if there is something to use and nothing is wrong with it."""
        return self.good > 0 and not self.problems

    def lines(self) -> list[str]:
        """Returns the report as lines: the counts, then one line per problem."""
        counts = [f"{self.path}: {self.good} good, {len(self.problems)} bad"]
        for name, counted in (("kinds", self.kinds), ("groups", self.groups)):
            if counted:
                counts.append(f"{name}: " + ", ".join(f"{key} {number}" for key, number in counted.items()))
        counts.append(f"labels: {self.labels}; pairs: {self.pairs}; rows without pairs: {self.without_pairs}")
        return counts + [str(problem) for problem in self.problems]


def check_file(path: str | os.PathLike[str]) -> CheckReport:
    """Checks a JSONL file of examples, a published file, or a folder of published files.

    A published item file is joined with the `qa.json` beside it, if there is one.

    Raises:
        DataError: there is no such file, or it is none of the known formats.
    """
    path = Path(path)
    if path.is_dir():
        report = load_published(path)
        return _report(path, "folder", report.examples, report.problems, report.counts.pairs)
    if not path.is_file():
        raise DataError(f"Asked to check {path}, found no such file or folder. Check the name.")
    if path.suffix == ".jsonl":
        return _check_jsonl(path)
    if path.name == PAIRS_FILE:
        return _check_pairs(path)
    kind: ExampleKind | None = next((kind for kind in FIELDS if path.name == f"{kind}.json"), None)
    if kind is None:
        known = ", ".join([*(f"{kind}.json" for kind in FIELDS), PAIRS_FILE])
        raise DataError(
            f"Cannot tell what {path.name} is. Name it *.jsonl, or as the published files are: {known}."
        )
    return _check_items(path, kind)


def _check_jsonl(path: Path) -> CheckReport:
    problems: list[Problem] = []

    def good() -> Iterator[Example]:
        for row in stream_rows(path):
            if row.example is None:
                problems.append(Problem(row.number, row.reason or "", path.name))
            else:
                yield row.example

    return _report(path, "examples", good(), problems)


def _check_items(path: Path, kind: ExampleKind) -> CheckReport:
    pairs_path = path.with_name(PAIRS_FILE)
    pairs = load_pairs(pairs_path).by_label if pairs_path.is_file() else {}
    examples, problems = load_items(path, kind, pairs)
    return _report(path, "items", examples, problems)


def _check_pairs(path: Path) -> CheckReport:
    table = load_pairs(path)
    groups = Counter(label.split("-", 1)[0] for label, pairs in table.by_label.items() for _ in pairs)
    number = sum(groups.values())
    return CheckReport(
        path, "pairs", number, table.problems, {}, dict(groups), len(table.by_label), number, 0
    )


def _report(
    path: Path, layout: str, examples: Iterable[Example], problems: list[Problem], pairs: int | None = None
) -> CheckReport:
    """Counts of the examples, which are gone through once; `pairs` where they are not those of the rows."""
    kinds: Counter[str] = Counter()
    groups: Counter[str] = Counter()
    labels = Seen()
    counted = without = 0
    for example in examples:
        kinds[example.kind] += 1
        groups[example.group] += 1
        labels.first(example.label)
        counted += len(example.qa)
        without += not example.qa
    return CheckReport(
        path=path,
        layout=layout,
        good=kinds.total(),
        problems=problems,
        kinds=dict(kinds),
        groups=dict(groups),
        labels=len(labels),
        pairs=counted if pairs is None else pairs,
        without_pairs=without,
    )
