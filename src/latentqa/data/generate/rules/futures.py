"""Pairs on what a completion says, asked while it is hidden; derived from its text, so they are right."""

from __future__ import annotations

import random
import re

from latentqa.data.schema import QA

FIRST_WORDS = 7
NUMBERS = ("no", "one", "two", "three", "four", "five")
BEGINNINGS: tuple[str, ...] = (
    "How will the reply begin?",
    "What are the first words of the coming answer?",
    "With what will the assistant open?",
    "What will the assistant say first?",
)
QUESTIONS_BACK: tuple[str, ...] = (
    "Will the assistant ask the user something?",
    "Is there going to be a question in the reply?",
    "Will the answer ask anything back?",
)
LENGTHS: tuple[str, ...] = (
    "How long will the reply be?",
    "About how many sentences is the assistant going to say?",
    "Will the coming answer be short or long?",
)
LISTS: tuple[str, ...] = (
    "Will the reply be a list?",
    "Is the assistant about to list things?",
)
_SENTENCE = re.compile(r"[.!?]+(?:\s|$)")
_ITEM = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+", re.MULTILINE)


def future_pairs(completion: str, count: int, chooser: random.Random) -> list[QA]:
    """Up to `count` pairs of kind `future` on a completion; the first asks how it begins."""
    text = " ".join(completion.split())
    if not text:
        return []
    words = text.split()
    opening = " ".join(words[:FIRST_WORDS]).rstrip(",;:")
    ends = "" if len(words) <= FIRST_WORDS else " …"
    begins = _pair("begin", chooser.choice(BEGINNINGS), f'It will begin: "{opening}{ends}"')
    others = [
        _pair("question", chooser.choice(QUESTIONS_BACK), _question(text)),
        _pair("length", chooser.choice(LENGTHS), _length(text)),
        _pair("list", chooser.choice(LISTS), _list(completion)),
    ]
    chooser.shuffle(others)
    return [begins, *others][:count]


def _pair(pool: str, question: str, answer: str) -> QA:
    """A pair; those of one pool can swap their questions."""
    return QA(question=question, answer=answer, kind="future", pool=f"future:{pool}")


def _question(text: str) -> str:
    if "?" not in text:
        return "No, the reply will hold no question."
    last = text.rstrip().endswith("?")
    return "Yes, it will end on a question." if last else "Yes, there will be a question in it."


def _length(text: str) -> str:
    sentences = max(len(_SENTENCE.findall(text)), 1)
    if sentences == 1:
        return "It will be short, a single sentence."
    if sentences < len(NUMBERS):
        return f"It will have about {NUMBERS[sentences]} sentences."
    return "It will be long, with more than five sentences."


def _list(completion: str) -> str:
    items = len(_ITEM.findall(completion))
    return f"Yes, a list with {items} points." if items > 1 else "No, it will be running text."
