"""The linear probe: multinomial logistic regression from activations to labels."""

from __future__ import annotations

import copy
import random
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from latentqa.baselines.fit import FitItem, ReaderError, Validation
from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.reads import grid
from latentqa.baselines.search import Settings, search
from latentqa.errors import DataError, MissingPackageError
from latentqa.types import Answer, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

FOLDS = 3
ITERATIONS = 300
FLOOR = 1e-9  # least probability of a known label
SMALLEST = 1e-10  # squared length, as a share of the largest, of a direction that counts
UNSEEN = -30.0  # log-probability of an answer that no label stands for: below every known one


class LinearProbe:
    """Labels by multinomial logistic regression, one probe for each question that it was fitted on.

    Inputs are the span's mean and its last token at one layer, standardised. Layer, inputs and penalty are
    chosen by cross-validated log-likelihood inside the training split, units held out whole, never on the
    validation items. A candidate stands for the label that it was the answer of in training; `support` and
    `logprob` are both the label's log-probability, since labels need no prior taken off. What no training
    item had ranks last.

    Source: linear classifier probes (Alain and Bengio 2016), as multinomial logistic regression.
    Needs: a training split with at least two items of a class, and scikit-learn.
    Cannot: name a label that it was not fitted on, or answer a question that it was not fitted on.
    """

    name = "linear-probe"

    def __init__(self, context: ReaderContext) -> None:
        self._reads = context.reads
        self._seed = context.seed
        self._budget = context.budget
        self._layers = grid(context.target, context.layers)
        self._kept = tuple(dict.fromkeys((*self._layers, *context.moved)))
        self._moves = bool(context.moved)
        self._classes: dict[str, _Classes] = {}
        self._axes = {
            "layer": self._layers,
            "C": (0.01, 0.001, 0.1, 0.0001, 1.0),
            "inputs": ("mean and last", "mean", "last"),
        }
        self._probes: dict[str, _Probe] = {}
        self.choices: dict[str, object] = {}

    def fit(self, items: Sequence[FitItem], validation: Validation = ()) -> None:
        """Fit a probe for each question.

        Args:
            items: the training split; `label` is what is predicted.
            validation: not used: the split chooses for itself.

        Raises:
            DataError: no items, a question whose label never varies, or with no two items of a label.
            MissingPackageError: scikit-learn is not installed.
        """
        _logistic_regression()
        if not items:
            raise DataError(f"{self.name} was given no training item. Give a training split.")
        queries = [item.query for item in items]
        inputs = torch.stack(list(self._reads.map(queries, self._kept, _summary))).numpy()
        by_question: dict[str, list[int]] = {}
        for number, item in enumerate(items):
            by_question.setdefault(item.query.question, []).append(number)
        classes = {
            question: _Classes.of(question, [items[n] for n in numbers], inputs[numbers], self._seed)
            for question, numbers in by_question.items()
        }
        prepared: dict[tuple[Any, ...], _Inputs] = {}

        def likelihood(settings: Settings) -> float:
            values = [self._cross_validated(one, settings, prepared) for one in classes.values()]
            return sum(values) / len(values)

        found = search(self._axes, likelihood, self._budget)
        self._settings = found.settings
        self._probes = self._fit_all(classes, prepared)
        self._classes = classes if self._moves else {}
        alone = sum(one.alone for one in classes.values())
        names = sum(len(set(one.labels)) for one in classes.values())
        self.choices = {**found.choices(), "classes": names, "classes of one": alone}

    def at_layer(self, layer: int) -> Self:
        """Probes fitted at another layer, with the inputs and penalty that were chosen.

        Raises:
            ReaderError: the probe was not fitted, or its context did not name the layer in `moved`.
        """
        if layer not in self._kept or not self._classes:
            raise ReaderError(
                f"{self.name} cannot be put to layer {layer}: its training split was read at "
                f"{list(self._kept)}. Name the layer in ReaderContext.moved, then fit."
            )
        other = copy.copy(self)
        other._settings = {**self._settings, "layer": layer}
        other._probes = other._fit_all(self._classes, {})
        return other

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """The most probable label's answer, as it stood in training."""
        check_queries(self.name, queries)
        answers = []
        for query, values in zip(queries, self._logprobs(queries), strict=True):
            probe = self._probe(query)
            best = max(values, key=lambda label: values[label])
            answers.append(
                plain_answer(
                    self.name,
                    query,
                    probe.classes.text[best],
                    (self._settings["layer"],),
                    logprobs=(values[best],),
                    support=values[best],
                )
            )
        return answers

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by their label's log-probability."""
        check_queries(self.name, queries, candidates)
        ranked = []
        for query, texts, values in zip(queries, candidates, self._logprobs(queries), strict=True):
            known = self._probe(query).classes.label_of
            found = [values.get(known.get(_plain(text), ""), UNSEEN) for text in texts]
            scores = [Score(text, value, value, 1) for text, value in zip(texts, found, strict=True)]
            ranked.append(rank(scores))
        return ranked

    def _probe(self, query: Query) -> _Probe:
        if not self._probes:
            raise ReaderError(
                f"{self.name} has not been fitted. Call fit(items) with a training split first."
            )
        if query.question not in self._probes:
            raise ReaderError(
                f"{self.name} was fitted on {len(self._probes)} questions, and {query.question!r} is none of "
                f"them, for example {next(iter(self._probes))!r}. Fit it on training items of that question."
            )
        return self._probes[query.question]

    def _logprobs(self, queries: Sequence[Query]) -> list[dict[str, float]]:
        """For each query label → log-probability."""
        probes = [self._probe(query) for query in queries]
        inputs = list(self._reads.map(queries, (self._settings["layer"],), _summary))
        return [
            probe.logprobs(_columns(one.numpy(), self._settings["inputs"])[None])
            for probe, one in zip(probes, (each[0] for each in inputs), strict=True)
        ]

    def _inputs(
        self, classes: _Classes, settings: Settings, prepared: dict[tuple[Any, ...], _Inputs]
    ) -> _Inputs:
        key = (classes.question, settings["layer"], settings["inputs"])
        if key not in prepared:
            raw = classes.inputs[:, self._kept.index(settings["layer"])]
            prepared[key] = _Inputs.of(_columns(raw, settings["inputs"]))
        return prepared[key]

    def _cross_validated(
        self, classes: _Classes, settings: Settings, prepared: dict[tuple[Any, ...], _Inputs]
    ) -> float:
        """Mean log-probability of the right label of held-out items."""
        inputs = self._inputs(classes, settings, prepared).rows
        values: list[float] = []
        for fold in range(FOLDS):
            out = [number for number, own in enumerate(classes.folds) if own == fold]
            kept = [number for number, own in enumerate(classes.folds) if own != fold]
            labels = [classes.labels[number] for number in kept]
            if not out or len(set(labels)) < 2:
                continue
            model = _fitted(inputs[kept], labels, settings["C"])
            place = {label: column for column, label in enumerate(model.classes_)}
            chances = model.predict_proba(inputs[out])
            values += [
                float(np.log(max(FLOOR, chances[row, place[classes.labels[number]]])))
                for row, number in enumerate(out)
            ]
        return sum(values) / max(1, len(values))

    def _fit_all(
        self, classes: dict[str, _Classes], prepared: dict[tuple[Any, ...], _Inputs]
    ) -> dict[str, _Probe]:
        """A probe for each question, under the chosen settings."""
        probes = {}
        for question, one in classes.items():
            inputs = self._inputs(one, self._settings, prepared)
            probes[question] = _Probe(one, inputs, _fitted(inputs.rows, one.labels, self._settings["C"]))
        return probes


