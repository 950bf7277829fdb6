"""What a baseline is fitted on, and the error of one that is asked what it cannot answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from latentqa.errors import LatentQAError
from latentqa.reader import Reader
from latentqa.types import Answer, Query


class ReaderError(LatentQAError):
    """A reader that was not fitted, or that cannot answer what it is asked."""


@dataclass(frozen=True)
class FitItem:
    """One training item of a baseline.

    Attributes:
        query: dialog, span and question.
        answer: the right answer's text.
        label: class name, for probes that know only classes (a relation's object, a published label).
        unit: what it shares with others that say the same thing twice, such as its subject: where a probe
            holds items out to choose its settings, it holds out those of a unit together. Empty is alone.
    """

    query: Query
    answer: str
    label: str
    unit: str = ""


Validation = Sequence[tuple[FitItem, tuple[str, ...]]]
"""Items with their candidate answers, on which a baseline chooses its settings."""


@runtime_checkable
class Fitted(Protocol):
    """A reader that must be fitted before it is asked."""

    def fit(self, items: Sequence[FitItem], validation: Validation = ()) -> None:
        """Fit on a training split, choosing settings on the validation items or within the split."""
        ...


@runtime_checkable
class Choosing(Protocol):
    """A reader that needs no training, but has settings to choose."""

    def choose(self, validation: Validation) -> None:
        """Choose the settings that rank the validation items best."""
        ...


@runtime_checkable
class Layered(Protocol):
    """A reader that can be put to another read layer, with everything else as it was chosen."""

    def at_layer(self, layer: int) -> Reader:
        """The same reader at one layer of the target."""
        ...


@runtime_checkable
class Specific(Protocol):
    """A reader that can say how many other dialogs its answers fit less well."""

    def ask_with_specificity(self, queries: Sequence[Query], /) -> list[Answer]:
        """One answer per query, in order, each with its specificity."""
        ...
