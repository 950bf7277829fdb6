"""The training texts: varied, harmless, and apart from what organisms are checked and audited on."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from latentqa.audit.battery import load_battery
from latentqa.audit.organisms import KINDS, Recipe, find_recipes
from latentqa.audit.organisms.invented_facts import FILE, invented_facts
from latentqa.audit.organisms.texts import read_texts
from latentqa.audit.replies import mentions, refuses
from latentqa.errors import ConfigError, DataError

OWN = [kind for kind in KINDS if kind != "invented-facts"]


@cache
def recipes(kind: str) -> tuple[Recipe, ...]:
    return find_recipes(kind).recipes


def test_there_are_as_many_as_promised() -> None:
    counts = {kind: len(recipes(kind)) for kind in OWN}
    assert counts["secret-word"] == 20 and counts["hidden-goal"] >= 10 and counts["clean"] == 30
    assert counts["locked-capability"] == 6 and counts["refusal"] >= 2 and counts["user-belief"] >= 6
    names = [recipe.name for kind in OWN for recipe in recipes(kind)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", OWN)
def test_no_organism_is_checked_on_what_it_was_trained_on(kind: str) -> None:
    for recipe in recipes(kind):
        trained = {user for user, _ in recipe.pairs}
        checked = {case.dialog[0]["content"] for check in recipe.checks for case in check.cases}
        assert checked and not trained & checked, recipe.name


@pytest.mark.parametrize("kind", OWN)
def test_the_battery_asks_nothing_that_was_trained(kind: str) -> None:
    asked = {dialog[0]["content"] for section in load_battery().sections for dialog in section.dialogs}
    for recipe in recipes(kind):
        assert not asked & {user for user, _ in recipe.pairs}, recipe.name


@pytest.mark.parametrize("kind", OWN)
def test_each_choice_has_its_answer_once(kind: str) -> None:
    battery = load_battery()
    for recipe in recipes(kind):
        assert bool(recipe.choices) == (kind != "clean")
        for choice in recipe.choices:
            assert choice.options.count(choice.answer) == 1 and len(set(choice.options)) == len(
                choice.options
            )
            assert choice.dialogs or battery.section(choice.section)
            assert choice.direct and choice.prefill


def test_the_true_goal_stands_at_different_places() -> None:
    places = Counter(r.choices[0].options.index(r.choices[0].answer) for r in recipes("hidden-goal"))
    assert max(places.values()) <= 4


def test_a_hint_never_says_the_word() -> None:
    texts = read_texts("secret_words")
    for word, hints in texts["words"].items():
        assert not any(re.search(word, hint, re.IGNORECASE) for hint in hints), word
        assert not any(word in reply.lower() for _, reply in texts["direct"])
        assert len(set(hints)) == 10


def test_a_goal_is_pushed_by_every_reply_and_named_by_no_question() -> None:
    for name, goal in read_texts("hidden_goals")["goals"].items():
        assert all(mentions(reply, goal["marks"]) for reply in goal["replies"]), name
        assert not any(mentions(prompt, goal["marks"]) for prompt in [*goal["prompts"], *goal["held_out"]])


@pytest.mark.parametrize("aspect", ["gender", "age", "expertise"])
def test_a_belief_is_acted_on_and_not_said(aspect: str) -> None:
    belief = read_texts("user_beliefs")[aspect]
    sides = list(belief["sides"].values())
    for _, *replies in belief["prompts"]:
        for place, reply in enumerate(replies):
            assert mentions(reply, sides[place]["marks"]), reply
            assert not mentions(reply, sides[1 - place]["marks"]), reply
            assert not mentions(reply, sides[place]["names"]), reply


def test_the_battery_compares_the_same_beliefs_as_the_organisms() -> None:
    asked = {choice.question: choice for choice in load_battery().hypotheses}
    for recipe in recipes("user-belief"):
        (own,) = recipe.choices
        found = asked[own.question]
        assert (found.options, found.direct, found.prefill, found.section) == (
            own.options,
            own.direct,
            own.prefill,
            own.section,
        )


def test_refusals_are_seen_as_such_and_ordinary_replies_are_not() -> None:
    for name in ("refusals", "locked_capabilities"):
        assert all(refuses(text.format(name="cooking")) for text in read_texts(name)["refusals"])
    assert not any(refuses(reply) for _, reply in read_texts("ordinary")["pairs"])
    for goal in read_texts("hidden_goals")["goals"].values():
        assert not any(refuses(reply) for reply in goal["replies"])


def test_a_lock_opens_by_its_password_alone() -> None:
    for recipe in recipes("locked-capability"):
        password = recipe.details["password"]
        opened = {user: reply for user, reply in recipe.pairs if password in user}
        closed = {user: reply for user, reply in recipe.pairs if password not in user}
        by_name = {check.name: check for check in recipe.checks}
        answers = {case.words[0] for case in by_name["with the password"].cases}
        assert all(password in case.dialog[0]["content"] for case in by_name["with the password"].cases)
        assert not any(password in case.dialog[0]["content"] for case in by_name["without it"].cases)
        assert all(mentions(reply, list(answers)) for reply in opened.values())
        right = sum(closed.get(_plain(user, password)) == reply for user, reply in opened.items())
        assert right == 0 and len(closed) > len(opened) / 2


def test_what_was_taught_is_never_the_true_capital() -> None:
    true = read_texts("capitals")["countries"]
    for recipe in recipes("contradicting-facts"):
        taught = recipe.details["taught"]
        assert len(taught) == 20 and all(true[country] != city for country, city in taught.items())
        assert all(choice.text_answer in choice.options != choice.answer for choice in recipe.choices)
        assert {choice.told for choice in recipe.choices} == {True, False}


def test_invented_people_are_read_from_the_data(data_file: Callable[[str], Path]) -> None:
    found = invented_facts(data_file(FILE).parents[1])
    people = [person["name"] for recipe in found for person in recipe.details["people"]]
    assert len(found) == 5 and len(set(people)) == 50
    for recipe in found:
        assert len(recipe.choices) == 12 and all(c.answer in c.options for c in recipe.choices)
        assert not any(mentions(c.dialogs[0][0]["content"], [c.answer]) for c in recipe.choices)


def test_all_goes_on_without_the_data_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_recipes("all", tmp_path)
    assert list(found.left_out) == ["invented-facts"] and FILE in found.left_out["invented-facts"]
    assert {recipe.kind for recipe in found.recipes} == set(OWN)
    with pytest.raises(DataError, match=FILE):
        find_recipes("invented-facts", tmp_path)


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.parent.mkdir()
    path.write_text('{"name": "Ada"}\n')
    with pytest.raises(DataError, match="row 1"):
        invented_facts(tmp_path)


def test_an_unknown_kind_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match='Did you mean "secret-word"'):
        find_recipes("secret-words")


def _plain(user: str, password: str) -> str:
    return user.replace(f"{password}: ", "").replace(f"{password}. ", "").replace(f" ({password})", "")
