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
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from latentqa.benchmarks.embedding import described, load_embedding
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

if TYPE_CHECKING:
    from latentqa.decoder import Decoder

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
        fit: items of held-out training labels that the predictors are fitted on, drawn evenly over the
            groups; 0 is all.
        held_out: share of the training labels that the decoder was not trained on.
        train_seed: seed of the training that held them out.
        free: ask for free answers too.
        specificity: test items whose free answer is compared with twenty other dialogs, to see whether it is
            generic, drawn evenly over the groups; 0 is none. Each costs about as much as five answers.
    """

    distractors: int = Field(9, ge=1)
    fit: int = Field(600, ge=0)
    held_out: float = Field(0.1, gt=0, le=1)
    train_seed: int = 0
    free: bool = True
    specificity: int = Field(200, ge=0)


def calibration(root: Path, settings: CalibrationSettings, tools: Tools) -> Experiment:
    """The experiment of every (label, question, kind) of the evaluation files.

    Items with a system prompt come again with it as a first user turn, which the assistant acknowledges or,
    where rules can derive that, restates.

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
    most = min((count for count in (settings.fit, tools.limit) if count), default=None)
    fitted = draw(confidence_items(held_out, "fit", settings.distractors, tools.seed), most, tools.seed)
    special = {item.id for item in draw(tested, settings.specificity, tools.seed)} if settings.free else set()
    tested = [_with_specificity(item) if item.id in special else item for item in tested]
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
            f"Free answers are right by the embedding {described(name)}.",
            f"Whether a free answer is generic was asked of {len(special)} drawn items.",
        ),
        batch=32,
        signals=True,
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
    found += [
        Metric(
            "generic answers",
            "Free answers that most of twenty other dialogs fit at least as well as their own.",
            "generic",
            where=tested,
            better="low",
        ),
        Metric(
            "specificity",
            "Share of twenty other dialogs that a free answer fits less well.",
            "specificity",
            where=tested,
            test="none",
        ),
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
    """Every question of every example, with wrong answers of its group; a system prompt also as turns.

    Args:
        examples: with pairs.
        split: `fit` or `test`, a flag of the items.
        distractors: wrong answers of each.
        seed: of their draw.
    """
    whole = [form for example in examples for form in _forms(example)]
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


def lend_others(decoder: Decoder, items: Sequence[Item]) -> bool:
    """Give a decoder that keeps no other dialogs some of held-out labels, to compare specificity with.

    Args:
        decoder: its references are replaced where they hold none.
        items: of the experiment; those of the split `fit` are lent.

    Returns:
        Whether it was needed.
    """
    from latentqa.benchmarks.confidence import N_OTHERS
    from latentqa.decoder.references import some_vectors

    if decoder.references.others:
        return False
    held_out = {item.unit: item.query for item in items if item.flags.get("split") == "fit"}
    queries = [query for query in held_out.values() if query.span == decoder.card.span]
    queries = random.Random("others").sample(queries, min(N_OTHERS, len(queries)))
    if not queries:
        raise DataError(
            f"Decoder {decoder.name} keeps no other dialogs, and no held-out label is read at its span "
            f"{decoder.card.span}: specificity has nothing to compare with. Write specificity=0."
        )
    others = some_vectors([activation for activation, _ in decoder.pairs(queries)], N_OTHERS)
    decoder.references = replace(decoder.references, others={decoder.card.span: others})
    return True


def _forms(example: Example) -> list[Example]:
    """The example; one with a system prompt also with it as a turn, acknowledged or restated in the reply."""
    if example.kind != "system":
        return [example]
    turns, restated = as_turns(example), as_turns(example, restate=True)
    if restated.dialog == turns.dialog:
        return [example, turns]
    return [example, turns, restated.model_copy(update={"id": f"{example.id}:restated"})]


def _with_specificity(item: Item) -> Item:
    return replace(item, meta={**item.meta, "specificity": True})


def _pools(examples: Sequence[Example]) -> dict[tuple[str, int], list[str]]:
    """Answers of each group, descriptions and the rest apart: another kind of answer gives itself away."""
    pools: dict[tuple[str, int], dict[str, None]] = {}
    for example in examples:
        for number, pair in enumerate(example.qa):
            pools.setdefault((example.group, number), {})[pair.answer] = None
    return {key: sorted(pool) for key, pool in pools.items()}
