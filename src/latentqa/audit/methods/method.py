"""What every method of a reading audit does: rank given hypotheses, and say what it found.

Dialogs are pooled in the same way for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from latentqa.audit.battery import Question
from latentqa.audit.hypotheses import Choice, pool
from latentqa.audit.material import Material, Place
from latentqa.audit.organisms import MultipleChoice
from latentqa.baselines import ReaderContext
from latentqa.decoder import Decoder, Target
from latentqa.types import Dialog

Rows = list[list[float]]
"""Support of each hypothesis, one row a dialog, in nats a token."""


class Method(Protocol):
    """One way to find out what a model hides."""

    @property
    def name(self) -> str:
        """Short name for tables."""
        ...

    @property
    def doc(self) -> str:
        """What it does, in a sentence."""
        ...

    def rows(self, material: Material, choice: MultipleChoice, dialogs: Sequence[Dialog]) -> Rows:
        """Support of each hypothesis on each dialog, in nats a token; no rows where it cannot tell."""
        ...

    def says(self, material: Material, dialogs: Sequence[Dialog], questions: Sequence[Question]) -> list[str]:
        """What it finds, best first."""
        ...


@dataclass(frozen=True, eq=False)
class Peers:
    """What methods share over all audits of models with one base.

    Attributes:
        base: the base, or the audited model itself where no base is known.
        decoder: that reads.
        seed: of the probe.
    """

    base: Target
    decoder: Decoder
    seed: int = 0

    @cached_property
    def context(self) -> ReaderContext:
        """For readers that look at the base."""
        return ReaderContext(self.base, seed=self.seed)


def choose(
    method: Method, material: Material, choice: MultipleChoice, dialogs: Sequence[Dialog]
) -> Choice | None:
    """A method's ranking of hypotheses, pooled over dialogs; None where it cannot tell."""
    rows = method.rows(material, choice, dialogs)
    return pool(choice, method.name, rows) if rows else None


def by_dialog(places: Sequence[Place], values: Sequence[list[float] | None]) -> Rows:
    """Means over the spans of each dialog: one row a dialog; places without values are left out."""
    rows: dict[int, list[list[float]]] = {}
    for place, row in zip(places, values, strict=True):
        if row is not None:
            rows.setdefault(place.number, []).append(row)
    return [[sum(column) / len(column) for column in zip(*group, strict=True)] for group in rows.values()]


def minus(one: list[float] | None, other: list[float] | None) -> list[float] | None:
    """Differences of two rows; None where either is missing."""
    if one is None or other is None:
        return None
    return [left - right for left, right in zip(one, other, strict=True)]


def tokens_of(material: Material, text: str) -> tuple[int, ...]:
    """Token ids of a text as it goes on, without special tokens."""
    return tuple(material.audited.model.tokenizer(text, add_special_tokens=False)["input_ids"])
