"""The organisms' training texts: YAML files of our own beside this module."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

FOLDER = "texts"


@cache
def read_texts(name: str) -> dict[str, Any]:
    """One file, such as `secret_words`; read once, not to be changed.

    Example:
        >>> len(read_texts("secret_words")["words"])
        20
    """
    path = files("latentqa.audit.organisms").joinpath(FOLDER, f"{name}.yaml")
    return yaml.safe_load(path.read_text(encoding="utf-8"))
