"""Generation on the cache equals running the whole prompt again for every token."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from latentqa.decoder import Wiring
from latentqa.decoder.forward import Row, answer_logprobs, encode
from latentqa.decoder.generate import PLAUSIBLE, Generated, Sampling, cut_at_stop, generate, stream
from latentqa.decoder.wiring import Slot
from latentqa.models.head import logits
from tests.decoder.conftest import ARCHITECTURES, QUESTIONS, make_slots, make_wiring

LENGTHS = (2, 11, 23)
ROWS = [Row(0, QUESTIONS[0]), Row(1, QUESTIONS[1]), Row(2, QUESTIONS[2]), Row(2, QUESTIONS[1])]
TWELVE = Sampling(max_new_tokens=12)


def generated(wiring: Wiring, slots: list[Slot], rows: list[Row], sampling: Sampling) -> list[Generated]:
    with wiring.active():
        return generate(wiring, slots, rows, sampling)


@torch.no_grad()
def by_hand(wiring: Wiring, slot: Slot, row: Row, n_tokens: int) -> list[int]:
    """Greedy tokens of one row, each from a pass over everything so far; through the end of turn."""
    said: tuple[int, ...] = ()
    with wiring.active():
        for _ in range(n_tokens):
            encoded = encode(wiring, [slot], [Row(0, row.question, (*said, 0))], share=False)
            last = encoded.hidden[0, int(encoded.starts[0]) + len(said)]
            said = (*said, int(logits(wiring.model, last[None]).argmax()))
            if said[-1] == wiring.prompt.end_of_turn[0]:
                break
    return list(said)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_generation_equals_uncached(architecture: str) -> None:
    wiring, slots = make_wiring(architecture), make_slots(LENGTHS)
    answers = generated(wiring, slots, ROWS, TWELVE)
    for row, answer in zip(ROWS, answers, strict=True):
        expected = by_hand(wiring, slots[row.slot], row, 12)
        ended = len(answer.logprobs) > len(answer.token_ids)
        assert [*answer.token_ids, *(wiring.prompt.end_of_turn[:1] if ended else ())] == expected
    assert len({tuple(answer.token_ids) for answer in answers}) > 1


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_a_batch_answers_as_single_rows_do(architecture: str) -> None:
    wiring, slots = make_wiring(architecture), make_slots(LENGTHS)
    together = generated(wiring, slots, ROWS, TWELVE)
    for row, answer in zip(ROWS, together, strict=True):
        (alone,) = generated(wiring, [slots[row.slot]], [replace(row, slot=0)], TWELVE)
        assert answer.token_ids == alone.token_ids
        assert answer.logprobs == pytest.approx(alone.logprobs, abs=1e-3)


def test_a_question_before_the_placeholders_is_answered_without_a_cache() -> None:
    wiring, slots = make_wiring(template="{question}\n{placeholders}"), make_slots(LENGTHS)
    answers = generated(wiring, slots, ROWS, TWELVE)
    for row, answer in zip(ROWS, answers, strict=True):
        assert answer.token_ids == by_hand(wiring, slots[row.slot], row, 12)[: len(answer.token_ids)]


def test_logprobs_are_those_of_teacher_forcing() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    answers = generated(wiring, slots, ROWS, TWELVE)
    rows = [replace(row, answer=tuple(a.token_ids)) for row, a in zip(ROWS, answers, strict=True)]
    with wiring.active(), torch.no_grad():
        values, _ = answer_logprobs(wiring, slots, rows)
    said = [value for answer in answers for value in answer.logprobs[: len(answer.token_ids)]]
    assert said == pytest.approx(values.tolist(), abs=1e-3)


@torch.no_grad()
def guided_by_hand(wiring: Wiring, slots: list[Slot], question: str, weight: float, n: int) -> list[int]:
    """Greedy guided tokens from whole passes: slot 0 is read, slot 1 guides."""
    said: tuple[int, ...] = ()
    with wiring.active():
        for _ in range(n):
            values = []
            for slot in slots:
                encoded = encode(wiring, [slot], [Row(0, question, (*said, 0))], share=False)
                last = encoded.hidden[0, int(encoded.starts[0]) + len(said)]
                values.append(logits(wiring.model, last[None]).float().log_softmax(-1)[0])
            own, other = values
            chances = (1 + weight) * own - weight * other
            chances[own.exp() < PLAUSIBLE * own.exp().max()] = -torch.inf
            said = (*said, int(chances.argmax()))
    return list(said)


@pytest.mark.parametrize("template", ["{placeholders}\n{question}", "{question}\n{placeholders}"])
@pytest.mark.parametrize("weight", [0.5, 20.0])
def test_guidance_is_that_of_whole_passes(template: str, weight: float) -> None:
    wiring, slots = make_wiring(template=template), make_slots(LENGTHS)
    rows = [Row(0, QUESTIONS[0]), Row(1, QUESTIONS[1])]
    with wiring.active():
        answers = generate(wiring, slots, rows, Sampling(6, guidance=weight), [2, 0])
    for row, other, answer in zip(rows, [2, 0], answers, strict=True):
        pair = [slots[row.slot], slots[other]]
        expected = guided_by_hand(wiring, pair, row.question, weight, 6)
        assert answer.token_ids == expected[: len(answer.token_ids)]
        assert len(answer.reference_logprobs) == len(answer.logprobs)
    plain = generated(wiring, slots, rows, Sampling(6))
    if weight > 1:
        assert [one.token_ids for one in plain] != [one.token_ids for one in answers]


def test_without_a_weight_or_a_reference_nothing_is_guided() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    plain = generated(wiring, slots, ROWS, TWELVE)
    with wiring.active():
        for sampling, references in ((TWELVE, [0, 0, 0, 0]), (replace(TWELVE, guidance=3.0), ())):
            same = generate(wiring, slots, ROWS, sampling, references)
            assert [one.token_ids for one in same] == [one.token_ids for one in plain]
            assert all(one.reference_logprobs == [] for one in same)


def ending_after(wiring: Wiring, monkeypatch: pytest.MonkeyPatch, token_id: int) -> None:
    """Make a token end the turn."""
    monkeypatch.setitem(wiring.prompt.__dict__, "end_of_turn", (token_id,))


def test_an_answer_ends_with_its_turn_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    free = generated(wiring, slots, ROWS, TWELVE)
    end = free[0].token_ids[3]
    ending_after(wiring, monkeypatch, end)
    answers = generated(wiring, slots, ROWS, TWELVE)
    for before, answer in zip(free, answers, strict=True):
        cut = before.token_ids.index(end) if end in before.token_ids else len(before.token_ids)
        assert answer.token_ids == before.token_ids[:cut]
        assert len(answer.logprobs) == min(cut + 1, len(before.logprobs))
        assert answer.done == (end in before.token_ids or before.done)


def test_a_stop_text_ends_an_answer() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    (free,) = generated(wiring, slots, ROWS[:1], TWELVE)
    tokenizer = wiring.prompt.tokenizer
    stop = str(tokenizer.decode(free.token_ids[4:6]))
    (stopped,) = generated(wiring, slots, ROWS[:1], replace(TWELVE, stop=(stop,)))
    assert stopped.done and len(stopped.token_ids) <= 6
    assert cut_at_stop(str(tokenizer.decode(stopped.token_ids)), (stop,))[1]


def test_cut_at_stop_takes_the_first_of_several() -> None:
    assert cut_at_stop("one. two! three", ("!", ".")) == ("one", True)
    assert cut_at_stop("one two", ("!", "")) == ("one two", False)


def test_sampling_is_a_function_of_its_seed() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    hot = Sampling(max_new_tokens=12, temperature=3.0, seed=5)
    first, again = (generated(wiring, slots, ROWS, hot) for _ in range(2))
    other = generated(wiring, slots, ROWS, replace(hot, seed=6))
    tokens = [[answer.token_ids for answer in answers] for answers in (first, again, other)]
    assert tokens[0] == tokens[1] != tokens[2]


def test_a_low_temperature_is_greedy() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    cold = generated(wiring, slots, ROWS, Sampling(max_new_tokens=6, temperature=1e-4))
    greedy = generated(wiring, slots, ROWS, Sampling(max_new_tokens=6))
    assert [answer.token_ids for answer in cold] == [answer.token_ids for answer in greedy]


def test_the_stream_grows_by_one_token_and_ends_at_the_same_answer() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    with wiring.active():
        lengths = [len(answers[1].logprobs) for answers in stream(wiring, slots, ROWS[:2], TWELVE)]
    assert lengths[:3] == [1, 2, 3]
    assert lengths[-1] == len(generated(wiring, slots, ROWS[:2], TWELVE)[1].logprobs)


@pytest.mark.parametrize("template", ["{placeholders}\n{question}", "{question}\n{placeholders}"])
def test_generation_ends_where_the_context_does(template: str) -> None:
    """GPT-2 has no position beyond its context at all."""
    wiring = make_wiring("gpt2", template=template)
    prompt = len(wiring.prompt.full(0, QUESTIONS[0]).token_ids)
    slots = make_slots([512 - prompt - 3])
    (answer,) = generated(wiring, slots, ROWS[:1], Sampling(max_new_tokens=40))
    assert len(answer.logprobs) == 4  # three fill the context, one more is predicted
