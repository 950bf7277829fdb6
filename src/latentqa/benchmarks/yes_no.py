"""Yes/no: statements that are true or false, and sentences in some tense, as questions."""

from __future__ import annotations

import csv
import hashlib
import random
from collections import Counter
from pathlib import Path

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
)
from latentqa.data import data_file
from latentqa.errors import DataError
from latentqa.types import Message, Query

FOLDER = "classification"
TRUTH_QUESTION = "Is this statement true?"
TENSES = ("past", "present", "future")


class YesNoSettings(ExperimentSettings):
    """What `bench run yes-no key=value` takes.

    Attributes:
        files: names below `classification`, without `.csv`; `all` is every one.
        answers: the two that are compared, yes first.
        span: what is read.
        folds: parts that the statements are split into, for probes.
        fit: statements that probes are fitted on, drawn evenly over the files; 0 is all.
    """

    files: tuple[str, ...] = ("all",)
    answers: tuple[str, str] = ("Yes", "No")
    span: str = "stimulus"
    folds: int = Field(2, ge=2)
    fit: int = Field(0, ge=0)


def yes_no(root: Path, settings: YesNoSettings, tools: Tools) -> Experiment:
    """The experiment of the classification files.

    A file has a `statement` with a `label` of 1 or 0, or a `sentence` with its `tense`; about a tense, half
    of the sentences are asked for their own and half for another one.

    Raises:
        DataError: a file is missing, lacks a column, or has one answer only.
    """
    folder = data_file(FOLDER, root)
    there = sorted(path.stem for path in folder.glob("*.csv"))
    names: list[str] = []
    for name in settings.files:
        if name != "all" and name not in there:
            raise nearest_name("classification file", name, ["all", *there])
        names += there if name == "all" else [name]
    names = list(dict.fromkeys(names))
    filtered: Counter[str] = Counter()
    items: list[Item] = []
    for name in names:
        items += _file_items(folder / f"{name}.csv", settings, tools, filtered)
    return Experiment(
        name="yes-no",
        doc="Is the statement that is read true? Is the sentence in this tense? By p(yes) / (p(yes) + "
        "p(no)).",
        items=tuple(draw(items, tools.limit, tools.seed)),
        filtered=dict(filtered),
        metrics=METRICS,
        fit=tuple(draw(items, settings.fit or None, tools.seed)),
        asks=False,
        files=file_hashes([folder / f"{name}.csv" for name in names], root),
        notes=("A guess is right on half of the items, and has an AUROC of .50.",),
        batch=64,
    )


METRICS = (
    Metric("accuracy", "The likelier of yes and no is right.", "accuracy"),
    Metric("auroc", "A true item has a higher p(yes) than a false one.", "p_yes", "auroc", "truth"),
    Metric("accuracy by support", "The one with more support is right.", "accuracy_support"),
    Metric("auroc by support", "The same AUROC by support.", "p_yes_support", "auroc", "truth"),
)


def _file_items(path: Path, settings: YesNoSettings, tools: Tools, filtered: Counter[str]) -> list[Item]:
    asked: dict[tuple[str, str], tuple[bool, str]] = {}
    for row in _read(path):
        found = _asked(row, tools.seed)
        if found is None:
            filtered[f"{path.stem}: no statement or no label"] += 1
            continue
        text, question, truth, unit = found
        if (text, question) in asked:
            filtered[f"{path.stem}: row comes twice"] += 1
            continue
        asked[text, question] = (truth, unit)
    if len({truth for truth, _ in asked.values()}) < 2:
        raise DataError(
            f"{path} has one answer only in its {len(asked)} usable rows: nothing can be told apart. "
            "Give rows "
            "of both."
        )
    yes, no = settings.answers
    return [
        Item(
            id=f"{path.stem}:{number}",
            group=path.stem,
            query=Query([Message(role="user", content=text)], settings.span, question),
            question=question,
            gold=yes if truth else no,
            candidates=settings.answers,
            scorer="yes_no",
            meta={
                "unit": unit,
                "label": yes if truth else no,
                "fold": hashlib.sha256(f"{tools.seed}:{unit}".encode()).digest()[0] % settings.folds,
            },
        )
        for number, ((text, question), (truth, unit)) in enumerate(asked.items())
    ]


def _asked(row: dict[str, str], seed: int) -> tuple[str, str, bool, str] | None:
    """Text, question, whether yes is right, and the unit; None for a row that cannot be used."""
    if "statement" in row:
        text, label = (row["statement"] or "").strip(), (row["label"] or "").strip()
        if not text or label not in ("0", "1"):
            return None
        return text, TRUTH_QUESTION, label == "1", row.get("city") or text
    text, tense = (row["sentence"] or "").strip(), (row["tense"] or "").strip().partition(" ")[0].lower()
    if not text or tense not in TENSES:
        return None
    chance = random.Random(f"{seed}:{text}")
    about = tense if chance.random() < 0.5 else chance.choice([one for one in TENSES if one != tense])
    return text, f"Is this sentence in the {about} tense?", about == tense, text


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            if not ({"statement", "label"} <= columns or {"sentence", "tense"} <= columns):
                raise DataError(
                    f"{path} has the columns {', '.join(sorted(columns)) or 'none'}. A classification "
                    "file has "
                    "statement and label (1 or 0), or sentence and tense."
                )
            return list(reader)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the name.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: see byte {error.start}. Convert the file.") from error
