"""From names of readers to contenders: which take part, how each is fitted, and why some do not."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from latentqa.benchmarks.experiment import Experiment, Item, nearest_name
from latentqa.benchmarks.readers import MAJORITY, MajorityReader, fit_split, fitted, folds_of
from latentqa.benchmarks.runner import Contender
from latentqa.errors import ConfigError
from latentqa.reader import Reader

VALIDATION_ITEMS = 20
CANDIDATES = 4


class Spec(Protocol):
    """What must be known of a reader before it is made; `baselines.READERS` holds such."""

    @property
    def needs_decoder(self) -> bool:
        """Whether it cannot be made without a decoder."""
        ...

    @property
    def needs_fit(self) -> bool:
        """Whether it must be fitted on a training split."""
        ...

    @property
    def answers_free(self) -> bool:
        """Whether it gives free answers."""
        ...

    @property
    def classifies(self) -> bool:
        """Whether it names labels that it was fitted on, and nothing else."""
        ...

    @property
    def layered(self) -> bool:
        """Whether it can be put to another layer."""
        ...


@dataclass(frozen=True, eq=False)
class Training:
    """What a reader is made from.

    Attributes:
        fit: items that it is fitted on; none for readers that are not fitted.
        validation: items with candidates, for readers that only choose settings.
        fold: the fold that it will read; None without folds.
    """

    fit: Sequence[Item] = ()
    validation: Sequence[Item] = ()
    fold: int | None = None


Make = Callable[[str, Training], Reader]
"""Builds a reader of a name: (name, training) → reader."""


@dataclass(frozen=True, eq=False)
class Lineup:
    """Who takes part.

    Attributes:
        contenders: readers that do.
        refused: reader → why it does not.
    """

    contenders: tuple[Contender, ...]
    refused: dict[str, str]


def line_up(
    experiment: Experiment, names: Sequence[str], specs: dict[str, Spec], make: Make, *, seed: int = 0
) -> Lineup:
    """Contenders of an experiment.

    Args:
        experiment: with its training split.
        names: of readers; each must be in `specs`.
        specs: what is known of each reader.
        make: builds one.
        seed: of the draw of validation items. The same for all draws of an experiment lets readers make the
            same choices in them, and so say the same of the same.
    """
    contenders: list[Contender] = []
    refused: dict[str, str] = {}
    for name in dict.fromkeys(names):
        spec = specs[name]
        problem = cannot_fit(experiment) if spec.needs_fit else None
        if problem is None and spec.classifies:
            problem = cannot_classify(experiment)
        if problem is not None:
            refused[name] = problem
            continue
        contenders.append(
            Contender(
                name,
                _maker(experiment, name, spec, make, seed),
                spec.answers_free,
                layered=spec.layered,
                shares=True,
            )
        )
    if any("fold" in item.meta for item in experiment.fit) and contenders and experiment.asks:
        contenders.append(
            Contender(
                MAJORITY,
                fitted(MAJORITY, experiment, lambda items, fold: MajorityReader(items)),
                tested=False,
            )
        )
    return Lineup(tuple(contenders), refused)


def cannot_fit(experiment: Experiment) -> str | None:
    """Why no probe can be fitted on an experiment's training split; None if one can."""
    if not experiment.fit:
        return f"Experiment {experiment.name} has no training split at hand"
    for fold in folds_of(experiment) or (None,):
        by_question: dict[str, set[str]] = {}
        for item in fit_split(experiment, fold):
            question = item.question if fold is not None else ""
            by_question.setdefault(question, set()).add(str(item.meta.get("label", item.gold)))
        for question, labels in by_question.items():
            if len(labels) < 2:
                asked = f" of {question!r}" if question else ""
                return f"The training split of {experiment.name}{asked} has a single class, {labels.pop()!r}"
    return None


def cannot_classify(experiment: Experiment) -> str | None:
    """Why a probe that names labels cannot take part; None if it can.

    It needs two training items of some label of each question, and test items of labels that it was fitted
    on.
    """
    nameable = False
    for fold in folds_of(experiment) or (None,):
        by_question: dict[str, Counter[str]] = {}
        for item in fit_split(experiment, fold):
            label = str(item.meta.get("label", item.gold))
            by_question.setdefault(item.question, Counter())[label] += 1
        for question, labels in by_question.items():
            if max(labels.values()) < 2:
                return (
                    f"Each of the {len(labels)} labels of {question!r} in the training split of "
                    f"{experiment.name} has one item, and a probe that names labels needs two of one"
                )
        nameable = nameable or any(
            str(item.meta.get("label", item.gold)) in by_question.get(item.question, ())
            for item in experiment.items
            if fold is None or item.meta["fold"] == fold
        )
    if not nameable:
        return f"No test item of {experiment.name} has a label of its training split"
    return None


def validation_items(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Some items of a training split, each with a few candidates: of its own, or answers of its group."""
    by_group: dict[str, list[Item]] = {}
    for item in items:
        by_group.setdefault(item.group, []).append(item)
    share = max(1, count // max(1, len(by_group)))
    chosen: list[Item] = []
    for group, members in by_group.items():
        generator = random.Random(f"{seed}:validation:{group}")
        answers = sorted({member.gold for member in members})
        for item in generator.sample(members, min(share, len(members))):
            pool = item.candidates if len(item.candidates) > 1 else answers
            others = [text for text in pool if text != item.gold]
            texts = (item.gold, *generator.sample(others, min(CANDIDATES - 1, len(others))))
            if len(texts) > 1:
                chosen.append(_with_candidates(item, texts))
    return chosen


def _maker(experiment: Experiment, name: str, spec: Spec, make: Make, seed: int) -> Callable[[], Reader]:
    if spec.needs_fit:
        return fitted(name, experiment, lambda items, fold: make(name, Training(fit=items, fold=fold)))
    if not experiment.fit or spec.needs_decoder:
        return lambda: make(name, Training())

    def chosen(items: Sequence[Item], fold: int | None) -> Reader:
        return make(name, Training(validation=validation_items(items, VALIDATION_ITEMS, seed), fold=fold))

    return fitted(name, experiment, chosen)


def _with_candidates(item: Item, texts: Sequence[str]) -> Item:
    return Item(
        item.id, item.group, item.query, item.question, item.gold, tuple(texts), item.scorer, item.meta
    )


def check_names(names: Sequence[str], known: Sequence[str], what: str = "reader") -> None:
    """Refuse names of readers, or of methods, that do not exist.

    Raises:
        ConfigError: with the nearest that does.
    """
    if not names:
        raise ConfigError(f"No {what} is named. There are: {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise nearest_name(what, name, known)
