"""The hand-written tables: one row a line, cells between bars, lines that begin with `#` left out."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "tables"


@cache
def table(name: str) -> tuple[tuple[str, ...], ...]:
    """Rows of a table that comes with the package, each a tuple of its cells.

    Example:
        >>> table("questions")[0][0]
        'persona-who'
    """
    return tuple(
        cells(line) for line in (FOLDER / f"{name}.txt").read_text("utf-8").splitlines() if kept(line)
    )


@cache
def slots() -> dict[str, tuple[str, ...]]:
    """What may stand in each `{slot}` of a sentence."""
    return {name: tuple(value.strip() for value in values.split(";")) for name, values in table("slots")}


def seed_tables() -> tuple[str, ...]:
    """Names of the tables of personas and goals, such as `persona-job`."""
    found = (path.stem for path in FOLDER.glob("*.txt"))
    return tuple(sorted(name for name in found if name.startswith(("persona-", "goal-"))))


@cache
def tables_hash() -> str:
    """The first 16 digits of the sha256 of all tables: what rules write depends on them."""
    parts = [f"{path.name}\0{path.read_text('utf-8')}" for path in sorted(FOLDER.glob("*.txt"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def kept(line: str) -> bool:
    """Whether a line is a row: neither blank nor a comment."""
    return bool(line.strip()) and not line.startswith("#")


def cells(line: str) -> tuple[str, ...]:
    """The cells of a row."""
    return tuple(cell.strip() for cell in line.split("|"))
