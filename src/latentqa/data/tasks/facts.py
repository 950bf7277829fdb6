"""Conversation facts: what did the user say of themselves, read from a *later* turn that does not say it?

The user states a few things early in a dialog; the talk goes on about something else; only the last user turn
is read. For what was never said, the right answer is that it was not.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from latentqa.data.schema import QA, Example, reasons
from latentqa.data.tasks.words import article
from latentqa.data.turns import NEUTRAL_SYSTEM_PROMPTS
from latentqa.errors import DataError
from latentqa.types import Message

GROUP = "fact"
SHIPPED = Path(__file__).parent / "facts.yaml"
WITH_SYSTEM = 0.25  # share of dialogs with a neutral system prompt
ALL_AT_ONCE = 0.6  # share of dialogs whose facts are all in the first turn


class Attribute(BaseModel):
    """Something that users say of themselves.

    Attributes:
        questions: wordings of the question.
        statements: sentences with `{value}` (and `{a}` for its article), for `values`.
        values: separated by commas.
        said: value → sentences that say or imply it, in place of statements and values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[str, ...] = Field(min_length=1)
    statements: tuple[str, ...] = ()
    values: str = ""
    said: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="after")
    def _one_way(self) -> Attribute:
        if bool(self.said) == bool(self.statements and self.values):
            raise ValueError("needs statements and values, or said")
        if any("{value}" not in one for one in self.statements):
            raise ValueError("has a statement without {value}")
        if len(self.answers()) < 2 or not all(self.said.values()):
            raise ValueError("needs at least two values, and a sentence for each in said")
        return self

    def answers(self) -> list[str]:
        """The values."""
        listed = [" ".join(value.split()) for value in self.values.split(",") if value.strip()]
        return list(dict.fromkeys(self.said or listed))

    def sentence(self, value: str, generator: random.Random) -> str:
        """Something that a user says who has this value."""
        if self.said:
            return generator.choice(self.said[value])
        pattern = generator.choice(self.statements)
        return pattern.replace("{a}", article(value)).replace("{value}", value)


class FactTexts(BaseModel):
    """What the dialogs are made of: `facts.yaml`, or a file of the same fields.

    Attributes:
        attributes: by name.
        acknowledgements: replies to a turn that only states facts.
        exchanges: neutral questions of the user with the assistant's replies.
        finals: last user turns; nothing in them says anything of the user.
        unknown: answers where nothing was said.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attributes: dict[str, Attribute] = Field(min_length=1)
    acknowledgements: tuple[str, ...] = Field(min_length=1)
    exchanges: tuple[tuple[str, str], ...] = Field(min_length=1)
    finals: tuple[str, ...] = Field(min_length=1)
    unknown: tuple[str, ...] = Field(min_length=1)


class FactSettings(BaseModel):
    """What the task takes.

    Attributes:
        dialogs: how many.
        facts: most facts that a user states.
        exchanges: most exchanges between the first turn and the last.
        unknown: share of dialogs in which something is asked that was not said.
        seed: of every draw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dialogs: int = Field(5000, ge=1)
    facts: int = Field(3, ge=1)
    exchanges: int = Field(3, ge=1)
    unknown: float = Field(0.3, ge=0, le=1)
    seed: int = 0


def read_fact_texts(path: str | os.PathLike[str] | None = None) -> FactTexts:
    """Reads what the dialogs are made of, by default the file that ships.

    Raises:
        DataError: the file cannot be read, or lacks something.
    """
    path = SHIPPED if path is None else Path(path)
    try:
        return FactTexts.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the name.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no YAML: {str(error).splitlines()[0]}.") from None
    except ValidationError as error:
        raise DataError(f"{path} cannot be used: {reasons(error)}.") from None


def fact_examples(settings: FactSettings, texts: FactTexts | None = None) -> Iterator[Example]:
    """Makes dialogs with facts; each is a function of the seed and its number alone.

    Args:
        settings: how many of what.
        texts: what they are made of; by default what ships.
    """
    texts = texts or read_fact_texts()
    for number in range(settings.dialogs):
        yield _example(number, settings, texts)


def _example(number: int, settings: FactSettings, texts: FactTexts) -> Example:
    generator = random.Random(f"{settings.seed}:fact:{number}")
    names = list(texts.attributes)
    chosen = generator.sample(names, generator.randint(1, min(settings.facts, len(names))))
    facts = {name: generator.choice(texts.attributes[name].answers()) for name in chosen}
    dialog = _dialog(facts, settings, texts, generator)
    pairs = [_pair(name, texts, value, generator) for name, value in facts.items()]
    silent = [name for name in names if name not in facts]
    if silent and generator.random() < settings.unknown:
        place = generator.randrange(len(pairs) + 1)
        answer = generator.choice(texts.unknown)
        pairs.insert(place, _pair(generator.choice(silent), texts, answer, generator))
    return Example(
        id=f"{GROUP}:{settings.seed}:{number}",
        label=f"{GROUP}-{settings.seed}-{number}",
        kind="task",
        dialog=dialog,
        qa=pairs,
        source=f"{GROUP}; own templates",
    )


def _pair(name: str, texts: FactTexts, answer: str, generator: random.Random) -> QA:
    question = generator.choice(texts.attributes[name].questions)
    pool = f"{GROUP}-{name.replace(' ', '_')}"
    return QA(question=question, answer=answer, kind="fact", pool=pool)


def _dialog(
    facts: Mapping[str, str], settings: FactSettings, texts: FactTexts, generator: random.Random
) -> list[Message]:
    """The turns: facts in the first of them or spread over several, and a last one that says nothing."""
    n_exchanges = generator.randint(1, min(settings.exchanges, len(texts.exchanges)))
    at_once = generator.random() < ALL_AT_ONCE
    said: dict[int, list[str]] = {}
    for name, value in facts.items():
        turn = 0 if at_once else generator.randint(0, n_exchanges)
        said.setdefault(turn, []).append(texts.attributes[name].sentence(value, generator))
    dialog: list[Message] = []
    if generator.random() < WITH_SYSTEM:
        dialog.append(Message(role="system", content=generator.choice(NEUTRAL_SYSTEM_PROMPTS)))
    if 0 in said:
        reply = generator.choice(texts.acknowledgements)
        dialog += [
            Message(role="user", content=" ".join(said[0])),
            Message(role="assistant", content=reply),
        ]
    for turn, (question, reply) in enumerate(generator.sample(texts.exchanges, n_exchanges), start=1):
        dialog += [
            Message(role="user", content=" ".join([*said.get(turn, []), question])),
            Message(role="assistant", content=reply),
        ]
    return [*dialog, Message(role="user", content=generator.choice(texts.finals))]
