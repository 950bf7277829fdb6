"""A JSONL file of results that grows row by row, so that an interrupted command goes on where it stopped."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TextIO, TypeVar

from latentqa.cli.progress import note
from latentqa.errors import DataError

Key = TypeVar("Key")


class GrowingFile(ABC, Generic[Key]):
    """Results on disk, and which of them are there already.

    A last line without its line break is an interrupted write: it is cut off and that result is made again.
    Any other unreadable row is an error, and the file stays as it is.

    Args:
        path: the file; made if it does not exist.
        expected: row keys and the values that this run will write, such as `span`; every row must share them.

    Attributes:
        done: keys of the rows that are there.

    Raises:
        DataError: a row is damaged, or was made in another way.
    """

    noun: ClassVar[str]
    made: ClassVar[str]
    command: ClassVar[str]
    required: ClassVar[frozenset[str]]

    def __init__(self, path: Path, expected: dict[str, Any]) -> None:
        self.path = path
        self.done: set[Key] = set()
        if path.exists():
            self._read(expected)
        self._file: TextIO | None = None

    @abstractmethod
    def key(self, row: dict[str, Any]) -> Key:
        """What a row is filed under."""

    def __enter__(self) -> Self:
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._file is not None
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append one row, at once."""
        assert self._file is not None
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self, expected: dict[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            row = self._parse(line, number)
            for key, value in expected.items():
                if row.get(key) != value:
                    raise DataError(
                        f"{self.path}, row {number} was {self.made} with {key} {row.get(key)!r}, and this "
                        f"run uses {value!r}. Choose another --out, or use {row.get(key)!r} again."
                    )
            self.done.add(self.key(row))
        if len(whole) < len(content):
            note(
                f"{self.path}: the last row was cut short by an interruption; its {self.noun} is made again."
            )
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{self.path}, row {number}: not JSON ({error}). Mend or move the file; it is left as it is."
            ) from None
        if not isinstance(row, dict) or self.required - row.keys():
            raise DataError(
                f"{self.path}, row {number} is no {self.noun} of `{self.command}`. Choose another --out."
            )
        return row
