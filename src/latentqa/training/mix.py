"""The training mix: examples of all its parts, and the labels that are held out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from latentqa.data import (
    Example,
    data_hash,
    data_root,
    derive_pairs,
    load_published,
    read_examples,
    split_by_label,
)
from latentqa.errors import DataError
from latentqa.training.config import DataSource, TrainConfig
from latentqa.training.plan import with_plain


@dataclass(frozen=True)
class Mix:
    """Training and held-out examples, with the part of the mix each came from and the hashes of the files."""

    train: list[Example]
    sources: list[DataSource]
    held_out: list[Example]
    hashes: dict[str, str]


def load_mix(config: TrainConfig) -> Mix:
    """Read all parts of the mix and hold labels out.

    Raises:
        DataError: a part that is missing or has bad rows.
    """
    train: list[Example] = []
    sources: list[DataSource] = []
    held_out: list[Example] = []
    hashes: dict[str, str] = {}
    for source in config.data:
        path = _find(source.path, config.data_root)
        hashes[source.path] = data_hash([path])
        examples = _read(path, source)
        if source.pairs == "rules":
            examples = [_with_pairs(example) for example in examples]
        split = split_by_label(examples, config.held_out, config.seed)
        train += split.train
        sources += [source] * len(split.train)
        held_out += [example for example in split.held_out if example.qa]
    if not any(example.qa for example in train):
        raise DataError("No training example has a question-answer pair. Add a qa.json, or set pairs: rules.")
    plain = with_plain(train, config.plain, config.seed)
    ordinary = DataSource(path="plain", spans=_span_shares(config))  # pyright: ignore[reportCallIssue]
    return Mix(train + plain, sources + [ordinary] * len(plain), held_out, hashes)


def _find(path: str, root: Path | None) -> Path:
    if Path(path).exists():
        return Path(path)
    if root is None and not os.environ.get("LATENTQA_DATA"):
        raise DataError(
            f"Training data {path} is not there, and no data root is named that it could be below. Check the "
            "path, set LATENTQA_DATA, or pass data_root=DIR."
        )
    found = data_root(root) / path
    if not found.exists():
        raise DataError(f"Training data {path} is neither there nor below the data root {data_root(root)}.")
    return found


def _read(path: Path, source: DataSource) -> list[Example]:
    if path.is_dir():
        return load_published(path, source.kinds).require_clean()
    return read_examples(path)


def _with_pairs(example: Example) -> Example:
    if example.qa:
        return example
    control = next((m["content"] for m in example.dialog if m["role"] in ("system", "user")), "")
    return example.model_copy(update={"qa": derive_pairs(control, example.label)})


def _span_shares(config: TrainConfig) -> dict[str, float]:
    """Spans that ordinary dialogs are read at: those of the mix that a single user turn has."""
    shares: dict[str, float] = {}
    for source in config.data:
        for span, weight in source.spans.items():
            if "completion" not in span and "control" not in span:
                shares[span] = shares.get(span, 0.0) + weight
    return shares or {"stimulus": 1.0}
