"""Asking and scoring: fields, verdicts, references, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from latentqa.decoder import Calibration, Decoder, Target, calibrate, make_references, score
from latentqa.decoder.forward import Row
from latentqa.decoder.generate import Sampling, generate
from latentqa.errors import ActivationError, ConfigError, LayerError, QuestionError
from latentqa.models import find_blocks
from latentqa.reader import Reader
from latentqa.types import Activation, Query
from tests.decoder.conftest import DIALOG, QUESTIONS, make_decoder, ordinary_references

CANDIDATES = ("A pirate.", "A nurse who speaks in short sentences.", "A lighthouse keeper.")
OTHER = [{"role": "user", "content": "Where is the harbour?"}]


@pytest.fixture
def activation(target: Target) -> Activation:
    return target.read(DIALOG)


@pytest.fixture
def n_calls(decoder: Decoder) -> Iterator[list[int]]:
    """The batch size of each call of the decoder's blocks."""
    calls: list[int] = []
    block = find_blocks(decoder.wiring.model)[0]
    handle = block.register_forward_hook(lambda module, inputs, output: calls.append(len(inputs[0])))
    yield calls
    handle.remove()


def calibrated(decoder: Decoder, supports: tuple[float, ...], typicality: float = 1.0) -> Decoder:
    calibration = Calibration(supports=supports, threshold=50.0, typicality=typicality)
    decoder.card = decoder.card.model_copy(update={"calibration": calibration})
    return decoder


def test_a_decoder_is_a_reader(decoder: Decoder) -> None:
    assert isinstance(decoder, Reader) and decoder.name == "tiny"


def test_an_answer_carries_everything(decoder: Decoder, activation: Activation) -> None:
    answer = decoder.ask(activation, "Who are you?", max_new_tokens=5)
    assert answer.question == "Who are you?" and answer.decoder == "tiny"
    assert answer.read_layers == (2,) and answer.span == "stimulus"
    assert 1 <= answer.n_tokens <= 5
    assert len(answer.token_logprobs) in (answer.n_tokens, answer.n_tokens + 1)
    assert all(value <= 0 for value in answer.token_logprobs)
    assert answer.logprob == pytest.approx(sum(answer.token_logprobs) / len(answer.token_logprobs))
    assert answer.percentile is None and answer.verdict == "not sure"


@pytest.mark.parametrize("reference", ["mean", "shuffled", "none"])
def test_the_support_of_an_answer_is_that_of_scoring_it(
    decoder: Decoder, activation: Activation, reference: str
) -> None:
    pair = (activation, "Who are you?")
    answer = decoder.ask(*pair, max_new_tokens=4, reference=reference)
    with decoder.wiring.active():
        slots = [decoder.wiring.slot(activation.vectors)]
        (generated,) = generate(decoder.wiring, slots, [Row(0, pair[1])], Sampling(max_new_tokens=4))
    assert generated.logprobs == list(answer.token_logprobs) and len(generated.token_ids) == 4
    said = tuple(generated.token_ids)
    (own,), (prior,) = (decoder.logprobs([pair], [said], reference=one) for one in (None, reference))
    assert answer.logprob == pytest.approx(own, abs=1e-4)
    assert answer.support == pytest.approx(own - prior, abs=1e-4)


@pytest.mark.parametrize("reference", ["mean", "none"])
def test_the_support_of_a_guided_answer_is_that_of_scoring_it(
    decoder: Decoder, activation: Activation, reference: str
) -> None:
    pair = (activation, "Who are you?")
    answer = decoder.ask(*pair, max_new_tokens=6, reference=reference, guidance=2.0)
    with decoder.wiring.active():
        posed = decoder._posed([pair], Sampling(max_new_tokens=6, guidance=2.0))
        (made,) = generate(decoder.wiring, *posed)
    said = decoder._answer_tokens([made])
    (own,), (prior,) = (decoder.logprobs([pair], said, reference=one) for one in (None, reference))
    assert answer.logprob == pytest.approx(own, abs=1e-4)
    assert answer.support == pytest.approx(own - prior, abs=1e-4)


