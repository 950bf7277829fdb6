"""Controls and pairs on goals: what the assistant is told to do, and exact demands on its reply."""

from __future__ import annotations

import random

from latentqa.data.generate.rows import Control, Seed
from latentqa.data.generate.rules.forms import goal, upper
from latentqa.data.generate.rules.found import Found
from latentqa.data.generate.rules.wording import (
    GOAL_ANSWERS,
    GOAL_ENDINGS,
    GOAL_MORE,
    GOAL_OPENINGS,
    GOAL_WOULD,
    SITUATIONS,
    fitting,
    questions,
)
from latentqa.data.generate.tables import table
from latentqa.data.schema import QA

MORE, ENDING = 0.3, 0.15  # shares of controls with an example, and with a last remark
ASPECTS = ("what", "what", "aim", "look")
EXACT_ASPECTS = ("what", "aim")


def control(seed: Seed, chooser: random.Random) -> Control:
    """A control for a goal's seed."""
    exact = seed.category == "goal-exact"
    forms = goal(seed.cells[:2] if exact else seed.cells)
    parts = [chooser.choice(GOAL_OPENINGS).format(do=forms.do)]
    if forms.asked_signs and chooser.random() < MORE:
        sign = chooser.choice(forms.asked_signs)
        parts.append(chooser.choice(GOAL_MORE).format(sign=sign, Sign=upper(sign)))
    if chooser.random() < ENDING:
        parts.append(chooser.choice(GOAL_ENDINGS))
    return Control(seed.id, seed.label, " ".join(parts), seed)


def pairs(made: Control, count: int, chooser: random.Random) -> list[QA]:
    """Description pairs, then two in five reasoning pairs; an exact demand has a pair on the future too."""
    cells = made.seed.cells
    exact = made.seed.category == "goal-exact"
    forms = goal(cells[:2] if exact else cells)
    known = frozenset(forms.answer)
    if forms.signs:
        known |= {"sign", "other"} if len(forms.signs) > 1 else {"sign"}
    found = Found()
    if exact:
        found.add(cells[2], cells[3], "future", f"future:{made.label.rsplit('-', 1)[0]}")
    reasoning = count * 2 // 5
    while found.wants(count - reasoning):
        aspect = chooser.choice(EXACT_ASPECTS if exact else ASPECTS)
        question = chooser.choice(questions("goal")[aspect])
        answer = _said(fitting(GOAL_ANSWERS[aspect], known), forms.answer, forms.signs, chooser)
        found.add(question, answer, "description")
    while found.wants(count):
        situation, help_with = chooser.choice(table("situations"))
        question = chooser.choice(SITUATIONS).format(situation=situation)
        frames = fitting(GOAL_WOULD, known | {"help"})
        answer = _said(frames, forms.answer | {"help": help_with}, forms.signs, chooser)
        found.add(question, answer, "reasoning")
    return found.pairs


def _said(
    frames: tuple[str, ...], words: dict[str, str], signs: tuple[str, ...], chooser: random.Random
) -> str:
    first, *rest = chooser.sample(signs, min(2, len(signs))) or [""]
    return chooser.choice(frames).format_map({**words, "sign": first, "other": rest[0] if rest else ""})
