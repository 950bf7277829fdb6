"""Our own file format: one `Example` a line, as JSON, in UTF-8.

Files are read and written a row at a time; what is kept of a row is 8 bytes of its id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from latentqa.data.schema import Example, reasons
from latentqa.data.seen import Seen
from latentqa.errors import DataError


@dataclass(frozen=True)
class Row:
    """One line of a file: the example it holds, or the reason why it holds none.

    Attributes:
        number: line number, from 1.
        example: the example, None for a bad row.
        reason: what is wrong with a bad row, else None.
    """

    number: int
    example: Example | None
    reason: str | None = None


def stream_rows(path: str | os.PathLike[str]) -> Iterator[Row]:
    """Yields every line that is not blank, good and bad, without holding the file in memory.

    A row whose id was there before is bad too.

    Raises:
        DataError: the file cannot be opened.
    """
    seen = Seen()
    for number, _, line in stream_lines(path):
        row = parse_row(number, line)
        if row.example is not None and (first := seen.first(row.example.id, number)) is not None:
            row = Row(number, None, f"id {row.example.id!r} was already used in row {first}")
        yield row


def read_examples(path: str | os.PathLike[str]) -> list[Example]:
    """Reads a file of examples, all of them or none.

    Raises:
        DataError: the file cannot be opened or has bad rows; the message names the first of them.
    """
    examples, bad = [], []
    for row in stream_rows(path):
        if row.example is None:
            bad.append(f"row {row.number}: {row.reason}")
        else:
            examples.append(row.example)
    if bad:
        raise DataError(bad_rows_message(path, bad))
    return examples


def write_examples(path: str | os.PathLike[str], examples: Iterable[Example]) -> int:
    """Writes a file of examples as they come, whole or not at all, and returns how many there are.

    Raises:
        DataError: the file cannot be written, or two examples have the same id.
    """
    seen = Seen()
    count = 0
    with open_whole(path) as stream:
        for example in examples:
            if seen.first(example.id, count) is not None:
                raise DataError(
                    f"Asked to write {path}: the id {example.id!r} comes twice. Give each example its own."
                )
            stream.write(example.model_dump_json(exclude_defaults=True) + "\n")
            count += 1
    return count


def parse_row(number: int, line: bytes) -> Row:
    """Reads one line; whatever is wrong with it becomes the row's reason."""
    try:
        return Row(
            number, Example.model_validate(parse_json(line.decode("utf-8-sig" if number == 1 else "utf-8")))
        )
    except UnicodeDecodeError as error:
        return Row(
            number, None, f"is not UTF-8: byte {error.object[error.start]:#04x} at position {error.start}"
        )
    except json.JSONDecodeError as error:
        return Row(number, None, f"broken JSON: {error.msg} at column {error.colno}")
    except ValidationError as error:
        return Row(number, None, reasons(error))
    except (ValueError, RecursionError) as error:
        return Row(number, None, str(error))


def parse_json(text: str) -> Any:
    """Reads one JSON value, and refuses an object that names a field twice (JSON would keep the last).

    Raises:
        ValueError: the text is no JSON, or an object names a field twice.
    """
    return json.loads(text, object_pairs_hook=unique_fields)


def unique_fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object of its fields, in `json`'s `object_pairs_hook`.

    Raises:
        ValueError: a field comes twice.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} comes twice in one object")
    return fields


def bad_rows_message(path: str | os.PathLike[str], bad: list[str], count: int | None = None) -> str:
    """Says which rows of a file are bad: the first five, the number of the rest, and how to see them all.

    Args:
        path: the file.
        bad: what is wrong, at least of the first five.
        count: how many there are, if `bad` does not hold them all.
    """
    count = len(bad) if count is None else count
    shown = "; ".join(bad[:5])
    more = f"; and {count - 5} more" if count > 5 else ""
    rows = "bad row" if count == 1 else "bad rows"
    return f"{path} has {count} {rows}: {shown}{more}. See them all with: latentqa data check {path}"


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a text file under a temporary name and moves it into place, so that none is ever half-written.

    Raises:
        DataError: the folder is missing or the disk refuses.
    """
    with open_whole(path) as stream:
        stream.write(text)


@contextmanager
def open_whole(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    """Opens a text file for writing under a temporary name, and moves it into place if the body succeeds.

    Raises:
        DataError: the folder is missing or the disk refuses; what was there before is then unchanged.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"Cannot write {target}: {reason}. What was there before is unchanged.") from error
    finally:
        temporary.unlink(missing_ok=True)


def stream_lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, int, bytes]]:
    """Yields the number, the place in bytes and the bytes of every line that is not blank.

    Raises:
        DataError: the file cannot be opened.
    """
    place = 0
    try:
        with Path(path).open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, place, line
                place += len(line)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the name.") from error
