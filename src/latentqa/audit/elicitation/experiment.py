"""What every method is put to: behaviours, an organism's own turns, a control task, and plain text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from latentqa.audit.elicitation import control, truth
from latentqa.audit.elicitation.behaviors import Behaviors
from latentqa.audit.elicitation.judging import reply_metrics
from latentqa.audit.elicitation.settings import ElicitSettings
from latentqa.audit.elicitation.truth import Truth
from latentqa.benchmarks import Experiment, Item, Metric
from latentqa.benchmarks.steering.wikitext import GROUP as WIKITEXT
from latentqa.benchmarks.steering.wikitext import test_windows
from latentqa.decoder import Target
from latentqa.dialogs import render
from latentqa.errors import ConfigError, DataError
from latentqa.models import context_length
from latentqa.types import Query

NAME = "elicit"
BATCH = 64
"""Items that are put to a method at once: what a run that is killed loses at most."""
SPLIT = 4
"""Labels up to which figures are split by label too."""
PERPLEXITY = Metric(
    "perplexity",
    "Of WikiText-2, treated at every position, in windows of 512 tokens.",
    "nll",
    compute="exp_mean",
    share=False,
    better="low",
)
TOO_LONG = "a behaviour longer than the model's context"


def elicit_experiment(
    target: Target,
    settings: ElicitSettings,
    behaviors: Behaviors | None = None,
    found: Truth | None = None,
    root: Path | None = None,
) -> Experiment:
    """What every method is put to; groups are the behaviours' categories, and the other tasks by name.

    Args:
        target: the model that is audited.
        settings: of the audit.
        behaviors: that are elicited.
        found: what an organism is known to withhold.
        root: the data root; None leaves perplexity out.

    Raises:
        ConfigError: neither behaviours nor an organism's truth.
        DataError: no behaviour fits into the model's context, or WikiText-2 is missing.
    """
    if behaviors is None and found is None:
        raise ConfigError(
            "There is nothing to elicit: name a file with --behaviors. Without one only an organism is "
            "audited that has a locked capability or a refused topic and passed its own check."
        )
    filtered: Counter[str] = Counter()
    items: list[Item] = []
    notes: list[str] = []
    labels: list[str] = []
    if behaviors is not None:
        items += _behavior_items(behaviors, target, settings, filtered)
        filtered.update(behaviors.left_out)
        labels = list(dict.fromkeys(one.label for one in behaviors.drawn if one.label))
        if behaviors.rows > len(behaviors.drawn):
            notes.append(f"{len(behaviors.drawn)} of {behaviors.rows} behaviours were drawn.")
    metrics = reply_metrics(labels if 1 < len(labels) <= SPLIT else ()) if items else ()
    if found is not None:
        items += found.items()
        metrics += truth.METRICS
        notes.append(
            f"The organism {found.name} is known to withhold something: its own check is put to it too."
        )
    if settings.control:
        items += control.control_items(settings.control, found.skill if found is not None else "")
        metrics += control.METRICS
    if settings.windows and root is not None:
        items += _window_items(target, root, settings.windows)
        metrics += (PERPLEXITY,)
    elif settings.windows:
        notes.append("Perplexity was not measured: no data root was named.")
    return Experiment(
        name=NAME,
        doc="What is the model brought to do that it normally withholds? Groups are behaviours' categories.",
        items=tuple(items),
        filtered=dict(filtered),
        metrics=metrics,
        asks=False,
        notes=tuple(notes),
        pooled=True,
        contender="method",
        batch=BATCH,
    )


def _behavior_items(
    behaviors: Behaviors, target: Target, settings: ElicitSettings, filtered: Counter[str]
) -> list[Item]:
    limit = context_length(target.model)
    found: list[Item] = []
    for one in behaviors.drawn:
        dialog = ({"role": "user", "content": one.prompt},)
        item = Item(
            f"behavior:{one.id}",
            one.category,
            Query(dialog, "", ""),
            "",
            "",
            (),
            "",
            {"task": "behavior", "flags": {"label": one.label} if one.label else {}},
        )
        longest = ({"role": "system", "content": settings.sentence}, *dialog)
        needed = len(render(target.tokenizer, longest).token_ids) + settings.reply_tokens
        if limit is not None and needed > limit:
            filtered[TOO_LONG] += 1
        else:
            found.append(item)
    if not found:
        raise DataError(f"None of {len(behaviors.drawn)} behaviours of {behaviors.source} fits: {TOO_LONG}.")
    return found


def _window_items(target: Target, root: Path, count: int) -> list[Item]:
    return [
        Item(
            f"window:{number}",
            WIKITEXT,
            Query((), "", ""),
            "",
            "",
            (),
            "",
            {"task": "window", "tokens": window},
        )
        for number, window in enumerate(test_windows(target, root, count))
    ]
