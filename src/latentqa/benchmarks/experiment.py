"""An experiment is data: items, questions, right answers, a scorer, and the figures that are made of it."""

from __future__ import annotations

import difflib
import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from latentqa.data import data_hash
from latentqa.errors import ConfigError
from latentqa.types import Dialog, Query

Compute = Literal["mean", "exp_mean", "off_half", "auroc", "ece", "brier", "aurc"]
"""`exp_mean` is exp of the mean, which makes a perplexity of nats a token; `off_half` is how far a share lies
from one half, whichever way."""
Continue = Callable[[Sequence[str], int], list[str]]
"""Greedy continuations of raw texts: (texts, new tokens) → what the model writes after each."""
Locate = Callable[[Dialog, str], str]
"""The span of a text inside a dialog: (dialog, text) → span, such as `"[12,13]"`."""
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Unit vectors `[N, D]` of texts, so that a dot product is their similarity."""


@dataclass(frozen=True, eq=False)
class Item:
    """One question with its right answer.

    Attributes:
        id: unique within the experiment.
        group: what figures are split by: a relation, `persona`, `goal`, a file.
        query: dialog, span and question.
        question: that is asked.
        gold: the right answer.
        candidates: answers that are ranked by support, the right one among them; empty ranks none.
        scorer: name of the function that turns a reader's output into values, see `scorers.SCORERS`.
        meta: `unit` (rows of one unit are resampled together), `label` (class for probes), `flags` that a
            metric may filter by, `sets` of candidates, `fold`, `layer` that readers are put to,
            `specificity` where that of the free answer is wanted, and what the scorer needs.
    """

    id: str
    group: str
    query: Query
    question: str
    gold: str
    candidates: tuple[str, ...]
    scorer: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What is resampled together; the item itself unless `meta` says otherwise."""
        return str(self.meta.get("unit", self.id))

    @property
    def layer(self) -> int | None:
        """The read layer that readers are put to; None leaves them where they are."""
        return self.meta.get("layer")

    @property
    def flags(self) -> dict[str, Any]:
        """What metrics filter by."""
        return dict(self.meta.get("flags", {}))


@dataclass(frozen=True)
class Metric:
    """A figure made of rows.

    Attributes:
        name: in tables.
        doc: what it says, in a sentence.
        value: which of the scorer's values; for measures of confidence the probability or score.
        compute: a mean or a function of one, or a measure of confidence against `truth`.
        truth: which value says what was right, for measures of confidence.
        where: flags that a row must have to count, name → value.
        share: whether it lies between 0 and 1 and is shown in per cent.
        better: `high` or `low`.
        test: `mcnemar` tests means of 0 and 1 alone, group by group; `bootstrap` tests any mean, or function
            of one, by resampling the rows that two contenders have in common, over all groups together;
            `none` tests nothing.
        layer: the read layer that it is of; such figures share a table and a plot.
    """

    name: str
    doc: str
    value: str
    compute: Compute = "mean"
    truth: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    share: bool = True
    better: Literal["high", "low"] = "high"
    test: Literal["mcnemar", "bootstrap", "none"] = "mcnemar"
    layer: int | None = None


JUDGED = (
    Metric("judged", "A judge says that the free answer means what the right one does.", "judged"),
    Metric("unjudged", "Free answers that the judge gave no verdict on.", "unjudged", better="low"),
)
"""Figures of experiments with free answers; without a judge no row has them."""