@dataclass(frozen=True, eq=False)
class _Classes:
    """The training items of one question.

    Attributes:
        question: what they were asked.
        labels: of each item.
        inputs: `[N, L, 2 D]`, mean and last token.
        folds: cross-validation fold of each item, the same for a unit; −1 for a class of one unit, which
            always trains.
        alone: classes of one unit.
        label_of: answer text in lower case → label.
        text: label → its commonest answer text.
    """

    question: str
    labels: list[str]
    inputs: np.ndarray
    folds: list[int]
    alone: int
    label_of: dict[str, str]
    text: dict[str, str]

    @classmethod
    def of(cls, question: str, items: Sequence[FitItem], inputs: np.ndarray, seed: int) -> _Classes:
        """Sort out the items of a question."""
        labels = [item.label for item in items]
        counts = Counter(labels)
        if len(counts) < 2:
            raise DataError(
                f"The label never varies: all {len(items)} training items of {question!r} have "
                f"{labels[0]!r}, and a linear probe needs two classes or more."
            )
        if max(counts.values()) < 2:
            raise DataError(
                f"Each of the {len(counts)} classes of {question!r} has one training item, and a linear "
                "probe needs one class with two or more. The retrieval probe takes labels that do not repeat."
            )
        folds, units_of = _folds([(item.label, item.unit) for item in items], seed)
        texts: dict[str, Counter[str]] = {}
        for item in items:
            texts.setdefault(item.label, Counter())[item.answer] += 1
        label_of = {_plain(label): label for label in counts} | {
            _plain(item.answer): item.label for item in items
        }
        text = {label: found.most_common(1)[0][0] for label, found in texts.items()}
        alone = sum(count == 1 for count in units_of.values())
        return cls(question, labels, inputs, folds, alone, label_of, text)


