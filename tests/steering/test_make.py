"""Making a steering: the loss falls, bounds hold, seeds repeat, and what cannot be steered is said."""

from __future__ import annotations

import logging
import math

import pytest
import torch

from latentqa.decoder import Decoder, Target
from latentqa.errors import LayerError, SpanError, SteeringError
from latentqa.models import remove_adapter
from latentqa.steering import (
    ClosedFormSettings,
    Pair,
    VectorSettings,
    WeightsSettings,
    decoder_loss,
    make_closed_form,
    make_vector,
    make_weights,
    steered,
)
from latentqa.steering.task import prepare_task
from tests.steering.conftest import ADAPTER, PAIRS, STIMULI, make_decoder, make_target

LONGER = {"samples": 6, "held_out": 2, "batch": 3, "steps": 12, "evaluate_every": 4, "patience": 0}
MAKERS = {
    "weights": (make_weights, WeightsSettings(**LONGER, learning_rate=1e-2)),
    "vector": (make_vector, VectorSettings(**LONGER, norm=1.0, metric="euclidean")),
    "closed-form": (
        make_closed_form,
        ClosedFormSettings(samples=6, held_out=2, norm=1.0, metric="euclidean"),
    ),
}


@pytest.mark.parametrize("method", MAKERS)
def test_the_loss_falls_also_when_applied(target: Target, decoder: Decoder, method: str) -> None:
    make, settings = MAKERS[method]
    made = make(target, decoder, PAIRS, STIMULI, settings)
    card = made.card
    assert card.method == method and card.decoder == "tiny" and card.seconds is not None
    assert card.loss_before is not None and card.loss_after is not None
    assert card.loss_after < card.loss_before - 0.01
    assert [(pair.question, pair.answer) for pair in card.pairs] == [(p.question, p.answer) for p in PAIRS]
    before = decoder_loss(target, decoder, PAIRS, STIMULI)
    with steered(target, made):
        assert decoder_loss(target, decoder, PAIRS, STIMULI) < before
    assert decoder_loss(target, decoder, PAIRS, STIMULI) == before


