"""Relations: which object belongs to the subject whose tokens are read inside a text?

As in the relation benchmark the text is one user turn that does not hold the object, and the question does
not name the subject. Train and test differ by *relation*: the six that the benchmark tests are never trained
on.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from pydantic import BaseModel, ConfigDict, Field

from latentqa.data.schema import QA, Example
from latentqa.data.seen import Seen
from latentqa.data.split import is_held_out
from latentqa.data.tasks.neighbours import around
from latentqa.data.tasks.tables import Row, Table
from latentqa.data.tasks.unseen import Unseen
from latentqa.data.tasks.words import article
from latentqa.types import Message

GROUP = "relation"
TRIES = 2  # texts made for one that is used: some hold the object, or were there before
WHOLE_WORD = 4  # characters from which an object must not even occur inside a word


class RelationSettings(BaseModel):
    """What the task takes.

    Attributes:
        contexts: texts per subject; of a table that brings its own at most so many.
        questions: wordings asked on each.
        vary: put sentences around the templates' and cut them, as in a text found somewhere.
        test_share: share of the relations that are left to a test file.
        seed: of every draw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    contexts: int = Field(8, ge=1)
    questions: int = Field(3, ge=1)
    vary: bool = True
    test_share: float = Field(0.0, ge=0, lt=1)
    seed: int = 0

    def is_test(self, name: str) -> bool:
        """Whether a relation is left to the test file."""
        return is_held_out(f"relation {name}", self.test_share, self.seed)


def relation_examples(
    tables: Iterable[Table],
    settings: RelationSettings,
    unseen: Unseen,
    left_out: Counter[str],
    *,
    test: bool = False,
) -> Iterator[Example]:
    """Makes an example of each subject in each of its texts.

    Args:
        tables: one per relation.
        settings: how many of what.
        unseen: what the benchmark tests.
        left_out: counts what cannot be used, or must not.
        test: the relations of the test file instead of those to train on.
    """
    for table in tables:
        if settings.is_test(table.name) == test:
            yield from _of_table(table, settings, unseen, left_out)


def _of_table(
    table: Table, settings: RelationSettings, unseen: Unseen, left_out: Counter[str]
) -> Iterator[Example]:
    used: Counter[str] = Counter()
    seen = Seen()
    for row in table.read(left_out):
        reason = unseen.why(table, row.subject, row.object)
        if reason is not None:
            left_out[reason] += 1
            continue
        for text in [row.context] if row.context else _texts(table, row, settings):
            number = used[row.subject]
            if number >= settings.contexts:
                left_out[f"more than {settings.contexts} texts of one subject"] += bool(row.context)
            elif (problem := _problem(row, text)) is not None:
                left_out[problem] += 1
            elif seen.first(f"{row.subject}\t{text}") is not None:
                left_out["a text that was there before"] += 1
            else:
                used[row.subject] += 1
                yield _example(table, row, text, number, settings)


def _texts(table: Table, row: Row, settings: RelationSettings) -> Iterator[str]:
    """Texts for a subject: the table's sentences, then the same with others around them."""
    generator = random.Random(f"{settings.seed}:relation:{table.name}:{row.subject}")
    patterns = list(table.contexts)
    generator.shuffle(patterns)
    for number in range(TRIES * settings.contexts if settings.vary else len(patterns)):
        pattern = patterns[number % len(patterns)]
        sentence = pattern.replace("{a}", article(row.subject)).replace("{subject}", row.subject)
        yield around(sentence, row.subject, generator) if settings.vary else sentence


def _example(table: Table, row: Row, text: str, number: int, settings: RelationSettings) -> Example:
    generator = random.Random(f"{settings.seed}:question:{table.name}:{row.subject}:{number}")
    begin = subject_place(text, row.subject)
    asked = generator.sample(table.questions, min(settings.questions, len(table.questions)))
    pool = f"{GROUP}-{table.name}"
    return Example(
        id=f"{GROUP}:{table.name}:{row.subject}:{number}",
        label=f"{GROUP}-{table.name}-{row.subject}",
        kind="task",
        dialog=[Message(role="user", content=text)],
        read=f"chars:{begin}-{begin + len(row.subject)}",
        qa=[QA(question=question, answer=row.object, kind="relation", pool=pool) for question in asked],
        source=f"{GROUP}; {table.path.name}",
    )


def subject_place(text: str, subject: str) -> int:
    """Where a subject begins: its first occurrence as a whole word, or its first at all, as in the benchmark.

    Returns:
        Its place in characters; -1 where there is none.
    """
    whole = re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", text)
    return whole.start() if whole else text.find(subject)


def _problem(row: Row, text: str) -> str | None:
    if subject_place(text, row.subject) < 0:
        return "a text without its subject"
    said, found = text.casefold(), row.object.casefold()
    whole = re.search(rf"(?<!\w){re.escape(found)}(?!\w)", said)
    if whole or (len(found) >= WHOLE_WORD and found in said):
        return "a text that holds the object"
    return None
