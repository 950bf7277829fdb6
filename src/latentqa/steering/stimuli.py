"""Prompts that the target is read on while it is steered, and neutral ones on which it should stay as it is.

Both lists were written for this project: `stimuli.txt` (200 instructions of many kinds) and `neutral.txt` (60
other prompts, none of them among the stimuli).
"""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import Any

from latentqa.errors import DataError

PROMPT_KEYS = ("prompt", "instruction", "stimulus", "text")
"""Fields of a JSON row that may hold the prompt, the first that is there."""


def load_stimuli(path: str | os.PathLike[str] | None = None) -> list[str]:
    """Prompts of a file, each once; without a file the 200 that ship.

    Args:
        path: a text file with one prompt a line; or JSONL, whose rows are texts or objects with the prompt
            under `prompt`, `instruction`, `stimulus` or `text`.

    Raises:
        DataError: a missing file, a row that is none, or no usable prompt.
    """
    if path is None:
        return _shipped("stimuli.txt")
    place = Path(path)
    try:
        lines = place.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Stimulus prompts cannot be read from {place}: {error}.") from error
    if place.suffix in (".jsonl", ".json"):
        rows = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
        lines = [_prompt(line, f"{place}, row {number}") for number, line in rows]
    prompts = list(dict.fromkeys(line.strip() for line in lines if any(map(str.isalnum, line))))
    if not prompts:
        raise DataError(
            f"{place} has no usable prompt: none of its {len(lines)} lines holds a word. Write one prompt a "
            "line, or leave the file out for the 200 that ship."
        )
    return prompts


def neutral_prompts() -> list[str]:
    """The 60 neutral prompts that ship."""
    return _shipped("neutral.txt")


def _shipped(name: str) -> list[str]:
    return files("latentqa.steering").joinpath(name).read_text(encoding="utf-8").splitlines()


def _prompt(line: str, where: str) -> str:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}). Give a text or an object a line.") from None
    found = row
    if isinstance(row, dict):
        found = next((row[key] for key in PROMPT_KEYS if key in row), None)
    if not isinstance(found, str):
        raise DataError(f"{where}: no prompt. Give a text, or an object with one under {PROMPT_KEYS[0]!r}.")
    return found