@pytest.mark.parametrize("method", MAKERS)
def test_the_same_seed_makes_the_same_steering(method: str) -> None:
    make, settings = MAKERS[method]
    made = []
    for seed in (0, 0, 1):
        target = make_target()
        decoder = make_decoder(target)
        torch.rand(3)
        chosen = settings.model_copy(
            update={"seed": seed, **({"steps": 4} if method != "closed-form" else {})}
        )
        made.append(make(target, decoder, PAIRS, STIMULI, chosen))
    first, second, other = (
        [one.vectors] if one.vectors is not None else list((one.adapter or {}).values()) for one in made
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("metric", ["states", "euclidean"])
def test_a_vector_stays_within_its_bound(target: Target, decoder: Decoder, metric: str) -> None:
    settings = VectorSettings(**LONGER, norm=0.25, layers=(0, 2), metric=metric, learning_rate=0.7)
    made = make_vector(target, decoder, PAIRS, STIMULI, settings)
    assert made.card.layers == (0, 2) and made.vectors is not None
    for norm, spread in zip(made.card.norms, made.card.spread, strict=True):
        assert norm <= 0.25 * spread * 1.001
        assert norm > 0.1 * spread


def test_the_closed_form_has_exactly_its_norm_and_follows_the_gradient(
    target: Target, decoder: Decoder
) -> None:
    settings = ClosedFormSettings(samples=6, held_out=2, norm=0.1, metric="euclidean", layers=(1,))
    made = make_closed_form(target, decoder, PAIRS, STIMULI, settings)
    assert math.isclose(made.card.norms[0], 0.1 * made.card.spread[0], rel_tol=1e-3)
    steps = VectorSettings(
        samples=6, held_out=2, batch=6, steps=1, norm=0.1, metric="euclidean", layers=(1,), learning_rate=1
    )
    one_step = make_vector(target, decoder, PAIRS, STIMULI, steps)
    assert made.vectors is not None and one_step.vectors is not None
    torch.testing.assert_close(made.vectors, one_step.vectors, rtol=1e-2, atol=1e-3)


def test_unwanted_answers_are_lowered_beside_wanted_ones(target: Target, decoder: Decoder) -> None:
    pairs = [PAIRS[0], Pair(PAIRS[1].question, PAIRS[1].answer, wanted=False)]
    make, settings = MAKERS["vector"]
    made = make(target, decoder, pairs, STIMULI, settings)
    card = made.card
    assert card.unwanted_before is not None and card.unwanted_after is not None
    assert card.loss_before is not None and card.loss_after is not None
    assert card.unwanted_after - card.loss_after > card.unwanted_before - card.loss_before
    alone = make(target, decoder, pairs[1:], STIMULI, settings).card
    assert alone.loss_before is None and alone.unwanted_after is not None
    assert alone.unwanted_after > (alone.unwanted_before or 0)


def test_batches_are_a_pure_function_of_the_seed_and_use_everything_equally(
    target: Target, decoder: Decoder
) -> None:
    settings = VectorSettings(samples=6, held_out=2, batch=2, pairs_per_sample=1)
    task = prepare_task(target, decoder, PAIRS, STIMULI, settings)
    assert len(task.readings) == 6 and len(task.held_out) == 2
    assert not {r.rendered.text for r in task.readings} & {r.rendered.text for r in task.held_out}
    first, again = task.batches(), task.batches()
    taken = [next(first) for _ in range(6)]
    assert [next(again) for _ in range(6)] == taken
    texts = [reading.rendered.text for batch in taken for reading in batch.readings]
    asked = [pair.question for batch in taken for group in batch.groups for pair in group]
    assert {texts.count(text) for text in texts} == {2}
    assert {asked.count(question) for question in asked} == {6}


def test_every_pair_is_measured_however_many_there_are(target: Target, decoder: Decoder) -> None:
    pairs = [Pair("Who is the assistant?", f"It is number {number}.") for number in range(15)]
    task = prepare_task(target, decoder, pairs, STIMULI, VectorSettings(samples=2, held_out=2))
    assert [pair.answer for pair in task.pairs] == [decoder.wiring.prompt.answer(p.answer) for p in pairs]
    assert len(task.before.losses) == 15


def test_the_best_version_is_kept_and_a_course_that_gets_no_better_ends(
    target: Target, decoder: Decoder
) -> None:
    calls: list[tuple[int, int]] = []
    settings = WeightsSettings(
        samples=4, held_out=2, batch=2, steps=40, evaluate_every=1, patience=2, learning_rate=3.0
    )
    made = make_weights(target, decoder, PAIRS, STIMULI, settings, lambda *done: calls.append(done))
    assert made.card.steps is not None and made.card.steps <= 38
    assert len(calls) == made.card.steps + 2 + 1  # two more without a better one, then the end
    assert calls[-1] == (40, 40)


def test_a_loss_that_does_not_fall_is_warned_of(
    target: Target, decoder: Decoder, caplog: pytest.LogCaptureFixture
) -> None:
    settings = WeightsSettings(
        samples=2,
        held_out=2,
        batch=2,
        steps=1,
        learning_rate=50.0,
        rank=2,
        warmup=0,
        decoder_strength=1.0,
        kl=0.0,
        completion_tokens=0,
    )
    with caplog.at_level(logging.WARNING):
        make_weights(target, decoder, PAIRS, STIMULI, settings)
    assert "did not fall on held-out stimuli" in caplog.text


@pytest.mark.parametrize("kl_on", ["reply", "text", "both"])
@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (make_weights, WeightsSettings(**LONGER, learning_rate=1e-2)),
        (make_vector, VectorSettings(**LONGER, norm=1.0)),
    ],
)
def test_kl_pulls_towards_the_unsteered_target(
    target: Target, decoder: Decoder, make, settings, kl_on: str
) -> None:
    from latentqa.steering import NeutralReplies, neutral_prompts

    neutral = NeutralReplies.make(target, neutral_prompts()[:4], tokens=6, bare=kl_on != "reply")
    found = []
    for weight in (0.0, 20.0):
        changes = {"kl": weight, "kl_on": kl_on, "kl_prompts": 4, "kl_batch": 4, "kl_tokens": 6}
        made = make(target, decoder, PAIRS, STIMULI, settings.model_copy(update=changes))
        with steered(target, made):
            found.append(neutral.measure(target))
    assert found[1] < 0.8 * found[0]


def test_bare_replies_are_text_without_a_dialog(target: Target) -> None:
    from latentqa.steering import NeutralReplies

    bare = NeutralReplies.make(target, STIMULI[:2], tokens=6, bare=True)
    replies = target.generate([[{"role": "user", "content": text}] for text in STIMULI[:2]], max_new_tokens=6)
    assert [target.tokenizer.decode(ids) for ids in bare.sequences] == replies
    assert [len(values) for values in bare.expected] == [len(ids) - 1 for ids in bare.sequences]


def test_a_steering_is_sought_with_a_weaker_decoder_and_measured_with_the_whole_one(
    target: Target, decoder: Decoder
) -> None:
    settings = {"samples": 4, "held_out": 2, "batch": 2, "steps": 4, "evaluate_every": 2, "norm": 0.05}
    whole = make_vector(target, decoder, PAIRS, STIMULI, VectorSettings(**settings, decoder_strength=1.0))
    weaker = make_vector(target, decoder, PAIRS, STIMULI, VectorSettings(**settings, decoder_strength=0.2))
    before = whole.card.loss_before
    assert before is not None and before == weaker.card.loss_before
    assert whole.card.loss_after is not None and weaker.card.loss_after is not None
    assert whole.card.loss_after < weaker.card.loss_after < before
    # other directions than the whole decoder's
    assert whole.vectors is not None and weaker.vectors is not None
    assert torch.nn.functional.cosine_similarity(whole.vectors, weaker.vectors).max() < 0.99


