"""Content: what does the passage say whose tokens are read? A decoder must be able to read text, too."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from pydantic import Field

from latentqa.benchmarks.embedding import described, load_embedding
from latentqa.benchmarks.experiment import (
    JUDGED,
    Experiment,
    ExperimentSettings,
    Item,
    Metric,
    Tools,
    draw,
    file_hashes,
)
from latentqa.data import Example, data_file, load_published
from latentqa.types import Query

EVAL = "latentqa/eval"
GROUP = "sqa"


class ContentSettings(ExperimentSettings):
    """What `bench run content key=value` takes.

    Attributes:
        distractors: wrong answers, of other passages and the other answers of the same one.
        span: what is read.
    """

    distractors: int = Field(9, ge=1)
    span: str = "stimulus"


def content(root: Path, settings: ContentSettings, tools: Tools) -> Experiment:
    """The experiment of the passages in LatentQA's `control` items.

    Raises:
        DataError: the evaluation files are missing or have bad rows.
    """
    folder = data_file(EVAL, root)
    filtered: Counter[str] = Counter()
    passages: list[Example] = []
    for example in load_published(folder, ("control",)).require_clean():
        if example.group != GROUP:
            filtered["not a passage"] += 1
        elif not example.qa:
            filtered["no question-answer pair"] += 1
        else:
            passages.append(example)
    answers = list(dict.fromkeys(pair.answer for example in passages for pair in example.qa))
    name = tools.embed_name if tools.embed is not None else load_embedding(answers).name
    items = [item for example in passages for item in _items(example, answers, settings, tools.seed)]
    return Experiment(
        name="content",
        doc="What does the passage say that is read? Each question goes to the activations of a passage.",
        items=tuple(draw(items, tools.limit, tools.seed)),
        filtered=dict(filtered),
        metrics=METRICS,
        files=file_hashes([folder / "control.json", folder / "qa.json"], root),
        notes=(
            f"Free answers are scored by the embedding {described(name)}.",
            "There is no training split for probes.",
        ),
        batch=32,
    )


METRICS = (
    Metric("top1", "The right answer has the best support among those to other questions.", "top1"),
    Metric("free", "The free answer lies nearest to the right one, by embedding.", "free_top1"),
    Metric("overlap", "F1 of the words that the free answer shares with the right one.", "overlap"),
    *JUDGED,
)


def _items(example: Example, answers: list[str], settings: ContentSettings, seed: int) -> list[Item]:
    own = [pair.answer for pair in example.qa]
    others = [text for text in answers if text not in own]
    items = []
    for number, pair in enumerate(example.qa):
        same = [text for text in dict.fromkeys(own) if text != pair.answer][: settings.distractors]
        wanted = min(settings.distractors - len(same), len(others))
        drawn = random.Random(f"{seed}:{example.label}:{number}").sample(others, wanted)
        items.append(
            Item(
                id=f"{example.id}:{number}",
                group=GROUP,
                query=Query(example.dialog, settings.span, pair.question),
                question=pair.question,
                gold=pair.answer,
                candidates=(pair.answer, *same, *drawn),
                scorer="ranking",
                meta={"unit": example.label, "label": example.label},
            )
        )
    return items
