"""The runner: rows as it goes, resume without repeating, refusal of what does not belong together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from latentqa.benchmarks import Contender, Metric, load_run, run, summarize
from latentqa.benchmarks.runner import ROWS_FILE, Response
from latentqa.errors import ConfigError, DataError
from latentqa.reader import FakeReader
from latentqa.types import Query
from tests.benchmarks.conftest import SUBJECT, Oracle, fake, make_experiment, make_items, oracle


def test_a_run_ends_with_the_figures_of_every_reader(tmp_path: Path) -> None:
    experiment = make_experiment()
    finished = run(experiment, [oracle(experiment), fake()], tmp_path, SUBJECT, seed=3, data="data")
    found = summarize(finished).to_json()
    assert set(found) == {"experiment", "data", "seed", "rows", "tests", "filtered"}
    assert (found["experiment"], found["data"], found["seed"]) == ("toy", "data", 3)
    assert found["filtered"] == {"no context": 2}
    assert all(set(row) == {"reader", "group", "metric", "mean", "low", "high", "n"} for row in found["rows"])
    cells = {(row["reader"], row["group"], row["metric"]): row["mean"] for row in found["rows"]}
    assert cells["oracle", "mean", "substring"] == 1.0 and cells["fake", "mean", "substring"] == 0.0
    assert {row["group"] for row in found["rows"]} == {"a", "b", "mean"}
    assert all(set(test) == {"a", "b", "group", "p"} for test in found["tests"])
    assert [test["group"] for test in found["tests"]] == ["a", "b", "mean"]


def test_rows_are_one_a_line(tmp_path: Path) -> None:
    experiment = make_experiment()
    run(experiment, [oracle(experiment)], tmp_path, SUBJECT)
    rows = [json.loads(line) for line in (tmp_path / ROWS_FILE).read_text().splitlines()]
    assert [row["item"] for row in rows] == [item.id for item in experiment.items]
    assert rows[0]["answer"] == "It is red." and rows[0]["values"]["substring"] == 1.0
    assert rows[0]["ranking"][0] == ["red", 1.0] and rows[0]["tokens"] == 3


def test_a_killed_run_goes_on_without_repeating(tmp_path: Path) -> None:
    experiment = make_experiment(make_items(40))
    whole = Oracle(experiment)

    class Killed(Oracle):
        def score(self, queries, candidates, /):
            if len(self.asked) >= 32:
                raise KeyboardInterrupt
            return super().score(queries, candidates)

    with pytest.raises(KeyboardInterrupt):
        run(experiment, [Contender("oracle", lambda: Killed(experiment))], tmp_path, SUBJECT)
    assert len(load_run(tmp_path).rows) == 16 and load_run(tmp_path).missing == 24
    with (tmp_path / ROWS_FILE).open("a") as file:
        file.write('{"item": "item-16", "rea')
    assert len(load_run(tmp_path).rows) == 16
    finished = run(experiment, [Contender("oracle", lambda: whole)], tmp_path, SUBJECT)
    assert len(finished.rows) == 40 and finished.missing == 0
    assert len(whole.asked) == 2 * 24
    lines = (tmp_path / ROWS_FILE).read_text().splitlines()
    assert len(lines) == 40 and all(json.loads(line) for line in lines)


def test_a_finished_run_makes_no_reader(tmp_path: Path) -> None:
    experiment = make_experiment()
    run(experiment, [oracle(experiment)], tmp_path, SUBJECT)

    def never() -> FakeReader:
        raise AssertionError

    run(experiment, [Contender("oracle", never)], tmp_path, SUBJECT)


def test_a_reader_can_join_later(tmp_path: Path) -> None:
    experiment = make_experiment()
    run(experiment, [oracle(experiment)], tmp_path, SUBJECT)
    finished = run(experiment, [fake()], tmp_path, SUBJECT)
    assert finished.readers == ("oracle", "fake") and len(finished.rows) == 24


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"versions": {"latentqa": "9.9"}}, ("0.1.0", "9.9")),
        ({"target": "other", "target_hash": "zzz"}, ("tiny (abc123)", "other (zzz)")),
        ({"decoder": "new", "decoder_hash": "yyy"}, ("fake (def456)", "new (yyy)")),
    ],
)
def test_another_version_or_model_is_refused(tmp_path: Path, change: dict, named: tuple[str, str]) -> None:
    experiment = make_experiment()
    run(experiment, [fake()], tmp_path, SUBJECT)
    with pytest.raises(ConfigError) as error:
        run(experiment, [fake()], tmp_path, replace(SUBJECT, **change))
    assert all(name in str(error.value) for name in named)


@pytest.mark.parametrize("change", [{"seed": 1}, {"limit": 5}, {"settings": {"folds": 3}}])
def test_other_settings_are_refused(tmp_path: Path, change: dict) -> None:
    run(make_experiment(), [fake()], tmp_path, SUBJECT)
    with pytest.raises(ConfigError, match="--out"):
        run(make_experiment(), [fake()], tmp_path, SUBJECT, **change)


def test_other_items_are_refused(tmp_path: Path) -> None:
    run(make_experiment(), [fake()], tmp_path, SUBJECT)
    with pytest.raises(ConfigError, match="items"):
        run(make_experiment(make_items(11)), [fake()], tmp_path, SUBJECT)


def test_a_damaged_row_is_named_by_its_line(tmp_path: Path) -> None:
    experiment = make_experiment()
    run(experiment, [fake()], tmp_path, SUBJECT)
    lines = (tmp_path / ROWS_FILE).read_text().splitlines()
    (tmp_path / ROWS_FILE).write_text("\n".join([lines[0], "{}", *lines[2:]]) + "\n")
    with pytest.raises(DataError, match="line 2"):
        load_run(tmp_path)


def test_no_run_and_no_items_are_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no run"):
        load_run(tmp_path)
    with pytest.raises(DataError, match="2: no context"):
        run(make_experiment(()), [fake()], tmp_path, SUBJECT)
    with pytest.raises(ConfigError, match="--readers"):
        run(make_experiment(), [], tmp_path, SUBJECT)


def test_activations_are_captured_once_for_all_who_share_them(tmp_path: Path) -> None:
    experiment = make_experiment()
    first, second, apart = (Oracle(experiment) for _ in range(3))
    calls = []

    def prepare(items):
        calls.append(len(items))
        return [Query(i.query.dialog, i.query.span, i.question, activation=object()) for i in items]  # pyright: ignore

    contenders = [
        Contender("first", lambda: first, shares=True),
        Contender("second", lambda: second, shares=True),
        Contender("apart", lambda: apart),
    ]
    run(experiment, contenders, tmp_path, SUBJECT, prepare=prepare)
    assert calls == [12]
    assert first.asked[0].activation is second.asked[0].activation is not None
    assert apart.asked[0].activation is None


def test_who_cannot_answer_gives_its_best_candidate(tmp_path: Path) -> None:
    experiment = make_experiment()
    probe = Contender("probe", lambda: Oracle(experiment), answers_free=False)
    finished = run(experiment, [probe], tmp_path, SUBJECT)
    assert finished.rows[0].answer == "red" and finished.rows[0].values["substring"] == 1.0
    assert finished.rows[0].tokens == 0


def test_costs_and_choices_are_kept(tmp_path: Path) -> None:
    experiment = make_experiment()
    reader = Oracle(experiment)
    reader.choices = {"layer": 2, "tried": 12}  # pyright: ignore
    finished = run(experiment, [Contender("oracle", lambda: reader)], tmp_path, SUBJECT)
    cost = summarize(finished).costs["oracle"]
    assert cost["choices"] == {"layer": 2, "tried": 12} and cost["tokens"] == 36 and cost["rows"] == 12


def test_progress_counts_rows(tmp_path: Path) -> None:
    experiment, seen = make_experiment(make_items(20)), []
    run(experiment, [fake()], tmp_path, SUBJECT, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(16, 20), (20, 20)]


class Steered:
    """A contender that is no reader."""

    choices = {"strength": 2.0}
    fit_seconds = 7.0

    def __init__(self, gap: float) -> None:
        self._gap = gap

    def respond(self, items, /):
        return [
            Response({"gap": self._gap + 0.1 * n, "nan": float("nan")}, f"text {item.id}", 3)
            for n, item in enumerate(items)
        ]


GAP = Metric("gap", "How far apart.", "gap", share=False, better="low", test="bootstrap")
OFF = Metric("off", "From one half.", "gap", compute="off_half", test="bootstrap")
NATS = Metric("perplexity", "exp.", "gap", compute="exp_mean", share=False)


def test_a_contender_that_is_no_reader_responds(tmp_path: Path) -> None:
    experiment = make_experiment(metrics=(GAP, OFF, NATS), contender="method", batch=5)
    contenders = [Contender("none", lambda: Steered(2.0)), Contender("vector", lambda: Steered(1.0))]
    finished = run(experiment, contenders, tmp_path, SUBJECT)
    row = finished.rows[0]
    assert (row.reader, row.answer, row.tokens, row.values) == ("none", "text item-0", 3, {"gap": 2.0})
    assert finished.header["readers"]["vector"]["fit_seconds"] == 7.0
    assert finished.header["readers"]["vector"]["choices"] == {"strength": 2.0}
    found = summarize(finished)
    gap, nats, off = (found.figure("vector", "a", name) for name in ("gap", "perplexity", "off"))
    assert gap is not None and nats is not None and off is not None
    assert nats.mean == pytest.approx(2.718281828**gap.mean) and off.mean == pytest.approx(gap.mean - 0.5)
    (test,) = [one for one in found.tests if one.metric == "gap"]
    assert (test.a, test.b, test.group, test.method) == (
        "none",
        "vector",
        "mean",
        "bootstrap",
    ) and test.p < 0.01


def test_a_pooled_mean_is_over_rows_and_tests_are_those_asked_for(tmp_path: Path) -> None:
    items = [*make_items(9, ("a",)), *[replace(i, id=f"b{i.id}") for i in make_items(3, ("b",))]]
    experiment = make_experiment(items, metrics=(GAP,), pooled=True, batch=12)
    contenders = [
        Contender("none", lambda: Steered(2.0)),
        Contender("vector", lambda: Steered(1.0), against=("none",)),
        Contender("random", lambda: Steered(1.5), against=("none",)),
        Contender("vector@2", lambda: Steered(0.5), tested=False),
    ]
    found = summarize(run(experiment, contenders, tmp_path, SUBJECT))
    whole, part = found.figure("none", "mean", "gap"), found.figure("none", "b", "gap")
    assert whole is not None and whole.mean == pytest.approx(2.0 + 0.1 * 5.5) and whole.n == 12
    assert part is not None and part.mean == pytest.approx(2.0 + 0.1 * 10)
    assert {(test.a, test.b) for test in found.tests} == {("none", "vector"), ("none", "random")}
