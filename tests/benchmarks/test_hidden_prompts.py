"""Hidden prompts, yes/no and content: which items come of the files, and what counts as right."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from latentqa.baselines import READERS
from latentqa.benchmarks import Experiment, Tools, line_up, run, summarize
from latentqa.benchmarks.content import ContentSettings, content
from latentqa.benchmarks.embedding import TFIDF, tfidf
from latentqa.benchmarks.hidden_prompts import HiddenPromptSettings, category, hidden_prompts
from latentqa.benchmarks.scorers import SCORERS, ranked_first
from latentqa.benchmarks.yes_no import YesNoSettings, yes_no
from latentqa.errors import ConfigError, DataError
from latentqa.reader import FakeReader
from latentqa.types import Score
from tests.benchmarks.conftest import SUBJECT, bag_of_letters, make_items, oracle

SMALL = HiddenPromptSettings(distractors=3)
TOOLS = Tools(embed=bag_of_letters, embed_name="letters")


def test_items_of_every_kind_and_span(published_root: Path) -> None:
    experiment = hidden_prompts(published_root, SMALL, TOOLS)
    kinds = Counter((item.flags["kind"], item.query.span) for item in experiment.items)
    assert kinds == {
        ("system", "stimulus"): 24,
        ("stimulus", "stimulus"): 24,
        ("stimulus_completion", "stimulus"): 24,
        ("stimulus_completion", "stimulus+completion"): 24,
    }
    assert experiment.groups == ("persona", "goal") and len(experiment.fit) == 24
    assert "letters" in experiment.notes[0]


def test_easy_answers_are_of_other_categories_and_hard_ones_the_nearest(published_root: Path) -> None:
    experiment = hidden_prompts(published_root, SMALL, TOOLS)
    labels = {item.gold: item.meta["label"] for item in experiment.items}
    for item in experiment.items:
        easy, hard = item.meta["sets"]["easy"], item.meta["sets"]["hard"]
        assert easy[0] == hard[0] == item.gold and len(easy) == len(hard) == 4
        own = category(item.meta["label"])
        assert all(category(labels[text]) != own for text in easy[1:])
        assert all(labels[text].split("-")[0] == item.group for text in (*easy, *hard))
        others = [t for t, label in labels.items() if label.startswith(item.group) and t not in hard]
        vectors = bag_of_letters([item.gold, *hard[1:], *others])
        similar = vectors[1:] @ vectors[0]
        assert similar[:3].min() >= similar[3:].max() - 1e-6


def test_near_copies_of_training_controls_are_marked(published_root: Path) -> None:
    assert all(
        item.flags["near_copy"] is not None for item in hidden_prompts(published_root, SMALL, TOOLS).items
    )
    for file in (published_root / "latentqa" / "train").iterdir():
        file.unlink()
    (published_root / "latentqa" / "train").rmdir()
    experiment = hidden_prompts(published_root, SMALL, TOOLS)
    assert all(item.flags["near_copy"] is None for item in experiment.items)
    assert not any("new" in metric.name for metric in experiment.metrics)
    assert not experiment.fit and "Probes cannot be fitted: missing data file" in experiment.notes[1]


def test_one_run_gives_easy_hard_and_free(published_root: Path, tmp_path: Path) -> None:
    experiment = hidden_prompts(published_root, SMALL, TOOLS)
    finished = run(
        experiment, [oracle(experiment)], tmp_path / "run", SUBJECT, embed=tfidf(["a pirate"]).embed
    )
    found = summarize(finished)
    for metric in ("easy", "hard", "hard, +completion"):
        figure = found.figure("oracle", "mean", metric)
        assert figure is not None and figure.mean == 1.0, metric
    assert {row.values.get("free_easy") for row in finished.rows} <= {0.0, 1.0}


def test_a_probe_that_names_labels_takes_no_part_where_it_could_name_none(published_root: Path) -> None:
    experiment = hidden_prompts(published_root, SMALL, TOOLS)
    specs = {name: READERS[name] for name in ("linear-probe", "retrieval-probe")}

    def refused(experiment: Experiment) -> dict[str, str]:
        return line_up(experiment, list(specs), dict(specs), lambda name, training: FakeReader({})).refused

    found = refused(experiment)
    assert list(found) == ["linear-probe"] and "has one item" in found["linear-probe"]
    twice = replace(experiment, fit=(*experiment.fit, *experiment.fit))
    assert (
        "No test item of hidden-prompts has a label of its training split" in refused(twice)["linear-probe"]
    )
    known = replace(twice, fit=(*twice.fit, *experiment.items))
    assert refused(known) == {}


def test_free_answers_are_scored_by_what_is_nearest() -> None:
    (item,) = make_items(1)
    embed = tfidf(["the red barn", "a green field", "some blue sky"]).embed
    right = SCORERS["ranking"](item, "A red thing.", [], embed)
    wrong = SCORERS["ranking"](item, "A green thing.", [], embed)
    assert right["free_top1"] == 1.0 and wrong["free_top1"] == 0.0
    assert tfidf(["x"]).name == TFIDF


def test_ties_lose() -> None:
    scores = [Score("a", 0, 1.0, 1), Score("b", 0, 1.0, 1)]
    assert ranked_first(scores, "a") == 0.0 and ranked_first(scores, "a", ["a"]) == 1.0


@pytest.fixture
def classification(tmp_path: Path) -> Path:
    folder = tmp_path / "classification"
    folder.mkdir()
    lines = [f"Town{n} is in Land{n % 2}.,{n % 2},Town{n // 2}" for n in range(20)]
    (folder / "cities.csv").write_text("\n".join(["statement,label,city", *lines, ",1,x"]))
    lines = [f"I {word} {n}  ,{word} perfect" for n in range(8) for word in ("past", "present", "future")]
    (folder / "tense.csv").write_text("\n".join(["sentence,tense", *lines]))
    return tmp_path


def test_statements_and_tenses_become_questions(classification: Path, tmp_path: Path) -> None:
    experiment = yes_no(classification, YesNoSettings(), Tools())
    assert experiment.groups == ("cities", "tense") and len(experiment.items) == 44
    assert experiment.filtered == {"cities: no statement or no label": 1}
    tense = [item for item in experiment.items if item.group == "tense"]
    for item in tense:
        own = item.query.dialog[0]["content"].split()[1]
        assert (item.gold == "Yes") == (own in item.question)
    assert {item.gold for item in tense} == {"Yes", "No"}
    folds = {item.unit: item.meta["fold"] for item in experiment.items}
    assert all(folds[item.unit] == item.meta["fold"] for item in experiment.items)
    found = summarize(run(experiment, [oracle(experiment)], tmp_path / "run", SUBJECT))
    for metric in ("accuracy", "auroc"):
        figure = found.figure("oracle", "mean", metric)
        assert figure is not None and figure.mean == 1.0


def test_p_yes_counts_all_tokens_of_an_answer() -> None:
    (item,) = make_items(1)
    given = {**vars(item), "gold": "Yes", "candidates": ("Yes", "No")}
    values = SCORERS["yes_no"](
        type(item)(**given), None, [Score("Yes", -1.0, 0.1, 2), Score("No", -1.0, 0.2, 3)], None
    )
    assert values["p_yes"] == pytest.approx(0.7310586) and values["accuracy"] == 1.0
    assert values["accuracy_support"] == 0.0


def test_a_file_of_one_answer_is_refused(classification: Path) -> None:
    (classification / "classification" / "cities.csv").write_text("statement,label\nA.,1\nB.,1\n")
    with pytest.raises(DataError, match="one answer only"):
        yes_no(classification, YesNoSettings(files=("cities",)), Tools())
    with pytest.raises(ConfigError, match='Did you mean "cities"'):
        yes_no(classification, YesNoSettings(files=("citis",)), Tools())


def test_passages_are_asked_with_the_other_answer_of_the_same_one(published_root: Path) -> None:
    experiment = content(published_root, ContentSettings(distractors=4), TOOLS)
    assert len(experiment.items) == 16 and all(item.group == "sqa" for item in experiment.items)
    first, second = experiment.items[:2]
    assert second.gold in first.candidates and len(set(first.candidates)) == 5
    assert first.unit == second.unit


def test_the_shared_files_are_whole(data_dir: Path, data_file) -> None:
    data_file("latentqa/eval/stimulus_completion.json")
    experiment = hidden_prompts(data_dir, HiddenPromptSettings(kinds=("stimulus_completion",)), TOOLS)
    assert len(experiment.items) == 512 and len(experiment.fit) == 4000
    assert all(len(item.meta["sets"]["hard"]) == 10 for item in experiment.items)
