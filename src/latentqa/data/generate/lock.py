"""One run a folder: a second one is refused, and told who the first is."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from latentqa.data.jsonl import write_text
from latentqa.errors import DataError

LOCK, HOLDER = ".lock", ".running.json"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder while the body runs; a process that dies lets go of it.

    Raises:
        DataError: another run holds it, or the folder cannot be made; the message names which.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"Cannot make the folder {folder}: {error.strerror or error}. Name another."
        ) from error
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise DataError(
            f"{folder} is in use by another run ({_holder(folder)}). Wait until it ends, or name another "
            "folder."
        ) from None
    try:
        began = time.strftime("%Y-%m-%d %H:%M:%S")
        about = {"process": os.getpid(), "machine": socket.gethostname(), "began": began}
        write_text(folder / HOLDER, json.dumps(about))
        yield
    finally:
        (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        about = json.loads((folder / HOLDER).read_text("utf-8"))
        return f"process {about['process']} on {about['machine']}, begun {about['began']}"
    except (OSError, ValueError, KeyError):
        return "it has not said which"
