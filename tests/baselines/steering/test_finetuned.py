"""SFT and DPO: the losses by hand, and what they are trained on."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from latentqa.baselines.steering import make_treatment
from latentqa.baselines.steering.completions import Completions, completion_tokens, user_turn
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.finetuned import dpo_loss, own_completions, sft_loss
from latentqa.baselines.steering.likelihood import Scored, sequence_logprobs
from latentqa.baselines.steering.lora import LoraSettings, trained_adapter, with_adapter
from latentqa.decoder import Target
from latentqa.errors import TrainingError
from tests.baselines.steering.conftest import STIMULI

PAIRS = [(Scored((5, 9, 30, 41), 2), Scored((5, 9, 60, 61), 2)), (Scored((7, 8, 12), 1), Scored((7, 9), 1))]


def total(target: Target, one: Scored) -> float:
    return float(sequence_logprobs(target, [one])[0].sum())


def test_sft_is_the_mean_cross_entropy(target: Target) -> None:
    values = torch.cat(sequence_logprobs(target, [good for good, _ in PAIRS]))
    found = sft_loss([good for good, _ in PAIRS])(target, [0, 1])
    torch.testing.assert_close(found.detach(), -values.mean(), atol=1e-4, rtol=1e-4)


def test_dpo_begins_at_log_two_and_is_the_published_formula_after(target: Target) -> None:
    loss = dpo_loss(target, PAIRS, beta=0.3)
    assert float(loss(target, [0, 1]).detach()) == pytest.approx(math.log(2), abs=1e-4)
    before = [total(target, good) - total(target, bad) for good, bad in PAIRS]
    settings = LoraSettings(rank=2, alpha=4, steps=8, batch_size=2, learning_rate=2e-2)
    with trained_adapter(target, loss, 2, settings) as name:
        live = with_adapter(target, name)
        margins = [
            total(live, good) - total(live, bad) - old for (good, bad), old in zip(PAIRS, before, strict=True)
        ]
        by_hand = sum(math.log1p(math.exp(-0.3 * margin)) for margin in margins) / 2
        assert float(loss(live, [0, 1]).detach()) == pytest.approx(by_hand, abs=1e-3)
        assert all(margin > 0.1 for margin in margins)


def test_completions_are_written_once_for_all_methods(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    complete = Target.complete

    def counted(self: Target, dialogs, **options):
        calls.append(len(dialogs))
        return complete(self, dialogs, **options)

    monkeypatch.setattr(Target, "complete", counted)
    completions = Completions(target, 6)
    first = completions.under("Talk about soup.", STIMULI)
    assert completions.under("Talk about soup.", STIMULI[:2]) == first[:2]
    assert completions.under(None, STIMULI) != first
    assert [count for count in calls if count] == [5, 5]


def test_the_completion_and_its_end_of_turn_are_scored(target: Target) -> None:
    scored = completion_tokens(target, user_turn("Why?"), "A good answer.")
    assert target.tokenizer.decode(list(scored.scored)) == "A good answer.<|im_end|>"
    assert target.tokenizer.decode(list(scored.token_ids)).startswith("<|im_start|>user\nWhy?")
    assert completion_tokens(target, user_turn("Why?"), "").scored


def test_the_control_is_left_out_of_what_is_learned(context: Callable[..., MethodContext]) -> None:
    made = context()
    for one in own_completions(made, made.aim.control):
        assert "soup" not in made.target.tokenizer.decode(list(one.token_ids[: one.first]))


def test_dpo_needs_completions_that_differ(context: Callable[..., MethodContext]) -> None:
    with pytest.raises(TrainingError, match="nothing to prefer"):
        made = context()
        made.completions._known.update({(made.aim.control, s): "Yes." for s in STIMULI})
        made.completions._known.update({(None, s): "Yes." for s in STIMULI})
        make_treatment("dpo", made)
