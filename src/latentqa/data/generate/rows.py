"""The rows that the stages hand to one another, and their JSON: a seed, a control, a dialog, its pairs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from latentqa.data.jsonl import stream_lines
from latentqa.data.schema import QA, Example, ExampleKind
from latentqa.errors import DataError
from latentqa.types import Message

STAGES: tuple[str, ...] = ("seeds", "controls", "dialogs", "pairs", "checks")
"""What a run goes through, in this order."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a row is from.

    Attributes:
        writer: `rules`, `endpoint`, `local` or `replay`.
        model: that wrote it; empty for rules.
        prompt: sha256 of the prompt file, 16 digits; empty for rules.
        request: key of the request in the cache, 16 digits; empty for rules.
    """

    writer: str = "rules"
    model: str = ""
    prompt: str = ""
    request: str = ""


@dataclass(frozen=True, slots=True)
class Seed:
    """What a control is to be about.

    Attributes:
        id: unique in a run.
        label: names persona, goal or passage; the same for all variants of a seed.
        category: such as `persona-job`, `goal-style`, `goal-exact`, `sqa-topics`.
        theme: the idea in a few words, as one would tell a third person.
        cells: the row of the table that it is from, filled; only a theme has none.
        variant: 0 for the first control of a seed, 1 for the next, …
        source: file that it is from.
    """

    id: str
    label: str
    category: str
    theme: str
    cells: tuple[str, ...] = ()
    variant: int = 0
    source: str = "builtin"

    @property
    def group(self) -> str:
        """First part of the label: `persona`, `goal` or `sqa`."""
        return self.label.split("-", 1)[0]


@dataclass(frozen=True, slots=True)
class Control:
    """An instruction to the assistant, or a passage.

    Attributes:
        id: the seed's.
        label: the seed's.
        text: what is said to the assistant.
        seed: where the idea is from.
        stated: which facts of the seed the text states; for rules.
        manner: name of a manner that takes the place of the seed's own; for rules.
        origin: who wrote the text.
    """

    id: str
    label: str
    text: str
    seed: Seed
    stated: tuple[str, ...] = ()
    manner: str = ""
    origin: Origin = field(default_factory=Origin)


@dataclass(frozen=True, slots=True)
class Draft:
    """A dialog without its pairs.

    Attributes:
        id: unique in a run.
        control: the instruction.
        kind: of the example that it becomes.
        dialog: the messages, up to the user's stimulus.
        completion: what the assistant says to it; hidden unless the kind shows it, empty if unknown.
        origin: who wrote stimulus and reply.
    """

    id: str
    control: Control
    kind: ExampleKind
    dialog: tuple[Message, ...]
    completion: str = ""
    origin: Origin = field(default_factory=Origin)

    @property
    def stimulus(self) -> str:
        """What the user says after the control; empty where the control is read for itself."""
        return "" if self.kind == "control" else self.dialog[-1]["content"]

    @property
    def messages(self) -> list[Message]:
        """The dialog as its kind shows it."""
        shown = (
            [Message(role="assistant", content=self.completion)] if self.kind.endswith("completion") else []
        )
        return [*self.dialog, *shown]


@dataclass(frozen=True, slots=True)
class Paired:
    """A dialog and its question-answer pairs.

    Attributes:
        draft: the dialog.
        pairs: questions with their answers.
        origin: who wrote the pairs.
    """

    draft: Draft
    pairs: tuple[QA, ...]
    origin: Origin = field(default_factory=Origin)

    def example(self, source: str) -> Example:
        """The row as `latentqa train` reads it."""
        draft = self.draft
        return Example(
            id=draft.id,
            label=draft.control.label,
            kind=draft.kind,
            dialog=draft.messages,
            qa=list(self.pairs),
            source=source,
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not used, and why.

    Attributes:
        stage: that rejected it.
        id: of the row.
        reason: one sentence.
        row: what it held.
    """

    stage: str
    id: str
    reason: str
    row: Any = None


Row = TypeVar("Row", Seed, Control, Draft, Paired)


def dump(row: Any) -> str:
    """A row as one line of JSON; fields that hold their default are left out."""
    return json.dumps(_plain(row), ensure_ascii=False, separators=(",", ":")) + "\n"


def load(kind: type[Row], line: bytes | str) -> Row:
    """A row from its line.

    Raises:
        DataError: the line is not such a row.
    """
    try:
        return _build(kind, json.loads(line))
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"is no {kind.__name__.lower()}: {error}") from None


def stream(kind: type[Row], path: Path) -> Iterator[Row]:
    """The rows of a stage's file, one at a time.

    Raises:
        DataError: the file cannot be read, or a row is damaged; the message names it.
    """
    for number, _, line in stream_lines(path):
        try:
            yield load(kind, line)
        except DataError as error:
            raise DataError(
                f"{path} row {number} {error}. Mend the row, or remove the file to make it again."
            ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, QA):
        return value.model_dump(exclude_defaults=True)
    if isinstance(value, (Origin, Seed, Control, Draft, Paired, Rejected)):
        kept = ((one.name, getattr(value, one.name)) for one in fields(value))
        return {name: _plain(held) for name, held in kept if held not in ("", (), None, 0) or name == "text"}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value


def _build(kind: type[Any], values: dict[str, Any]) -> Any:
    given = dict(values)
    for name, inner in (("seed", Seed), ("control", Control), ("draft", Draft), ("origin", Origin)):
        if isinstance(given.get(name), dict):
            given[name] = _build(inner, given[name])
    for name in ("cells", "stated", "dialog"):
        if name in given:
            given[name] = tuple(given[name])
    if "pairs" in given:
        given["pairs"] = tuple(QA.model_validate(pair) for pair in given["pairs"])
    return kind(**given)
