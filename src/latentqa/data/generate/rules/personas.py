"""Controls and pairs on personas."""

from __future__ import annotations

import random
from functools import cache

from latentqa.data.generate.rows import Control, Seed
from latentqa.data.generate.rules.forms import Persona, asked, persona, told, upper, with_article
from latentqa.data.generate.rules.found import Found
from latentqa.data.generate.rules.wording import (
    CROSSED,
    CROSSED_ANSWERS,
    PERSONA_ANSWERS,
    PERSONA_OPENINGS,
    PERSONA_WOULD,
    SITUATIONS,
    STATED,
    STOCK_ASPECTS,
    fitting,
    questions,
)
from latentqa.data.generate.tables import table
from latentqa.data.schema import QA

SHAPES: tuple[tuple[float, tuple[str, ...]], ...] = (
    (0.26, ("manner", "does", "aim")),
    (0.26, ("manner", "does")),
    (0.14, ("manner", "aim")),
    (0.1, ("does", "aim")),
    (0.08, ("does", "act")),
    (0.06, ("manner",)),
    (0.05, ("does",)),
    (0.05, ()),
)
"""What a control states beside who speaks, and how often."""
CROSS = 0.6  # share of a seed's further controls that give it another manner
MENTIONED = {"manner": ("how", "a_how", "voice"), "does": ("does",), "aim": ("aim",), "act": ()}
"""Words that answers may use, by what the control states; `alias`, `who` and acts always."""


def control(seed: Seed, chooser: random.Random) -> Control:
    """A control for a persona's seed: the first in its own manner, later ones often in another."""
    forms = persona(seed.cells)
    words = dict(forms.control)
    if seed.variant and chooser.random() < CROSS:
        return _crossed(seed, words, chooser)
    stated = list(chooser.choices([s for _, s in SHAPES], [weight for weight, _ in SHAPES])[0])
    if "act" in stated and not forms.asked_acts:
        stated.remove("act")
    if "act" in stated:
        words["act"] = chooser.choice(forms.asked_acts)
    words["Does"] = upper(words["does"])
    if len(stated) == 2 and chooser.random() < 0.3:
        stated.reverse()
    parts = [chooser.choice(PERSONA_OPENINGS), *(chooser.choice(STATED[name]) for name in stated)]
    text = " ".join(part.format_map(words) for part in parts)
    return Control(seed.id, seed.label, text, seed, tuple(stated))


def _crossed(seed: Seed, words: dict[str, str], chooser: random.Random) -> Control:
    name, clause, how, voice = chooser.choice(table("manners"))
    words |= {
        "clause": clause,
        "how": how,
        "a_how": with_article(how),
        "voice": asked(voice),
        "Does": upper(words["does"]),
    }
    parts = [chooser.choice(PERSONA_OPENINGS), chooser.choice(CROSSED)]
    stated = ("manner",)
    if chooser.random() < 0.4:
        parts.insert(chooser.randint(1, 2), chooser.choice(STATED["does"]))
        stated = ("manner", "does")
    text = " ".join(part.format_map(words) for part in parts)
    return Control(seed.id, seed.label, text, seed, stated, name)


def pairs(made: Control, count: int, chooser: random.Random) -> list[QA]:
    """Description pairs, then two in five reasoning pairs; no question twice."""
    forms = persona(made.seed.cells)
    words = dict(forms.answer)
    if made.manner:
        clause, how, voice = _manners()[made.manner]
        both = f"{words['alias']}{' and' if ' who ' in words['alias'] else ''} {clause}"
        words |= {"clause": clause, "both": both, "Both": upper(both)}
        words |= {
            "how": how,
            "How": upper(how),
            "a_how": with_article(how),
            "voice": voice,
            "Voice": upper(voice),
        }
    reasoning = count * 2 // 5
    known = frozenset(["who", "alias", "act"]).union(
        *(MENTIONED[name] for name in made.stated), ["clause", "both"] if made.manner else []
    )
    found = Found()
    while found.wants(count - reasoning):
        question, aspect = _asked(chooser, "aim" in made.stated)
        found.add(question, _answer(aspect, known, words, forms, chooser), "description")
    while found.wants(count):
        found.add(*_situation(known, words, forms, chooser), "reasoning")
    return found.pairs


def _asked(chooser: random.Random, aim: bool) -> tuple[str, str]:
    """A question and what it asks for: one of the stock questions half of the time."""
    if chooser.random() < 0.5:
        return chooser.choice(_STOCK)
    aspects = _ASPECTS if aim else _ASPECTS[:-1]
    aspect = chooser.choice(aspects)
    return chooser.choice(questions("persona")[aspect]), aspect


def _answer(
    aspect: str, known: frozenset[str], words: dict[str, str], forms: Persona, chooser: random.Random
) -> str:
    crossed = "clause" in known
    frames = fitting((CROSSED_ANSWERS if crossed else PERSONA_ANSWERS).get(aspect, ()), known)
    if not frames:
        frames = fitting((CROSSED_ANSWERS if crossed else PERSONA_ANSWERS)["whole"], known)
    words["act"] = chooser.choice(forms.acts)
    return chooser.choice(frames).format_map(words)


def _situation(
    known: frozenset[str], words: dict[str, str], forms: Persona, chooser: random.Random
) -> tuple[str, str]:
    situation, help_with = chooser.choice(table("situations"))
    more = {"help", "other"} if len(forms.acts) > 1 else {"help"}
    frame = chooser.choice(fitting(PERSONA_WOULD, known | more))
    acts = chooser.sample(forms.acts, 2) if len(forms.acts) > 1 else [*forms.acts, ""]
    words |= {"help": help_with, "act": acts[0], "other": acts[1]}
    return chooser.choice(SITUATIONS).format(situation=situation), frame.format_map(words)


@cache
def _manners() -> dict[str, tuple[str, str, str]]:
    return {name: (clause, how, told(voice)) for name, clause, how, voice in table("manners")}


_STOCK = tuple(STOCK_ASPECTS.items())
_ASPECTS = ("who", "manner", "whole", "content", "aim")
