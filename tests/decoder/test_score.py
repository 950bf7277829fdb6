"""Scores of given answers: how rows are cut into passes, and what they share, changes no value."""

from __future__ import annotations

import pytest
import torch

from latentqa.decoder import score
from latentqa.decoder.forward import Row, answer_logprobs
from latentqa.decoder.score import token_scores
from latentqa.errors import ContextLengthError
from tests.decoder.conftest import ARCHITECTURES, QUESTIONS, make_slots, make_wiring

LENGTHS = (3, 9, 20)  # the last is longer than gemma2's sliding window of 16
ANSWERS = ("Yes.", "It is a pirate.", "There is nothing special about this at all.")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tokens", [1024, 1])
def test_a_question_run_once_for_its_answers_gives_the_same_scores(
    architecture: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "TOKENS_PER_PASS", tokens)
    wiring, slots = make_wiring(architecture), make_slots(LENGTHS)
    answers = [wiring.prompt.answer(text) for text in ANSWERS] + [(7,)]
    rows = [
        Row(slot, question, answer)
        for answer in answers
        for slot, question in ((2, QUESTIONS[1]), (0, QUESTIONS[0]), (0, QUESTIONS[2]), (1, QUESTIONS[1]))
    ]
    with wiring.active():
        found = token_scores(wiring, slots, rows)
        for row, values in zip(rows, found, strict=True):
            expected, _ = answer_logprobs(wiring, slots, [row], share=False)
            torch.testing.assert_close(values, expected, rtol=2e-4, atol=2e-4)


def test_questions_are_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    answer = wiring.prompt.answer(ANSWERS[1])
    fed: list[int] = []
    run = type(wiring.model.get_decoder()).forward

    def count(self, *given, **named):
        fed.append(int(named["input_ids"].numel()))
        return run(self, *given, **named)

    monkeypatch.setattr(type(wiring.model.get_decoder()), "forward", count)
    with wiring.active():
        token_scores(wiring, slots, [Row(0, QUESTIONS[1], answer)] * 2)
        shared = sum(fed)
        fed.clear()
        token_scores(wiring, slots, [Row(0, QUESTIONS[1], answer)])
    assert shared == sum(fed) + len(answer) - 1


def test_an_answer_beyond_the_context_is_refused() -> None:
    wiring, slots = make_wiring(), make_slots((3,))
    long = Row(0, QUESTIONS[0], (5,) * 600)
    with wiring.active(), pytest.raises(ContextLengthError, match="512"):
        token_scores(wiring, slots, [long, long])
