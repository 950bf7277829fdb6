"""Log-probabilities of given tokens: against the model's own logits, whatever stands beside them."""

from __future__ import annotations

import pytest
import torch

from latentqa.baselines.steering.likelihood import (
    Scored,
    batch_logprobs,
    sequence_logprobs,
    tempered_logprobs,
)
from latentqa.decoder import Target
from latentqa.errors import ContextLengthError

SEQUENCES = [Scored((5, 9, 30, 41), 1), Scored((7, 8, 12, 60, 61, 3, 2), 4), Scored((5, 9), 1)]


def by_hand(target: Target, one: Scored, temperature: float = 1.0) -> torch.Tensor:
    with torch.no_grad():
        values = target.model(torch.tensor([one.token_ids])).logits[0].float() / temperature
    logprobs = values.log_softmax(-1)
    return torch.stack(
        [logprobs[place - 1, one.token_ids[place]] for place in range(one.first, len(one.token_ids))]
    )


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_values_are_the_models_own_whatever_is_in_the_batch(target: Target, temperature: float) -> None:
    found = sequence_logprobs(target, SEQUENCES, temperature=temperature)
    for one, values in zip(SEQUENCES, found, strict=True):
        torch.testing.assert_close(values, by_hand(target, one, temperature), atol=1e-4, rtol=1e-4)


def test_several_temperatures_in_one_pass(target: Target) -> None:
    found = tempered_logprobs(target, SEQUENCES, (0.5, 1.0, 3.0))
    assert [tuple(one.shape) for one in found] == [(3, 3), (3, 3), (3, 1)]
    torch.testing.assert_close(found[1][2], by_hand(target, SEQUENCES[1], 3.0), atol=1e-4, rtol=1e-4)
    hot = torch.cat([one[2] for one in found])
    assert hot.std() < torch.cat([one[0] for one in found]).std()


def test_a_batch_says_whose_each_value_is(target: Target) -> None:
    values, rows = batch_logprobs(target, SEQUENCES)
    assert rows.tolist() == [0, 0, 0, 1, 1, 1, 2]
    torch.testing.assert_close(values[3:6], by_hand(target, SEQUENCES[1]), atol=1e-4, rtol=1e-4)


def test_a_text_beyond_the_context_is_refused(target: Target) -> None:
    with pytest.raises(ContextLengthError, match="text of 600 tokens"):
        sequence_logprobs(target, [Scored((5,) * 600, 1)])
