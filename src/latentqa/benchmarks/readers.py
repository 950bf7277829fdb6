"""Readers that an experiment itself brings: one fold after another, and the most common answer."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from latentqa.baselines.fit import Layered
from latentqa.benchmarks.experiment import Experiment, Item
from latentqa.errors import ConfigError
from latentqa.reader import Reader
from latentqa.types import Answer, Query, Score

MAJORITY = "majority"


class FoldedReader:
    """One reader per fold: each item is read by the one that was fitted without its fold.

    Args:
        name: in tables.
        readers: fold → reader.
        items: every item that may be asked about, with its fold.
    """

    def __init__(self, name: str, readers: Mapping[int, Reader], items: Sequence[Item]) -> None:
        self._name = name
        self._readers = dict(readers)
        self._fold = {query_key(item.query): int(item.meta["fold"]) for item in items}
        self.choices = {
            f"fold {fold}": reader.choices  # pyright: ignore[reportAttributeAccessIssue]
            for fold, reader in self._readers.items()
            if getattr(reader, "choices", None)
        }

    @property
    def name(self) -> str:
        """Short name for tables."""
        return self._name

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """One answer per query, in order."""
        answers: dict[int, Answer] = {}
        for fold, numbers in self._by_fold(queries).items():
            found = self._readers[fold].ask([queries[number] for number in numbers])
            answers.update(zip(numbers, found, strict=True))
        return [answers[number] for number in range(len(queries))]

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """For each query its candidates' scores, best support first."""
        scores: dict[int, list[Score]] = {}
        for fold, numbers in self._by_fold(queries).items():
            found = self._readers[fold].score(
                [queries[number] for number in numbers], [candidates[number] for number in numbers]
            )
            scores.update(zip(numbers, found, strict=True))
        return [scores[number] for number in range(len(queries))]

    def at_layer(self, layer: int) -> FoldedReader:
        """The readers of all folds at another layer.

        Raises:
            ConfigError: readers that have no layer.
        """
        other = copy.copy(self)
        other._readers = {fold: _moved(reader, layer) for fold, reader in self._readers.items()}
        return other

    @property
    def remembered(self) -> int:
        """Answers and scores that were taken from earlier runs."""
        return sum(getattr(reader, "remembered", 0) for reader in self._readers.values())

    def _by_fold(self, queries: Sequence[Query]) -> dict[int, list[int]]:
        folds: dict[int, list[int]] = {}
        for number, query in enumerate(queries):
            key = query_key(query)
            if key not in self._fold:
                raise ConfigError(
                    f"{self.name} was asked about a dialog that is in no fold. Ask it about the "
                    "experiment's own."
                )
            folds.setdefault(self._fold[key], []).append(number)
        return folds


def _moved(reader: Reader, layer: int) -> Reader:
    if not isinstance(reader, Layered):
        raise ConfigError(f"Reader {reader.name} reads no single layer, so it cannot be put to another.")
    return reader.at_layer(layer)


class MajorityReader:
    """Answers with the most common right answer of the training split: what needs no activation at all.

    Args:
        items: of the training split.
    """

    name = MAJORITY

    def __init__(self, items: Sequence[Item]) -> None:
        self._counts: dict[str, Counter[str]] = {}
        for item in items:
            self._counts.setdefault(item.question, Counter())[item.gold] += 1

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """The question's most common answer."""
        return [self._answer(query) for query in queries]

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """How often each candidate was the right answer to the question; support in counts, not nats."""
        ranked = []
        for query, texts in zip(queries, candidates, strict=True):
            counts = self._counts.get(query.question, Counter())
            scores = [Score(text, 0.0, float(counts[text]), len(text.split())) for text in texts]
            ranked.append(sorted(scores, key=lambda score: -score.support))
        return ranked

    def _answer(self, query: Query) -> Answer:
        counts = self._counts.get(query.question, Counter())
        text = min(counts, key=lambda text: (-counts[text], text)) if counts else ""
        return Answer(text, query.question, (), None, None, "not sure", (), query.span, self.name, 0)


def fit_split(experiment: Experiment, fold: int | None) -> list[Item]:
    """The items that a reader is fitted on before it reads a fold; None is all of them."""
    return [item for item in experiment.fit if fold is None or item.meta.get("fold") != fold]


def folds_of(experiment: Experiment) -> tuple[int, ...]:
    """Folds of the test items; none where the training split is another file."""
    return tuple(sorted({int(item.meta["fold"]) for item in experiment.items if "fold" in item.meta}))


def fitted(
    name: str, experiment: Experiment, make: Callable[[Sequence[Item], int | None], Reader]
) -> Callable[[], Reader]:
    """How to build a reader that must be fitted: once, or once a fold.

    Args:
        name: in tables.
        experiment: its training split and folds.
        make: builds a reader from the items it is fitted on and the fold that it will read.
    """
    folds = folds_of(experiment)
    if not folds:
        return lambda: make(fit_split(experiment, None), None)
    return lambda: FoldedReader(
        name, {fold: make(fit_split(experiment, fold), fold) for fold in folds}, experiment.items
    )


def query_key(query: Query) -> str:
    """What tells two queries apart: dialog, span and question."""
    return json.dumps([[dict(message) for message in query.dialog], query.span, query.question])
