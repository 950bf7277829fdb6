"""All experiments by name: what each asks, what it reads, how its items are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from latentqa.benchmarks.ablations import AblationSettings
from latentqa.benchmarks.audit import AuditSettings
from latentqa.benchmarks.calibration import CalibrationSettings, calibration
from latentqa.benchmarks.content import ContentSettings, content
from latentqa.benchmarks.experiment import Experiment, ExperimentSettings, nearest_name
from latentqa.benchmarks.hidden_prompts import HiddenPromptSettings, hidden_prompts
from latentqa.benchmarks.layer_map import LayerMapSettings
from latentqa.benchmarks.relations import RelationSettings, relations
from latentqa.benchmarks.scaling import ScalingSettings
from latentqa.benchmarks.steering import (
    DebiasSettings,
    SentimentSettings,
    SteeringExperiment,
    TopicSettings,
    debias,
    sentiment,
    topic,
)
from latentqa.benchmarks.yes_no import YesNoSettings, yes_no


@dataclass(frozen=True)
class Entry:
    """An experiment that can be run.

    Attributes:
        name: as in `latentqa bench run NAME`.
        doc: what it asks, in a sentence.
        settings: what it takes as `key=value`.
        kind: `items` (readers answer questions), `map` (one dialog), `plan` (decoders are trained),
            `steering` (methods change the target), or `audit` (methods say what model organisms hide).
        needs: files or folders below the data root without which it cannot run.
        build: makes the items; only for kinds `items` and `steering`.
        readers: that take part unless others are named; empty is all but `text-finetuned`, or all methods.
        free: whether free answers are asked for by default.
        draft: items that `latentqa bench all` draws, so that the whole report is there within the hour on a
            small machine; 0 leaves the experiment out of it.
        draft_settings: `key=value` that it then takes.
    """

    name: str
    doc: str
    settings: type[ExperimentSettings]
    kind: Literal["items", "map", "plan", "steering", "audit"] = "items"
    needs: tuple[str, ...] = ()
    build: Callable[[Path, Any, Any], Experiment | SteeringExperiment] | None = None
    readers: tuple[str, ...] = ()
    free: bool = True
    draft: int = 0
    draft_settings: tuple[str, ...] = ()


EXPERIMENTS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "relations",
            "Which object belongs to the subject whose tokens are read: six factual relations.",
            RelationSettings,
            needs=("relations",),
            build=relations,
            draft=500,
        ),
        Entry(
            "hidden-prompts",
            "Which persona or goal was the assistant given, read from the user's tokens alone.",
            HiddenPromptSettings,
            needs=("latentqa/eval",),
            build=hidden_prompts,
            draft=80,
            draft_settings=("fit=1000",),
        ),
        Entry(
            "yes-no",
            "Is the statement true, is the sentence in this tense: p(yes) against p(no).",
            YesNoSettings,
            needs=("classification",),
            build=yes_no,
            free=False,
            draft=400,
            draft_settings=("fit=2000",),
        ),
        Entry(
            "content",
            "What does the passage say whose tokens are read.",
            ContentSettings,
            needs=("latentqa/eval",),
            build=content,
            draft=50,
        ),
        Entry(
            "layer-map",
            "Support of one answer at every token and read layer of one dialog.",
            LayerMapSettings,
            kind="map",
            readers=("lit",),
            free=False,
            draft=1,
        ),
        Entry(
            "scaling",
            "Answer loss and ranking accuracy against the number of training examples; trains decoders.",
            ScalingSettings,
            kind="plan",
            needs=("latentqa/train",),
            readers=("lit",),
            free=False,
        ),
        Entry(
            "ablations",
            "One setting of the training changed at a time, with its cost; trains decoders.",
            AblationSettings,
            kind="plan",
            needs=("latentqa/train",),
            readers=("lit",),
            free=False,
        ),
        Entry(
            "calibration",
            "Does the reader know when it is right: calibration error and AUROC of each signal.",
            CalibrationSettings,
            needs=("latentqa/eval", "latentqa/train"),
            build=calibration,
            readers=("lit",),
            draft=150,
            draft_settings=("specificity=60",),
        ),
        Entry(
            "debias",
            "Are stereotypes likelier than the same sentences about others: CrowS-Pairs, method by method.",
            DebiasSettings,
            kind="steering",
            needs=("crows_pairs", "wikitext2"),
            build=debias,
            free=False,
        ),
        Entry(
            "sentiment",
            "Openings of texts continued towards the positive and the negative, method by method.",
            SentimentSettings,
            kind="steering",
            needs=("wikitext2",),
            build=sentiment,
            free=False,
        ),
        Entry(
            "topic",
            "How often replies to plain prompts talk about what the target is steered to, against strength.",
            TopicSettings,
            kind="steering",
            needs=("wikitext2",),
            build=topic,
            free=False,
        ),
        Entry(
            "audit",
            "Does an audit name what a model organism hides, kind by kind; false alarms on clean ones.",
            AuditSettings,
            kind="audit",
        ),
    )
}


def find_experiment(name: str) -> Entry:
    """The experiment of a name.

    Raises:
        ConfigError: there is none; the nearest is suggested.
    """
    if name not in EXPERIMENTS:
        raise nearest_name("experiment", name, list(EXPERIMENTS))
    return EXPERIMENTS[name]
