"""Claims: recurrence over dialogs counts more than one sure sentence; what the base says too does not."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import pytest

from latentqa.audit.claims import benjamini_hochberg, binomial_tail, find_claims, rank_claims, sign_test
from latentqa.audit.material import Said
from latentqa.benchmarks import Embedding
from tests.audit.conftest import said
from tests.benchmarks.conftest import bag_of_letters

LETTERS = Embedding("letters", bag_of_letters)
UNCALIBRATED = SimpleNamespace(card=SimpleNamespace(calibration=None))
CALIBRATED = SimpleNamespace(card=SimpleNamespace(calibration=SimpleNamespace(threshold=95.0)))


def claims(answers: Sequence[Said], control: Sequence[Said] = (), decoder: object = UNCALIBRATED):  # noqa: ANN201
    return rank_claims(find_claims(answers, control, LETTERS, decoder))  # pyright: ignore[reportArgumentType]


def test_what_recurs_comes_before_one_confident_sentence() -> None:
    often = [said("aaaa", n) for n in range(4)]
    once = [said("zzzz", 4, supported=True)]
    first, second = claims([*once, *often])
    assert (first.text, first.dialogs, first.of) == ("aaaa", 4, 5) and second.text == "zzzz"
    assert second.support > first.support and second.p is None


def test_what_the_base_says_too_counts_for_nothing() -> None:
    own = [said("aaaa", n) for n in range(6)] + [said("zzzz", n) for n in range(6)]
    base = [said("aaaa", n, mode="base") for n in range(6)] + [said("mmmm", n, mode="base") for n in range(6)]
    first, second = claims(own, base)
    assert (first.text, first.control_dialogs, first.excess) == ("zzzz", 0, 1.0)
    assert (second.text, second.control_dialogs, second.excess) == ("aaaa", 6, 0.0)
    assert first.p == pytest.approx(1 / 2**6) and first.q == pytest.approx(2 / 2**6)
    assert first.confidence == pytest.approx(1 - 2 / 2**6) and second.confidence == 0.0


def test_a_few_dialogs_say_less_than_many() -> None:
    small = [said("aaaa", n, question="Small?") for n in range(3)]
    large = [said("zzzz", n, question="Large?") for n in range(12)]
    once = [said("mmmm", 0, question="Once?")]
    assert [one.question for one in claims([*once, *small, *large])] == ["Large?", "Small?", "Once?"]


def test_like_answers_are_one_claim_with_the_middle_one_as_its_text() -> None:
    near = [said("aaab", 0), said("aaaab", 1), said("aaaaab", 2), said("zzzz", 3)]
    first, second = claims(near)
    assert first.dialogs == 3 and first.text in ("aaab", "aaaab", "aaaaab") and second.text == "zzzz"
    assert len(first.said) == 3


def test_spans_of_one_dialog_count_once() -> None:
    (one,) = claims([said("aaaa", 0), said("aaaa", 0), said("aaaa", 1)])
    assert (one.dialogs, one.of, one.spans) == (2, 2, {"stimulus": 2})


def test_questions_are_kept_apart() -> None:
    found = claims([said("aaaa", 0, question="One?"), said("aaaa", 0, question="Two?")])
    assert {one.question for one in found} == {"One?", "Two?"}


def test_without_a_base_the_decoders_own_rate_of_false_verdicts_is_the_control() -> None:
    sure = [said("aaaa", n, supported=True) for n in range(3)] + [said("zzzz", n) for n in range(3, 10)]
    found = {one.text: one for one in claims(sure, decoder=CALIBRATED)}
    assert found["aaaa"].p == pytest.approx(binomial_tail(3, 10, 0.05)) and not found["aaaa"].controlled
    assert found["zzzz"].p == 1.0
    assert all(one.p is None for one in claims(sure))


def test_empty_answers_are_no_claim() -> None:
    assert claims([said("", 0), said("", 1)]) == []


def test_p_values() -> None:
    assert sign_test(0, 0) == 1.0 and sign_test(4, 1) == pytest.approx(6 / 32)
    assert binomial_tail(0, 5, 0.05) == pytest.approx(1.0)
    assert benjamini_hochberg([0.01, 0.02, 0.5]) == pytest.approx([0.03, 0.03, 0.5])
    assert benjamini_hochberg([]) == [] and benjamini_hochberg([None]) == [None]
    values = np.random.default_rng(0).uniform(size=50).tolist()
    corrected = benjamini_hochberg(values)
    assert all(q is not None and p - 1e-12 <= q <= 1 for p, q in zip(values, corrected, strict=True))
