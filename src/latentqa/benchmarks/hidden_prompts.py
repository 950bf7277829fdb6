"""Hidden system prompts: which persona or goal was the assistant given, read from the user's tokens alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from latentqa.benchmarks.embedding import described, load_embedding
from latentqa.benchmarks.experiment import (
    JUDGED,
    Embed,
    Experiment,
    ExperimentSettings,
    Item,
    Metric,
    Tools,
    draw,
    file_hashes,
)
from latentqa.data import Example, data_file, load_published, near_copies
from latentqa.errors import DataError
from latentqa.types import Query

EVAL = "latentqa/eval"
TRAIN = "latentqa/train"
GROUPS = ("persona", "goal")
USER = "stimulus"
WITH_COMPLETION = "stimulus+completion"
Kind = Literal["system", "stimulus", "stimulus_completion"]


class HiddenPromptSettings(ExperimentSettings):
    """What `bench run hidden-prompts key=value` takes.

    Attributes:
        kinds: item files that are read.
        distractors: wrong answers in each set.
        span: what is read of the user's turn.
        free: ask for free answers too, and score them by embedding.
        fit: training labels that probes are fitted on; 0 is all that have question-answer pairs.
    """

    kinds: tuple[Kind, ...] = ("system", "stimulus", "stimulus_completion")
    distractors: int = Field(9, ge=1)
    span: str = USER
    free: bool = True
    fit: int = Field(0, ge=0)


def hidden_prompts(root: Path, settings: HiddenPromptSettings, tools: Tools) -> Experiment:
    """The experiment of LatentQA's evaluation items.

    Each label's description question is asked; the right answer stands among `distractors` wrong ones of
    the same group: *easy*, drawn from other categories, and *hard*, the nearest by sentence embedding.

    Raises:
        DataError: the evaluation files are missing or have bad rows.
    """
    folder = data_file(EVAL, root)
    examples = load_published(folder, settings.kinds).require_clean()
    filtered: Counter[str] = Counter()
    usable = usable_examples(examples, filtered)
    answers = list(dict.fromkeys(example.qa[0].answer for example in usable))
    embed, embed_name = tools.embed, tools.embed_name
    if embed is None:
        loaded = load_embedding(answers)
        embed, embed_name = loaded.embed, loaded.name
    pools = {
        group: {example.label: example for example in usable if example.group == group} for group in GROUPS
    }
    hard = {
        group: nearest_answers(list(pool.values()), embed, settings.distractors)
        for group, pool in pools.items()
        if pool
    }
    copies = copied_labels(root, usable)
    items: list[Item] = []
    for example in usable:
        easy = easy_answers(example, list(pools[example.group].values()), settings.distractors, tools.seed)
        if len(easy) < settings.distractors:
            filtered["too few answers of other categories"] += 1
            continue
        sets = {"easy": easy, "hard": hard[example.group][example.label]}
        items += _items(example, sets, settings, None if copies is None else example.label in copies)
    fit, missing = fit_items(root, settings.fit, settings.span)
    notes = [f"Hard distractors and free answers by the embedding {described(embed_name)}."]
    if missing:
        notes.append(missing)
    return Experiment(
        name="hidden-prompts",
        doc="Which persona or goal was the assistant given? The prompt that says so is hidden: only the "
        "user's tokens are read, or the user's and the completion.",
        items=tuple(draw(items, tools.limit, tools.seed)),
        filtered=dict(filtered),
        metrics=hidden_prompt_metrics(settings, near_copies_known=copies is not None),
        fit=tuple(fit),
        asks=settings.free,
        files=file_hashes([folder / f"{name}.json" for name in (*settings.kinds, "qa")], root),
        notes=tuple(notes),
        batch=32,
    )


def hidden_prompt_metrics(
    settings: HiddenPromptSettings, *, near_copies_known: bool = True
) -> tuple[Metric, ...]:
    """Easy and hard on the user's tokens, on user and completion, without near-copies, and free answers."""
    what = {"easy": "answers of other categories", "hard": "the nearest answers by embedding"}
    user, both = {"span": settings.span}, {"span": WITH_COMPLETION}
    found: list[Metric] = []
    for name in ("hard", "easy"):
        doc = f"The right answer has the best support among {what[name]}"
        found.append(Metric(name, f"{doc}; the user's tokens are read.", name, where=user))
    for name in ("hard", "easy"):
        doc = f"The right answer has the best support among {what[name]}"
        if near_copies_known:
            fresh = {**user, "near_copy": False}
            found.append(
                Metric(f"{name}, new", f"{doc}; without near-copies of training controls.", name, where=fresh)
            )
        if "stimulus_completion" in settings.kinds:
            found.append(Metric(f"{name}, +completion", f"{doc}; user and completion.", name, where=both))
    if settings.free:
        for name in ("hard", "easy"):
            doc = f"The free answer lies nearest to the right one among {what[name]}, by embedding."
            found.append(Metric(f"free {name}", doc, f"free_{name}", where=user))
        found += JUDGED
    return tuple(found)


