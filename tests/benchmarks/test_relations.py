"""Relations: what is filtered, how subjects are split, what counts as right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.baselines import READERS
from latentqa.benchmarks import Tools, line_up, run, summarize
from latentqa.benchmarks.relations import (
    PAPER,
    Fact,
    RelationSettings,
    cloze,
    filter_facts,
    known_counts,
    relation_of,
    relations,
)
from latentqa.benchmarks.scorers import first_mentioned
from latentqa.errors import ConfigError, DataError
from latentqa.reader import FakeReader
from tests.benchmarks.conftest import SUBJECT, oracle, relation_rows

ONE = RelationSettings(files=("country_currency",))


def test_rows_without_subject_or_with_object_are_filtered_and_counted() -> None:
    filtered: Counter[str] = Counter()
    facts = [
        Fact("France", "Euro", "ships to France in May", "q"),
        Fact("France", "Euro", "ships to France in May", "q"),
        Fact("France", "Euro", "the EURO came to France", "q"),
        Fact("France", "Euro", "ships to Spain", "q"),
        Fact("France", "Euro", "", "q"),
        Fact("France", "", "France", "q"),
    ]
    assert filter_facts(facts, filtered) == facts[:1]
    assert filtered == {
        "context holds the object": 1,
        "context does not hold the subject": 1,
        "no context": 1,
        "no subject or no object": 1,
        "row comes twice": 1,
    }


def test_the_query_becomes_a_sentence_about_the_subject() -> None:
    fact = Fact("Xerox Alto", "Xerox", "", "The company which developed x")
    assert cloze(fact) == "The company which developed Xerox Alto is"


def test_a_new_file_gets_a_question_from_its_query() -> None:
    found = relation_of("factual/river_mouth", [Fact("Rhine", "North Sea", "", "The sea into which x flows")])
    assert (found.name, found.question) == ("river_mouth", "What is the sea into which this flows?")


def test_questions_do_not_name_an_answer() -> None:
    assert len({relation.question for relation in PAPER.values()}) == 6


def test_folds_hold_whole_subjects_and_seen_objects_are_marked(relation_root: Callable[[str], Path]) -> None:
    experiment = relations(relation_root(relation_rows(12)), ONE, Tools(seed=1))
    folds = {}
    for item in experiment.items:
        assert folds.setdefault(item.unit, item.meta["fold"]) == item.meta["fold"]
    assert set(folds.values()) == {0, 1}
    for item in experiment.items:
        others = {other.gold for other in experiment.fit if other.meta["fold"] != item.meta["fold"]}
        assert item.flags["seen"] == (item.gold in others)
    assert [metric.name for metric in experiment.metrics][:3] == ["substring", "first", "ranked"]
    assert not any("known" in metric.name for metric in experiment.metrics)


def test_known_facts_are_those_that_the_target_continues(relation_root: Callable[[str], Path]) -> None:
    asked = []

    def continue_text(texts, count):
        asked.append((list(texts), count))
        return [" the EURO of old" if "Land0" in text else " nothing" for text in texts]

    experiment = relations(relation_root(relation_rows()), ONE, Tools(continue_text=continue_text))
    assert len(asked) == 1 and len(asked[0][0]) == 6 and asked[0][1] == 14
    assert "The official currency of Land0 is" in asked[0][0]
    assert known_counts(experiment.items) == {"country_currency": (1, 6)}
    assert "country_currency 1 of 6" in " ".join(experiment.notes)
    assert {item.unit for item in experiment.items if item.flags["known"]} == {"Land0"}


def test_the_span_is_the_subject(relation_root: Callable[[str], Path]) -> None:
    item = relations(relation_root(relation_rows()), ONE, Tools()).items[0]
    assert item.query.span == '"Land0"' and item.query.dialog[0]["content"] == "They sailed to Land0 in May."


def test_figures_by_population(relation_root: Callable[[str], Path], tmp_path: Path) -> None:
    tools = Tools(continue_text=lambda texts, count: ["Euro"] * len(texts))
    experiment = relations(relation_root(relation_rows()), ONE, tools)
    found = summarize(run(experiment, [oracle(experiment)], tmp_path / "run", SUBJECT))
    known = found.figure("oracle", "country_currency", "substring, known")
    assert known is not None and known.mean == 1.0 and known.n == 4
    assert found.figure("oracle", "mean", "ranked") is not None


def test_naming_many_objects_does_not_pay() -> None:
    assert first_mentioned("Dollar, Euro or Yen", ["Euro", "Yen", "Dollar"]) == "Dollar"
    assert first_mentioned("The New Yen", ["Yen", "New Yen"]) == "New Yen"
    assert first_mentioned("Eurozone", ["Euro"]) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("subject\tobject\tcontext\nFrance\tEuro\tin France\n", "lacks the column query"),
        ("subject\tobject\tcontext\tquery\n", "no rows"),
        (
            "subject\tobject\tcontext\tquery\nFrance\tEuro\tto France\tq\nSpain\tEuro\tto Spain\tq\n",
            "1 object in",
        ),
    ],
)
def test_files_that_cannot_be_used_are_said(
    relation_root: Callable[[str], Path], text: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        relations(relation_root(text), ONE, Tools())


def test_an_unknown_relation_suggests_the_nearest(relation_root: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match='Did you mean "factual/country_currency"'):
        relations(
            relation_root(relation_rows()), RelationSettings(files=("factual/country_curency",)), Tools()
        )


def test_a_missing_file_names_its_original(relation_root: Callable[[str], Path]) -> None:
    with pytest.raises(DataError, match="food_from_country.tsv is not in .*PAIR-code"):
        relations(relation_root(relation_rows()), RelationSettings(), Tools())


def test_the_shared_files_give_the_papers_six(data_file: Callable[[str], Path]) -> None:
    root = data_file("relations").parent
    experiment = relations(root, RelationSettings(), Tools(limit=60))
    assert experiment.groups == tuple(relation.name for relation in PAPER.values())
    assert len(experiment.items) == 60 and len(experiment.fit) > 3000
    assert experiment.filtered["context holds the object"] > 400
    assert Counter(item.group for item in experiment.items).most_common()[-1][1] == 10
    bigger = relations(root, RelationSettings(), Tools(limit=90))
    assert {item.id for item in experiment.items} < {item.id for item in bigger.items}


def test_a_fold_of_one_class_refuses_probes_alone(relation_root: Callable[[str], Path]) -> None:
    lines = ["subject\tobject\tcontext\tquery"]
    lines += [f"L{n}\t{'Euro' if n < 9 else 'Yen'}\tto L{n} in May\tThe currency of x" for n in range(10)]
    experiment = relations(relation_root("\n".join(lines) + "\n"), ONE, Tools())
    specs = {"probe": READERS["linear-probe"], "plain": READERS["text-given"]}
    lineup = line_up(experiment, ["probe", "plain"], specs, lambda name, training: FakeReader({}))
    assert [one.name for one in lineup.contenders] == ["plain", "majority"]
    assert "single class" in lineup.refused["probe"]
