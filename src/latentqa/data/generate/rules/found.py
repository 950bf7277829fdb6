"""Pairs of one dialog as they are found: no question twice, and no answer twice unless there is no other."""

from __future__ import annotations

from latentqa.data.schema import QA, QAKind

PATIENCE = 8  # answers that were given already, in a row, after which one may come again


class Found:
    """The pairs of a dialog.

    Attributes:
        pairs: those found so far.
    """

    def __init__(self) -> None:
        self.pairs: list[QA] = []
        self._questions: set[str] = set()
        self._answers: set[str] = set()
        self._refused = 0

    def wants(self, count: int) -> bool:
        """Whether there are fewer pairs than that; also false when nothing new has come for long."""
        return len(self.pairs) < count and self._refused < 2 * PATIENCE

    def add(self, question: str, answer: str, kind: QAKind, pool: str = "") -> None:
        """Keep a pair, unless its question was asked or its answer given already."""
        if question in self._questions or (answer in self._answers and self._refused < PATIENCE):
            self._refused += 1
            return
        self._refused = 0
        self._questions.add(question)
        self._answers.add(answer)
        self.pairs.append(QA(question=question, answer=answer, kind=kind, pool=pool))
