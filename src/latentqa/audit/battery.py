"""The battery: dialogs that are read, questions that are asked on them, hypotheses that are compared.

The fixed part is `battery.yaml` beside this file; a user's own dialogs and questions are one more section.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from latentqa.audit.organisms import MultipleChoice
from latentqa.errors import ConfigError, DataError
from latentqa.types import Dialog, Message

OWN = "own"
ORDINARY = "manner"
"""The section whose dialogs are ordinary turns: questions without dialogs are asked on them."""


@dataclass(frozen=True)
class Question:
    """A question of the battery.

    Attributes:
        ask: to a reader of activations.
        direct: to the model itself; empty for a user's own.
        prefill: how the model's answer is begun for it; empty for a user's own.
    """

    ask: str
    direct: str = ""
    prefill: str = ""


@dataclass(frozen=True, eq=False)
class Section:
    """Dialogs with the questions that are asked on each of them.

    Attributes:
        name: such as `purpose`; `own` for a user's.
        doc: what it is after, in a sentence.
        dialogs: each ends with the user's turn, or with the assistant's in a user's own.
        questions: asked on every dialog.
    """

    name: str
    doc: str
    dialogs: tuple[Dialog, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, eq=False)
class Battery:
    """Everything that is tried.

    Attributes:
        sections: by what they are after.
        hypotheses: questions with given answers.
    """

    sections: tuple[Section, ...]
    hypotheses: tuple[MultipleChoice, ...] = ()

    def section(self, name: str) -> Section:
        """The section of a name.

        Raises:
            ConfigError: there is none.
        """
        for section in self.sections:
            if section.name == name:
                return section
        known = ", ".join(section.name for section in self.sections)
        raise ConfigError(f"The battery has no section {name!r}. There are: {known}.")

    def limited(self, dialogs: int | None, questions: int | None = None) -> Battery:
        """The same with at most so many dialogs and questions in each section but the user's own."""
        cut = tuple(
            section
            if section.name == OWN
            else Section(section.name, section.doc, section.dialogs[:dialogs], section.questions[:questions])
            for section in self.sections
        )
        return Battery(cut, self.hypotheses)


def load_battery(
    dialogs: Sequence[Dialog] = (),
    questions: Sequence[str] = (),
    choices: str | Path | None = None,
) -> Battery:
    """The fixed battery, and the user's own.

    Own dialogs are asked the own questions, or the first of each fixed section without any; own questions
    without dialogs are asked on ordinary turns.

    Args:
        dialogs: of the user's own.
        questions: of the user's own.
        choices: JSONL file of hypotheses, see `read_choices`.
    """
    fixed = _fixed()
    sections = list(fixed.sections)
    if dialogs or questions:
        first = tuple(section.questions[0] for section in sections)
        asked = tuple(Question(question) for question in questions) or first
        where = tuple(dialogs) or fixed.section(ORDINARY).dialogs
        sections.append(Section(OWN, "What the user of this audit asked for.", where, asked))
    own = () if choices is None else read_choices(choices, OWN if dialogs else ORDINARY)
    battery = Battery(tuple(sections), (*own, *fixed.hypotheses))
    for choice in own:
        battery.section(choice.section)
    return battery


def read_choices(path: str | Path, section: str) -> tuple[MultipleChoice, ...]:
    """Hypotheses of a JSONL file: `{"question", "choices"}` a line; `section`, `direct`, `prefill` if wanted.

    Args:
        path: the file.
        section: whose dialogs are read unless a line names another.

    Raises:
        DataError: a missing file, or a line with fewer than two different choices; names the row.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"There is no file {path}. Check the path.") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text: {error}.") from None
    found = [
        _choice(line, f"{path}, row {row}", row, section)
        for row, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not found:
        raise DataError(f'{path} holds no hypotheses. Give one {{"question": …, "choices": […]}} a line.')
    return tuple(found)


def _choice(line: str, where: str, row: int, section: str) -> MultipleChoice:
    try:
        given: dict[str, Any] = json.loads(line)
        question, options = given["question"], given["choices"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: no hypotheses ({type(error).__name__}: {error}). "
            'Give {"question": …, "choices": […]}.'
        ) from None
    unknown = set(given) - {"question", "choices", "section", "direct", "prefill"}
    texts = options if isinstance(options, list) and all(isinstance(one, str) for one in options) else []
    if unknown or not isinstance(question, str) or not question.strip():
        what = f"unknown keys {', '.join(sorted(unknown))}" if unknown else "an empty question"
        raise DataError(f"{where}: {what}. There are question, choices, section, direct and prefill.")
    if len({text.strip() for text in texts if text.strip()}) < max(2, len(texts)):
        raise DataError(f"{where}: choices must be two or more different texts; found {options!r}.")
    return MultipleChoice(
        id=f"own:{row}",
        question=question,
        options=tuple(texts),
        answer="",
        section=given.get("section", section),
        direct=given.get("direct", question),
        prefill=given.get("prefill", ""),
    )


@cache
def _fixed() -> Battery:
    """`battery.yaml`."""
    text = files("latentqa.audit").joinpath("battery.yaml").read_text(encoding="utf-8")
    given = yaml.safe_load(text)
    sections = tuple(
        Section(
            one["name"],
            one["doc"],
            tuple([Message(role="user", content=turn)] for turn in one["dialogs"]),
            tuple(Question(**question) for question in one["questions"]),
        )
        for one in given["sections"]
    )
    hypotheses = tuple(
        MultipleChoice(id=f"battery:{number}", answer="", **{**one, "options": tuple(one["options"])})
        for number, one in enumerate(given["hypotheses"])
    )
    return Battery(sections, hypotheses)
