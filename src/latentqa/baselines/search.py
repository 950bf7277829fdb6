"""The search for a baseline's settings: the same budget of tried settings for every baseline."""

from __future__ import annotations

import copy
import itertools
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from latentqa.baselines.fit import Validation
from latentqa.types import Query, Score

Settings = dict[str, Any]
Axes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        settings: the best ones.
        value: what they were judged at; None if nothing was tried.
        tried: how many settings were judged.
    """

    settings: Settings
    value: float | None = None
    tried: int = 0

    def choices(self) -> dict[str, object]:
        """For the table: the settings, how many were tried, and the best one's value."""
        shown = None if self.value is None else round(self.value, 4)
        return {**self.settings, "tried": self.tried, "validation": shown}


class Searched(ABC):
    """A reader's part that chooses its settings on validation items.

    Args:
        axes: name → values to choose from; the first of each is used until `choose` is called.
        budget: most settings that are judged.
    """

    def __init__(self, axes: Axes, budget: int) -> None:
        self._axes = axes
        self._budget = budget
        self._found = Found(first_settings(axes))

    @property
    def choices(self) -> dict[str, object]:
        """The chosen settings, and how many were tried."""
        return self._found.choices()

    def choose(self, validation: Validation) -> None:
        """Choose the settings on the validation items."""
        self._found = search(self._axes, lambda settings: self._judge(settings, validation), self._budget)

    def _with(self, **settings: Any) -> Self:
        """The same reader, some of its settings replaced."""
        other = copy.copy(self)
        other._found = Found({**self._found.settings, **settings}, None, self._found.tried)
        return other

    def _judge(self, settings: Settings, validation: Validation) -> float:
        return reciprocal_rank(lambda queries, texts: self._score(queries, texts, settings), validation)

    @abstractmethod
    def _score(
        self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], settings: Settings
    ) -> list[list[Score]]:
        """Candidates of each query under some settings, best support first."""


def first_settings(axes: Axes) -> Settings:
    """The first value of each axis: what is used when there is nothing to choose by."""
    return {name: values[0] for name, values in axes.items()}


def search(axes: Axes, judge: Callable[[Settings], float], budget: int) -> Found:
    """Sweep one axis after the other at the best values of the rest, then try others at random.

    The whole budget is used, as long as there are settings left: every baseline gets the same.

    Args:
        axes: name → values; the first value of each is the start, and ties keep what was tried first.
        judge: how good settings are; higher is better.
        budget: most settings that are judged; below 1 the start is taken unjudged.

    Example:
        >>> search({"a": (1, 2, 3), "b": (0, 5)}, lambda s: s["a"] + s["b"], budget=12).settings
        {'a': 3, 'b': 5}
    """
    best = first_settings(axes)
    if budget < 1:
        return Found(best)
    judged, value = [best], judge(best)

    def consider(settings: Settings) -> None:
        nonlocal best, value
        if settings in judged or len(judged) >= budget:
            return
        judged.append(settings)
        found = judge(settings)
        if found > value:
            best, value = settings, found

    for name, values in axes.items():
        for candidate in values:
            consider({**best, name: candidate})
    every = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    for settings in random.Random(0).sample(every, len(every)):
        consider(settings)
    return Found(best, value, len(judged))


def reciprocal_rank(
    score: Callable[[Sequence[Query], Sequence[Sequence[str]]], list[list[Score]]], validation: Validation
) -> float:
    """Mean of 1 / rank of the right answers (0–1); a tie counts against the right answer.

    Args:
        score: a reader's `score`.
        validation: items with candidates; the right answer is added where it is missing.
    """
    queries = [item.query for item, _ in validation]
    candidates = [texts if item.answer in texts else (item.answer, *texts) for item, texts in validation]
    total = 0.0
    for (item, _), ranked in zip(validation, score(queries, candidates), strict=True):
        own = next(one.support for one in ranked if one.answer == item.answer)
        total += 1 / sum(one.answer == item.answer or one.support >= own for one in ranked)
    return total / max(1, len(validation))
