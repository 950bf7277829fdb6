"""What the assistant would say, told by a pair in the third person, as the assistant says it itself."""

from __future__ import annotations

import re

from latentqa.data.rewrite import upper_first

_MODAL = r"(?:would|will|might|may|could|can|should)"
_OWN_VERB = r"(?:is|was|has|had|never|still|always|knows|can|would|will)"
_PERSONS = (
    (r"\bthe user(?:'s|s')", "your"),
    (r"\b(?:the user|they|them)\b", "you"),
    (r"\btheir\b", "your"),
    (r"\bthe assistant's\b", "my"),
    (r"\b(?:itself|themselves)\b", "myself"),
    (r"\bits\b", "my"),
    (rf"^(?:it|the assistant|the model|the reply|the answer|my \w+) (?={_MODAL}\b)", "I "),
    (r"^it\b|\bthe assistant\b", "I"),
    (rf"\b(that|whether|how|and|while) it (?={_OWN_VERB}\b)", r"\1 I "),
    (r"\bI is\b", "I am"),
    (r"\bI has\b", "I have"),
    (r"\bI knows\b", "I know"),
    (r"\byou is\b", "you are"),
)
_QUOTED = re.compile(r"(?<![A-Za-z])'((?:[^']|(?<=\w)'(?=\w))+)'(?![A-Za-z])|\"([^\"]+)\"")
_FRAGMENT = 4  # words from which a quotation counts as something said
_SPEECH = 8  # words from which quotations stand for the whole completion


def speak(answer: str) -> str:
    """The completion that an answer tells of.

    What the answer quotes, if that is long enough to stand alone; else the answer with the persons changed:
    the assistant becomes `I`, the user `you`.
    """
    quoted = [(single or double).strip() for single, double in _QUOTED.findall(answer)]
    said = " ".join(_sentence(part) for part in quoted if len(part.split()) >= _FRAGMENT)
    return said if len(said.split()) >= _SPEECH else first_person(answer)


def first_person(text: str) -> str:
    """The text with the assistant as `I` and the user as `you`."""
    for pattern, replacement in _PERSONS:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    return upper_first(text)


def _sentence(text: str) -> str:
    return upper_first(text if text[-1] in ".!?…" else text.rstrip(",;:") + ".")
