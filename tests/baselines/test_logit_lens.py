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
    [last], whole = reader._lens([vectors[-1:]], "last token"), [vectors, vectors[:2]]
    assert torch.allclose(last, expected[span[-1]], atol=1e-4)
    for pool, mean in (
        ("mean log-probability", lambda rows: rows.mean(0)),
        ("mean probability", lambda rows: rows.exp().mean(0).log()),
    ):
        found = reader._lens(whole, pool)
        assert torch.allclose(found[0], mean(expected[span]), atol=1e-4)
        assert torch.allclose(found[1], mean(expected[span[:2]]), atol=1e-4)


def test_it_names_words_and_ignores_the_question() -> None:
    reader = LogitLens(ReaderContext(make_target(), budget=12))
    reader.choose(validation_of(toy_items(3)))
    assert reader.choices["tried"] == 12
    one, other = reader.ask([Query(DIALOG, "stimulus", question) for question in ("Who?", "Why?")])
    assert one.text == other.text != ""


def test_queries_are_read_together_without_changing_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = LogitLens(ReaderContext(make_target()))
    queries = [Query([{"role": "user", "content": text}], "stimulus", "Who?") for text in ("Hi", "Good day")]
    together = [answer.token_logprobs for answer in reader.ask(queries)]
    monkeypatch.setattr("latentqa.baselines.logit_lens.STATES_PER_PASS", 1)
    for query, values in zip(queries, together, strict=True):
        assert reader.ask([query])[0].token_logprobs == pytest.approx(values, abs=1e-4)


def test_another_layer_keeps_the_other_settings() -> None:
    reader = LogitLens(ReaderContext(make_target(), moved=(0, 3)))
    moved = reader.at_layer(3)
    assert moved._found.settings == {**reader._found.settings, "layer": 3}
    assert moved.ask([Query(DIALOG, "stimulus", "Who?")])[0].read_layers == (3,)
    assert reader._found.settings["layer"] != 3
