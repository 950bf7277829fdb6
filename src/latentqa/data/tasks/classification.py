"""Classification: a labelled text becomes yes/no and multiple-choice questions on its activations.

A text is one user turn, as in the yes-no benchmark, and its whole turn is read.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from latentqa.data.columns import cell_text, stream_columns
from latentqa.data.schema import QA, Example
from latentqa.data.seen import Seen
from latentqa.errors import ConfigError, DataError
from latentqa.types import Message

GROUP = "class"
MOST_LABELS = 1000
MOST_CHOICES = 5
SHORT_OF = 40  # characters of a label that a question can hold

YES_NO: tuple[str, ...] = (
    "Is the {name} of this text {label}?",
    "Would you say that the {name} here is {label}?",
    "Does {label} describe the {name} of what is read?",
    "Yes or no: is {label} the {name} of this text?",
)
CHOICE: tuple[str, ...] = (
    "What is the {name} of this text: {choices}?",
    "Which {name} fits what is read: {choices}?",
    "Choose the {name} of this text: {choices}.",
    "Of {choices}, which is the {name} of the text?",
)


class ClassificationSettings(BaseModel):
    """What the task takes.

    Attributes:
        text: column or field that holds the text.
        label: column or field that holds the label.
        name: what the label is, as a question calls it: topic, tense, sentiment.
        names: label as it stands in the file → as a question calls it.
        questions: yes/no questions of your own, in place of the stock ones. One with `{label}` in it is asked
            for the right label half of the time, else for another; without, `yes` names the label whose
            answer is yes.
        yes: that label, as it stands in the file.
        choices: multiple-choice questions of your own, with `{choices}` in it.
        pairs: questions on each text, yes/no and multiple choice in turn.
        seed: of every draw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = "text"
    label: str = "label"
    name: str = "label"
    names: dict[str, str] = {}
    questions: tuple[str, ...] = ()
    yes: str | None = None
    choices: tuple[str, ...] = ()
    pairs: int = Field(3, ge=1, le=12)
    seed: int = 0


def classification_examples(
    path: str | os.PathLike[str], settings: ClassificationSettings, left_out: Counter[str]
) -> Iterator[Example]:
    """Makes an example of each labelled text; the file is gone through twice, first for its labels.

    Args:
        path: CSV (`.csv`, `.tsv`) or JSONL.
        settings: columns and questions.
        left_out: counts rows that cannot be used.

    Raises:
        DataError: the file cannot be read, lacks a column, or has one label only or too many.
        ConfigError: a question needs `yes`, or lacks its place for the choices.
    """
    path = Path(path)
    _check(settings)
    labels = _labels(path, settings)
    sets = _choice_sets(labels, settings)
    seen = Seen()
    for number, text, label in _rows(path, settings, left_out):
        if seen.first(text, number) is not None:
            left_out["a text that was there before"] += 1
            continue
        generator = random.Random(f"{settings.seed}:class:{path.stem}:{text}")
        pairs = list(_pairs(path.stem, label, labels, sets, settings, generator))
        if not pairs:
            left_out["a label too long to ask about"] += 1
            continue
        yield Example(
            id=f"{GROUP}:{path.stem}:{number}",
            label=f"{GROUP}-{path.stem}-{hashlib.sha256(text.encode()).hexdigest()[:16]}",
            kind="task",
            dialog=[Message(role="user", content=text)],
            qa=pairs,
            source=f"{GROUP}; {path.name}",
        )


def _check(settings: ClassificationSettings) -> None:
    for question in settings.questions:
        if "{label}" not in question and settings.yes is None:
            raise ConfigError(
                f"The question {question!r} does not say which label its yes stands for. Name it with --yes, "
                "or write {label} into the question."
            )
    for question in settings.choices:
        if "{choices}" not in question:
            raise ConfigError(f"The question {question!r} needs {{choices}} where the labels go.")


def _labels(path: Path, settings: ClassificationSettings) -> dict[str, str]:
    """Labels as they stand in the file → as questions call them, sorted."""
    found: set[str] = set()
    for _, _, label in _rows(path, settings, Counter()):
        found.add(label)
        if len(found) > MOST_LABELS:
            raise DataError(
                f"The column {settings.label!r} of {path} has more than {MOST_LABELS} different labels. Name "
                "the column of the labels: --label."
            )
    if len(found) < 2:
        said = f"only the label {next(iter(found))!r}" if found else "no row with a text and a label"
        raise DataError(f"{path} has {said}: nothing can be told apart. Give rows of at least two labels.")
    if settings.yes is not None and settings.yes not in found:
        raise _no_label(path, settings.yes, "--yes", found)
    unknown = sorted(set(settings.names) - found)
    if unknown:
        raise _no_label(path, unknown[0], "--called", found)
    called = {label: settings.names.get(label, label) for label in sorted(found)}
    if len(set(called.values())) < len(called):
        raise ConfigError("Two labels are called the same. Give each a name of its own (--called).")
    return called


