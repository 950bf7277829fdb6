"""Questions with the answers that the decoder should give of the steered target, or no longer give."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from latentqa.data.jsonl import parse_json, write_text
from latentqa.errors import DataError, SteeringError


@dataclass(frozen=True)
class Pair:
    """One thing to steer towards, or away from.

    Attributes:
        question: what the decoder is asked.
        answer: what it should say, or no longer say.
        wanted: whether the answer is made likelier; otherwise less likely.
        focus: the part of the answer whose tokens count, such as the topic it names; empty is all of it.
    """

    question: str
    answer: str
    wanted: bool = True
    focus: str = ""


def read_pairs(path: str | os.PathLike[str]) -> list[Pair]:
    """Read a JSONL file with one `{"question", "answer"}` a line.

    `"wanted": false` marks what to lower, `"focus"` the part of the answer that counts.

    Raises:
        DataError: a missing file, or a row that is no pair; names the row.
        SteeringError: no pair at all, or one that is wanted and unwanted.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Question-answer pairs cannot be read from {path}: {error}.") from error
    rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    return check_pairs([_parse(line, f"{path}, row {number}") for number, line in rows], str(path))


def write_pairs(path: str | os.PathLike[str], pairs: Iterable[Pair]) -> None:
    """Write pairs as `read_pairs` reads them, the whole file or none of it.

    Raises:
        DataError: the file cannot be written.
    """
    write_text(path, pairs_text(pairs))


def pairs_text(pairs: Iterable[Pair]) -> str:
    """Pairs as JSON lines; `wanted` is left out where it is true, `focus` where it is the whole answer."""
    plain = {"wanted": True, "focus": ""}
    rows = (
        {name: value for name, value in asdict(pair).items() if plain.get(name) != value} for pair in pairs
    )
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def check_pairs(pairs: Sequence[Pair], source: str = "What was given") -> list[Pair]:
    """Each pair once, stripped of blanks around it.

    Raises:
        SteeringError: none, an empty question or answer, a focus that the answer does not hold, or a
            pair that is both wanted and unwanted.
    """
    if not pairs:
        raise SteeringError(
            f"{source} holds no question-answer pair. Give at least one, for example "
            '{"question": "What will the assistant talk about?", "answer": "The Golden Gate Bridge."}.'
        )
    sides: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        key = pair.question.strip(), pair.answer.strip()
        stripped = Pair(*key, pair.wanted, pair.focus.strip())
        if not all(key):
            raise SteeringError(
                f"{source} has a pair with an empty {'answer' if key[0] else 'question'}. Fill it in, or "
                "leave the pair out."
            )
        if stripped.focus not in stripped.answer:
            raise SteeringError(
                f"{source} has the focus {stripped.focus!r}, which its answer {stripped.answer!r} does not "
                "hold. Copy it from the answer, or leave it out for the whole answer."
            )
        if sides.setdefault(key, stripped).wanted != pair.wanted:
            raise SteeringError(
                f"{source} wants the answer {key[1]!r} to {key[0]!r} both raised and lowered. Keep one of "
                "the two."
            )
    return list(sides.values())


def _parse(line: str, where: str) -> Pair:
    try:
        row: Any = parse_json(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}). Give one object a line.") from None
    if not isinstance(row, dict) or not {"question", "answer"} <= row.keys() <= {
        "question",
        "answer",
        "wanted",
        "focus",
    }:
        raise DataError(
            f"{where}: needs question and answer, may have wanted and focus, found {json.dumps(row)[:80]}."
        )
    wanted, texts = row.get("wanted", True), (row["question"], row["answer"], row.get("focus", ""))
    if not (all(isinstance(text, str) for text in texts) and isinstance(wanted, bool)):
        raise DataError(f"{where}: question, answer and focus are text, wanted is true or false.")
    return Pair(row["question"], row["answer"], wanted, row.get("focus", ""))
