"""Perplexity, KL, repetition and effect, of a target as it is now."""

from __future__ import annotations

import doctest
import importlib
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentqa.decoder import Target
from latentqa.errors import ActivationError, DataError
from latentqa.steering import (
    NeutralReplies,
    Steering,
    control_ratio,
    measure_effect,
    mention_rate,
    mentions,
    neutral_prompts,
    perplexity,
    repetition,
    steered,
)
from latentqa.steering.fluency import read_text
from tests.steering.conftest import STIMULI, make_target

TEXT = "The assistant will adopt the persona of a lighthouse keeper who speaks in short sentences. " * 20
Make = Callable[..., Steering]


def expected_perplexity(target: Target, token_ids: list[int], window: int) -> float:
    losses = []
    for start in range(0, len(token_ids) - window + 1, window):
        part = torch.tensor([token_ids[start : start + window]])
        with torch.no_grad():
            values = torch.log_softmax(target.model(part).logits[0, :-1].double(), dim=-1)
        losses.append(-values.gather(1, part[0, 1:, None]))
    return float(torch.cat(losses).mean().exp())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "granite"])
def test_perplexity_is_that_of_non_overlapping_windows(architecture: str) -> None:
    target = make_target(architecture)
    token_ids = target.tokenizer(TEXT, add_special_tokens=False)["input_ids"][:200]
    found = perplexity(target, TEXT, tokens=200, window=32)
    assert (found.windows, found.tokens) == (6, 6 * 31)
    assert found.value == pytest.approx(expected_perplexity(target, list(token_ids), 32), rel=1e-4)
    assert found.value == pytest.approx(math.exp(found.nats))


def test_perplexity_is_steered_at_every_position(target: Target, steering: Make) -> None:
    plain = perplexity(target, TEXT, tokens=100, window=50).value
    made = {positions: steering(1, scale=2, positions=positions) for positions in ("all", "completion")}
    with steered(target, made["all"]):
        everywhere = perplexity(target, TEXT, tokens=100, window=50).value
    with steered(target, made["completion"]):
        assert perplexity(target, TEXT, tokens=100, window=50).value == everywhere
    assert everywhere != plain
    assert perplexity(target, TEXT, tokens=100, window=50).value == plain


def test_a_short_text_is_one_window_and_an_empty_one_an_error(target: Target, tmp_path: Path) -> None:
    assert perplexity(target, "Where is the harbour?").windows == 1
    for text in ("", "a"):
        with pytest.raises(DataError, match="fewer than two tokens"):
            perplexity(target, text)
    with pytest.raises(DataError, match="cannot be read from .*nowhere"):
        read_text(tmp_path / "nowhere")


def test_values_that_are_not_finite_are_said(target: Target) -> None:
    with torch.no_grad():
        target.model.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    with pytest.raises(ActivationError, match="The target's log-probability is not finite"):
        perplexity(target, TEXT, tokens=40, window=20)
    with pytest.raises(ActivationError, match="logits are not finite .* lower the strength"):
        target.chat([{"role": "user", "content": "Hi"}])


def test_kl_is_zero_of_the_unsteered_target_and_that_of_the_definition_else(
    target: Target, steering: Make
) -> None:
    neutral = NeutralReplies.make(target, neutral_prompts()[:3], tokens=5)
    assert neutral.measure(target) == pytest.approx(0, abs=1e-6)
    made = steering(1, scale=2)
    with steered(target, made):
        found = neutral.measure(target)
        expected, count = 0.0, 0
        for sequence, start, before in zip(neutral.sequences, neutral.starts, neutral.expected, strict=True):
            with torch.no_grad():
                logits = target.model(torch.tensor([sequence])).logits[0, start - 1 : -1]
            after = torch.log_softmax(logits, dim=-1)
            divergence = torch.nn.functional.kl_div(after, before, reduction="sum", log_target=True)
            expected, count = expected + float(divergence), count + len(after)
    assert found == pytest.approx(expected / count, rel=1e-3) and found > 0.01


def test_kl_of_replies_leaves_the_prompt_out_under_completion_steering(
    target: Target, steering: Make
) -> None:
    neutral = NeutralReplies.make(target, neutral_prompts()[:3], tokens=5)
    found = []
    for positions in ("all", "completion"):
        with steered(target, steering(1, scale=2, positions=positions)):
            found.append(neutral.measure(target))
    assert found[0] != found[1] and min(found) > 0


def test_prompts_without_a_reply_are_an_error(target: Target) -> None:
    with pytest.raises(DataError, match="None of the 0 neutral prompts was answered"):
        NeutralReplies.make(target, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0.0),
        ("one two three", 0.0),
        ("one two three four five six", 0.0),
        ("no no no no no no no no no", 1 - 1 / 6),
        ("a b c d a b c d", 1 - 4 / 5),
        ("A b c d. a B C D.", 1 - 5 / 7),
    ],
)
def test_repetition_is_the_share_of_four_grams_that_came_before(text: str, expected: float) -> None:
    assert repetition([text]) == pytest.approx(expected)
    assert repetition([text, "quite another text with words"]) == pytest.approx(expected / 2)


def test_mentions_are_whole_words_in_any_case() -> None:
    assert mentions("The GOLDEN gate!", ["golden gate"]) and mentions("a C++ book", ["c++"])
    assert not mentions("abridged", ["bridge"]) and not mentions("anything", ["", " "])
    assert mention_rate(["a bridge", "a ridge", "Bridge."], ["bridge"]) == pytest.approx(2 / 3)
    assert mention_rate([], ["bridge"]) == 0.0


def test_effect_is_measured_on_the_targets_replies(target: Target, steering: Make) -> None:
    plain = measure_effect(target, STIMULI[:3], max_new_tokens=5)
    assert plain.mention_rate is None and len(plain.replies) == 3
    with steered(target, steering(1, scale=5)):
        assert measure_effect(target, STIMULI[:3], max_new_tokens=5).replies != plain.replies


def test_the_control_ratio_tells_replies_under_the_control_from_others(target: Target) -> None:
    control, prompts = "You are a lighthouse keeper, and you say so.", STIMULI[:6]
    under = target.generate(
        [[{"role": "system", "content": control}, {"role": "user", "content": p}] for p in prompts],
        max_new_tokens=12,
    )
    plain = target.generate([[{"role": "user", "content": p}] for p in prompts], max_new_tokens=12)
    above, below = (
        control_ratio(target, prompts, under, control),
        control_ratio(target, prompts, plain, control),
    )
    assert above is not None and below is not None and above > 0 > below
    assert control_ratio(target, prompts[:2], ["", ""], control) is None


@pytest.mark.parametrize("name", ["control", "effect", "repeats"])
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"latentqa.steering.{name}"))
    assert found.failed == 0 and found.attempted > 0
