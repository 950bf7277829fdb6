"""The training mix: examples of all its parts, and the labels that are held out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from latentqa.data import (
    BUILTIN,
    Example,
    builtin_data,
    data_hash,
    data_root,
    derive_pairs,
    index_rows,
    load_published,
    split_by_label,
)
from latentqa.dialogs import CHOSEN, span_kind
from latentqa.errors import ConfigError, DataError
from latentqa.training.config import DataSource, TrainConfig
from latentqa.training.parts import Examples, Part, some
from latentqa.training.plan import with_plain

HELD_OUT = 4096  # held-out examples kept of a part
BARE = 20_000  # examples of a part whose stimuli may be taken for ordinary dialogs
FITTED = 20_000  # dialogs that a mapping is fitted on
NO_PAIR = "No training example has a question-answer pair. Add a qa.json, or set pairs: rules."


@dataclass(frozen=True)
class Mix:
    """Parts of the training mix, held-out examples, and the hashes of the files."""

    parts: tuple[Part, ...]
    held_out: list[Example]
    hashes: dict[str, str]

    @cached_property
    def train(self) -> Examples:
        """The training examples of all parts."""
        return Examples(self.parts)

    @property
    def spans(self) -> list[str]:
        """Kinds of the spans that are read, sorted."""
        named = {span_kind(span) for part in self.parts for span in part.source.spans}
        return sorted(named.union(*(part.spans for part in self.parts)))


def load_mix(config: TrainConfig) -> Mix:
    """Read all parts of the mix and hold labels out.

    Of a JSONL file, whatever its size, only an index is held in memory.

    Raises:
        DataError: a part that is missing or has bad rows.
        ConfigError: spans for a part whose examples name their own tokens.
    """
    parts: list[Part] = []
    held_out: list[Example] = []
    hashes: dict[str, str] = {}
    any_pair = False
    for source in config.data:
        path = _find(source.path, config.data_root)
        hashes[source.path] = data_hash([path])
        fraction = config.held_out if source.held_out is None else source.held_out
        part, held, with_pairs = _read(path, source, fraction, config.seed)
        any_pair = any_pair or with_pairs
        parts.append(part)
        held_out += [example for example in held if example.qa]
    if not any_pair:
        raise DataError(NO_PAIR)
    bare = [example for part in parts for example in some(part.examples, BARE)] if config.plain else []
    plain = with_plain(bare, config.plain, config.seed)
    if plain:
        ordinary = DataSource(path="plain", spans=_span_shares(config))  # pyright: ignore[reportCallIssue]
        kinds = frozenset(example.read for example in plain)
        parts.append(Part(ordinary, plain, kinds, ordinary=True))
    return Mix(tuple(parts), held_out, hashes)


def mapped_dialogs(mix: Mix) -> list[tuple[Example, str]]:
    """What the mapping is fitted on: dialogs with pairs, each at its source's main span.

    All of a part, or with a weight below 1 that share of it; about `FITTED` at most in all.
    """
    parts = [part for part in mix.parts if part.source.mapping]
    sizes = [len(part.examples) * min(1.0, part.source.weight) for part in parts]
    scale = min(1.0, FITTED / max(1.0, sum(sizes)))
    found = []
    for part, size in zip(parts, sizes, strict=True):
        count = round(size * scale)
        spans = part.source.spans
        found += [
            (example, max(spans, key=lambda span: spans[span], default=example.read))
            for example in some(part.examples, count)
            if example.qa
        ]
    return found


def _find(path: str, root: Path | None) -> Path:
    if path == BUILTIN:
        return builtin_data()
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


def _read(path: Path, source: DataSource, fraction: float, seed: int) -> tuple[Part, Sequence[Example], bool]:
    """The training examples of a part, those held out, and whether there is any pair to train on."""
    change = _change(source)
    if path.is_dir():
        examples = load_published(path, source.kinds).require_clean()
        split = split_by_label(map(change, examples) if change else examples, fraction, seed)
        kinds = frozenset(span_kind(example.read) for example in split.train)
        return Part(source, split.train, kinds), split.held_out, any(e.qa for e in split.train)
    index = index_rows(path, fraction=fraction, seed=seed, change=change)
    if source.spans and CHOSEN in index.spans:
        raise ConfigError(
            f"{source.path} has rows that name their own tokens (such as chars:3-9), which spans would "
            "replace. Leave spans of this part out."
        )
    return Part(source, index.train, index.spans), some(index.held_out, HELD_OUT), index.with_pairs > 0


def _change(source: DataSource) -> Callable[[Example], Example] | None:
    """What is done to each example as it is read; None for nothing."""
    if source.pairs == "given" and not source.pair_kinds:
        return None

    def change(example: Example) -> Example:
        if source.pairs == "derived":
            example = example.model_copy(update={"qa": []})
        if source.pairs != "given":
            example = _with_pairs(example)
        if source.pair_kinds:
            kept = [pair for pair in example.qa if pair.kind in source.pair_kinds]
            example = example.model_copy(update={"qa": kept})
        return example

    return change


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
