"""The decoder under its name, and on activations that are not the dialog's own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from latentqa.baselines import ReaderContext, make_reader, references
from latentqa.baselines.reads import Moved, move
from latentqa.baselines.references import LIT
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


def test_shuffled_reads_another_dialog_always_the_same_one(context: ReaderContext) -> None:
    reader = make_reader("shuffled", context)
    lit = make_reader("lit", context)
    again = make_reader("shuffled", context)
    assert reader.score(QUERIES, CANDIDATES) == again.score(QUERIES, CANDIDATES)
    assert reader.score(QUERIES, CANDIDATES) != lit.score(QUERIES, CANDIDATES)


def test_what_is_said_of_a_reference_is_found_once(
    context: ReaderContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    generate = references.generate
    monkeypatch.setattr(
        references,
        "generate",
        lambda wiring, slots, rows, how: made.extend(rows) or generate(wiring, slots, rows, how),
    )
    dialogs = [[{"role": "user", "content": f"Dialog {n}."}] for n in range(6)]
    queries = [Query(dialog, "stimulus", "Who?") for dialog in dialogs]
    lengths = [len(context.target.reading(dialog, "stimulus").span.indices) for dialog in dialogs]
    for name in ("mean-activation", "no-activation", "shuffled"):
        made.clear()
        reader = make_reader(name, context)
        first = reader.ask(queries)
        if name != "shuffled":
            assert len(made) == len(set(lengths)) < 6
            said = {length: answer.text for length, answer in zip(lengths, first, strict=True)}
            assert [answer.text for answer in first] == [said[length] for length in lengths]
        made.clear()
        assert reader.ask(queries) == first and not made


def test_shuffled_scores_each_pair_of_reference_and_answer_once(
    context: ReaderContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    mean_scores = references.mean_scores
    monkeypatch.setattr(
        references,
        "mean_scores",
        lambda wiring, slots, rows: scored.extend(rows) or mean_scores(wiring, slots, rows),
    )
    dialogs = [[{"role": "user", "content": f"Dialog {n}."}] for n in range(24)]
    queries = [Query(dialog, "stimulus", "Who?") for dialog in dialogs]
    reader = make_reader("shuffled", context)
    together = reader.score(queries, [["a pirate", "a nurse"]] * 24)
    assert len(scored) <= 2 * 8  # the decoder keeps eight other dialogs
    alone = make_reader("shuffled", context).score(queries[5:6], [["a pirate", "a nurse"]])[0]
    assert [score.logprob for score in together[5]] == pytest.approx([s.logprob for s in alone], abs=1e-4)


def test_lit_at_its_own_layer_is_lit(context: ReaderContext) -> None:
    reader = make_reader("lit", replace(context, moved=(0, 2, 3)))
    assert isinstance(reader, LIT) and reader.decoder.read_layers == (2,)
    for one, other in zip(
        reader.at_layer(2).score(QUERIES, CANDIDATES), reader.score(QUERIES, CANDIDATES), strict=True
    ):
        assert [score.support for score in one] == pytest.approx([score.support for score in other], abs=1e-5)
    moved = reader.at_layer(3)
    assert moved.score(QUERIES, CANDIDATES) != reader.score(QUERIES, CANDIDATES)
    assert moved.ask(QUERIES)[0].read_layers == (3,) == moved.choices["layers"]
    assert reader.ask(QUERIES)[0].read_layers == (2,)


def test_answers_without_signals_say_the_same(context: ReaderContext) -> None:
    whole, bare = (
        make_reader("lit", replace(context, signals=signals)).ask(QUERIES) for signals in (True, False)
    )
    assert [answer.text for answer in bare] == [answer.text for answer in whole]
    assert all(answer.support is None and answer.percentile is None for answer in bare)


def test_layers_are_moved_together() -> None:
    assert move((9, 15), 15).layers == (9, 15)
    assert move((9, 15), 3) == Moved((0, 3), (9, 15))
    assert move((4,), 7) == Moved((7,), (4,))
    assert move((2, 4, 6), 4, sampled=True) == Moved((4,), (4,))
    assert move((2, 4, 6), 5, sampled=True) == Moved((5,), (4,))


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
