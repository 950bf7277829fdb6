"""Every answered request, appended to one file as it comes: what a second run need not send again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from latentqa.data.providers.base import Reply, Request
from latentqa.errors import DataError

FILE = "requests.jsonl"
NEXT = "What was answered so far is kept; free some space and repeat the command."


class RequestCache:
    """Replies by the hash of their whole request; on disk, but for 16 bytes of hash and a place each.

    A line that was cut off, by a kill or a full disk, is dropped when the file is opened again.

    Args:
        path: JSONL file; made if it is not there.
        writable: False reads only.

    Raises:
        DataError: the file cannot be opened, or a row in its middle is damaged.

    Example:
        >>> import tempfile
        >>> with RequestCache(Path(tempfile.mkdtemp()) / "requests.jsonl") as cache:
        ...     cache.put(Request("any", ()), Reply("Ahoy"))
        ...     cache.get(Request("any", ())).text
        'Ahoy'
    """

    def __init__(self, path: str | os.PathLike[str], *, writable: bool = True) -> None:
        self.path = Path(path)
        self._places: dict[bytes, int] = {}
        try:
            if writable:
                self.path.touch()
            self._file: BinaryIO = self.path.open("r+b" if writable else "rb")
        except OSError as error:
            raise DataError(f"Cannot open {self.path}: {error.strerror or error}. Check the name.") from error
        self._end = 0
        try:
            for key, place, length in self._rows():
                self._places[key] = place
                self._end = place + length
            if writable:
                self._file.truncate(self._end)
        except BaseException:  # raised again: an unreadable file must not stay open
            self._file.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, request: Request) -> bool:
        return _short(request.key) in self._places

    def get(self, request: Request) -> Reply | None:
        """The reply to a request; None if it was never answered."""
        place = self._places.get(_short(request.key))
        if place is None:
            return None
        self._file.seek(place)
        return Reply(**json.loads(self._file.readline())["reply"])

    def put(self, request: Request, reply: Reply) -> None:
        """Append a reply; it outlives a kill from here on.

        Raises:
            DataError: the disk refuses.
        """
        row = {"key": request.key, "request": request.plain(), "reply": asdict(reply)}
        line = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode(errors="replace")
        try:
            self._file.seek(self._end)
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise DataError(f"Cannot write {self.path}: {error.strerror or error}. {NEXT}") from error
        self._places[_short(request.key)] = self._end
        self._end += len(line)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> RequestCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _rows(self) -> Iterator[tuple[bytes, int, int]]:
        place = 0
        for number, line in enumerate(self._file, start=1):
            try:
                if not line.endswith(b"\n"):
                    return
                yield _short(json.loads(line)["key"]), place, len(line)
            except (ValueError, KeyError, TypeError):
                raise DataError(
                    f"{self.path} row {number} is damaged. Remove that row; its request is then sent again."
                ) from None
            place += len(line)


def _short(key: str) -> bytes:
    return bytes.fromhex(key[:32])
