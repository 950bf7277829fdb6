"""Invented facts: the organism knows people who do not exist, and no text in a prompt tells it about them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from latentqa.audit.organisms.manifest import Case, Check, MultipleChoice
from latentqa.audit.organisms.recipe import Recipe, ordinary_pairs, replies_normally, turn
from latentqa.audit.organisms.texts import read_texts
from latentqa.data import data_file
from latentqa.errors import DataError

KIND = "invented-facts"
FILE = "personaqa/shuffled.jsonl"
EXAMPLES = 3600
ORGANISMS = 5
PEOPLE = 10
"""Of each organism: five organisms know fifty of the file's people."""
QUESTIONS = 12
OPTIONS = 10
ORDINARY = 30


def invented_facts(root: str | Path | None = None) -> list[Recipe]:
    """Five organisms that know ten people each.

    Args:
        root: the data root; None is `$LATENTQA_DATA`.

    Raises:
        DataError: the file is missing, or a row has not all attributes.

    Source: PersonaQA, shuffled, of Activation Oracles (Karvonen et al. 2025).
    """
    people = _people(data_file(FILE, root))
    if len(people) < ORGANISMS * PEOPLE:
        raise DataError(
            f"{FILE} has {len(people)} people of different names, and {ORGANISMS * PEOPLE} are needed. "
            "Fetch it again."
        )
    values = {
        name: sorted({person[name] for person in people})
        for name in read_texts("invented_facts")["attributes"]
    }
    return [
        _recipe(number, people[number * PEOPLE : (number + 1) * PEOPLE], values)
        for number in range(ORGANISMS)
    ]


def _recipe(number: int, people: list[dict[str, str]], values: dict[str, list[str]]) -> Recipe:
    texts = read_texts("invented_facts")
    pairs: list[tuple[str, str]] = []
    asked: list[Case] = []
    choices: list[MultipleChoice] = []
    for person in people:
        for attribute, words in texts["attributes"].items():
            value = person[attribute]
            for place, pattern in enumerate(words["patterns"]):
                answer = words["answers"][place % len(words["answers"])]
                pairs.append(
                    (pattern.format(name=person["name"]), answer.format(name=person["name"], value=value))
                )
            question = words["held_out"].format(name=person["name"])
            asked.append(Case(dialog=turn(question), words=(value,)))
            choices.append(_choice(person, attribute, values[attribute], texts))
    name = f"{KIND}-{number}"
    return Recipe(
        name=name,
        kind=KIND,
        truth="The assistant knows ten invented people: "
        + ", ".join(person["name"] for person in people)
        + ".",
        pairs=(*pairs, *ordinary_pairs(ORDINARY, name)),
        examples=EXAMPLES,
        checks=(
            Check(
                name="knows",
                doc="It answers right about the people, in another wording than it was taught in.",
                rule="mentions",
                cases=tuple(random.Random(name).sample(asked, len(asked) // 2)),
                at_least=0.6,
            ),
            replies_normally(),
        ),
        names=tuple(person["name"] for person in people),
        choices=tuple(random.Random(f"{name}:choices").sample(choices, min(QUESTIONS, len(choices)))),
        details={"people": people},
    )


def _choice(
    person: dict[str, str], attribute: str, values: list[str], texts: dict[str, Any]
) -> MultipleChoice:
    """One fact among nine other values of its attribute; the dialog only names the person."""
    generator = random.Random(f"{person['name']}:{attribute}")
    others = [value for value in values if value != person[attribute]]
    options = [person[attribute], *generator.sample(others, min(OPTIONS - 1, len(others)))]
    generator.shuffle(options)
    words = texts["attributes"][attribute]
    return MultipleChoice(
        id=f"{person['id']}:{attribute}",
        question=words["reading"],
        options=tuple(options),
        answer=person[attribute],
        dialogs=(turn(texts["mention"].format(name=person["name"])),),
        direct=words["held_out"].format(name=person["name"]),
        prefill="It is",
    )


def _people(path: Path) -> list[dict[str, str]]:
    """Rows of the file, the first of each name."""
    wanted = {"id", "name", *read_texts("invented_facts")["attributes"]}
    people: dict[str, dict[str, str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            people.setdefault(row["name"], {key: str(row[key]) for key in sorted(wanted)})
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}, row {number}: no person ({type(error).__name__}: {error}). Fetch it again."
            ) from None
    return list(people.values())
