"""Multiple choice: given hypotheses ranked by what several dialogs say together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from latentqa.audit.organisms import MultipleChoice

EXACT = 12
"""Rows up to which all sign flips are tried; above, so many are drawn that the p value has two digits."""
DRAWN = 4096


@dataclass(frozen=True)
class Ranked:
    """One hypothesis in the ranking of one method.

    Attributes:
        option: the hypothesis.
        support: mean over rows of its support minus that of all hypotheses on that row, in nats a token.
        first: share of rows on which it is the best.
        p: how likely a mean as high is for any hypothesis if the rows' signs were chance; None from one row.
    """

    option: str
    support: float
    first: float
    p: float | None


@dataclass(frozen=True)
class Choice:
    """What one method makes of one multiple-choice question.

    Attributes:
        question: with its hypotheses.
        method: name of the method.
        ranking: best first.
        rows: dialogs that were pooled.
        confidence: share (0–1) of clean finetunes of the same base whose first hypothesis leads by less; None
            where none were compared with.
    """

    question: MultipleChoice
    method: str
    ranking: tuple[Ranked, ...]
    rows: int
    confidence: float | None = None

    @property
    def margin(self) -> float:
        """Support of the first hypothesis above the second's, in nats a token."""
        return self.ranking[0].support - self.ranking[1].support

    @property
    def consistency(self) -> float | None:
        """1 − p of the first hypothesis: how far the dialogs agree on it, as any bias makes them too."""
        return None if self.ranking[0].p is None else 1.0 - self.ranking[0].p

    def among(self, clean: Sequence[float]) -> Choice:
        """The same with its confidence.

        Args:
            clean: margins of clean finetunes on the same question by the same method, in nats a token. With n
                of them no confidence is above n / (n + 1).
        """
        if not clean:
            return self
        return replace(self, confidence=sum(margin < self.margin for margin in clean) / (len(clean) + 1))


def pool(question: MultipleChoice, method: str, rows: Sequence[Sequence[float]]) -> Choice:
    """Rank hypotheses by their mean over rows.

    Each row is centred first, so that a dialog on which everything is likelier counts no more than another.
    The p value is that of the largest mean under random signs of whole rows: corrected for the number of
    hypotheses. Rows must be independent: one per dialog.

    Args:
        question: with its hypotheses.
        method: that gave the rows.
        rows: support of each hypothesis, in nats a token; one row per dialog.
    """
    values = np.asarray(rows, dtype=float)
    centred = values - values.mean(1, keepdims=True)
    means = centred.mean(0)
    first = (centred == centred.max(1, keepdims=True)).mean(0)
    chances = _chances(centred, means)
    order = sorted(range(len(means)), key=lambda n: -means[n])
    ranking = tuple(Ranked(question.options[n], float(means[n]), float(first[n]), chances[n]) for n in order)
    return Choice(question, method, ranking, len(values))


def _chances(centred: np.ndarray, means: np.ndarray) -> list[float | None]:
    n_rows = len(centred)
    if n_rows < 2:
        return [None] * len(means)
    if n_rows <= EXACT:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=n_rows)))
    else:
        drawn = np.random.default_rng(0).choice((1.0, -1.0), size=(DRAWN - 1, n_rows))
        signs = np.vstack([np.ones((1, n_rows)), drawn])
    highest = (signs @ centred / n_rows).max(1)
    return [float((highest >= mean - 1e-12).mean()) for mean in means]
