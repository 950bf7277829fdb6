"""The trade-off over strengths."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from latentqa.decoder import Decoder, Target
from latentqa.errors import SteeringError
from latentqa.steering import Steering, sweep
from tests.steering.conftest import STIMULI, logits

TEXT = "The assistant will adopt the persona of a lighthouse keeper. " * 10
Make = Callable[..., Steering]


def test_a_sweep_has_a_row_for_each_strength_and_the_unsteered_target(
    target: Target, decoder: Decoder, steering: Make
) -> None:
    made = steering(1, control="Be brief.", pairs=[{"question": "Who?", "answer": "A."}])
    bare, calls = logits(target), []
    report = sweep(
        target,
        made,
        (2.0, 0.5),
        decoder=decoder,
        text=TEXT,
        tokens=60,
        prompts=STIMULI[:3],
        keywords=["a"],
        max_new_tokens=6,
        progress=lambda *done: calls.append(done),
    )
    assert [row.strength for row in report.rows] == [0.0, 0.5, 2.0] and calls == [(1, 3), (2, 3), (3, 3)]
    first, _, last = report.rows
    assert first.perplexity_ratio == 1.0 and first.kl == pytest.approx(0, abs=1e-4)
    assert last.kl is not None and last.kl > 0.01
    assert last.perplexity_ratio == pytest.approx((last.perplexity or 0) / (first.perplexity or 1), abs=1e-3)
    assert None not in (last.mention_rate, last.control_ratio, last.decoder_loss, last.repetition)
    assert json.loads(report.to_json())["rows"][0]["strength"] == 0.0
    lines = str(report).splitlines()
    assert len(lines) == 4 and "control ratio" in lines[0] and "× unsteered" in lines[0]
    assert len({len(line) for line in lines}) == 1
    assert torch.equal(logits(target), bare)


def test_columns_without_a_measurement_are_left_out(target: Target, steering: Make) -> None:
    report = sweep(target, steering(1), (1.0,), prompts=STIMULI[:2], max_new_tokens=4)
    assert str(report).splitlines()[0].split() == ["strength", "KL", "repetition"]
    assert report.rows[0].perplexity is None and report.tokens == 0


def test_a_strength_that_makes_nan_is_a_row_that_says_so(target: Target, adapter_steering: Make) -> None:
    report = sweep(target, adapter_steering(1), (1.0, 1e25, 1e39), prompts=STIMULI[:2], max_new_tokens=4)
    good, huge, over = report.rows[1:]
    assert good.problem is None
    assert huge.problem is not None and "not finite" in huge.problem
    assert over.problem is not None and "Use a lower one" in over.problem
    assert "not finite" in str(report).splitlines()[-2]


def test_no_strength_and_another_model_are_refused(target: Target, steering: Make) -> None:
    with pytest.raises(SteeringError, match="No strength was given"):
        sweep(target, steering(1), ())
    with pytest.raises(SteeringError, match="was made for"):
        sweep(target, steering(1).described(base_hash="0" * 64), (1.0,))
