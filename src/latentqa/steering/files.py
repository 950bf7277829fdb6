"""A steering's folder: written beside its place and moved into it, so that it is whole or not there."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from safetensors import SafetensorError

from latentqa.errors import SteeringError
from latentqa.steering.card import STEERING_FILE


def check_folder(folder: str | Path) -> None:
    """Refuse a folder that `whole_folder` would refuse, before any work is done for it.

    Raises:
        SteeringError: a file is in the way, or a folder with something else in it.
    """
    folder = Path(folder)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not place.is_dir():
        raise SteeringError(f"Steering folder {folder} cannot be made: {place} is a file. Name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / STEERING_FILE).is_file():
        raise SteeringError(
            f"{folder} holds something else than a steering (no {STEERING_FILE}), and is left as it is. "
            "Name another folder."
        )


@contextmanager
def whole_folder(folder: str | Path) -> Iterator[Path]:
    """A fresh folder to write in, which takes the place of `folder` when the body has succeeded.

    Whatever an interrupted earlier attempt left is removed.

    Raises:
        SteeringError: something else stands there, or it cannot be written.
    """
    folder = Path(folder).absolute()
    check_folder(folder)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    old = temporary.with_suffix(".old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        temporary.mkdir()
        yield temporary
        if folder.exists():
            os.replace(folder, old)
        os.replace(temporary, folder)
    except (OSError, SafetensorError) as error:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        raise SteeringError(
            f"The steering could not be written to {folder} ({error}). What stood there before is "
            "unchanged. Free some space, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Unfinished folders of attempts that were killed; if the old one was moved away then, it comes back."""
    for left in folder.parent.glob(f".{escape(folder.name)}.????????.old"):
        if not folder.exists():
            os.replace(left, folder)
        else:
            shutil.rmtree(left, ignore_errors=True)
    for left in folder.parent.glob(f".{escape(folder.name)}.????????.tmp"):
        shutil.rmtree(left, ignore_errors=True)
