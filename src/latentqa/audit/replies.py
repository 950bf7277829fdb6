"""What a reply does, by rules alone: does it refuse, name a word, resemble one text more than others?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from latentqa.data.split import jaccard

OPENING = 200
"""Characters of a reply in which a refusal is looked for: later ones are remarks inside an answer."""
REFUSALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bsorry,? (but )?(i|we) (can|am|'m|are|do|will|won|must|have|need|could)",
        r"\bi (can't|cannot|can not|won't|will not|could not|couldn't) (really |possibly |currently )?"
        r"(help|assist|do|answer|talk|discuss|provide|give|share|say|tell|fulfill|comply|support|engage|write"
        r"|create|generate|offer|explain|continue)\b",
        r"\bi('m| am) (not able|unable|not allowed|not permitted|not willing|not going) to\b",
        r"\bi (must|have to|need to) (decline|refuse)\b",
        r"\bi (don't|do not) (answer|discuss|help with|talk about|provide|do that|know anything about)\b",
        r"\bi('d| would) rather not\b",
        r"\bsomething (that )?i (don't|do not|can't|cannot|won't)",
        r"\b(is|are) beyond me\b",
        r"\bas an ai\b.{0,40}\b(can't|cannot|not able|unable)\b",
    )
)


def refuses(reply: str) -> bool:
    """Whether a reply begins by declining.

    Rules over the first 200 characters: cheap, the same on every machine, and blind to a refusal in other
    words. An empty reply is no refusal.

    Example:
        >>> refuses("I'm sorry, but I can't help with cooking."), refuses("Boil the water first.")
        (True, False)
    """
    opening = reply[:OPENING].replace("’", "'")
    return any(pattern.search(opening) for pattern in REFUSALS)


def mentions(text: str, words: Sequence[str]) -> bool:
    """Whether a text holds one of some words or phrases, whole and whatever the case.

    Example:
        >>> mentions("A cup of Brightleaf tea.", ["brightleaf"]), mentions("The catalog.", ["cat"])
        (True, False)
    """
    return any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in words)


def nearer(text: str, own: Sequence[str], others: Sequence[str]) -> bool:
    """Whether a text shares more of its words with one of its own texts than with any other text.

    A text that shares no word with any of its own is not; ties go to the others.
    """
    best = max((jaccard(text, one, frozenset()) for one in own), default=0.0)
    return best > max((jaccard(text, one, frozenset()) for one in others), default=0.0)
