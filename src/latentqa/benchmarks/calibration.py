"""Calibration: does a reader know when it is right? Each signal alone, and a small fitted combination.

Two predictors: one for rankings (right = the right answer has the best support) and one for free answers
(right = nearer by embedding to the right answer than to the wrong ones). Both are fitted on labels that were
held out of training, and measured on the evaluation labels.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import Field

from latentqa.benchmarks.embedding import load_embedding
from latentqa.benchmarks.experiment import (
    Experiment,
    ExperimentSettings,
    Item,
    Metric,
    Tools,
    draw,
    file_hashes,
)
from latentqa.benchmarks.hidden_prompts import EVAL, GROUPS, TRAIN, usable_examples
from latentqa.benchmarks.runner import Row
from latentqa.benchmarks.statistics import fit_logistic
from latentqa.data import Example, as_turns, data_file, is_held_out, load_published
from latentqa.data.schema import ExampleKind
from latentqa.errors import DataError
from latentqa.types import Query

KINDS: tuple[ExampleKind, ...] = ("system", "stimulus", "stimulus_completion", "control")
SMALLEST_FIT = 20
"""Rows, and two outcomes, that a predictor needs."""


@dataclass(frozen=True)
class Predictor:
    """A calibrated probability that is fitted on a reader's signals.

    Attributes:
        name: of the value that it adds to a row.
        truth: value that says whether the reader was right.
        signals: values that it is made of.
    """

    name: str
    truth: str
    signals: tuple[str, ...]


RANKING = Predictor("p_right", "right", ("support", "margin", "logprob", "share"))
FREE = Predictor("p_free_right", "free_right", ("free_support", "free_logprob", "free_percentile"))


class CalibrationSettings(ExperimentSettings):
    """What `bench run calibration key=value` takes.

    Attributes:
        distractors: wrong answers per item, of the same group.
        held_out: share of the training labels that the decoder was not trained on.
        train_seed: seed of the training that held them out.
        free: ask for free answers too.
    """

    distractors: int = Field(9, ge=1)
    held_out: float = Field(0.1, gt=0, le=1)
    train_seed: int = 0
    free: bool = True


def calibration(root: Path, settings: CalibrationSettings, tools: Tools) -> Experiment:
    """The experiment of every (label, question, kind) of the evaluation files.

    Items with a system prompt come a second time with it as a first user turn.

    Raises:
        DataError: the evaluation or training files are missing.
    """
    folder = data_file(EVAL, root)
    filtered: Counter[str] = Counter()
    test = usable_examples(load_published(folder, KINDS).require_clean(), filtered)
    training = load_published(data_file(TRAIN, root), ("system",)).examples
    held_out = [
        example
        for example in training
        if example.qa
        and example.group in GROUPS
        and is_held_out(example.label, settings.held_out, settings.train_seed)
    ]
    if not held_out:
        raise DataError(
            f"No label of {TRAIN} with question-answer pairs is held out at "
            f"held_out={settings.held_out}. Give "
            "the share and seed (train_seed) that the decoder was trained with."
        )
    answers = list(dict.fromkeys(pair.answer for example in test for pair in example.qa))
    name = tools.embed_name if tools.embed is not None else load_embedding(answers).name
    tested = draw(confidence_items(test, "test", settings.distractors, tools.seed), tools.limit, tools.seed)
    fitted = draw(
        confidence_items(held_out, "fit", settings.distractors, tools.seed), tools.limit, tools.seed
    )
    return Experiment(
        name="calibration",
        doc="Does the reader know when it is right? Signals alone, and calibrated on held-out labels.",
        items=(*fitted, *tested),
        filtered=dict(filtered),
        metrics=METRICS,
        asks=settings.free,
        files=file_hashes([folder / "qa.json", data_file(f"{TRAIN}/qa.json", root)], root),
        notes=(
            f"Predictors are fitted on {len(fitted)} items of held-out training labels and measured on "
            f"{len(tested)} items; intervals are drawn by label.",
            f"Free answers are right by the embedding {name}.",
        ),
    )


def _metrics() -> tuple[Metric, ...]:
    tested = {"split": "test"}
    found: list[Metric] = []
    for predictor, what in ((RANKING, "ranking"), (FREE, "free answer")):
        p, truth = predictor.name, predictor.truth
        found += [
            Metric(f"{what} right", f"Share of right {what}s.", truth, where=tested),
            Metric(
                f"{what} ECE",
                "Stated and found share, 10 bins of equal mass.",
                p,
                "ece",
                truth,
                tested,
                better="low",
            ),
            Metric(
                f"{what} Brier",
                "Mean squared error of the probability.",
                p,
                "brier",
                truth,
                tested,
                False,
                "low",
            ),
            Metric(f"{what} AUROC", "Right ones have a higher probability.", p, "auroc", truth, tested),
            Metric(f"{what} AURC", "Mean risk over all coverages.", p, "aurc", truth, tested, better="low"),
        ]
        found += [
            Metric(f"{what} AUROC, {signal}", f"AUROC of {signal} alone.", signal, "auroc", truth, tested)
            for signal in predictor.signals
        ]
    return tuple(found)


METRICS = _metrics()


def calibrated(rows: Sequence[Row]) -> list[Row]:
    """Rows with `p_right` and `p_free_right`, fitted per reader on the rows of the split `fit`."""
    found = list(rows)
    for predictor in (RANKING, FREE):
        for reader in dict.fromkeys(row.reader for row in rows):
            _predict(found, reader, predictor)
    return found


def _predict(rows: list[Row], reader: str, predictor: Predictor) -> None:
    """Add a predictor's value to the rows of a reader, in place."""
    own = [n for n, row in enumerate(rows) if row.reader == reader and predictor.truth in row.values]
    signals = [name for name in predictor.signals if own and all(name in rows[n].values for n in own)]
    train = [n for n in own if rows[n].flags.get("split") == "fit"]
    outcomes = [int(rows[n].values[predictor.truth]) for n in train]
    if not signals or len(train) < SMALLEST_FIT or len(set(outcomes)) < 2:
        return
    inputs = np.array([[rows[n].values[name] for name in signals] for n in own])
    fitted = set(train)
    chosen = np.array([n in fitted for n in own])
    model = fit_logistic(inputs[chosen], outcomes)
    for n, p in zip(own, model.probabilities(inputs).tolist(), strict=True):
        rows[n] = replace(rows[n], values={**rows[n].values, predictor.name: p})


