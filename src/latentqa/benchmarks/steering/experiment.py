"""A steering experiment: items that treated targets respond to, aims, and how treatments are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from latentqa.benchmarks.experiment import Embed, Experiment, ExperimentSettings, Item, Metric
from latentqa.steering import neutral_prompts
from latentqa.types import Message, Query

if TYPE_CHECKING:
    from latentqa.baselines.steering import Aim
    from latentqa.baselines.steering.context import Judge
    from latentqa.benchmarks.steering.unsteered import Unsteered
    from latentqa.decoder import Decoder, Target

MeasureName = Literal["pair", "window", "neutral", "reply", "continuation", "reading"]
TextValues = Callable[[Sequence[Item], Sequence[str]], list[dict[str, float]]]
"""What texts are worth: (items, what was written for each) → named values."""


class SteeringSettings(ExperimentSettings):
    """What every steering experiment takes as `key=value`; children add their own.

    Attributes:
        strengths: further strengths at which each method with one is measured, as multiples of the chosen
            one.
        stimuli: user turns that methods learn on, of the 200 that ship; the issue's own is 30–50.
        windows: windows of 512 tokens of `wikitext2` per aim; 0 is all of the first 50,000 tokens.
        neutral: neutral prompts per aim on which the change is measured in nats.
        second_decoder: folder or hub id of another decoder on the same base, which reads and does not steer.
    """

    strengths: tuple[float, ...] = ()
    stimuli: int = 48
    windows: int = 0
    neutral: int = 12
    second_decoder: str | None = None


@dataclass(frozen=True, eq=False)
class SteeringTools:
    """What a steering experiment is handed to make its items.

    Attributes:
        target: unsteered.
        decoder: that steers; None where no method needs one.
        second: another decoder that reads and does not steer.
        seed: of every draw.
        limit: items in all, side effects apart; None is all.
        embed: unit vectors of texts; by default what `embedding.load_embedding` finds.
        embed_name: what it is called in notes.
    """

    target: Target
    decoder: Decoder | None = None
    second: Decoder | None = None
    seed: int = 0
    limit: int | None = None
    embed: Embed | None = None
    embed_name: str = ""


@dataclass(frozen=True, eq=False)
class SteeringExperiment:
    """What a steering experiment is made of.

    Attributes:
        experiment: items and figures, as of any experiment.
        aims: name → aim; items carry the name.
        judge: for an aim, how good a treated target is on the validation prompts, beside what was
            measured of the unsteered one.
        text_values: what replies and continuations are worth.
        flattened: whether each method has a twin: the unsteered target, flattened to the method's perplexity.
        question: put to readers of the steered target.
    """

    experiment: Experiment
    aims: Mapping[str, Aim]
    judge: Callable[[Unsteered, Aim], Judge]
    text_values: TextValues
    flattened: bool = False
    question: str = ""


def steering_item(
    id: str,
    aim: Aim,
    measure: MeasureName,
    text: str,
    *,
    group: str,
    unit: str | None = None,
    flags: Mapping[str, Any] | None = None,
    **meta: Any,
) -> Item:
    """An item of a steering experiment.

    Args:
        id: unique within the experiment.
        aim: towards which the target is steered.
        measure: what is done with the treated target, see `measures.MEASURES`.
        text: user turn, beginning or sentence that is put to it.
        group: what figures are split by.
        unit: rows of one unit are resampled together.
        flags: that metrics filter by.
        meta: what the measure needs.
    """
    return Item(
        id=id,
        group=group,
        query=Query([Message(role="user", content=text)], "all", ""),
        question=text,
        gold=aim.control,
        candidates=(),
        scorer="none",
        meta={"aim": aim.name, "measure": measure, "unit": unit or id, "flags": dict(flags or {}), **meta},
    )


def neutral_items(aim: Aim, count: int, *, group: str = "neutral") -> list[Item]:
    """Neutral prompts on which the change is measured, the first of those that ship."""
    return [
        steering_item(
            f"{aim.name}:neutral:{number}", aim, "neutral", prompt, group=group, unit=f"neutral-{number}"
        )
        for number, prompt in enumerate(neutral_prompts()[:count])
    ]


def reading_items(aim: Aim, prompts: Sequence[str], *, group: str) -> list[Item]:
    """Prompts on which readers look at the steered target; none for an aim without an answer."""
    if not aim.answer:
        return []
    return [
        steering_item(
            f"{aim.name}:reading:{number}", aim, "reading", prompt, group=group, unit=f"reading-{number}"
        )
        for number, prompt in enumerate(prompts)
    ]


def prompt_of(item: Item) -> str:
    """The text that is put to the target."""
    return item.query.dialog[0]["content"]


SIDE_EFFECTS = (
    Metric(
        "perplexity",
        "Of WikiText-2, steered at every position, in windows of 512 tokens.",
        "nll",
        compute="exp_mean",
        share=False,
        better="low",
    ),
    Metric(
        "perplexity ratio",
        "The same, times the unsteered target's on the same windows.",
        "nll_added",
        compute="exp_mean",
        share=False,
        better="low",
        test="bootstrap",
    ),
    Metric(
        "KL",
        "From the unsteered target on its own replies to neutral prompts, in nats a token.",
        "kl",
        share=False,
        better="low",
    ),
)
"""What steering costs, whatever it is steered to."""

TEXTS = (
    Metric(
        "fluency",
        "Perplexity of what was written under the unsteered target, each text weighing the same.",
        "text_nll",
        compute="exp_mean",
        share=False,
        better="low",
        test="bootstrap",
    ),
    Metric(
        "repetition",
        "Share of a text's 4-grams that stood in it before.",
        "repetition",
        better="low",
        test="bootstrap",
    ),
    Metric("repetitive", "Texts of which a quarter or more does.", "repetitive", better="low"),
)
"""What steering costs the texts that are written."""

READERS = ("steering-decoder", "second-decoder", "probe", "text")
READ = tuple(
    Metric(
        f"read by {name}", f"The {name} ranks the aim first among all, on the steered target.", f"read_{name}"
    )
    for name in READERS
)
"""Whether readers see the change; only the first one's loss may have made it."""
