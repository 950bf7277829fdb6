"""The logit lens: at the last block it is the model's own next-token distribution."""

from __future__ import annotations

import pytest
import torch

from latentqa.baselines import ReaderContext
from latentqa.baselines.logit_lens import LogitLens
from latentqa.types import Query
from tests.baselines.conftest import make_target, toy_items, validation_of

DIALOG = [{"role": "user", "content": "What should I cook tonight?"}]


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "opt", "granite", "cohere2"])
def test_the_lens_at_the_last_block_is_the_model(architecture: str) -> None:
    target = make_target(architecture)
    reader = LogitLens(ReaderContext(target))
    reading = target.reading(DIALOG, "stimulus")
    vectors = target.read_many([reading], (3,))[0].vectors[0]
    expected = target.model(torch.tensor([reading.rendered.token_ids])).logits[0].float().log_softmax(-1)
    span = list(reading.span.indices)
    assert torch.allclose(reader._lens(vectors, "last token"), expected[span[-1]], atol=1e-4)
    assert torch.allclose(reader._lens(vectors, "mean log-probability"), expected[span].mean(0), atol=1e-4)
    mean = expected[span].exp().mean(0).log()
    assert torch.allclose(reader._lens(vectors, "mean probability"), mean, atol=1e-4)


def test_it_names_words_and_ignores_the_question() -> None:
    reader = LogitLens(ReaderContext(make_target(), budget=12))
    reader.choose(validation_of(toy_items(3)))
    assert reader.choices["tried"] == 12
    one, other = reader.ask([Query(DIALOG, "stimulus", question) for question in ("Who?", "Why?")])
    assert one.text == other.text != ""
