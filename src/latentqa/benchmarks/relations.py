"""Relations: which object (a currency, a sport) belongs to the subject whose tokens are read.

The activation is that of the subject's tokens inside a sentence that does not name the object, and the
question does not name the subject: an answer can only come from the activation or from guessing.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from latentqa.benchmarks.experiment import (
    Experiment,
    ExperimentSettings,
    Item,
    Metric,
    Tools,
    draw,
    file_hashes,
    nearest_name,
    with_flags,
)
from latentqa.benchmarks.layers import foreign_note
from latentqa.benchmarks.scorers import contains
from latentqa.data import data_file
from latentqa.errors import ConfigError, DataError
from latentqa.types import Message, Query

FOLDER = "relations"
COLUMNS = ("subject", "object", "context", "query")
KNOWN_TOKENS = 14
"""Greedy tokens in which a target that knows a fact must name the object."""
ANSWER_TOKENS = 20
BATCH = 32  # its answers are short, and many of a batch make full passes


@dataclass(frozen=True)
class Relation:
    """A relation of the paper, or one like it.

    Attributes:
        name: in tables.
        question: what readers are asked; it does not name the subject.
    """

    name: str
    question: str


PAPER: dict[str, Relation] = {
    "factual/country_currency": Relation("country_currency", "What is the official currency of the country?"),
    "factual/food_from_country": Relation(
        "food_from_country", "Which country does the food originally come from?"
    ),
    "factual/person_plays_position_in_sport": Relation(
        "athlete_position", "Which position does the athlete play in their sport?"
    ),
    "factual/person_plays_pro_sport": Relation(
        "athlete_sport", "Which sport does the athlete play professionally?"
    ),
    "factual/product_by_company": Relation("product_company", "Which company developed the product?"),
    "factual/star_constellation": Relation("star_constellation", "Which constellation is the star part of?"),
}
"""The paper's six, by file."""

OTHERS: dict[str, Relation] = {
    "factual/country_capital_city": Relation("country_capital", "What is the capital city of the country?"),
    "commonsense/fruit_outside_color": Relation(
        "fruit_color", "Which color does the fruit have on the outside?"
    ),
    "commonsense/object_superclass": Relation("object_superclass", "What kind of thing is it?"),
    "commonsense/task_done_by_tool": Relation("task_tool", "Which tool is used for the task?"),
    "commonsense/word_sentiment": Relation(
        "word_sentiment", "Is the sentiment of the word positive, negative or neutral?"
    ),
}
"""Further files of the same shape."""


class RelationSettings(ExperimentSettings):
    """What `bench run relations key=value` takes.

    Attributes:
        files: names below `relations`, without `.tsv`; `paper` is the paper's six, `all` every file.
        folds: parts that the subjects are split into; a probe reads each part after being fitted on the
            others.
        contexts: sentences used of each subject; 0 is all of them.
        layers: read layers at which readers that have one are asked too: `half`, the first half of the
            target's, as the paper does, `all`, or their numbers. None asks them where they read best alone.
        layer_items: rows that are asked at each of them, drawn evenly over the relations; 0 is all.
    """

    files: tuple[str, ...] = ("paper",)
    folds: int = Field(2, ge=2)
    contexts: int = Field(0, ge=0)
    layers: Literal["half", "all"] | tuple[int, ...] = ()
    layer_items: int = Field(150, ge=0)


@dataclass(frozen=True)
class Fact:
    """One row of a relation file."""

    subject: str
    object: str
    context: str
    query: str


