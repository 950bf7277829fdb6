"""Topic and persona: how often does the target talk about what it is steered to, unasked?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from latentqa.baselines.steering import Aim
from latentqa.benchmarks.embedding import load_embedding
from latentqa.benchmarks.experiment import (
    Embed,
    Experiment,
    Item,
    Metric,
    draw,
    file_hashes,
    nearest_name,
)
from latentqa.benchmarks.steering.experiment import (
    READ,
    SIDE_EFFECTS,
    TEXTS,
    SteeringExperiment,
    SteeringSettings,
    SteeringTools,
    neutral_items,
    reading_items,
    steering_item,
)
from latentqa.benchmarks.steering.texts import Control, lines, read_controls
from latentqa.benchmarks.steering.wikitext import FILE as WIKITEXT
from latentqa.benchmarks.steering.wikitext import test_windows, validation_windows, window_items
from latentqa.steering import Pair, load_stimuli

if TYPE_CHECKING:
    from latentqa.baselines.steering.context import Judge
    from latentqa.baselines.steering.treatment import Treated
    from latentqa.benchmarks.steering.unsteered import Unsteered

QUESTION = "What will the assistant talk about?"
COST_LIMIT = 1.4
"""Perplexity ratio from which on settings are marked down: somewhat below what would be too much."""
REPETITION_LIMIT = 0.1
"""Share of repeated 4-grams from which on they are, too."""
LIMITED = 2
"""Windows, neutral prompts and readings of each aim in a limited run."""


class TopicSettings(SteeringSettings):
    """What `bench run topic key=value` takes.

    Attributes:
        controls: JSONL file of other controls, `{"control", "keywords"}` a line; `--controls FILE` sets it
            too.
        aims: names of controls that are steered to; empty is all. Readers choose among all in any case.
        prompts: of the 50 plain ones, on which replies are counted.
        reply_tokens: longest reply.
        readings: prompts per control on which readers look at the steered target.
    """

    strengths: tuple[float, ...] = (0.5, 1.5)
    stimuli: int = Field(48, ge=1)
    windows: int = Field(8, ge=0)
    neutral: int = Field(6, ge=0)
    controls: Path | None = None
    aims: tuple[str, ...] = ()
    prompts: int = Field(50, ge=1)
    reply_tokens: int = Field(45, ge=1)
    readings: int = Field(4, ge=0)


def topic(root: Path, settings: TopicSettings, tools: SteeringTools) -> SteeringExperiment:
    """The experiment of some controls.

    Raises:
        DataError: a file that cannot be read, or holds no control.
        ConfigError: a name that no control has.
    """
    controls = read_controls(settings.controls)
    steered_to = chosen_controls(controls, settings.aims)
    aims = {control.name: aim_of(control) for control in controls}
    keywords = {control.name: control.keywords for control in controls}
    about = [control.about for control in controls]
    prompts = lines("prompts.txt")[: settings.prompts]
    embedding = None if tools.embed is not None else load_embedding([*about, *prompts])
    embed = tools.embed if embedding is None else embedding.embed
    assert embed is not None
    asked = [
        steering_item(
            f"{control.name}:reply:{number}",
            aims[control.name],
            "reply",
            prompt,
            group=control.name,
            new_tokens=settings.reply_tokens,
        )
        for control in steered_to
        for number, prompt in enumerate(prompts)
    ]
    drawn = draw(asked, tools.limit, tools.seed)
    cap = LIMITED if tools.limit is not None else None
    windows = test_windows(tools.target, root, cap or settings.windows)
    items: list[Item] = []
    for name, aim in aims.items():
        own = [item for item in drawn if item.group == name]
        if own:
            items += own
            items += window_items(aim, windows, group=name)
            items += neutral_items(aim, min(settings.neutral, cap or settings.neutral), group=name)
            read = (
                load_stimuli()[-min(settings.readings, cap or settings.readings) :]
                if settings.readings
                else []
            )
            items += reading_items(aim, read, group=name)
    files = [root / WIKITEXT, *([settings.controls] if settings.controls else [])]
    experiment = Experiment(
        name="topic",
        doc=f"How often replies to {len(prompts)} plain prompts show what the target is steered to, for "
        f"{len(steered_to)} controls.",
        items=tuple(items),
        filtered={},
        metrics=METRICS,
        asks=False,
        files=file_hashes(files, root),
        notes=(
            f"Likeness is by the embedding {tools.embed_name or (embedding.name if embedding else '')}; "
            "nearest means "
            "nearer to the control than to the other controls.",
            "NAME@0.5 is the method at half its chosen strength.",
            "Layers and strengths are chosen for each control on twelve other prompts and four other "
            "windows, "
            "within one budget for all methods.",
        ),
        contender="method",
        tradeoff=("mentioned", "perplexity ratio"),
        batch=64,
    )
    return SteeringExperiment(
        experiment,
        aims,
        lambda unsteered, aim: _judge(
            unsteered, keywords[aim.name], validation_windows(tools.target, root), settings.reply_tokens
        ),
        TopicValues(controls, embed),
        question=QUESTION,
    )


METRICS = (
    Metric("mentioned", "Replies that hold a keyword of the control.", "mentioned"),
    Metric("nearest", "Replies nearer to the control than to any other one, by embedding.", "nearest"),
    Metric(
        "likeness", "Cosine of reply and control, by embedding.", "likeness", share=False, test="bootstrap"
    ),
    *TEXTS,
    *SIDE_EFFECTS,
    *READ,
)


class TopicValues:
    """What replies are worth: `mentioned`, `likeness` to the item's control, whether it is the `nearest`.

    Args:
        controls: all that the nearest is sought among.
        embed: unit vectors of texts.
    """

    def __init__(self, controls: Sequence[Control], embed: Embed) -> None:
        self._controls = {control.name: control for control in controls}
        self._embed = embed

    def __call__(self, items: Sequence[Item], texts: Sequence[str]) -> list[dict[str, float]]:
        """Values of each text."""
        from latentqa.steering import mentions

        names = list(self._controls)
        vectors = self._embed([*(one.about for one in self._controls.values()), *texts])
        likeness = vectors[len(names) :] @ vectors[: len(names)].T
        found = []
        for item, text, row in zip(items, texts, likeness, strict=True):
            name = str(item.meta["aim"])
            place = names.index(name)
            values = {
                "mentioned": float(mentions(text, self._controls[name].keywords)),
                "likeness": float(row[place]),
            }
            if len(names) > 1:
                values["nearest"] = float(row[place] > np.delete(row, place).max())
            found.append(values)
        return found


def chosen_controls(controls: Sequence[Control], names: Sequence[str]) -> list[Control]:
    """Those that are steered to: all, or those that are named. Readers may mistake them for any other."""
    known = [control.name for control in controls]
    for name in names:
        if name not in known:
            raise nearest_name("control", name, known)
    return [control for control in controls if not names or control.name in names]


def aim_of(control: Control) -> Aim:
    """A control as what methods steer to."""
    return Aim(
        name=control.name,
        control=control.control,
        pairs=tuple(Pair(**pair) for pair in control.pairs),
        answer=f"It will talk about {control.about}.",
    )


def _judge(
    unsteered: Unsteered, keywords: Sequence[str], windows: list[tuple[int, ...]], reply_tokens: int
) -> Judge:
    """Share of validation replies with a keyword, marked down for perplexity and repetition."""
    from latentqa.baselines.steering.completions import user_turn
    from latentqa.benchmarks.steering.writing import reply
    from latentqa.steering import mentions, repetition

    dialogs = [user_turn(prompt) for prompt in lines("prompts-validation.txt")]
    before = repetition(reply(unsteered.plain, dialogs, reply_tokens))
    unsteered.window_nll(windows)

    def judge(treated: Treated) -> float:
        texts = reply(treated, dialogs, reply_tokens)
        rate = sum(mentions(text, keywords) for text in texts) / len(texts)
        ratio = unsteered.perplexity_ratio(treated, windows)
        repeated = repetition(texts) - max(REPETITION_LIMIT, COST_LIMIT * before)
        return rate - 2 * max(0.0, ratio - COST_LIMIT) - 2 * max(0.0, repeated)

    return judge