def test_the_card_says_how_answers_are_guided(
    decoder: Decoder, activation: Activation, n_calls: list[int]
) -> None:
    question = "Who are you?"
    guided = decoder.ask(activation, question, max_new_tokens=6, guidance=4.0)
    plain = decoder.ask(activation, question, max_new_tokens=6)
    decoder.card = decoder.card.model_copy(update={"guidance": 4.0})
    n_calls.clear()
    assert decoder.ask(activation, question, max_new_tokens=6) == guided
    assert n_calls[0] == 2  # the activation and the mean one; the support costs no further pass
    assert set(n_calls) == {2}
    assert "".join(decoder.stream(activation, question, max_new_tokens=6)).strip() == guided.text
    assert decoder.ask(activation, question, max_new_tokens=6, guidance=0) == plain


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_a_guidance_that_cannot_be_is_refused(
    decoder: Decoder, activation: Activation, weight: float
) -> None:
    with pytest.raises(ConfigError, match="guidance is a finite weight"):
        decoder.ask(activation, "Who?", guidance=weight)


def test_guidance_without_a_mean_activation_is_refused(decoder: Decoder, activation: Activation) -> None:
    decoder.references = replace(decoder.references, mean={})
    with pytest.raises(ConfigError, match="no mean activation to guide by"):
        decoder.ask(activation, "Who?", guidance=1.0)
    assert decoder.ask(activation, "Who?", reference="none", max_new_tokens=2).support is not None


def test_answers_come_back_in_order_whatever_the_batch(decoder: Decoder, target: Target) -> None:
    activations = [target.read(DIALOG), target.read(OTHER)]
    pairs = [(activations[i % 2], QUESTIONS[i % 3]) for i in range(5)]
    seen: list[int] = []
    together = decoder.ask_many(pairs, max_new_tokens=5, on_answer=lambda index, _: seen.append(index))
    alone = decoder.ask_many(pairs, max_new_tokens=5, batch_size=1)
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.support for answer in together] == pytest.approx([a.support for a in alone], abs=1e-3)
    assert seen == [0, 1, 2, 3, 4]


def test_fifteen_questions_cost_one_pass_over_the_activation(
    decoder: Decoder, activation: Activation, n_calls: list[int]
) -> None:
    decoder.ask_many([(activation, f"Question {i}?") for i in range(15)], max_new_tokens=1, batch_size=15)
    assert n_calls[:2] == [1, 15]  # the prefix once, then all questions


def test_queries_read_their_dialogs_once_and_agree_with_activations(decoder: Decoder, target: Target) -> None:
    queries = [Query(DIALOG, "stimulus", question) for question in QUESTIONS]
    queries.append(Query(OTHER, "stimulus", QUESTIONS[0], target.read(OTHER)))
    pairs = decoder.pairs(queries)
    assert pairs[0][0] is pairs[1][0] is pairs[2][0]
    answers = decoder.ask(queries, max_new_tokens=4)
    assert answers[0].text == decoder.ask(target.read(DIALOG), QUESTIONS[0], max_new_tokens=4).text
    assert answers[3].text == decoder.ask(target.read(OTHER), QUESTIONS[0], max_new_tokens=4).text


def test_the_stream_says_the_greedy_answer(decoder: Decoder, activation: Activation) -> None:
    pieces = list(decoder.stream(activation, "Why?", max_new_tokens=12))
    whole = decoder.ask(activation, "Why?", max_new_tokens=12).text
    assert whole.startswith("".join(pieces).strip()) and len(pieces) > 1


def test_stop_texts_are_cut_off(decoder: Decoder, activation: Activation) -> None:
    free = decoder.ask(activation, "Why?", max_new_tokens=12)
    stop = free.text[5:7]
    assert (
        decoder.ask(activation, "Why?", max_new_tokens=12, stop=[stop]).text
        == free.text[: free.text.index(stop)].strip()
    )


def test_sampling_follows_its_seed(decoder: Decoder, activation: Activation) -> None:
    def sampled(seed: int) -> str:
        return decoder.ask(activation, "Why?", temperature=4.0, seed=seed, max_new_tokens=10).text

    assert sampled(1) == sampled(1) != sampled(2)


def test_candidates_are_ranked_by_support(decoder: Decoder, activation: Activation) -> None:
    ranked = decoder.score(activation, "Who are you?", CANDIDATES)
    assert sorted(one.answer for one in ranked) == sorted(CANDIDATES)
    supports = [one.support for one in ranked]
    assert supports == sorted(supports, reverse=True) and len(set(supports)) == 3
    for one in ranked:
        tokens = decoder.wiring.prompt.answer(one.answer)
        assert one.n_tokens == len(tokens)
        (own,) = decoder.logprobs([(activation, "Who are you?")], [tokens])
        (prior,) = decoder.logprobs([(activation, "Who are you?")], [tokens], reference="mean")
        assert (one.logprob, one.support) == (
            pytest.approx(own, abs=1e-5),
            pytest.approx(own - prior, abs=1e-5),
        )


