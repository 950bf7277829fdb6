"""The decoder under its name, and on activations that are not the dialog's own."""

from __future__ import annotations

import pytest
import torch

from latentqa.baselines import ReaderContext, make_reader
from latentqa.types import Activation, Query

QUERIES = [
    Query([{"role": "user", "content": text}], "stimulus", "Who?")
    for text in ("What should I cook tonight?", "Where is the harbour?")
]
CANDIDATES = [["a pirate", "a nurse"], ["a monk", "a poet"]]


def test_lit_is_the_decoder(context: ReaderContext) -> None:
    assert context.decoder is not None
    reader = make_reader("lit", context)
    assert reader.score(QUERIES, CANDIDATES) == context.decoder.score(QUERIES, CANDIDATES)
    assert reader.ask(QUERIES) == context.decoder.ask(QUERIES, max_new_tokens=3)


def test_lit_takes_its_layers_from_activations_that_hold_more(context: ReaderContext) -> None:
    reader = make_reader("lit", context)
    cut = [
        Query(q.dialog, q.span, q.question, context.target.read(q.dialog, q.span, (1, 2, 3))) for q in QUERIES
    ]
    for one, other in zip(reader.score(cut, CANDIDATES), reader.score(QUERIES, CANDIDATES), strict=True):
        assert [score.support for score in one] == pytest.approx([score.support for score in other], abs=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("no-activation", "none"), ("mean-activation", "mean")])
def test_reference_readers_see_nothing_of_the_dialog(name: str, kind: str, context: ReaderContext) -> None:
    assert context.decoder is not None
    reader = make_reader(name, context)
    layers = context.decoder.read_layers
    noise = [
        Query(q.dialog, q.span, q.question, _noisy(context.target.read(q.dialog, q.span, layers)))
        for q in QUERIES
    ]
    assert reader.score(QUERIES, CANDIDATES) == reader.score(noise, CANDIDATES)
    assert reader.ask(QUERIES) == reader.ask(noise)
    pairs = context.decoder.pairs(QUERIES)
    answer = context.decoder.wiring.prompt.answer("a pirate")
    [expected] = context.decoder.logprobs(pairs[:1], [answer], reference=kind)
    [found] = [score for score in reader.score(QUERIES, CANDIDATES)[0] if score.answer == "a pirate"]
    assert found.logprob == found.support == pytest.approx(expected, abs=1e-5)


def test_shuffled_reads_another_dialog_that_the_seed_draws(context: ReaderContext) -> None:
    reader = make_reader("shuffled", context)
    lit = make_reader("lit", context)
    again = make_reader("shuffled", context)
    assert reader.score(QUERIES, CANDIDATES) == again.score(QUERIES, CANDIDATES)
    assert reader.score(QUERIES, CANDIDATES) != lit.score(QUERIES, CANDIDATES)


def _noisy(activation: Activation) -> Activation:
    return Activation(
        torch.randn_like(activation.vectors),
        activation.token_ids,
        activation.positions,
        activation.layers,
        activation.span,
        activation.model_id,
        activation.model_hash,
    )