def usable_examples(examples: Sequence[Example], filtered: Counter[str]) -> list[Example]:
    """Examples of the two groups that have a description."""
    kept = []
    for example in examples:
        if example.group not in GROUPS:
            filtered[f"group {example.group} is not read here"] += 1
        elif not example.qa:
            filtered["no question-answer pair"] += 1
        else:
            kept.append(example)
    return kept


def category(label: str) -> str:
    """Second part of a label.

    Example:
        >>> category("persona-job-night-nurse")
        'job'
    """
    return [*label.split("-"), "", ""][1]


def easy_answers(example: Example, pool: Sequence[Example], count: int, seed: int) -> tuple[str, ...]:
    """The right answer, then answers of other categories; of labels with the same question where enough are.

    Answers to another question betray themselves by their form.
    """
    gold = example.qa[0].answer
    others = [
        other
        for other in sorted(pool, key=lambda one: one.label)
        if category(other.label) != category(example.label) and other.qa[0].answer != gold
    ]
    same = [other for other in others if other.qa[0].question == example.qa[0].question]
    texts = sorted({other.qa[0].answer for other in (same if len(same) >= count else others)})
    if len(texts) < count:
        return ()
    return (gold, *random.Random(f"{seed}:{example.label}").sample(texts, count))


def nearest_answers(pool: Sequence[Example], embed: Embed, count: int) -> dict[str, tuple[str, ...]]:
    """For each label the right answer, then the nearest other answers by embedding."""
    texts = list(dict.fromkeys(example.qa[0].answer for example in pool))
    vectors = embed(texts)
    similarity = vectors @ vectors.T
    place = {text: number for number, text in enumerate(texts)}
    found = {}
    for example in pool:
        gold = example.qa[0].answer
        order = (-similarity[place[gold]]).argsort(kind="stable")
        found[example.label] = (gold, *[texts[n] for n in order if texts[n] != gold][:count])
    return found


def copied_labels(root: Path, examples: Sequence[Example]) -> set[str] | None:
    """Labels whose control nearly repeats one of training; None where the training file is not there."""
    try:
        training = load_published(data_file(TRAIN, root), ("system",)).examples
    except DataError:
        return None
    found = near_copies(
        [example.dialog[0]["content"] for example in examples],
        [example.dialog[0]["content"] for example in training],
    )
    return {examples[copy.index].label for copy in found}


def fit_items(root: Path, count: int, span: str) -> tuple[list[Item], str]:
    """Training labels as items for probes, and what to tell where their file is not there."""
    try:
        examples = load_published(data_file(TRAIN, root), ("system",)).examples
    except DataError as error:
        return [], f"Probes cannot be fitted: {error}"
    usable = [example for example in examples if example.qa and example.group in GROUPS]
    random.Random("fit").shuffle(usable)
    return [_item(example, {}, span, "", None) for example in usable[: count or None]], ""


def _items(
    example: Example,
    sets: dict[str, tuple[str, ...]],
    settings: HiddenPromptSettings,
    near_copy: bool | None,
) -> list[Item]:
    items = [_item(example, sets, settings.span, "", near_copy)]
    if example.kind == "stimulus_completion":
        items.append(_item(example, sets, WITH_COMPLETION, ":completion", near_copy))
    return items


def _item(
    example: Example, sets: dict[str, tuple[str, ...]], span: str, suffix: str, near_copy: bool | None
) -> Item:
    question = example.qa[0].question
    flags = {"kind": example.kind, "span": span, "near_copy": near_copy}
    return Item(
        id=example.id + suffix,
        group=example.group,
        query=Query(example.dialog, span, question),
        question=question,
        gold=example.qa[0].answer,
        candidates=tuple(dict.fromkeys(text for among in sets.values() for text in among)),
        scorer="ranking",
        meta={"unit": example.label, "label": example.label, "flags": flags, "sets": sets},
    )
