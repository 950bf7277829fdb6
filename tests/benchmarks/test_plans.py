"""Calibration, scaling and ablations, with scripted readers and a scripted training."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from latentqa.benchmarks import Contender, Tools, run, summarize
from latentqa.benchmarks.ablations import AblationSettings, ablation_plan
from latentqa.benchmarks.calibration import CalibrationSettings, calibration
from latentqa.benchmarks.plans import Outcome, PlannedRun, plan_lines, run_plan
from latentqa.benchmarks.scaling import ScalingSettings, fit_power_law, scaling_laws, scaling_plan
from latentqa.cli.settings import load_settings
from latentqa.errors import ConfigError, DataError
from latentqa.types import Score
from tests.benchmarks.conftest import SUBJECT, Oracle, bag_of_letters, trained


class Doubter(Oracle):
    """Right as often as its support says."""

    def score(self, queries, candidates, /):
        scored = super().score(queries, candidates)
        return [[self._doubted(scores) for scores in [one]][0] for one in scored]

    def _doubted(self, scores):
        chance = random.Random(scores[0].answer).random()
        right = random.Random(scores[0].answer + "!").random() < chance
        best, second, *rest = scores
        order = [best, second, *rest] if right else [second, best, *rest]
        return [Score(s.answer, -1.0, chance if n == 0 else 0.0, 2) for n, s in enumerate(order)]


def test_calibration_is_fitted_on_training_labels_and_measured_on_others(
    published_root: Path, tmp_path: Path
) -> None:
    settings = CalibrationSettings(distractors=3, held_out=1.0)
    tools = Tools(embed=bag_of_letters, embed_name="letters")
    experiment = calibration(published_root, settings, tools)
    splits = {item.flags["split"]: set() for item in experiment.items}
    for item in experiment.items:
        splits[item.flags["split"]].add(item.meta["label"])
    assert not splits["fit"] & splits["test"]
    assert sum(item.flags["split"] == "test" for item in experiment.items) == 24 * 2 * 5
    reader = Doubter(experiment)
    finished = run(
        experiment, [Contender("oracle", lambda: reader)], tmp_path / "run", SUBJECT, embed=bag_of_letters
    )
    found = summarize(finished, resamples=50)
    right = found.figure("oracle", "mean", "ranking right")
    auroc = found.figure("oracle", "mean", "ranking AUROC")
    ece = found.figure("oracle", "mean", "ranking ECE")
    assert right is not None and 0.2 < right.mean < 0.8
    assert auroc is not None and auroc.mean > 0.6
    assert ece is not None and 0 <= ece.mean < 0.4


def test_no_held_out_label_is_said(published_root: Path) -> None:
    with pytest.raises(DataError, match="held_out"):
        calibration(published_root, CalibrationSettings(held_out=1e-9), Tools(embed=bag_of_letters))


def test_a_power_law_is_found_again() -> None:
    sizes = [60, 200, 600, 2000, 6000]
    law = fit_power_law(sizes, [5.0 * n**-0.2 for n in sizes])
    assert law.scale == pytest.approx(5.0) and law.exponent == pytest.approx(0.2)
    assert law.low == pytest.approx(0.2) and law.high == pytest.approx(0.2) and law.r2 == pytest.approx(1)
    with pytest.raises(ConfigError, match="three sizes"):
        fit_power_law([10, 100], [2, 1])


def test_a_scaling_plan_spans_two_decades() -> None:
    runs = scaling_plan(ScalingSettings(), seed=2)
    assert [run.x for run in runs] == [60, 200, 600, 2000, 6000]
    assert runs[0].overrides == ("model=builtin", "examples=60", "seed=2")
    with pytest.raises(ConfigError, match="two decades"):
        scaling_plan(ScalingSettings(examples=(100, 200, 300, 400)))


def test_a_plan_resumes_and_tolerates_a_torn_line(tmp_path: Path) -> None:
    runs, calls = scaling_plan(ScalingSettings()), []

    def train(planned: PlannedRun) -> Outcome:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(planned.name)
        return trained(planned)

    with pytest.raises(KeyboardInterrupt):
        run_plan("scaling", runs, train, tmp_path, SUBJECT)
    with (tmp_path / "plan.jsonl").open("a") as file:
        file.write('{"run": {')
    result = run_plan("scaling", runs, trained, tmp_path, SUBJECT)
    assert len(result.rows) == 5 and len((tmp_path / "plan.jsonl").read_text().splitlines()) == 5
    assert scaling_laws(result.rows)["builtin"].exponent == pytest.approx(0.1)
    assert result.to_json()["rows"][0]["group"] == "builtin 60"
    assert "loss (nats)" in plan_lines(result)[0]


def test_ablations_change_one_thing_and_are_settings_of_the_training() -> None:
    from latentqa.training import TrainConfig

    base = TrainConfig.model_validate(
        {
            "output": "x",
            "data": [{"path": "latentqa/train"}, {"path": "more.jsonl"}],
            "read_layers": [15],
            "write_site": "block:1",
            "plain": 0.1,
            "mapping": {"ridge": 0.01},
        }
    )
    runs = ablation_plan(AblationSettings(), base.model_dump(mode="json"), 30, seed=1)
    assert runs[0].name == "base" and len({run.name for run in runs}) == len(runs)
    assert {run.group for run in runs} == {
        "base", "read layer", "write site", "injection", "span", "data", "rank", "mapping",
    }  # fmt: skip
    for planned in runs:
        given = ["output=x", "data=[{path: latentqa/train}]", *planned.overrides]
        changed = load_settings(TrainConfig, None, given)
        assert changed.examples == 2000 and changed.seed == 1
    names = [run.name for run in runs]
    assert "without more.jsonl" in names and "without mapping" in names and "read layer 15" not in names


def test_sources_of_one_file_are_left_out_by_their_kinds_of_pairs() -> None:
    data = [{"path": "builtin", "pair_kinds": [kind]} for kind in ("description", "future")]
    runs = ablation_plan(AblationSettings(what=("data",)), {"data": data, "plain": 0.1}, 30)
    names = [run.name for run in runs]
    assert "without builtin (description)" in names and "without builtin (future)" in names
    assert len(set(names)) == len(names)
