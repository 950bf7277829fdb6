"""What a target is to be steered towards: the one thing that every method is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentqa.steering import Pair


@dataclass(frozen=True, eq=False)
class Aim:
    """An aim of steering.

    Attributes:
        name: short, as in file names and tables.
        control: the instruction that would set the behaviour, as a system prompt.
        opposite: the instruction that sets its opposite; contrast vectors and DPO compare with it, and
            without one with dialogs that hold no control.
        pairs: questions and answers for the methods that steer by a decoder; empty lets them be made of the
            control.
        answer: what a reader of the steered target should say of it; empty where nothing is asked of readers.
    """

    name: str
    control: str
    opposite: str | None = None
    pairs: Sequence[Pair] = field(default=())
    answer: str = ""
