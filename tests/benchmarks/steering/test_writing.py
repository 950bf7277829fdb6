"""Sampled texts: a pure function of text and seed, whatever stands beside them."""

from __future__ import annotations

import torch

from latentqa.baselines.steering.treatment import Treated
from latentqa.benchmarks.steering.writing import SeededNoise, continue_texts, reply
from latentqa.decoder import Target

TEXTS = ["The harbour is", "A good answer is short and", "You could", "Where is the"]
SEEDS = ["a", "b", "c", "d"]


def test_a_sample_does_not_depend_on_its_neighbours(target: Target) -> None:
    treated = Treated(target)
    together = continue_texts(treated, TEXTS, 8, temperature=0.7, seeds=SEEDS)
    alone = [
        continue_texts(treated, [t], 8, temperature=0.7, seeds=[s])[0]
        for t, s in zip(TEXTS, SEEDS, strict=True)
    ]
    turned = continue_texts(treated, TEXTS[::-1], 8, temperature=0.7, seeds=SEEDS[::-1])[::-1]
    assert together == alone == turned
    other = continue_texts(treated, TEXTS, 8, temperature=0.7, seeds=["e", "f", "g", "h"])
    assert other != together


def test_without_seeds_it_is_greedy_and_a_prompt_changes_it(target: Target) -> None:
    greedy = continue_texts(Treated(target), TEXTS, 8)
    assert greedy == continue_texts(Treated(target), TEXTS, 8)
    assert greedy != continue_texts(Treated(target, "Where is the church?"), TEXTS, 8)


def test_noise_samples_the_softmax() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0]]).expand(3000, 3)
    noise = SeededNoise([str(number) for number in range(3000)], temperature=0.5)
    counts = torch.bincount(noise(torch.zeros(3000, 1), scores).argmax(-1), minlength=3) / 3000
    torch.testing.assert_close(counts, torch.tensor([0.0, 2.0, 4.0]).softmax(0), atol=0.03, rtol=0)


def test_replies_take_the_prompt_as_a_system_message(target: Target) -> None:
    dialog = [{"role": "user", "content": "Where is the harbour?"}]
    prompted = reply(Treated(target, "Be bad."), [dialog], 8)
    assert prompted == target.generate(
        [[{"role": "system", "content": "Be bad."}, *dialog]], max_new_tokens=8
    )
