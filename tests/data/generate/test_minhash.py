"""Near-copies: estimated similarity against the true one."""

from __future__ import annotations

import random

import pytest

from latentqa.data.generate.minhash import Copies, NearCopies

TEXT = "Imagine you are a village baker who gets up at three and compares everything to slowly rising dough"


def triples(text: str) -> set[str]:
    words = text.lower().split()
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def test_copies_are_found_and_others_are_not() -> None:
    copies = NearCopies(0.8)
    assert copies.first(TEXT, "a") is None
    assert copies.first(TEXT.upper() + "!", "b") == "a"
    assert copies.first("Please answer in questions only, whatever I say.", "c") is None
    assert copies.first("", "d") is None and copies.first("  ", "e") == "d"


def test_exact_copies_alone() -> None:
    copies = Copies()
    assert [copies.first(text, "x") for text in (TEXT, TEXT + ".", TEXT)] == [None, None, "row 1"]


def test_a_copy_is_not_remembered() -> None:
    copies = NearCopies(0.99)
    copies.first(TEXT, "a")
    assert [copies.first(TEXT, name) for name in "bc"] == ["a", "a"]


@pytest.mark.parametrize("changed", [1, 4, 9])
def test_the_estimate_is_near_the_true_similarity(changed: int) -> None:
    chooser = random.Random(changed)
    copies = NearCopies(1.0)
    errors = []
    for _ in range(30):
        words = [f"w{chooser.randrange(500)}" for _ in range(40)]
        other = list(words)
        for place in chooser.sample(range(40), changed):
            other[place] = "x"
        one, two = " ".join(words), " ".join(other)
        true = len(triples(one) & triples(two)) / len(triples(one) | triples(two))
        errors.append(float((copies.signature(one) == copies.signature(two)).mean()) - true)
    assert abs(sum(errors) / len(errors)) < 0.05