def test_scores_do_not_depend_on_the_company(
    decoder: Decoder, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [Query(DIALOG, "stimulus", QUESTIONS[0]), Query(OTHER, "last:3", QUESTIONS[1])]
    together = decoder.score(queries, [CANDIDATES, CANDIDATES[:2]])
    decoder.forget()
    monkeypatch.setattr(score, "TOKENS_PER_PASS", 60)
    for query, ranked in zip(queries, together, strict=True):
        texts = [one.answer for one in ranked]
        alone = decoder.score(target.read(query.dialog, query.span), query.question, texts)
        assert [one.answer for one in alone] == texts
        assert [one.support for one in alone] == pytest.approx([one.support for one in ranked], abs=1e-3)
    assert [len(ranked) for ranked in together] == [3, 2]


def test_scores_on_a_reference_are_remembered(
    decoder: Decoder, activation: Activation, target: Target, n_calls: list[int]
) -> None:
    first = decoder.score(activation, "Who are you?", CANDIDATES)
    per_score = len(n_calls)
    n_calls.clear()
    again = decoder.score(activation, "Who are you?", CANDIDATES)
    assert again == first and len(n_calls) == per_score / 2  # the activation alone
    longer = target.read([*DIALOG[:1], {"role": "user", "content": "A longer one."}], "all")
    n_calls.clear()
    decoder.score(longer, "Who are you?", CANDIDATES)  # another span and length have another reference
    decoder.forget()
    decoder.score(activation, "Who are you?", CANDIDATES)
    assert len(n_calls) == 2 * per_score


def test_shuffled_is_the_log_of_the_mean_probability(decoder: Decoder, activation: Activation) -> None:
    tokens = decoder.wiring.prompt.answer(CANDIDATES[0])
    (found,) = decoder.logprobs([(activation, "Why?")], [tokens], reference="shuffled")
    others = [
        replace(activation, vectors=vectors.float(), positions=tuple(range(vectors.shape[1])))
        for vectors in decoder.references.shuffled["stimulus"]
    ]
    each = decoder.logprobs([(other, "Why?") for other in others], [tokens] * len(others))
    mean = sum(math.exp(value * len(tokens)) for value in each) / len(each)
    assert found == pytest.approx(math.log(mean) / len(tokens), abs=2e-3)
    assert min(each) < found <= max(each)


def test_the_verdict_needs_the_percentile(decoder: Decoder, activation: Activation) -> None:
    support = decoder.ask(activation, "Why?", max_new_tokens=4).support
    assert support is not None
    low, high = support - 1, support + 1
    for supports, percentile, verdict in [
        ((low, low, low, high), 75.0, "supported"),
        ((low, low, high, high), 50.0, "supported"),  # at the threshold
        ((low, high, high, high), 25.0, "not sure"),
        ((high,), 0.0, "not sure"),
    ]:
        answer = calibrated(decoder, supports).ask(activation, "Why?", max_new_tokens=4)
        assert (answer.percentile, answer.verdict) == (percentile, verdict)


def test_the_verdict_needs_vectors_like_the_targets(decoder: Decoder, activation: Activation) -> None:
    """The tiny target's 32 dimensions are all main directions, so a few dialogs' are taken alone."""
    assert decoder.target is not None
    few = [decoder.target.reading(DIALOG, "last:4"), decoder.target.reading(OTHER, "last:4")]
    kept = make_references(decoder.target.read_many(few))
    assert kept.directions is not None
    narrow = replace(kept, directions=kept.directions[:, :8])
    decoder.references = narrow
    energy = narrow.foreign_energy(activation)
    assert energy is not None and energy > 0.05
    typical = calibrated(decoder, (-100.0,), typicality=energy)
    assert typical.ask(activation, "Why?", max_new_tokens=2).verdict == "supported"
    foreign = calibrated(decoder, (-100.0,), typicality=energy - 0.01)
    answer = foreign.ask(activation, "Why?", max_new_tokens=2)
    assert (answer.verdict, answer.percentile) == ("not sure", 100.0)


def test_calibration_judges_the_dialogs_that_it_was_made_from(decoder: Decoder) -> None:
    seen: list[tuple[int, int]] = []
    calibrate(decoder, 24, questions=QUESTIONS, threshold=90.0, progress=lambda *at: seen.append(at))
    calibration = decoder.card.calibration
    assert calibration is not None
    assert len(calibration.supports) == 24 and seen[-1] == (24, 24)
    assert list(calibration.supports) == sorted(calibration.supports)
    assert calibration.questions == QUESTIONS and calibration.threshold == 90.0
    decoder.target = None
    with pytest.raises(ConfigError, match="needs a target"):
        calibrate(decoder)


def test_a_decoder_of_sampled_layers_takes_one_at_a_time(target: Target) -> None:
    target.read_layers = (1, 2, 3)
    references = ordinary_references(target)
    decoder = make_decoder(target, references=references, sampled_layer=True)
    assert decoder.card.default_layers == (2,)
    at = {layer: target.read(DIALOG, layers=[layer]) for layer in (1, 2, 3)}
    scores = {layer: decoder.score(each, "Why?", CANDIDATES) for layer, each in at.items()}
    for layer, ranked in scores.items():
        own = Decoder(
            decoder.wiring,
            decoder.card.model_copy(update={"read_layers": (layer,), "sampled_layer": False}),
            references.of_layer((1, 2, 3).index(layer)),
        )
        assert own.score(at[layer], "Why?", CANDIDATES) == ranked
    assert decoder.ask([Query(DIALOG, "stimulus", "Why?")], max_new_tokens=2)[0].read_layers == (2,)
    calibrate(decoder, 6)
    with pytest.raises(LayerError):
        decoder.ask(target.read(DIALOG), "Why?")


def test_shifted_positions_tell_references_apart(target: Target) -> None:
    decoder = make_decoder(target)
    decoder.wiring = replace(decoder.wiring, shift_positions=True)
    near = target.read(DIALOG, "last:3")
    far = replace(near, positions=(20, 60, 90))
    tokens = decoder.wiring.prompt.answer(CANDIDATES[0])
    at_near, at_far = decoder.logprobs([(near, "Why?"), (far, "Why?")], [tokens] * 2, reference="mean")
    assert at_near != pytest.approx(at_far, abs=1e-6)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(decoder: Decoder, activation: Activation, question: str) -> None:
    with pytest.raises(QuestionError, match="empty"):
        decoder.ask(activation, question)
    with pytest.raises(QuestionError, match="empty"):
        decoder.score(activation, question, CANDIDATES)


def test_no_question_at_all_is_refused(decoder: Decoder, activation: Activation) -> None:
    with pytest.raises(QuestionError, match="No question"):
        decoder.ask(activation)  # pyright: ignore[reportCallIssue]


def test_other_layers_are_refused(decoder: Decoder, target: Target) -> None:
    with pytest.raises(LayerError, match=r"holds read layers \[1\], but decoder tiny reads \[2\]"):
        decoder.ask(target.read(DIALOG, layers=[1]), "Why?")


def test_vectors_of_another_width_are_refused(decoder: Decoder, activation: Activation) -> None:
    with pytest.raises(ActivationError, match="has 16 dimensions, but decoder tiny takes 32"):
        decoder.ask(replace(activation, vectors=activation.vectors[..., :16]), "Why?")


def test_vectors_that_are_not_finite_are_refused(decoder: Decoder, activation: Activation) -> None:
    broken = activation.vectors.clone()
    broken[0, 1, 2] = float("nan")
    with pytest.raises(ActivationError, match="not finite in 1 of"):
        decoder.ask(replace(activation, vectors=broken), "Why?")
    with pytest.raises(ActivationError, match="not finite"):
        decoder.score(replace(activation, vectors=broken), "Why?", CANDIDATES)


def test_unknown_references_and_settings_are_refused(decoder: Decoder, activation: Activation) -> None:
    with pytest.raises(ConfigError, match='Reference "median" does not exist'):
        decoder.ask(activation, "Why?", reference="median")
    for setting in ("max_new_tokens", "batch_size"):
        with pytest.raises(ConfigError, match="must be 1 or more"):
            decoder.ask(activation, "Why?", **{setting: 0})


def test_a_dialog_without_a_target_is_refused(decoder: Decoder) -> None:
    decoder.target = None
    with pytest.raises(ConfigError, match="no target"):
        decoder.ask([Query(DIALOG, "stimulus", "Why?")])


def test_asking_leaves_the_target_as_it_was(decoder: Decoder, activation: Activation) -> None:
    assert decoder.target is not None
    flags = {name: p.requires_grad for name, p in decoder.wiring.model.named_parameters()}
    decoder.ask(activation, "Why?", max_new_tokens=3)
    decoder.score(activation, "Why?", CANDIDATES)
    assert torch.equal(decoder.target.read(DIALOG).vectors, activation.vectors)
    assert flags == {name: p.requires_grad for name, p in decoder.wiring.model.named_parameters()}