def confidence_items(examples: Sequence[Example], split: str, distractors: int, seed: int) -> list[Item]:
    """Every question of every example, with wrong answers of its group; with a system prompt also as turns.

    Args:
        examples: with pairs.
        split: `fit` or `test`, a flag of the items.
        distractors: wrong answers of each.
        seed: of their draw.
    """
    whole = [
        variant
        for example in examples
        for variant in ([example, as_turns(example)] if example.kind == "system" else [example])
    ]
    pools = _pools(examples)
    items = []
    for example in whole:
        for number, pair in enumerate(example.qa):
            pool = [text for text in pools[example.group, number] if text != pair.answer]
            if len(pool) < distractors:
                continue
            wrong = random.Random(f"{seed}:{example.label}:{number}").sample(pool, distractors)
            items.append(
                Item(
                    id=f"{split}:{example.id}:{number}",
                    group=example.group,
                    query=Query(example.dialog, example.read, pair.question),
                    question=pair.question,
                    gold=pair.answer,
                    candidates=(pair.answer, *wrong),
                    scorer="confidence",
                    meta={
                        "unit": example.label,
                        "label": example.label,
                        "flags": {"split": split, "kind": example.kind, "pair": pair.kind},
                    },
                )
            )
    return items


def _pools(examples: Sequence[Example]) -> dict[tuple[str, int], list[str]]:
    """Answers of each group, descriptions and the rest apart: another kind of answer gives itself away."""
    pools: dict[tuple[str, int], dict[str, None]] = {}
    for example in examples:
        for number, pair in enumerate(example.qa):
            pools.setdefault((example.group, number), {})[pair.answer] = None
    return {key: sorted(pool) for key, pool in pools.items()}