def relations(root: Path, settings: RelationSettings, tools: Tools) -> Experiment:
    """The experiment of some relation files.

    Args:
        root: the data root.
        settings: which files, and how subjects are split.
        tools: `continue_text` marks the facts that the target knows; without it that population is left out.

    Raises:
        DataError: a file is missing, lacks a column, or has only one object.
        ConfigError: read layers that the target does not have.
    """
    layers = chosen_layers(settings.layers, tools.blocks)
    names = chosen_files(root, settings.files)
    filtered: Counter[str] = Counter()
    items: list[Item] = []
    for name in names:
        facts = read_facts(data_file(f"{FOLDER}/{name}.tsv", root))
        items += relation_items(name, facts, settings, tools, filtered)
    fit = tuple(items)
    items = draw(items, tools.limit, tools.seed)
    notes = ["Subjects are split into folds; a probe reads those that it was not fitted on."]
    if tools.continue_text is not None:
        items = mark_known(items, tools)
        counts = known_counts(items)
        notes.append(
            "Subjects that the target knows: "
            + ", ".join(f"{group} {known} of {n}" for group, (known, n) in counts.items())
        )
    if layers:
        asked = draw(items, settings.layer_items or None, tools.seed)
        items = [*items, *at_layers(asked, layers, first_half(tools.blocks))]
        notes += layer_notes(layers, len(asked), tools)
    paper = tuple(relation_of(name).name for name in names if name in PAPER)
    return Experiment(
        name="relations",
        doc="Which object belongs to the subject whose tokens are read, by free answer and by ranking the "
        "relation's objects.",
        items=tuple(items),
        filtered=dict(filtered),
        metrics=relation_metrics(
            known=tools.continue_text is not None, layers=layers, half=first_half(tools.blocks)
        ),
        fit=fit,
        mean_groups=paper,
        answer_tokens=ANSWER_TOKENS,
        files=file_hashes([root / FOLDER / f"{name}.tsv" for name in names], root),
        notes=tuple(notes),
        batch=BATCH,
    )


def relation_metrics(
    *, known: bool, layers: Sequence[int] = (), half: Sequence[int] = ()
) -> tuple[Metric, ...]:
    """The figures of the experiment.

    Args:
        known: whether it was found out what the target knows.
        layers: read layers that are asked about one by one.
        half: the first half of the target's: their mean is a figure if all of them are asked about.
    """
    plain = {"layer": None}
    every = (
        Metric(
            "substring", "The answer holds the object, whatever the case; all rows.", "substring", where=plain
        ),
        Metric(
            "first",
            "The object that the answer names first is the right one; all rows.",
            "first",
            where=plain,
        ),
        Metric(
            "ranked",
            "The right object has the best support of the relation's objects.",
            "ranked",
            where=plain,
        ),
    )
    found: list[Metric] = list(every)
    if half and set(half) <= set(layers):
        found += [
            Metric(
                f"{one.name}, first half",
                f"{one.name}: mean over read layers {half[0]} to {half[-1]}, the first half of the target's.",
                one.value,
                where={"half": True},
            )
            for one in every
        ]
    populations = [
        ("known", "rows that the target itself knows", {"known": True}),
        ("seen", "rows whose object some subject of the probes' training fold has", {"seen": True}),
        ("unseen", "rows whose object no subject of the probes' training fold has", {"seen": False}),
    ]
    for name, what, where in populations:
        if name != "known" or known:
            found += [
                Metric(f"{one.name}, {name}", f"{one.name}: {what}.", one.value, where={**plain, **where})
                for one in every
            ]
    found += [
        Metric(
            f"{one.name}, layer {layer}",
            f"{one.name}: at read layer {layer}.",
            one.value,
            where={"layer": layer},
            test="none",
            layer=layer,
        )
        for one in (every[0], every[2])
        for layer in layers
    ]
    return tuple(found)


