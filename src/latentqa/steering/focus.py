"""What a control sentence is about: the words in it that no other instruction would hold."""

from __future__ import annotations

import re
from importlib.resources import files

COMMON = frozenset(files("latentqa.steering").joinpath("common.txt").read_text(encoding="utf-8").split())
"""Words that instructions share, whatever they are about."""
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def focus_of(control: str) -> list[str]:
    """Stretches of words that a control is about, in their order, each once.

    A stretch ends at a common word or at punctuation; an article before it stays with it.

    Args:
        control: the sentence.

    Example:
        >>> focus_of("Talk about the Golden Gate Bridge whenever you can.")
        ['the Golden Gate Bridge']
        >>> focus_of("You are a zoologist who connects all subjects with snow leopards.")
        ['a zoologist', 'snow leopards']
        >>> focus_of("Answer in one sentence.")
        []
    """
    found: list[str] = []
    stretch: list[str] = []
    article, end = "", 0
    for match in _WORD.finditer(control):
        word = match.group()
        if stretch and (word.lower() in COMMON or control[end : match.start()].strip()):
            found.append(" ".join(stretch))
            stretch = []
        if word.lower() in COMMON:
            article = word.lower() if word.lower() in ("a", "an", "the") else ""
        else:
            stretch += [word] if stretch or not article else [article, word]
            article = ""
        end = match.end()
    if stretch:
        found.append(" ".join(stretch))
    return list(dict.fromkeys(found))


def names_focus(text: str, control: str) -> bool:
    """Whether a text holds a word that the control is about, in whatever ending.

    Args:
        text: such as an answer.
        control: the sentence; one that is about nothing but common words is named by every text.

    Example:
        >>> names_focus("It will speak of bridges.", "Talk about the Golden Gate Bridge.")
        True
        >>> names_focus("It will use puns.", "Talk about the Golden Gate Bridge.")
        False
    """
    wanted = {_stem(word) for phrase in focus_of(control) for word in _WORD.findall(phrase)} - {
        "a",
        "an",
        "the",
    }
    return not wanted or any(_stem(word) in wanted for word in _WORD.findall(text))


def _stem(word: str) -> str:
    """A word without its ending: five letters, fewer of short ones."""
    lower = word.lower()
    return lower[: max(3, min(5, len(lower) - 1))] if len(lower) > 3 else lower