@dataclass(frozen=True, eq=False)
class Experiment:
    """Items with the figures that are made of them.

    Attributes:
        name: as in `latentqa bench run NAME`.
        doc: what it asks, in a sentence or two.
        items: what readers are tested on.
        filtered: why rows of the files were left out, reason → count.
        metrics: figures, the first one tested between readers.
        fit: items that probes are fitted on; none for experiments without a training split. With folds, a
            test item of fold k is read by a probe fitted on the fit items of the other folds.
        mean_groups: groups that the group `mean` is over; empty is all.
        asks: whether readers answer freely too.
        answer_tokens: longest free answer.
        files: data files that were read, name → sha256.
        notes: what a reader of the table must know, such as which embedding was used.
        pooled: the group `mean` is over all rows instead of over groups, as where a published figure is.
        contender: what takes part, in tables: `reader`, or `method`.
        tradeoff: figures of what is gained and what it costs, where the report should plot one against the
            other.
        batch: items that are put to a contender at once.
        signals: whether free answers are to carry support and percentile, which costs about as much as they
            do themselves.
    """

    name: str
    doc: str
    items: tuple[Item, ...]
    filtered: Mapping[str, int]
    metrics: tuple[Metric, ...]
    fit: tuple[Item, ...] = ()
    mean_groups: tuple[str, ...] = ()
    asks: bool = True
    answer_tokens: int = 40
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pooled: bool = False
    contender: str = "reader"
    tradeoff: tuple[str, str] | None = None
    batch: int = 16
    signals: bool = False

    @property
    def layers(self) -> tuple[int, ...]:
        """Read layers that readers are put to, ascending."""
        return tuple(sorted({item.layer for item in self.items if item.layer is not None}))

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups in the order of the items."""
        return tuple(dict.fromkeys(item.group for item in self.items))

    def fingerprint(self) -> str:
        """Hash of all items: the same data, questions, candidates and draws give the same."""
        digest = hashlib.sha256()
        for item in self.items:
            parts = [
                item.id,
                item.group,
                list(item.query.dialog),
                item.query.span,
                item.question,
                item.gold,
                list(item.candidates),
                item.scorer,
                item.flags,
            ]
            digest.update(json.dumps(parts, sort_keys=True, default=str).encode())
        return digest.hexdigest()


class ExperimentSettings(BaseModel):
    """What every experiment takes as `key=value`; children add their own."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@dataclass(frozen=True)
class Tools:
    """What an experiment is handed to make its items: no experiment loads a model itself.

    Attributes:
        seed: of every draw.
        limit: items in all, spread evenly over the groups; None is the whole files.
        continue_text: greedy continuations by the target, for the population `known`.
        locate: the span of a text inside a dialog; by default a quoted span.
        embed: unit vectors of texts; by default what `embedding.load_embedding` finds.
        embed_name: what it is called in notes.
        blocks: number of the target's blocks, for experiments that ask at several layers.
        read_layers: of the decoder; empty without one.
        sampled_layer: whether the decoder takes any one of them.
    """

    seed: int = 0
    limit: int | None = None
    continue_text: Continue | None = None
    locate: Locate = lambda dialog, text: f'"{text}"'
    embed: Embed | None = None
    embed_name: str = ""
    blocks: int | None = None
    read_layers: tuple[int, ...] = ()
    sampled_layer: bool = False


def draw(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """Some of the items, spread evenly over groups, in their own order; a pure function of the seed.

    A larger limit only adds items.
    """
    if limit is None or limit >= len(items):
        return list(items)
    by_group: dict[str, list[Item]] = {}
    for item in items:
        by_group.setdefault(item.group, []).append(item)
    queues = []
    for group in by_group.values():
        random.Random(f"{seed}:{group[0].group}").shuffle(group)
        queues.append(group)
    chosen: set[str] = set()
    turn = 0
    while len(chosen) < limit:
        for queue in queues:
            if turn < len(queue) and len(chosen) < limit:
                chosen.add(queue[turn].id)
        turn += 1
    return [item for item in items if item.id in chosen]


def with_flags(item: Item, **flags: Any) -> Item:
    """The item with more flags."""
    return replace(item, meta={**item.meta, "flags": {**item.flags, **flags}})


def file_hashes(paths: Sequence[Path], root: Path) -> dict[str, str]:
    """Name below the data root → sha256 of each file."""
    return {
        path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name: data_hash(path)
        for path in paths
    }


def nearest_name(what: str, name: str, known: Sequence[str]) -> ConfigError:
    """The error for a name that does not exist, with the nearest that does."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f'Did you mean "{near[0]}"?' if near else f"There are: {', '.join(known)}."
    return ConfigError(f'There is no {what} "{name}". {hint}')
