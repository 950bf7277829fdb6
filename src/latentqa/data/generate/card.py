"""The card of a data set: what is in it, who wrote it, how it splits, and what was rejected."""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from latentqa.data.generate.config import DataConfig
from latentqa.data.generate.prompts import NAMES, prompt_hash
from latentqa.data.generate.rows import Paired
from latentqa.data.generate.stages import CARD, Folder
from latentqa.data.generate.tables import tables_hash
from latentqa.data.jsonl import write_text
from latentqa.data.seen import Seen
from latentqa.data.split import is_held_out

OWN_LICENCE = "Apache-2.0"
THEIR_LICENCE = "not stated: set licence, after the terms of the model that wrote it"


class Counts:
    """Counts of a data set, row by row."""

    def __init__(self, held_out: float) -> None:
        self._fraction = held_out
        self._labels = Seen()
        self._controls = Seen()
        self.split: Counter[str] = Counter(train=0, held_out=0)
        self.kinds: Counter[str] = Counter()
        self.pairs: Counter[str] = Counter()
        self.categories: Counter[str] = Counter()
        self.writers: Counter[str] = Counter()

    def add(self, row: Paired) -> None:
        """Count a dialog and its pairs."""
        control = row.draft.control
        self.kinds[row.draft.kind] += 1
        self.pairs.update(str(pair.kind) for pair in row.pairs)
        if self._controls.first(control.text) is None:
            self.categories[control.seed.category] += 1
        if self._labels.first(control.label) is None:
            self.split["held_out" if is_held_out(control.label, self._fraction, 0) else "train"] += 1
        for stage, origin in (("control", control), ("dialog", row.draft), ("pairs", row)):
            self.writers[
                f"{stage}: {' '.join(filter(None, (origin.origin.writer, origin.origin.model)))}"
            ] += 1

    def summary(self) -> dict[str, Any]:
        """The counts, as the card has them."""
        return {
            "examples": self.kinds.total(),
            "controls": len(self._controls),
            "labels": len(self._labels),
            "pairs": self.pairs.total(),
            "examples_by_kind": dict(sorted(self.kinds.items())),
            "pairs_by_kind": dict(sorted(self.pairs.items())),
            "controls_by_category": dict(sorted(self.categories.items())),
        }


def write_card(folder: Folder, config: DataConfig, counts: Counts) -> dict[str, Any]:
    """Write `card.json` beside the data, and return what it says.

    Nothing in it depends on the time, so that making the data again gives the same card.
    """
    ruled = config.model_kind is None
    card: dict[str, Any] = {
        "name": config.name,
        "file": folder.file("checks").name,
        "sha256": folder.done["checks"].sha256,
        "licence": config.licence or (OWN_LICENCE if ruled else THEIR_LICENCE),
        "made_by": f"latentqa {_version()}, latentqa data make",
        "counts": counts.summary(),
        "split": {
            "by": "label; latentqa.data.is_held_out(label, fraction, seed)",
            "fraction": config.checks.held_out,
            "seed": 0,
            "labels": dict(counts.split),
        },
        "writers": dict(sorted(counts.writers.items())),
        "tables_sha256": tables_hash(),
        "prompts_sha256": {} if ruled else {name: prompt_hash(name) for name in NAMES},
        "seed_files": [path.name for path in config.seeds.files],
        "rejected": {stage: done.rejected for stage, done in folder.done.items() if done.rejected},
        "settings": _settings(config),
    }
    write_text(folder.path / CARD, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    return card


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a data set's folder."""
    return json.loads((folder / CARD).read_text("utf-8"))


def _settings(config: DataConfig) -> dict[str, Any]:
    """The settings that differ from the defaults, but for places on this machine."""
    places: Any = {"output": True, "writer": {"recording", "base_url"}, "seeds": {"files"}}
    settings = config.model_dump(mode="json", exclude_defaults=True, exclude=places)
    return {name: value for name, value in settings.items() if value != {}}


def _version() -> str:
    try:
        return version("latentqa")
    except PackageNotFoundError:
        return "from its source"