def chosen_layers(wanted: Literal["half", "all"] | Sequence[int], blocks: int | None) -> tuple[int, ...]:
    """Numbers of the read layers that the setting names, ascending.

    Raises:
        ConfigError: layers that the target does not have, or a target that nobody named.
    """
    if not wanted:
        return ()
    if blocks is None:
        raise ConfigError(f"layers={wanted} needs a target whose blocks are known, and there is none.")
    if isinstance(wanted, str):
        return first_half(blocks) if wanted == "half" else tuple(range(blocks))
    missing = [layer for layer in wanted if not -blocks <= layer < blocks]
    if missing:
        raise ConfigError(
            f"Read layers {missing} were asked for, but the target has {blocks} blocks (0–{blocks - 1}). "
            "Write layers=half, layers=all or some of these."
        )
    return tuple(sorted({layer % blocks for layer in wanted}))


def first_half(blocks: int | None) -> tuple[int, ...]:
    """The first half of a target's layers; of the 32 of the paper's model it took 15."""
    return tuple(range((blocks or 0) // 2))


def at_layers(items: Sequence[Item], layers: Sequence[int], half: Sequence[int]) -> list[Item]:
    """The items once more for each layer, to be read there: layer by layer, so that batches are of one."""
    return [
        replace(
            item,
            id=f"{item.id}@layer{layer}",
            meta={
                **item.meta,
                "layer": layer,
                "flags": {**item.flags, "layer": layer, "half": layer in half},
            },
        )
        for layer in layers
        for item in items
    ]


def layer_notes(layers: Sequence[int], count: int, tools: Tools) -> list[str]:
    """What a table by layer does not show by itself."""
    found = [f"At each of the read layers {layers[0]} to {layers[-1]} {count} rows are asked about."]
    if tools.read_layers:
        found.append(foreign_note(tools.read_layers, layers, sampled=tools.sampled_layer))
    found.append("A reader with settings of its own keeps them at every layer; probes are fitted again.")
    return found


def relation_items(
    name: str, facts: Sequence[Fact], settings: RelationSettings, tools: Tools, filtered: Counter[str]
) -> list[Item]:
    """The usable rows of one file as items; what is left out is counted."""
    relation = relation_of(name, facts)
    kept = filter_facts(facts, filtered)
    kept = some_contexts(kept, settings.contexts, filtered)
    objects = tuple(sorted({fact.object for fact in kept}))
    if len(objects) < 2:
        raise DataError(
            f"{FOLDER}/{name}.tsv has {len(objects)} object{'s' * (len(objects) != 1)} in its "
            f"{len(kept)} usable rows: nothing can be told apart. Give rows with at least two."
        )
    folds = {fact.subject: fold_of(fact.subject, settings.folds, tools.seed) for fact in kept}
    items = []
    for number, fact in enumerate(kept):
        seen = {other.object for other in kept if folds[other.subject] != folds[fact.subject]}
        dialog = [Message(role="user", content=fact.context)]
        items.append(
            Item(
                id=f"{relation.name}:{number}:{fact.subject}",
                group=relation.name,
                query=Query(dialog, tools.locate(dialog, fact.subject), relation.question),
                question=relation.question,
                gold=fact.object,
                candidates=objects,
                scorer="relation",
                meta={
                    "unit": fact.subject,
                    "label": fact.object,
                    "fold": folds[fact.subject],
                    "cloze": cloze(fact),
                    "flags": {"seen": fact.object in seen},
                },
            )
        )
    return items


def filter_facts(facts: Sequence[Fact], filtered: Counter[str]) -> list[Fact]:
    """Rows whose context holds the subject and not the object, each once."""
    kept: dict[Fact, None] = {}
    for fact in facts:
        if not (fact.subject and fact.object):
            filtered["no subject or no object"] += 1
        elif not fact.context:
            filtered["no context"] += 1
        elif fact.subject not in fact.context:
            filtered["context does not hold the subject"] += 1
        elif contains(fact.context, fact.object):
            filtered["context holds the object"] += 1
        elif fact in kept:
            filtered["row comes twice"] += 1
        else:
            kept[fact] = None
    return list(kept)


def some_contexts(facts: Sequence[Fact], count: int, filtered: Counter[str]) -> list[Fact]:
    """The first rows of each subject; 0 keeps all."""
    seen: Counter[str] = Counter()
    kept = []
    for fact in facts:
        seen[fact.subject] += 1
        if not count or seen[fact.subject] <= count:
            kept.append(fact)
        else:
            filtered[f"more than {count} contexts of one subject"] += 1
    return kept


def mark_known(items: Sequence[Item], tools: Tools) -> list[Item]:
    """Items with the flag `known`: whether the target, given the query as raw text, names the object.

    The text is the query with `x` replaced by the subject, plus " is"; it counts if the object occurs in
    `KNOWN_TOKENS` greedy tokens, whatever the case.
    """
    assert tools.continue_text is not None
    texts = list(dict.fromkeys(item.meta["cloze"] for item in items))
    written = dict(zip(texts, tools.continue_text(texts, KNOWN_TOKENS), strict=True))
    return [with_flags(item, known=contains(written[item.meta["cloze"]], item.gold)) for item in items]


def known_counts(items: Sequence[Item]) -> dict[str, tuple[int, int]]:
    """Relation → (subjects that the target knows, subjects)."""
    counts = {}
    for group in dict.fromkeys(item.group for item in items):
        of = [item for item in items if item.group == group]
        known = {item.unit for item in of if item.flags.get("known")}
        counts[group] = (len(known), len({item.unit for item in of}))
    return counts


def cloze(fact: Fact) -> str:
    """The query about the subject, as a sentence to be completed.

    Example:
        >>> cloze(Fact("France", "Euro", "", "The official currency of x"))
        'The official currency of France is'
    """
    return re.sub(r"\bx\b", lambda _: fact.subject, fact.query.strip()) + " is"


def relation_of(name: str, facts: Sequence[Fact] = ()) -> Relation:
    """Name and question of a file; for one that is not known here, made of its own query."""
    known = PAPER.get(name) or OTHERS.get(name)
    if known is not None or not facts:
        return known or Relation(Path(name).name, "")
    query = facts[0].query.strip().rstrip(".?")
    this = re.sub(r"\bx\b", "this", query)
    return Relation(Path(name).name, f"What is {this[:1].lower()}{this[1:]}?")


def chosen_files(root: Path, wanted: Sequence[str]) -> list[str]:
    """Names of relation files below the folder, without `.tsv`.

    Raises:
        ConfigError: a name that is neither known nor there, with the nearest.
        DataError: the folder is not there.
    """
    folder = data_file(FOLDER, root)
    there = sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.tsv"))
    found: list[str] = []
    for name in wanted:
        name = name.removesuffix(".tsv")
        same_stem = [one for one in [*PAPER, *OTHERS, *there] if one == name or Path(one).name == name]
        if name == "paper":
            found += PAPER
        elif name == "all":
            found += [*PAPER, *(one for one in there if one not in PAPER)]
        elif same_stem:
            found.append(same_stem[0])
        else:
            raise nearest_name("relation", name, ["paper", "all", *there])
    return list(dict.fromkeys(found))


def read_facts(path: Path) -> list[Fact]:
    """Rows of a tab-separated file with the columns subject, object, context and query.

    Raises:
        DataError: the file cannot be read, has no rows, or lacks a column.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}: found "
                    f"{', '.join(reader.fieldnames or ()) or 'nothing'}. A relation file has the "
                    "tab-separated "
                    f"columns {', '.join(COLUMNS)}."
                )
            facts = [Fact(**{name: (row[name] or "").strip() for name in COLUMNS}) for row in reader]
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the name.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: see byte {error.start}. Convert the file.") from error
    if not facts:
        raise DataError(f"{path} has no rows. Give a relation file with at least two objects.")
    return facts


def fold_of(subject: str, folds: int, seed: int) -> int:
    """The fold of a subject: a pure function of seed and subject."""
    return hashlib.sha256(f"{seed}:{subject}".encode()).digest()[0] % folds
