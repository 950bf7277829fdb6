"""Methods: each ranks hypotheses on each dialog, minus the base where it is known, and says what it found."""

from __future__ import annotations

import pytest

from latentqa.audit import METHODS, Audited, load_battery
from latentqa.audit.battery import Question
from latentqa.audit.material import Material
from latentqa.audit.methods import Peers, choose, make_methods
from latentqa.audit.methods.method import by_dialog, minus
from latentqa.errors import ConfigError
from tests.audit.conftest import CHOICE

DIALOGS = [[{"role": "user", "content": text}] for text in ("A hint?", "Another?")]
QUESTIONS = (Question("Who?", "Who are you?", "I am"),)


@pytest.fixture
def peers(audited: Audited) -> Peers:
    assert audited.base is not None
    return Peers(audited.base, audited.decoder)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "linear-probe"])
def test_every_method_ranks_and_says(name: str, peers: Peers, material: Material) -> None:
    (method,) = make_methods([name], peers)
    rows = method.rows(material, CHOICE, DIALOGS)
    assert len(rows) == (1 if name in ("ask-directly", "prefill") else 2)
    assert all(len(row) == 3 for row in rows) and method.doc.endswith(".")
    found = choose(method, material, CHOICE, DIALOGS)
    assert found is not None and {one.option for one in found.ranking} == set(CHOICE.options)
    said = method.says(material, DIALOGS, QUESTIONS)
    assert all(isinstance(text, str) for text in said)


@pytest.mark.parametrize("name", ["lit-vs-base", "ask-directly", "prefill", "logit-lens", "linear-probe"])
def test_a_model_that_is_its_base_shows_nothing(name: str, peers: Peers) -> None:
    same = Material(Audited(peers.base, peers.base, peers.decoder), ("stimulus",))
    (method,) = make_methods([name], peers)
    choice = load_battery().hypotheses[0] if name == "linear-probe" else CHOICE
    rows = method.rows(same, choice, DIALOGS)
    assert rows and all(value == pytest.approx(0, abs=1e-4) for row in rows for value in row)


def test_the_difference_of_nothing_has_no_rows(peers: Peers) -> None:
    same = Material(Audited(peers.base, peers.base, peers.decoder), ("stimulus",))
    (method,) = make_methods(["lit-difference"], peers)
    assert method.rows(same, CHOICE, DIALOGS) == [] and choose(method, same, CHOICE, DIALOGS) is None
    assert method.says(same, DIALOGS, QUESTIONS) == []


def test_without_a_base_what_needs_one_is_silent(audited: Audited) -> None:
    alone = Material(audited.alone(), ("stimulus",), answer_tokens=2, reply_tokens=2)
    for method in make_methods(METHODS, Peers(audited.model, audited.decoder)):
        rows = method.rows(alone, CHOICE, DIALOGS)
        assert bool(rows) == (method.name not in ("lit-vs-base", "lit-difference", "linear-probe"))


def test_the_probe_tells_beliefs_about_the_user_alone(peers: Peers, material: Material) -> None:
    (probe,) = make_methods(["linear-probe"], peers)
    assert probe.rows(material, CHOICE, DIALOGS) == [] and probe.says(material, DIALOGS, QUESTIONS) == []
    rows = probe.rows(material, load_battery().hypotheses[0], DIALOGS)
    assert len(rows) == 2 and all(len(row) == 2 for row in rows)


def test_an_option_is_said_as_its_form_has_it(peers: Peers, material: Material) -> None:
    (method,) = make_methods(["lit"], peers)
    found = method.rows(material, CHOICE, DIALOGS)
    direct = material.supports(
        "model", DIALOGS, CHOICE.question, ["It is honey.", "It is wolf.", "It is gold."]
    )
    assert found == direct


def test_rows_are_means_over_the_spans_of_a_dialog(material: Material) -> None:
    places = [*material.places(DIALOGS), *material.places(DIALOGS[:1])]
    assert by_dialog(places, [[1.0, 2.0], [5.0, 6.0], [3.0, 4.0]]) == [[2.0, 3.0], [5.0, 6.0]]
    assert by_dialog(places, [[1.0, 2.0], None, None]) == [[1.0, 2.0]]
    assert minus([3.0], [1.0]) == [2.0] and minus(None, [1.0]) is None and minus([1.0], None) is None


def test_an_unknown_method_gets_a_suggestion(peers: Peers) -> None:
    with pytest.raises(ConfigError, match='Did you mean "prefill"'):
        make_methods(["prefil"], peers)
