"""The cells of a seed in the two persons that they are needed in: said to the assistant, and of it.

In the tables `@` stands for the user (`@'s` for what is theirs) and `&` for what is the assistant's own, so
that "compare @'s home with & own" becomes "compare my home with your own" in a control, and "compare the
user's home with its own" in an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

_ASKED = (("of @'s", "of mine"), ("@'s", "my"), ("&self", "yourself"), ("&", "your"), ("@", "me"))
_TOLD = (("@'s", "the user's"), ("&self", "itself"), ("&", "its"), ("@", "the user"))
_ONLY_TOLD = re.compile(r"@|\b(?:it|its|itself|user)\b")
_ONLY_ASKED = re.compile(r"\b(?:I|me|my|you|your|yourself)\b")
KEPT = 4096


def asked(text: str) -> str:
    """The text as it is said to the assistant.

    Example:
        >>> asked("compare @'s home with & own")
        'compare my home with your own'
    """
    return _replace(text, _ASKED)


def told(text: str) -> str:
    """The text as it is said of the assistant.

    Example:
        >>> told("compare @'s home with & own")
        "compare the user's home with its own"
    """
    return _replace(text, _TOLD)


def with_article(text: str) -> str:
    """The text with `a` or `an` before it."""
    return f"{'an' if text[:1].lower() in 'aeiou' else 'a'} {text}"


def upper(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


@dataclass(frozen=True, slots=True)
class Persona:
    """A row on a persona: who, who in other words, how, how in other words, what it does, why, examples.

    Attributes:
        control: words for controls, by name: who, how, voice, does, aim.
        answer: words for answers, by name: who, alias, how, voice, does, aim, each with a capital too.
        acts: examples of what it would do, for answers.
        asked_acts: those of them that can be asked for.
    """

    control: dict[str, str]
    answer: dict[str, str]
    acts: tuple[str, ...]
    asked_acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """A row on a goal: what to do, the same in other words, what that looks like.

    Attributes:
        do: for controls.
        answer: words for answers: alias, and do where it can be said of the assistant.
        signs: what it looks like, for answers.
        asked_signs: those of them that can be asked for.
    """

    do: str
    answer: dict[str, str]
    signs: tuple[str, ...]
    asked_signs: tuple[str, ...]


@lru_cache(maxsize=KEPT)
def persona(cells: tuple[str, ...]) -> Persona:
    """The forms of a persona's row."""
    who, alias, how, voice, does, aim, *acts = cells
    named = {"who": who, "alias": alias, "how": how, "voice": voice, "does": does, "aim": aim}
    answer = {name: told(text) for name, text in named.items()}
    answer |= {upper(name): upper(text) for name, text in answer.items()}
    answer["a_how"] = with_article(answer["how"])
    return Persona(
        {name: asked(text) for name, text in named.items()},
        answer,
        tuple(told(act) for act in acts),
        tuple(asked(act) for act in acts if not _ONLY_TOLD.search(act)),
    )


@lru_cache(maxsize=KEPT)
def goal(cells: tuple[str, ...]) -> Goal:
    """The forms of a goal's row."""
    do, alias, *signs = cells
    answer = {"alias": told(alias)}
    if not _ONLY_ASKED.search(do):
        answer["do"] = told(do)
    return Goal(
        asked(do),
        answer,
        tuple(told(sign) for sign in signs),
        tuple(asked(sign) for sign in signs if not _ONLY_TOLD.search(sign)),
    )


def _replace(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    if "@" not in text and "&" not in text:
        return text
    for old, new in changes:
        text = text.replace(old, new)
    return text