def _no_label(path: Path, label: str, option: str, labels: set[str]) -> DataError:
    shown = ", ".join(sorted(labels)[:10]) + (", …" if len(labels) > 10 else "")
    return DataError(f"No row of {path} has the label {label!r} ({option}). There are: {shown}.")


def _choice_sets(labels: Mapping[str, str], settings: ClassificationSettings) -> dict[str, tuple[str, ...]]:
    """Label → the labels that it stands among in a question: the same few for all of a set.

    So many-label questions come in a few fixed sets, and texts of one set can be contrasted on one question.
    """
    short = [label for label, name in labels.items() if len(name) <= SHORT_OF]
    random.Random(f"{settings.seed}:choices").shuffle(short)
    n_sets = -(-len(short) // MOST_CHOICES)
    groups = [tuple(sorted(short[number::n_sets])) for number in range(n_sets)]
    return {label: group for group in groups for label in group if len(group) > 1}


def _pairs(
    stem: str,
    label: str,
    labels: Mapping[str, str],
    sets: Mapping[str, tuple[str, ...]],
    settings: ClassificationSettings,
    generator: random.Random,
) -> Iterator[QA]:
    asked: set[str] = set()
    forms = ["yes_no", "choice"] if label in sets and len(labels) > 2 else ["yes_no"]
    if settings.choices and label in sets:
        forms = ["yes_no", "choice"]
    generator.shuffle(forms)
    for number in range(settings.pairs):
        if forms[number % len(forms)] == "yes_no":
            pair = _yes_no(stem, label, labels, settings, generator)
        else:
            pair = _choice(stem, label, labels, sets[label], settings, generator)
        if pair is not None and pair.question not in asked:
            asked.add(pair.question)
            yield pair


def _yes_no(
    stem: str,
    label: str,
    labels: Mapping[str, str],
    settings: ClassificationSettings,
    generator: random.Random,
) -> QA | None:
    form = generator.choice(settings.questions or YES_NO)
    if "{label}" not in form:
        answer = "Yes" if label == settings.yes else "No"
        question = form.replace("{name}", settings.name)
        return QA(question=question, answer=answer, kind="class", pool=f"{GROUP}-{stem}-is-{settings.yes}")
    others = [other for other in labels if other != label and len(labels[other]) <= SHORT_OF]
    about = label if generator.random() < 0.5 or not others else generator.choice(others)
    if len(labels[about]) > SHORT_OF:
        return None
    question = form.replace("{name}", settings.name).replace("{label}", labels[about])
    answer = "Yes" if about == label else "No"
    return QA(question=question, answer=answer, kind="class", pool=f"{GROUP}-{stem}-is-{about}")


def _choice(
    stem: str,
    label: str,
    labels: Mapping[str, str],
    among: Sequence[str],
    settings: ClassificationSettings,
    generator: random.Random,
) -> QA:
    names = [labels[one] for one in among]
    generator.shuffle(names)
    listed = f"{', '.join(names[:-1])} or {names[-1]}"
    form = generator.choice(settings.choices or CHOICE)
    question = form.replace("{name}", settings.name).replace("{choices}", listed)
    return QA(question=question, answer=labels[label], kind="class", pool=f"{GROUP}-{stem}-of-{among[0]}")


def _rows(
    path: Path, settings: ClassificationSettings, left_out: Counter[str]
) -> Iterator[tuple[int, str, str]]:
    """Row number, text and label of the usable rows."""
    for place, (number, row) in enumerate(stream_columns(path, left_out)):
        missing = [name for name in (settings.text, settings.label) if name not in row]
        if missing and place == 0:
            raise DataError(
                f"{path} has no column {missing[0]!r}: found {', '.join(map(str, row)) or 'none'}. Name the "
                "columns: --text and --label."
            )
        text, label = cell_text(row.get(settings.text)), cell_text(row.get(settings.label))
        if text and label:
            yield number, text, label
        else:
            left_out["a row without text or label"] += 1
