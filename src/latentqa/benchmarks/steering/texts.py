"""The texts that ship with the steering experiments; they were written for this project.

`prompts.txt` and `openings-*.txt` hold one text a line, `controls.jsonl` one control a line with its
keywords, `stereotypes.jsonl` sentences with two alternatives, `[stereotype|swapped]`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from latentqa.errors import DataError

Tone = Literal["neutral", "negative", "positive"]
TONES: tuple[Tone, ...] = ("neutral", "negative", "positive")
CONTROL_KEYS = {"name", "control", "keywords", "about", "pairs"}
HELD_OUT_EVERY = 4
"""Every fourth stereotype is kept from the organism: settings are chosen on it."""


@dataclass(frozen=True)
class Control:
    """A control of the topic experiment.

    Attributes:
        name: short, for tables and folders.
        control: the instruction.
        keywords: any of which shows that a text follows it.
        about: what a text that follows it is about, in a few words.
        pairs: question-answer pairs, if the file gives any: each `{"question", "answer"}`, may have `wanted`.
    """

    name: str
    control: str
    keywords: tuple[str, ...]
    about: str
    pairs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class SentencePair:
    """Two sentences that differ in whom they are about.

    Attributes:
        id: of the row.
        type: of the stereotype.
        more: the stereotype.
        less: the same about others.
    """

    id: str
    type: str
    more: str
    less: str


def lines(name: str) -> list[str]:
    """The lines of a text file that ships."""
    return _folder().joinpath(name).read_text(encoding="utf-8").splitlines()


def openings(tone: Tone) -> list[str]:
    """Beginnings of texts, 10–15 words each: 300 neutral, 150 negative, 150 positive."""
    return lines(f"openings-{tone}.txt")


def read_controls(path: str | os.PathLike[str] | None = None) -> list[Control]:
    """Controls of a JSONL file; without one the 20 that ship.

    Each line is `{"control", "keywords"}`, and may have `name`, `about` and `pairs`.

    Raises:
        DataError: a missing file, a line that is no control, two of one name, or none at all.
    """
    try:
        text = (
            _folder().joinpath("controls.jsonl").read_text(encoding="utf-8")
            if path is None
            else Path(path).read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Controls cannot be read from {path}: {error}.") from error
    where = "controls.jsonl" if path is None else str(path)
    found = [
        _control(line, f"{where}, line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f'{where} names "{twice[0]}" twice. Give each control a name of its own.')
    if not found:
        raise DataError(
            f'{where} holds no control. Give one a line: {{"control": "Talk about …", "keywords": ["…"]}}.'
        )
    return found


def stereotypes(part: Literal["train", "validation"]) -> list[SentencePair]:
    """The mild stereotypes that ship: three quarters for the organism, the rest to choose settings on."""
    pairs = []
    for number, line in enumerate(lines("stereotypes.jsonl")):
        held_out = number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        if held_out == (part == "validation"):
            row = json.loads(line)
            more, less = alternatives(row["sentence"])
            pairs.append(SentencePair(f"stereotype-{number}", row["type"], more, less))
    return pairs


def alternatives(sentence: str) -> tuple[str, str]:
    """Both readings of a sentence with alternatives.

    Example:
        >>> alternatives("The [old|young] man lost [his|her] hat.")
        ('The old man lost his hat.', 'The young man lost her hat.')
    """
    first, second = (
        re.sub(r"\[([^|\]]*)\|([^|\]]*)\]", lambda match, side=side: match[side], sentence) for side in (1, 2)
    )
    return first, second


def _control(line: str, where: str) -> Control:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}). Give one object a line.") from None
    if not isinstance(row, dict) or not {"control", "keywords"} <= row.keys() <= CONTROL_KEYS:
        keys = sorted(row) if isinstance(row, dict) else type(row).__name__
        raise DataError(f"{where}: needs control and keywords, may have name, about and pairs; found {keys}.")
    control, keywords = row["control"], row["keywords"]
    if not (isinstance(control, str) and control.strip()):
        raise DataError(f"{where}: the control is empty. Say in a sentence what the target is to do.")
    if not (
        isinstance(keywords, list) and keywords and all(isinstance(k, str) and k.strip() for k in keywords)
    ):
        raise DataError(f"{where}: keywords is a list of words, at least one; found {json.dumps(keywords)}.")
    name = str(row.get("name") or "-".join(re.findall(r"[a-z0-9]+", keywords[0].lower())))
    return Control(
        name=name,
        control=control.strip(),
        keywords=tuple(keywords),
        about=str(row.get("about") or keywords[0]),
        pairs=tuple(row.get("pairs", ())),
    )


def _folder() -> Any:
    return files("latentqa.benchmarks.steering") / "texts"
