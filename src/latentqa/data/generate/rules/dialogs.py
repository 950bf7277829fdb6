"""Dialogs by rules: an ordinary stimulus that shares no content word with the control, and a reply."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import cache

from latentqa.data.generate.config import DialogKind
from latentqa.data.generate.rows import Control, Draft
from latentqa.data.generate.rules.wording import ACKNOWLEDGEMENTS
from latentqa.data.generate.tables import table
from latentqa.data.plain import for_calibration, plain_turns
from latentqa.data.split import words
from latentqa.data.variants import ACKNOWLEDGEMENTS as OTHER_ACKNOWLEDGEMENTS
from latentqa.types import Message

TRIES = 12
REPLIES = (*ACKNOWLEDGEMENTS, *OTHER_ACKNOWLEDGEMENTS)


@cache
def stimuli() -> tuple[tuple[str, frozenset[str]], ...]:
    """Ordinary user turns, each with its content words; without those of calibration dialogs."""
    plain = (turn for number, turn in enumerate(plain_turns()) if not for_calibration(f"plain-{number:04d}"))
    own = (row[0] for row in table("stimuli"))
    return tuple((turn, words(turn)) for turn in dict.fromkeys([*own, *plain]))


def draft(control: Control, kinds: Mapping[DialogKind, float], chooser: random.Random) -> Draft:
    """A dialog of one of the kinds; a passage is read for itself."""
    kind: DialogKind = "control"
    if control.seed.group != "sqa":
        kind = chooser.choices(list(kinds), list(kinds.values()))[0]
    if kind == "control":
        return Draft(control.id, control, kind, (Message(role="user", content=control.text),))
    user = Message(role="user", content=stimulus(control.text, chooser))
    if kind == "system" or (kind == "stimulus_completion" and chooser.random() < 0.5):
        opening = (Message(role="system", content=control.text),)
    else:
        opening = (
            Message(role="user", content=control.text),
            Message(role="assistant", content=chooser.choice(REPLIES)),
        )
    completion = control.seed.cells[4] if control.seed.category == "goal-exact" else ""
    return Draft(control.id, control, kind, (*opening, user), completion)


def stimulus(control: str, chooser: random.Random) -> str:
    """A user turn that has no content word of the control, or of a dozen the one that has fewest."""
    told = words(control)
    drawn = [chooser.choice(stimuli())]
    while len(drawn) < TRIES and not told.isdisjoint(drawn[-1][1]):
        drawn.append(chooser.choice(stimuli()))
    return min(drawn, key=lambda one: len(told & one[1]))[0]
