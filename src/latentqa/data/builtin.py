"""The data set that comes with the package: made by rules and hand-written tables of this project's own."""

from __future__ import annotations

from pathlib import Path

BUILTIN = "builtin"
"""The path by which settings name it."""


def builtin_data() -> Path:
    """The JSONL file of the data set; `card.json` and `data.yaml`, which makes it again, lie beside it."""
    return Path(__file__).parents[1] / "builtin" / "data" / "data.jsonl"