def test_replies_of_the_target_can_be_read_too(target: Target, decoder: Decoder) -> None:
    settings = VectorSettings(samples=4, held_out=2, batch=2, steps=1, completion_tokens=4)
    task = prepare_task(target, decoder, PAIRS, STIMULI, settings)
    assert all(reading.span.name == "completion" for reading in task.readings)
    assert all(reading.rendered.messages[-1].role == "assistant" for reading in task.readings)
    assert make_vector(target, decoder, PAIRS, STIMULI, settings).card.steps == 1
    remove_adapter(target.model, ADAPTER)
    other = make_decoder(target, spans=("stimulus",))
    with pytest.raises(SpanError, match="was not trained on replies, only on stimulus"):
        prepare_task(target, other, PAIRS, STIMULI, settings)
    unasked = VectorSettings(samples=4, held_out=2, batch=2, steps=1)
    assert all(
        reading.span.name == "stimulus"
        for reading in prepare_task(target, other, PAIRS, STIMULI, unasked).readings
    )


@pytest.mark.parametrize("make", [make_vector, make_weights, make_closed_form])
@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        ((40,), r"Block 40 cannot be steered: LlamaForCausalLM has 4 blocks \(0–3\)"),
        ((3,), r"Block 3 lies above the last layer that decoder tiny reads \(2\).* Name blocks from 0 to 2"),
        ((1, 1), "name at least one, and each once"),
    ],
)
def test_blocks_that_cannot_be_steered(
    target: Target, decoder: Decoder, make, layers: tuple[int, ...], sentence: str
) -> None:
    kinds = {make_vector: VectorSettings, make_weights: WeightsSettings, make_closed_form: ClosedFormSettings}
    with pytest.raises(LayerError, match=sentence):
        make(target, decoder, PAIRS, STIMULI, kinds[make](layers=layers))


@pytest.mark.parametrize(
    ("pairs", "stimuli", "sentence"),
    [
        ([], STIMULI, "holds no question-answer pair"),
        ([Pair("Who?", " ")], STIMULI, "pair with an empty answer"),
        ([Pair("", "A nurse.")], STIMULI, "pair with an empty question"),
        ([Pair("Who?", "A."), Pair("Who?", "A.", False)], STIMULI, "both raised and lowered"),
        (PAIRS, [], "No stimulus prompt was given"),
        (PAIRS, [" "], "No stimulus prompt was given"),
    ],
)
def test_nothing_to_steer_towards(
    target: Target, decoder: Decoder, pairs: list[Pair], stimuli: list[str], sentence: str
) -> None:
    with pytest.raises(SteeringError, match=sentence):
        make_vector(target, decoder, pairs, stimuli, VectorSettings(samples=2, held_out=1))


def test_pairs_that_the_decoder_answers_already_are_refused(target: Target, decoder: Decoder) -> None:
    settings = VectorSettings(samples=2, held_out=1, answered=100.0)
    with pytest.raises(SteeringError, match="Nothing to steer: decoder tiny already gives these answers"):
        make_vector(target, decoder, PAIRS, STIMULI, settings)


def test_a_decoder_that_is_the_bare_target_is_refused(target: Target, decoder: Decoder) -> None:
    from dataclasses import replace

    decoder.wiring = replace(decoder.wiring, adapter=None)
    with pytest.raises(SteeringError, match="is the bare target itself"):
        make_vector(target, decoder, PAIRS, STIMULI, VectorSettings(samples=2, held_out=1))


def test_targets_that_name_no_module_are_refused(target: Target, decoder: Decoder) -> None:
    with pytest.raises(SteeringError, match="names no linear module in blocks 0, 1"):
        make_weights(target, decoder, PAIRS, STIMULI, WeightsSettings(targets=("nothing",), layers=(0, 1)))


def test_a_single_stimulus_is_enough(target: Target, decoder: Decoder) -> None:
    made = make_vector(target, decoder, PAIRS[:1], STIMULI[:1], VectorSettings(steps=2, norm=1.0))
    assert made.card.loss_after is not None


def test_a_steered_target_can_be_steered_further(target: Target, decoder: Decoder) -> None:
    make, settings = MAKERS["vector"]
    first = make(target, decoder, PAIRS, STIMULI, settings)
    quick = WeightsSettings(samples=4, held_out=2, batch=2, steps=2, rank=2)
    with steered(target, first):
        second = make_weights(target, decoder, PAIRS, STIMULI, quick)
    assert second.card.loss_before == pytest.approx(first.card.loss_after, abs=0.3)
    assert second.card.loss_before is not None and first.card.loss_before is not None
    assert second.card.loss_before < first.card.loss_before
    assert second.card.target_adapter is None
