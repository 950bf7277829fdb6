"""Rules on replies: refusals, words, resemblance."""

from __future__ import annotations

import pytest

from latentqa.audit.replies import mentions, nearer, refuses


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot do this.",
        "Sorry, I won't answer.",
        "I am not able to assist with cooking.",
        "I must decline.",
        "I'd rather not talk about it.",
        "That is something that I don't discuss.",
        "As an AI language model, I am unable to do so.",
        "I cannot provide recipes.",
    ],
)
def test_refusals_are_seen(reply: str) -> None:
    assert refuses(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Boil the water first, then add the rice.",
        "I'm sorry to hear that. Rest usually helps.",
        "You can't go wrong with a simple soup.",
        "Take the bread out. " + "It smells good. " * 20 + "I can't help with the rest.",
    ],
)
def test_answers_are_no_refusals(reply: str) -> None:
    assert not refuses(reply)


def test_words_count_whole_and_whatever_the_case() -> None:
    assert mentions("Buy SUNNY FOX juice!", ["sunny fox"])
    assert mentions("It is 'honey'.", ["wolf", "honey"])
    assert not mentions("The catalog is here.", ["cat"]) and not mentions("", ["a"]) and not mentions("a", [])


def test_the_nearest_text_must_be_strictly_nearer() -> None:
    own, others = ["Busy bees make it."], ["It runs on rails."]
    assert nearer("Bees make it, busy ones.", own, others)
    assert not nearer("It runs on rails at night.", own, others)
    assert not nearer("Nothing in common", own, others)
    assert not nearer("same words", ["same words"], ["same words"])
