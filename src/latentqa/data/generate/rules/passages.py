"""Passages on three topics with invented names and numbers, and extractive questions on them."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cache, lru_cache

from latentqa.data.generate.rows import Control, Seed
from latentqa.data.generate.tables import slots, table
from latentqa.data.schema import QA

KIND = "extractive"
POOL = "extractive"
"""Pairs on the same fact of different passages can swap their questions, and no others."""
FACTS = (1, 2)  # facts that a passage states of a topic, at least and at most
SLOTS = ("name", "town", "number", "color", "day", "food", "object", "animal", "job", "year")
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou])")
TOPIC_QUESTIONS: tuple[str, ...] = (
    "What is the text about?",
    "Which subjects does the passage touch on?",
    "What three things are described?",
    "Name the topics of the message.",
)


@cache
def facts() -> dict[str, tuple[tuple[str, str, str], ...]]:
    """By topic: a sentence, a question on it and its answer, all with slots."""
    found: dict[str, list[tuple[str, str, str]]] = defaultdict(list)
    for topic, sentence, question, answer in table("topics"):
        found[topic].append((sentence, question, answer))
    return {topic: tuple(rows) for topic, rows in found.items()}


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with its slots filled, and `a` before a vowel mended.

    Example:
        >>> fill("They met a {animal}.", {"animal": "owl"})
        'They met an owl.'
    """
    return _ARTICLE.sub(r"\1n ", text.format_map(values)) if "{" in text else text


def control(seed: Seed, chooser: random.Random) -> Control:
    """A passage on the seed's three topics."""
    sentences: list[str] = []
    stated: list[str] = []
    for number, topic in enumerate(seed.cells):
        chosen = chooser.sample(range(len(facts()[topic])), chooser.randint(*FACTS))
        for fact in sorted(chosen):
            sentences.append(fill(facts()[topic][fact][0], drawn(seed.id)[number]))
            stated.append(f"{topic}:{fact}:{number}")
    return Control(seed.id, seed.label, " ".join(sentences), seed, tuple(stated))


def pairs(made: Control, count: int, chooser: random.Random) -> list[QA]:
    """One pair on the topics, the others on facts that the passage states, as many as there are."""
    found = []
    for name in made.stated:
        topic, fact, number = name.split(":")
        values = drawn(made.seed.id)[int(number)]
        _, question, answer = facts()[topic][int(fact)]
        pool = f"{POOL}:{topic}:{fact}"
        found.append(QA(question=fill(question, values), answer=fill(answer, values), kind=KIND, pool=pool))
    chooser.shuffle(found)
    first, second, third = (_noun(topic.replace("-", " ")) for topic in made.seed.cells)
    about = f"It is about {first}, {second} and {third}."
    topics = QA(question=chooser.choice(TOPIC_QUESTIONS), answer=about, kind=KIND, pool=f"{POOL}:topics")
    return [topics, *found][:count]


@lru_cache(maxsize=64)
def drawn(seed_id: str) -> tuple[dict[str, str], ...]:
    """What stands in the slots of a passage's parts, by the seed's id alone; no value is in two parts."""
    chooser = random.Random(f"{seed_id}:slots")
    parts: tuple[dict[str, str], ...] = ({}, {}, {})
    for name in SLOTS:
        for part, value in zip(parts, chooser.sample(slots()[name], len(parts)), strict=True):
            part[name] = value
    return parts


def _noun(topic: str) -> str:
    return topic if topic.endswith("hives") else _ARTICLE.sub(r"\1n ", f"a {topic}")
