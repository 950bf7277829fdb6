"""The prompts that a model writes data by: text files of our own, with names in braces that are filled in."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "prompts"
NAMES: tuple[str, ...] = ("control", "passage", "dialog", "pairs", "extractive", "future")


@cache
def prompt(name: str) -> str:
    """The text of a prompt, as the file has it."""
    return (FOLDER / f"{name}.txt").read_text("utf-8")


@cache
def prompt_hash(name: str) -> str:
    """The first 16 digits of the sha256 of a prompt's text."""
    return hashlib.sha256(prompt(name).encode()).hexdigest()[:16]


def fill(name: str, **values: object) -> str:
    """A prompt with its names filled in; other braces stay.

    Example:
        >>> fill("extractive", control="A red boat.", count=2).count("A red boat.")
        1
    """
    parts = prompt(name).split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        key, closed, rest = part.partition("}")
        filled.append(f"{values[key]}{rest}" if closed and key in values else f"{{{part}")
    return "".join(filled)
