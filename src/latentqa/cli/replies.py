"""The file of replies that `latentqa generate` grows row by row and goes on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from latentqa.cli.progress import note
from latentqa.errors import DataError


class ReplyKey(NamedTuple):
    """What a reply is filed under: the dialog's name, and which of several samples it is."""

    dialog: str
    sample: int = 0


class ReplyFile:
    """A JSONL file of replies that says which are there already.

    A last line without its line break is an interrupted write: it is cut off and that reply is made again.
    Any other unreadable row is an error, and the file stays as it is.

    Args:
        path: the file; made if it does not exist.
        facts: what every row must hold, such as `target`, `steer` and `strength`.

    Raises:
        DataError: a row is damaged, or was generated in another way.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.done: set[ReplyKey] = set()
        if path.exists():
            self._read(facts)
        self._file: TextIO | None = None

    def __enter__(self) -> ReplyFile:
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

    def _read(self, facts: dict[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            row = self._parse(line, number)
            for key, value in facts.items():
                if row.get(key) != value:
                    raise DataError(
                        f"{self.path}, row {number} was generated with {key} {row.get(key)!r}, and this run "
                        f"uses {value!r}. Choose another --out, or generate as before."
                    )
            self.done.add(ReplyKey(row["dialog"], row.get("sample", 0)))
        if len(whole) < len(content):
            note(f"{self.path}: the last row was cut short by an interruption; its reply is made again.")
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{self.path}, row {number}: not JSON ({error}). Mend or move the file; it is left as it is."
            ) from None
        if not isinstance(row, dict) or not {"dialog", "reply"} <= row.keys():
            raise DataError(
                f"{self.path}, row {number} is no reply of `latentqa generate`. Choose another --out."
            )
        return row
