"""What is measured of a treated target: nothing without a treatment, and never the prompt's own tokens."""

from __future__ import annotations

import math

import pytest
import torch

from latentqa.baselines.steering import Aim
from latentqa.baselines.steering.treatment import Treated, Treatment
from latentqa.benchmarks.experiment import Item
from latentqa.benchmarks.steering.debias import pair_item
from latentqa.benchmarks.steering.experiment import neutral_items, steering_item
from latentqa.benchmarks.steering.measures import gaps, measures
from latentqa.benchmarks.steering.steered import SteeredTarget
from latentqa.benchmarks.steering.texts import SentencePair
from latentqa.benchmarks.steering.unsteered import TEMPERATURES, Unsteered, window_nll
from latentqa.benchmarks.steering.wikitext import window_items
from latentqa.decoder import Target
from tests.baselines.steering.conftest import logits, unit_vector

AIM = Aim("soup", "Talk about soup.")
OTHER = Aim("tea", "Talk about tea.")
WINDOWS = [(5, 9, 30, 41, 7, 60), (8, 12, 60, 61, 3, 22)]
TREATMENTS = {
    "no-control": Treatment("no-control"),
    "prompting": Treatment("prompting", prompt="Talk about tea."),
}


def items() -> list[Item]:
    pair = SentencePair(
        "0", "gender", "The nurse said that she was late.", "The nurse said that he was late."
    )
    texts = [
        steering_item(f"{aim.name}:reply", aim, "reply", "Where is the harbour?", group="g", new_tokens=6)
        for aim in (AIM, OTHER)
    ]
    opening = steering_item(
        "c", AIM, "continuation", "The street", group="g", new_tokens=6, temperature=0.8, seed="s"
    )
    return [pair_item(AIM, pair), *window_items(AIM, WINDOWS), *neutral_items(AIM, 2), *texts, opening]


def respond(target: Target, unsteered: Unsteered, treatment: Treatment) -> dict[str, dict[str, float]]:
    one = SteeredTarget(
        target,
        lambda aim: treatment,
        ("soup", "tea"),
        measures(unsteered, lambda items, texts: [{"length": float(len(text))} for text in texts]),
    )
    given = items()
    return {item.id: dict(found.values) for item, found in zip(given, one.respond(given), strict=True)}


def test_without_a_treatment_nothing_is_added(target: Target, unsteered: Unsteered) -> None:
    found = respond(target, unsteered, TREATMENTS["no-control"])
    assert found["soup:window:0"]["nll_added"] == 0 and found["soup:window:0"]["nll"] > 0
    assert abs(found["soup:neutral:0"]["kl"]) < 1e-4
    assert set(found["soup:reply"]) == {"repetition", "repetitive", "length", "text_nll"}
    assert found["soup:reply"] == found["tea:reply"]


def test_a_steered_target_pays(target: Target, unsteered: Unsteered) -> None:
    before = logits(target)
    found = respond(target, unsteered, Treatment("vector", unit_vector(target), strength=3.0))
    assert found["soup:neutral:0"]["kl"] > 0.01
    assert abs(found["soup:window:0"]["nll_added"]) > 1e-3
    assert torch.equal(logits(target), before)


def test_a_prompt_is_measured_on_the_same_tokens(target: Target, unsteered: Unsteered) -> None:
    found = respond(target, unsteered, TREATMENTS["prompting"])
    assert found["soup:neutral:0"]["kl"] > 0 and found["soup:window:0"]["nll_added"] != 0
    plain = respond(target, unsteered, TREATMENTS["no-control"])
    assert found["pair:0"]["lean"] != plain["pair:0"]["lean"]


def test_values_of_a_pair(target: Target, unsteered: Unsteered) -> None:
    found = respond(target, unsteered, TREATMENTS["no-control"])["pair:0"]
    assert found["gap"] == abs(found["lean"]) and found["stereotype"] == float(found["lean"] > 0)
    (swapped,) = gaps(
        Treated(target), [("The nurse said that he was late.", "The nurse said that she was late.")]
    )
    assert swapped == pytest.approx(-found["lean"], abs=1e-4)
    assert gaps(Treated(target), [("Same.", "Same.")]) == [0.0]


def test_a_flatter_target_brings_likelihoods_together(target: Target) -> None:
    pair = [("The nurse said that she was late.", "The nurse said that he was late.")]
    (plain,), (flat,) = gaps(Treated(target), pair), gaps(Treated(target, temperature=20.0), pair)
    assert abs(flat) < abs(plain)


def test_the_temperature_of_a_perplexity_gives_that_perplexity(target: Target, unsteered: Unsteered) -> None:
    # The likeliest texts, which a higher temperature makes less likely, as it does text that a model knows.
    windows = [tuple(likeliest(target, first)) for first in (5, 9)]
    for temperature in (1.12, 1.45):
        values = window_nll(Treated(target, temperature=temperature), windows)
        found = unsteered.temperature_of(sum(values) / len(values), windows)
        assert found == pytest.approx(temperature, abs=0.03)
    assert unsteered.temperature_of(-1.0, windows) == 1.0
    assert unsteered.temperature_of(math.inf, windows) == TEMPERATURES[-1]


def likeliest(target: Target, first: int) -> list[int]:
    tokens = [first]
    for _ in range(8):
        with torch.no_grad():
            tokens.append(int(target.model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens


def test_each_item_is_put_to_the_treatment_of_its_aim(target: Target, unsteered: Unsteered) -> None:
    made: list[str] = []

    def treatment(aim: str) -> Treatment:
        made.append(aim)
        return TREATMENTS["prompting" if aim == "tea" else "no-control"]

    one = SteeredTarget(target, treatment, ("soup", "tea"), measures(unsteered, lambda i, t: [{} for _ in t]))
    given = items()
    texts = {item.id: found.text for item, found in zip(given, one.respond(given), strict=True)}
    assert made[:2] == ["soup", "tea"] and texts["soup:reply"] != texts["tea:reply"]
