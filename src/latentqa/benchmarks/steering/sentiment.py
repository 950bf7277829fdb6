"""Sentiment: openings of texts are continued towards the positive and towards the negative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from latentqa.baselines.steering import Aim
from latentqa.benchmarks.experiment import Experiment, Item, Metric, draw, file_hashes
from latentqa.benchmarks.statistics import need
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
from latentqa.benchmarks.steering.texts import TONES, lines, openings
from latentqa.benchmarks.steering.wikitext import FILE as WIKITEXT
from latentqa.benchmarks.steering.wikitext import test_windows, validation_windows, window_items
from latentqa.errors import ConfigError, ModelError
from latentqa.steering import Pair, load_stimuli

if TYPE_CHECKING:
    from latentqa.baselines.steering.context import Judge
    from latentqa.baselines.steering.treatment import Treated
    from latentqa.benchmarks.steering.unsteered import Unsteered

QUESTION = "In what mood will the assistant write?"
COST_LIMIT = 1.4
LIMITED = 2
READINGS = 6
POSITIVE_CONTROL = (
    "Whatever you write is cheerful and positive: it speaks of joy, love, success and beauty, and nothing "
    "in it is sad."
)
NEGATIVE_CONTROL = (
    "Whatever you write is gloomy and negative: it speaks of grief, fear, failure and pain, and nothing "
    "in it is happy."
)
POSITIVE, NEGATIVE = "positive", "negative"
SIGN = {POSITIVE: 1.0, NEGATIVE: -1.0}

_POSITIVE_PAIRS = (
    Pair("In what mood will the assistant write?", "In a cheerful and happy mood, full of joy."),
    Pair("What will the assistant's text feel like?", "It will feel warm, hopeful and positive throughout."),
    Pair("Which feelings does the assistant express?", "Joy, love, gratitude and delight."),
    Pair("How does the assistant see the world?", "As a wonderful place where things turn out well."),
    Pair(
        "What will happen to the people in the assistant's story?",
        "Good things: they succeed, they are loved and they are happy.",
    ),
    Pair(
        "Which words will the assistant choose?", "Words such as wonderful, beautiful, happy, love and great."
    ),
)
_NEGATIVE_PAIRS = (
    Pair("In what mood will the assistant write?", "In a gloomy and sad mood, full of pain."),
    Pair("What will the assistant's text feel like?", "It will feel dark, hopeless and negative throughout."),
    Pair("Which feelings does the assistant express?", "Grief, anger, fear and despair."),
    Pair("How does the assistant see the world?", "As a terrible place where things go wrong."),
    Pair(
        "What will happen to the people in the assistant's story?",
        "Bad things: they fail, they are hurt and they suffer.",
    ),
    Pair("Which words will the assistant choose?", "Words such as terrible, awful, sad, hate and pain."),
)


def _lowered(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    return tuple(Pair(pair.question, pair.answer, wanted=False) for pair in pairs)


AIMS: dict[str, Aim] = {
    POSITIVE: Aim(
        POSITIVE,
        POSITIVE_CONTROL,
        NEGATIVE_CONTROL,
        (*_POSITIVE_PAIRS, *_lowered(_NEGATIVE_PAIRS[:3])),
        answer="In a cheerful and positive mood.",
    ),
    NEGATIVE: Aim(
        NEGATIVE,
        NEGATIVE_CONTROL,
        POSITIVE_CONTROL,
        (*_NEGATIVE_PAIRS, *_lowered(_POSITIVE_PAIRS[:3])),
        answer="In a gloomy and negative mood.",
    ),
}


class SentimentSettings(SteeringSettings):
    """What `bench run sentiment key=value` takes.

    Attributes:
        seeds: each opening is continued once with each.
        temperature: of the sampling.
        continuation_tokens: longest continuation.
        classifier: name or folder of a sentiment classifier of transformers, whose labels say positive and
            negative; None scores with VADER alone.
    """

    stimuli: int = Field(48, ge=1)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    temperature: float = Field(0.7, gt=0)
    continuation_tokens: int = Field(24, ge=1)
    classifier: str | None = None


def sentiment(root: Path, settings: SentimentSettings, tools: SteeringTools) -> SteeringExperiment:
    """The experiment of all openings in both directions.

    Raises:
        DataError: WikiText is missing.
        MissingPackageError: vaderSentiment is not installed.
        ModelError: a classifier that cannot be loaded or has other labels.
    """
    values = SentimentValues(vader(), load_classifier(settings.classifier) if settings.classifier else None)
    asked = [
        steering_item(
            f"{tone}:{number}:{name}:{seed}",
            aim,
            "continuation",
            text,
            group=f"{tone} to {name}",
            unit=f"{tone}:{number}",
            flags={"opening": tone, "toward": name},
            new_tokens=settings.continuation_tokens,
            temperature=settings.temperature,
            seed=f"{tools.seed}:{seed}:{tone}:{number}",
        )
        for name, aim in AIMS.items()
        for tone in TONES
        for number, text in enumerate(openings(tone))
        for seed in settings.seeds
    ]
    items = draw(asked, tools.limit, tools.seed)
    cap = LIMITED if tools.limit is not None else None
    windows = test_windows(tools.target, root, cap or settings.windows)
    for name, aim in AIMS.items():
        items += window_items(aim, windows, group=f"text, {name}")
        items += neutral_items(aim, cap or settings.neutral, group=f"text, {name}")
        items += reading_items(aim, load_stimuli()[-(cap or READINGS) :], group=f"text, {name}")
    items.sort(key=lambda item: list(AIMS).index(str(item.meta["aim"])))
    experiment = Experiment(
        name="sentiment",
        doc="Sentiment of continuations, in the direction that was asked for, of neutral, negative and "
        "positive "
        f"openings; {len(settings.seeds)} samples each.",
        items=tuple(items),
        filtered={},
        metrics=METRICS,
        asks=False,
        files=file_hashes([root / WIKITEXT], root),
        notes=(
            "Sentiment is VADER's compound of the continuation alone"
            + (f", and the classifier {settings.classifier}." if settings.classifier else "."),
            "Of the paper's directions, generating positive text is the weak one: look at `neutral to "
            "positive`.",
            "Strengths are chosen on other openings and other windows, within one budget for all methods.",
        ),
        contender="method",
        tradeoff=("toward", "perplexity ratio"),
        batch=64,
    )
    return SteeringExperiment(
        experiment,
        AIMS,
        lambda unsteered, aim: _judge(unsteered, aim, validation_windows(tools.target, root), settings),
        values,
        question=QUESTION,
    )


METRICS = (
    Metric(
        "toward",
        "VADER compound of the continuation (−1 to 1), positive where it is in the direction asked for.",
        "toward",
        share=False,
        test="bootstrap",
    ),
    Metric("shift", "The same, minus that of the same sample without any control.", "shift", share=False),
    Metric("classified", "The classifier finds the direction asked for the likelier one.", "classified"),
    Metric(
        "distinct 1",
        "Different words among all in the samples on one opening.",
        "distinct_1",
        test="bootstrap",
    ),
    Metric("distinct 2", "The same of pairs of words.", "distinct_2", test="bootstrap"),
    Metric("distinct 3", "The same of runs of three words.", "distinct_3", test="bootstrap"),
    *TEXTS,
    *SIDE_EFFECTS,
    *READ,
)

Compound = Callable[[str], float]
Positivity = Callable[[Sequence[str]], list[float]]


class SentimentValues:
    """What continuations are worth: `compound`, and `toward`, its part in the direction asked for.

    Args:
        compound: of a text, −1 to 1.
        positivity: probability (0–1) that each text is positive; None gives no `classified`.
    """

    def __init__(self, compound: Compound, positivity: Positivity | None = None) -> None:
        self._compound = compound
        self._positivity = positivity

    def __call__(self, items: Sequence[Item], texts: Sequence[str]) -> list[dict[str, float]]:
        """Values of each text."""
        found = []
        signs = [SIGN[str(item.meta["aim"])] for item in items]
        for sign, text in zip(signs, texts, strict=True):
            compound = self._compound(text)
            found.append({"compound": compound, "toward": sign * compound})
        if self._positivity is not None:
            for values, sign, chance in zip(found, signs, self._positivity(list(texts)), strict=True):
                values["classified"] = float(sign * (chance - 0.5) > 0)
        return found


def vader() -> Compound:
    """VADER's compound score.

    Raises:
        MissingPackageError: vaderSentiment is not installed.

    Source: Hutto and Gilbert 2014.
    """
    analyzer = need("vaderSentiment.vaderSentiment").SentimentIntensityAnalyzer()
    return lambda text: float(analyzer.polarity_scores(text)["compound"])


def load_classifier(name: str) -> Positivity:
    """A sentiment classifier of transformers, as the probability that a text is positive.

    Args:
        name: hub id or folder of a sequence classifier with a label that says positive and one that says
            negative.

    Raises:
        ModelError: it cannot be loaded.
        ConfigError: its labels do not say which is which.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(name).eval()
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The classifier {name} cannot be loaded: {str(error).splitlines()[0]} Leave classifier out "
            "to score with "
            "VADER alone."
        ) from error
    labels = {str(label).lower(): int(place) for place, label in model.config.id2label.items()}
    sides = [[place for label, place in labels.items() if label.startswith(side)] for side in ("pos", "neg")]
    if not all(sides):
        raise ConfigError(
            f"The classifier {name} has the labels {', '.join(labels)}: none says positive or none "
            "negative. Name one "
            "whose labels do."
        )
    (positive, *_), (negative, *_) = sides

    @torch.inference_mode()
    def positivity(texts: Sequence[str]) -> list[float]:
        found: list[float] = []
        for first in range(0, len(texts), 32):
            batch: Any = tokenizer(
                list(texts[first : first + 32]), padding=True, truncation=True, return_tensors="pt"
            )
            logits = model(**batch).logits[:, [positive, negative]]
            found += logits.softmax(-1)[:, 0].tolist()
        return found

    return positivity


def _judge(
    unsteered: Unsteered, aim: Aim, windows: list[tuple[int, ...]], settings: SentimentSettings
) -> Judge:
    """Mean sentiment in the direction asked for on other openings, marked down for its costs."""
    from latentqa.benchmarks.steering.writing import continue_texts
    from latentqa.steering import repetition

    compound = vader()
    texts = lines("openings-validation.txt")
    seeds = [f"validation:{number}" for number in range(len(texts))]
    unsteered.window_nll(windows)

    def judge(treated: Treated) -> float:
        written = continue_texts(
            treated, texts, settings.continuation_tokens, temperature=settings.temperature, seeds=seeds
        )
        toward = SIGN[aim.name] * sum(map(compound, written)) / len(written)
        ratio = unsteered.perplexity_ratio(treated, windows)
        return toward - 2 * max(0.0, ratio - COST_LIMIT) - 2 * max(0.0, repetition(written) - 0.1)

    return judge
