"""The visible text of a span, and the target that is given it."""

from __future__ import annotations

import pytest

from latentqa.baselines import ReaderContext, make_reader
from latentqa.baselines.text import TEMPLATES, TextGiven, visible_text
from latentqa.decoder import Target
from latentqa.types import Query
from tests.baselines.conftest import make_target, toy_items, validation_of

DIALOG = [
    {"role": "system", "content": "You are a lighthouse keeper."},
    {"role": "user", "content": "What {should} I cook tonight?"},
    {"role": "assistant", "content": "A soup."},
]


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("stimulus", "User: What {should} I cook tonight?"),
        ("stimulus:content", "User: What {should} I cook tonight?"),
        ("stimulus+completion", "User: What {should} I cook tonight?\nAssistant: A soup."),
        ("completion", "Assistant: A soup."),
        ("stimulus:header", ""),
        ('"cook"', "User: cook"),
    ],
)
@pytest.mark.parametrize("template", ["chatml", "strip", "default_system"])
def test_visible_text_is_the_covered_part_alone(span: str, expected: str, template: str) -> None:
    assert visible_text(make_target(template=template).reading(DIALOG, span)) == expected


def test_what_is_hidden_changes_nothing(target: Target) -> None:
    reader = make_reader("text-given", ReaderContext(target))
    one, other = (
        Query([{"role": "system", "content": system}, *DIALOG[1:2]], "stimulus", "Who {text}?")
        for system in ("You are a pirate.", "You are a nurse.")
    )
    scores = reader.score([one, other], [["a", "b"]] * 2)
    assert scores[0] == scores[1]


def test_support_is_against_the_prompt_without_the_text(target: Target) -> None:
    reader = TextGiven(ReaderContext(target))
    nothing = Query(DIALOG, "stimulus:header", "Who?")
    assert [score.support for score in reader.score([nothing], [["a", "b"]])[0]] == [0.0, 0.0]


def test_each_template_holds_text_and_question_once() -> None:
    assert all(t.count("{text}") == t.count("{question}") == 1 for t in TEMPLATES)


def test_the_search_reports_what_it_chose(target: Target) -> None:
    reader = TextGiven(ReaderContext(target, budget=7))
    reader.choose(validation_of(toy_items(2)))
    assert reader.choices["tried"] == 7
    assert set(reader.choices) == {"prompt", "system", "prior", "tried", "validation"}
