"""Sentiment: directions, diversity, the shift from no control, and classifiers by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from latentqa.benchmarks import Run, summarize
from latentqa.benchmarks.steering import SentimentSettings, SteeringTools, sentiment
from latentqa.benchmarks.steering.diversity import distinct, with_diversity
from latentqa.benchmarks.steering.sentiment import AIMS, SentimentValues, load_classifier, vader
from latentqa.decoder import Target
from latentqa.errors import ConfigError, ModelError
from latentqa.models import tiny_tokenizer

SMALL = {"windows": 1, "neutral": 1, "stimuli": 3, "continuation_tokens": 5, "seeds": (0, 1)}


class Positive:
    meta = {"aim": "positive"}


class Negative:
    meta = {"aim": "negative"}


def test_sentiment_counts_in_the_direction_asked_for() -> None:
    values = SentimentValues(vader(), lambda texts: [0.9 if "love" in text else 0.1 for text in texts])
    loved = "I love this wonderful day."
    up, down = values([Positive(), Negative()], [loved, loved])  # pyright: ignore
    assert up["toward"] > 0.5 and down["toward"] == -up["toward"] and up["compound"] == down["compound"]
    assert (up["classified"], down["classified"]) == (1.0, 0.0)


def test_distinct_is_over_the_samples_of_one_opening() -> None:
    assert distinct(["a b", "a b"]) == {"distinct_1": 0.5, "distinct_2": 0.5}
    assert distinct(["", ""]) == {}


def test_every_opening_is_continued_in_both_directions(target: Target, root: Path) -> None:
    made = sentiment(root, SentimentSettings(windows=1, neutral=1), SteeringTools(target))
    asked = [item for item in made.experiment.items if item.meta["measure"] == "continuation"]
    assert len(asked) == 600 * 2 * 3 and len({item.meta["seed"] for item in asked}) == 600 * 3
    assert {item.group for item in asked} == {
        f"{tone} to {toward}" for tone in ("neutral", "negative", "positive") for toward in AIMS
    }
    # The same sample is drawn in both directions, so that only the treatment differs.
    assert {item.unit for item in asked} == {
        f"{t}:{n}" for t, c in (("neutral", 300), ("negative", 150), ("positive", 150)) for n in range(c)
    }


def test_a_run_has_diversity_and_shift(session: Callable[..., Run]) -> None:
    finished = session("sentiment", "no-control,prompting,contrast", limit=12, **SMALL)
    found = summarize(finished)
    for metric in ("toward", "shift", "distinct 1", "fluency", "repetition", "perplexity ratio"):
        assert found.figure("contrast", "mean", metric) is not None, metric
    shift = found.figure("no-control", "mean", "shift")
    assert shift is not None and shift.mean == 0.0
    assert found.figure("contrast", "mean", "classified") is None
    rows = with_diversity(finished.rows)
    assert len(rows) == len(finished.rows)
    assert any(test.metric == "toward" and test.method == "bootstrap" for test in found.tests)


def classifier(folder: Path, labels: dict[int, str]) -> Path:
    tokenizer = tiny_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        id2label=labels,
        label2id={label: number for number, label in labels.items()},
    )
    torch.manual_seed(0)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_classifier_is_taken_by_its_labels(tmp_path: Path) -> None:
    positivity = load_classifier(
        str(classifier(tmp_path / "one", {0: "NEGATIVE", 1: "neutral", 2: "POSITIVE"}))
    )
    turned = load_classifier(str(classifier(tmp_path / "two", {0: "positive", 1: "neutral", 2: "negative"})))
    texts = ["Where is the harbour?", "A good answer is short."]
    for one, other in zip(positivity(texts), turned(texts), strict=True):
        assert one == pytest.approx(1 - other, abs=1e-5)
    with pytest.raises(ConfigError, match="label_0, label_1"):
        load_classifier(str(classifier(tmp_path / "three", {0: "LABEL_0", 1: "LABEL_1"})))
    with pytest.raises(ModelError, match="Leave classifier out"):
        load_classifier(str(tmp_path / "none"))
