"""How likely an answer is right: a small logistic model of the decoder's own signals, kept in the card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field

from latentqa.data.split import words
from latentqa.types import Answer

AGREES = 0.5
"""Share of words (F1) from which a sample says the same as the answer."""


class Confidence(BaseModel):
    """A calibrated p(correct) of generated answers.

    An answer counts as correct where it lies nearer, by sentence embedding, to the right answer than to nine
    wrong ones of the same group; it was fitted on labels that training held out.

    Attributes:
        signals: what it is made of: `support`, `logprob` (nats a token), `percentile`, `agreement`.
        center: subtracted from each signal.
        spread: that each signal is then divided by.
        weights: of the scaled signals.
        intercept: log-odds where all signals are at their center.
        answers: number of answers that it was fitted on.
        correct: share of them that were correct.
        embedding: that said what is correct.
        risk: rising pairs of (p, share of wrong answers among those at least that sure), on the same answers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    signals: tuple[str, ...] = Field(min_length=1)
    center: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    answers: int
    correct: float
    embedding: str
    risk: tuple[tuple[float, float], ...] = ()

    def probability(self, values: Mapping[str, float]) -> float:
        """p(correct) of an answer with these signals."""
        log_odds = self.intercept
        for name, center, spread, weight in zip(
            self.signals, self.center, self.spread, self.weights, strict=True
        ):
            log_odds += weight * (values[name] - center) / spread
        return 1.0 / (1.0 + math.exp(-max(-50.0, min(50.0, log_odds))))

    def least(self, max_error: float) -> float:
        """The p from which on at most that share of answers was wrong; above 1 where no p keeps to it."""
        return next((p for p, wrong in self.risk if wrong <= max_error), math.inf)


def signals_of(answer: Answer) -> dict[str, float]:
    """The signals that an answer carries, by name."""
    found = {
        "support": answer.support,
        "logprob": answer.logprob,
        "percentile": answer.percentile,
        "agreement": answer.agreement,
    }
    return {name: value for name, value in found.items() if value is not None}


def model_for(models: Sequence[Confidence], answer: Answer) -> Confidence | None:
    """The model that uses most of the signals that an answer carries."""
    there = set(signals_of(answer))
    fitting = [model for model in models if set(model.signals) <= there]
    return max(fitting, key=lambda model: len(model.signals), default=None)


def agreement(answer: str, samples: Sequence[str], question: str) -> float | None:
    """Share (0–1) of samples that say the same as an answer, by the words that the question lacks.

    Example:
        >>> agreement("It is a kind pirate.", ["A kind pirate", "A nurse"], "What persona is it?")
        0.5
    """
    if not samples:
        return None
    asked = words(question)
    said = words(answer) - asked
    return sum(_overlap(said, words(sample) - asked) >= AGREES for sample in samples) / len(samples)


def _overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """F1 of two sets of words; two empty ones are the same."""
    if not first and not second:
        return 1.0
    return 2 * len(first & second) / (len(first) + len(second))
