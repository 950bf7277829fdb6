"""Neutral sentences to put around one of ours: a subject then stands anywhere in a text, as in real ones."""

from __future__ import annotations

import random
import re

NEIGHBOURS: tuple[str, ...] = (
    "It had rained since the morning.",
    "Nobody said anything for a while.",
    "The meeting was put off until Friday.",
    "He looked at his watch and sighed.",
    "After lunch they went on as before.",
    "The letter was dated the third of March.",
    "She had not slept well that night.",
    "We took the same way back.",
    "That was the end of the matter.",
    "Some of the guests had already left.",
    "The door was open, so we went in.",
    "It took longer than they had planned.",
    "Later on it turned out to be a misunderstanding.",
    "The radio was on in the next room.",
    "Most people did not notice.",
    "There were no more questions.",
    "He promised to call back within the hour.",
    "By then the shops had closed.",
    "The first page was missing.",
    "In the end they decided by vote.",
    "I still have the ticket somewhere.",
    "Everyone agreed that it was time to go.",
    "She read the paragraph once more.",
    "The lights went out for a moment.",
    "It was a question of patience.",
    "For the second time that week the lift was out of order.",
    "The rest is well known.",
    "Two of them had brought umbrellas.",
    "He folded the map and put it away.",
    "The answer came a few days later.",
    "All of this happened before the move.",
    "They had been friends since school.",
    "The clock in the hall was ten minutes slow.",
    "As far as I remember it was a Tuesday.",
    "You could tell that she was pleased.",
    "What came after was harder to explain.",
)
FEWEST = 3  # words that a fragment keeps beside the subject


def around(sentence: str, subject: str, generator: random.Random) -> str:
    """Puts a neutral sentence before or behind a sentence, or both, or none; cuts some to a fragment.

    Args:
        sentence: holds the subject.
        subject: stays whole.
        generator: of the draw.
    """
    before, after = generator.sample(NEIGHBOURS, 2)
    form = generator.random()
    parts = [before] * (form < 0.4) + [sentence] + [after] * (0.25 < form < 0.7)
    text = " ".join(parts)
    return _fragment(text, subject, generator) if generator.random() < 0.4 else text


def _fragment(text: str, subject: str, generator: random.Random) -> str:
    """A stretch of a text that begins and ends between words and holds the subject."""
    begin = text.find(subject)
    words = [(found.start(), found.end()) for found in re.finditer(r"\S+", text)]
    inside = [i for i, (a, b) in enumerate(words) if a < begin + len(subject) and b > begin >= 0]
    if not inside:
        return text
    before, after = inside[0], len(words) - 1 - inside[-1]
    first = generator.randint(0, before - min(FEWEST, before))
    last = generator.randint(inside[-1] + min(FEWEST, after), len(words) - 1)
    return text[words[first][0] : words[last][1]]