@dataclass(frozen=True, eq=False)
class _Inputs:
    """Standardised inputs, turned into as many columns as there are items where they have more.

    A penalty on the square of the weights does not see a rotation, and what lies outside the items' own
    directions gets no weight: the solution is the same, found faster.

    Attributes:
        rows: `[N, K]`, the training items.
        mean: `[D]`.
        spread: `[D]`, standard deviation.
        turn: `[D, K]`; None leaves the columns as they are.
    """

    rows: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    turn: np.ndarray | None

    @classmethod
    def of(cls, raw: np.ndarray) -> _Inputs:
        mean, spread = raw.mean(0), raw.std(0) + 1e-6
        rows = (raw - mean) / spread
        if len(rows) >= rows.shape[1]:
            return cls(rows, mean, spread, None)
        turn = _directions(rows)
        return cls(rows @ turn, mean, spread, turn)

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        rows = (raw - self.mean) / self.spread
        return rows if self.turn is None else rows @ self.turn


@dataclass(frozen=True, eq=False)
class _Probe:
    """A fitted probe of one question."""

    classes: _Classes
    inputs: _Inputs
    model: Any

    def logprobs(self, raw: np.ndarray) -> dict[str, float]:
        """Label → log-probability for one item's inputs `[1, D]`."""
        chances = self.model.predict_proba(self.inputs(raw))[0]
        return {
            str(label): float(np.log(max(FLOOR, chance)))
            for label, chance in zip(self.model.classes_, chances, strict=True)
        }


def _folds(units: Sequence[tuple[str, str]], seed: int) -> tuple[list[int], Counter[str]]:
    """Fold of each item, and the number of units of each label, which are dealt out in turn.

    Args:
        units: label and unit of each item; an empty unit, or the only one of every label, is each item alone.
        seed: of the order of units.
    """
    together = len(set(units)) > len({label for label, _ in units})
    units = [
        (label, unit if unit and together else str(number)) for number, (label, unit) in enumerate(units)
    ]
    different = sorted(set(units))
    counts = Counter(label for label, _ in different)
    seen: Counter[str] = Counter()
    fold_of: dict[tuple[str, str], int] = {}
    for unit in random.Random(f"{seed}:folds").sample(different, len(different)):
        fold_of[unit] = -1 if counts[unit[0]] == 1 else seen[unit[0]] % FOLDS
        seen[unit[0]] += 1
    return [fold_of[unit] for unit in units], counts


def _directions(rows: np.ndarray) -> np.ndarray:
    """Orthonormal directions `[D, K]` that `[N, D]` rows span, `K` at most `N`; from the `[N, N]` side."""
    wide = rows.astype(np.float64)
    values, vectors = np.linalg.eigh(wide @ wide.T)
    kept = values > SMALLEST * values[-1]
    return (wide.T @ (vectors[:, kept] / np.sqrt(values[kept]))).astype(rows.dtype)


def _summary(vectors: Tensor) -> Tensor:
    """Mean and last token, `[L, 2 D]` float32 on the CPU, of a span's `[L, T, D]`."""
    return torch.cat([vectors.float().mean(1), vectors[:, -1].float()], dim=1).cpu()


def _columns(inputs: np.ndarray, which: str) -> np.ndarray:
    """The half of the last axis that is wanted, or all of it."""
    half = inputs.shape[-1] // 2
    return {"mean and last": inputs, "mean": inputs[..., :half], "last": inputs[..., half:]}[which]


def _plain(text: str) -> str:
    return text.strip().lower()


def _fitted(rows: np.ndarray, labels: Sequence[str], strength: float) -> Any:
    """A fitted `LogisticRegression`."""
    regression = _logistic_regression()(C=strength, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that it stopped at the last iteration: the penalty was chosen so too
        return regression.fit(rows, list(labels))


def _logistic_regression() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingPackageError(
            "The linear probe needs scikit-learn, which is missing. Run: pip install 'latentqa[bench]'"
        ) from error
    return LogisticRegression
