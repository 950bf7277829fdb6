"""How often a decoder ranks the right answer first, with the control hidden."""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from latentqa.data import Example, load_published, near_copies
from latentqa.decoder.decoder import Decoder
from latentqa.errors import ConfigError, DataError
from latentqa.types import Activation

ITEMS_PER_PASS = 16
NEAR_COPY = 0.4  # word-Jaccard from which a control counts as a near-copy of a training one
SMALLEST_POOL = 10  # labels that a description question needs to be a pool of its own


@dataclass(frozen=True)
class RankedItem:
    """One label's ranking.

    Attributes:
        label: of the item.
        group: `persona`, `goal`, …
        question: that was asked.
        candidates: labels of the answers, the right one first.
        supports: of each candidate, in nats a token.
        logprobs: of each candidate on the activation.
        mean_logprobs: of each candidate on the mean activation.
        shuffled_logprob: of the right answer on other dialogs' activations.
        near_copy: whether its control nearly repeats a training one; None if unknown.
    """

    label: str
    group: str
    question: str
    candidates: tuple[str, ...]
    supports: tuple[float, ...]
    logprobs: tuple[float, ...]
    mean_logprobs: tuple[float, ...]
    shuffled_logprob: float
    near_copy: bool | None = None


@dataclass(frozen=True)
class EvaluationReport:
    """Rankings of all items.

    Attributes:
        items: one per label.
        skipped: reason → count of items that could not be ranked.
    """

    items: tuple[RankedItem, ...]
    skipped: dict[str, int]

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Figures per label group; accuracies are shares, losses nats a token."""
        groups = sorted(
            {item.group for item in self.items},
            key=lambda g: ("persona", "goal").index(g) if g in ("persona", "goal") else 2,
        )
        return {group: _figures([item for item in self.items if item.group == group]) for group in groups}


def evaluate(
    decoder: Decoder,
    folder: str | os.PathLike[str],
    kind: str = "system",
    *,
    candidates: int = 10,
    seed: int = 0,
    span: str | None = None,
    limit: int | None = None,
    items_path: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> EvaluationReport:
    """Rank answers on the published evaluation files.

    Args:
        decoder: with its target.
        folder: holds `{kind}.json` and `qa.json`.
        kind: `system`, `stimulus`, `stimulus_completion` or `control`.
        candidates: answers per item, the right one among them.
        seed: of the draw of wrong answers.
        span: what is read; by default the kind's own.
        limit: rank the first labels of each group only.
        items_path: write one JSONL row per item here.
        progress: called with (items done, items in all).

    Raises:
        DataError: no such file, or one with bad rows.
    """
    examples = load_published(folder, (kind,)).require_clean()  # pyright: ignore[reportArgumentType]
    training = _training_controls(Path(folder))
    ranked = rank(
        decoder,
        examples,
        candidates=candidates,
        seed=seed,
        span=span,
        limit=limit,
        progress=progress,
        training_controls=training,
    )
    if items_path is not None:
        _write_items(Path(items_path), ranked.items)
    return ranked


def rank(
    decoder: Decoder,
    examples: Sequence[Example],
    *,
    candidates: int = 10,
    seed: int = 0,
    span: str | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    training_controls: Sequence[str] = (),
) -> EvaluationReport:
    """Rank each label's description among those of other labels.

    The wrong answers are drawn by `Random(f"{seed}:{label}")` from labels of the same group that share the
    item's description question, where at least ten do; else from the whole group. All are put to the item's
    own question. Where the question names its pool (a task's does), they are other answers of that pool, each
    once, and may be fewer.

    Args:
        decoder: with its target.
        examples: with pairs; the first of each label is used.
        candidates: answers per item.
        seed: of the draw.
        span: what is read; by default each example's own.
        limit: the first labels of each group only.
        progress: called with (items done, items in all).
        training_controls: texts that near-copies are looked for in.
    """
    if decoder.target is None:
        raise ConfigError("Ranking needs a target to read. Pass load_decoder(…, target=load_target(…)).")
    by_label: dict[str, Example] = {}
    for example in examples:
        if example.qa:
            by_label.setdefault(example.label, example)
    chosen, skipped = _choose(by_label, candidates, seed, limit)
    skipped["no question-answer pair"] = len({e.label for e in examples}) - len(by_label)
    copies = _near_copy_labels([by_label[label] for label in chosen], training_controls)
    items: list[RankedItem] = []
    labels = list(chosen)
    for first in range(0, len(labels), ITEMS_PER_PASS):
        batch = labels[first : first + ITEMS_PER_PASS]
        readings = [decoder.target.reading(by_label[x].dialog, span or by_label[x].read) for x in batch]
        activations = decoder.target.read_many(readings, decoder.read_layers)
        scored = _score(decoder, batch, activations, chosen, by_label)
        for label, scores in zip(batch, scored, strict=True):
            near_copy = None if copies is None else label in copies
            items.append(_item(by_label[label], chosen[label], scores, near_copy))
        if progress is not None:
            progress(len(items), len(labels))
    return EvaluationReport(tuple(items), {reason: n for reason, n in skipped.items() if n})


def _choose(
    by_label: dict[str, Example], candidates: int, seed: int, limit: int | None
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Candidate labels of each label, the right one first."""
    chosen: dict[str, list[str]] = {}
    skipped = {"too few other labels in the group": 0, "no other answer in the pool": 0}
    for group in sorted({example.group for example in by_label.values()}):
        labels = sorted(label for label in by_label if by_label[label].group == group)
        by_question: dict[str, list[str]] = {}
        for label in labels:
            by_question.setdefault(by_label[label].qa[0].question, []).append(label)
        for label in _in_turn(labels, by_label)[:limit]:
            if by_label[label].qa[0].pool:
                rivals = _rivals(label, labels, by_label)
                drawn = random.Random(f"{seed}:{label}").sample(rivals, min(candidates - 1, len(rivals)))
                if drawn:
                    chosen[label] = [label, *drawn]
                else:
                    skipped["no other answer in the pool"] += 1
                continue
            same = by_question[by_label[label].qa[0].question]
            pool = [other for other in (same if len(same) >= SMALLEST_POOL else labels) if other != label]
            if len(pool) < candidates - 1:
                pool = [other for other in labels if other != label]
            if len(pool) < candidates - 1:
                skipped["too few other labels in the group"] += 1
                continue
            chosen[label] = [label, *random.Random(f"{seed}:{label}").sample(pool, candidates - 1)]
    return chosen, skipped


def _in_turn(labels: list[str], by_label: dict[str, Example]) -> list[str]:
    """The labels, taken from each pool in turn, so that the first of them are of all pools."""
    met: Counter[str] = Counter()
    turns = {}
    for label in labels:
        pool = by_label[label].qa[0].pool
        turns[label] = met[pool]
        met[pool] += 1
    return sorted(labels, key=lambda label: turns[label])


def _rivals(label: str, labels: list[str], by_label: dict[str, Example]) -> list[str]:
    """One label for each other answer of the label's pool."""
    own = by_label[label].qa[0]
    answers: dict[str, str] = {}
    for other in labels:
        pair = by_label[other].qa[0]
        if pair.pool == own.pool and pair.answer.casefold() != own.answer.casefold():
            answers.setdefault(pair.answer.casefold(), other)
    return sorted(answers.values())


@dataclass(frozen=True)
class _Scores:
    true: list[float]
    mean: list[float]
    shuffled: float


def _score(
    decoder: Decoder,
    labels: Sequence[str],
    activations: Sequence[Activation],
    chosen: dict[str, list[str]],
    by_label: dict[str, Example],
) -> list[_Scores]:
    pairs, answers, starts = [], [], [0]
    for label, activation in zip(labels, activations, strict=True):
        for candidate in chosen[label]:
            pairs.append((activation, by_label[label].qa[0].question))
            answers.append(decoder.wiring.prompt.answer(by_label[candidate].qa[0].answer))
        starts.append(len(pairs))
    true = decoder.logprobs(pairs, answers)
    mean = decoder.logprobs(pairs, answers, reference="mean")
    own = starts[:-1]
    shuffled = decoder.logprobs([pairs[i] for i in own], [answers[i] for i in own], reference="shuffled")
    return [
        _Scores(true[start:end], mean[start:end], shuffled[number])
        for number, (start, end) in enumerate(pairwise(starts))
    ]


def _item(example: Example, candidates: list[str], scores: _Scores, near_copy: bool | None) -> RankedItem:
    return RankedItem(
        label=example.label,
        group=example.group,
        question=example.qa[0].question,
        candidates=tuple(candidates),
        supports=tuple(t - m for t, m in zip(scores.true, scores.mean, strict=True)),
        logprobs=tuple(scores.true),
        mean_logprobs=tuple(scores.mean),
        shuffled_logprob=scores.shuffled,
        near_copy=near_copy,
    )


def _figures(items: Sequence[RankedItem]) -> dict[str, Any]:
    n = len(items)
    right = sum(_first_wins(item.supports) for item in items)
    low, high = wilson(right, n)
    figures: dict[str, Any] = {
        "top1": right / n,
        "top1_low": low,
        "top1_high": high,
        "top1_raw": sum(_first_wins(item.logprobs) for item in items) / n,
        "top1_mean_activation": sum(_first_wins(item.mean_logprobs) for item in items) / n,
        "n": n,
        "loss_true": -sum(item.logprobs[0] for item in items) / n,
        "loss_mean": -sum(item.mean_logprobs[0] for item in items) / n,
        "loss_shuffled": -sum(item.shuffled_logprob for item in items) / n,
    }
    fresh = [item for item in items if item.near_copy is False]
    if len(fresh) < n and any(item.near_copy is not None for item in items):
        figures["without_near_copies"] = {
            "top1": sum(_first_wins(item.supports) for item in fresh) / max(1, len(fresh)),
            "n": len(fresh),
        }
    return figures


def _first_wins(values: Sequence[float]) -> bool:
    """Whether the right answer is strictly best: ties lose."""
    return values[0] > max(values[1:])


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def _training_controls(folder: Path) -> list[str]:
    """Controls of the training files beside an evaluation folder, if they are there."""
    beside = folder.parent / "train"
    if not (beside / "system.json").is_file() or beside == folder:
        return []
    return [_control(example) for example in load_published(beside, ("system",)).examples]


def _near_copy_labels(examples: Sequence[Example], training_controls: Sequence[str]) -> set[str] | None:
    if not training_controls:
        return None
    controls = [_control(example) for example in examples]
    found = near_copies(controls, training_controls, NEAR_COPY, ignore=frozenset())
    return {examples[copy.index].label for copy in found}


def _control(example: Example) -> str:
    return example.dialog[0]["content"]


def _write_items(path: Path, items: Sequence[RankedItem]) -> None:
    if not path.parent.is_dir():
        raise DataError(f"The folder of {path} does not exist. Make it first.")
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for item in items:
            file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
    os.replace(temporary, path)
