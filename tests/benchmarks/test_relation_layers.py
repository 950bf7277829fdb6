"""Relations at several read layers: which rows there are, who has them, and the mean over the first half."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from latentqa.benchmarks import Contender, Experiment, Tools, build_report, run, summarize
from latentqa.benchmarks.layers import foreign_note
from latentqa.benchmarks.readers import FoldedReader
from latentqa.benchmarks.relations import RelationSettings, chosen_layers, relations
from latentqa.benchmarks.table import lines, markdown
from latentqa.errors import ConfigError
from latentqa.types import Query
from tests.benchmarks.conftest import SUBJECT, Oracle, relation_rows

TOOLS = Tools(blocks=6, read_layers=(1, 3))


class Moving(Oracle):
    """Right where it reads best and at layer 1 alone; remembers the layers it was put to."""

    name = "lit"

    def __init__(
        self, experiment: Experiment, layer: int | None = None, seen: list[int] | None = None
    ) -> None:
        super().__init__(experiment)
        self.experiment = experiment
        self.layer = layer
        self.seen: list[int] = [] if seen is None else seen

    def at_layer(self, layer: int) -> Moving:
        self.seen.append(layer)
        return Moving(self.experiment, layer, self.seen)

    def _said(self, query: Query) -> str:
        return super()._said(query) if self.layer in (None, 1) else "Nothing"


@pytest.fixture
def layered(relation_root: Callable[[str], Path]) -> Callable[..., Experiment]:
    root = relation_root(relation_rows(8))

    def make(layers: str | Sequence[int], items: int = 6) -> Experiment:
        chosen = layers if isinstance(layers, str) else tuple(layers)
        settings = RelationSettings(files=("country_currency",), layers=chosen, layer_items=items)  # pyright: ignore
        return relations(root, settings, TOOLS)

    return make


def test_layers_are_half_all_or_those_that_are_named() -> None:
    assert chosen_layers("half", 30) == tuple(range(15)) and chosen_layers("all", 4) == (0, 1, 2, 3)
    assert chosen_layers((5, -1, 5), 8) == (5, 7) and chosen_layers((), None) == ()
    with pytest.raises(ConfigError, match=r"\[9\].*8 blocks \(0–7\)"):
        chosen_layers((2, 9), 8)
    with pytest.raises(ConfigError, match="needs a target"):
        chosen_layers("half", None)


def test_rows_are_asked_once_more_at_each_layer(layered: Callable[..., Experiment]) -> None:
    experiment = layered("half")
    plain = [item for item in experiment.items if item.layer is None]
    assert len(plain) == 16 and len(experiment.items) == 16 + 3 * 6 and experiment.layers == (0, 1, 2)
    assert [item.layer for item in experiment.items[16:]] == [0] * 6 + [1] * 6 + [2] * 6
    assert len({item.id for item in experiment.items}) == len(experiment.items)
    assert all(item.flags["half"] for item in experiment.items[16:])
    assert layered("half", 0).items[16:] and len(layered("half", 0).items) == 4 * 16
    assert any(
        "takes layers [1, 3] together" in note and "at 3 of 3 layers" in note for note in experiment.notes
    )
    assert not any("half" in metric.name for metric in layered((0, 4)).metrics)


def test_figures_by_layer_and_over_the_first_half(layered: Callable[..., Experiment], tmp_path: Path) -> None:
    experiment = layered("half")
    reader = Moving(experiment)
    contenders = [
        Contender("lit", lambda: reader, layered=True),
        Contender("text-given", lambda: Oracle(experiment)),
    ]
    finished = run(experiment, contenders, tmp_path, SUBJECT)
    assert reader.seen == [0, 1, 2]
    assert len(finished.rows) == 16 + 18 + 16 and finished.missing == 0 and finished.header["items"] == 16
    found = summarize(finished)
    cells = {
        name: found.figure("lit", "mean", name)
        for name in ("substring", "substring, first half", "substring, layer 0", "ranked, layer 1")
    }
    values = {name: None if one is None else (round(one.mean, 3), one.n) for name, one in cells.items()}
    assert values == {
        "substring": (1.0, 16),
        "substring, first half": (0.333, 18),
        "substring, layer 0": (0.0, 6),
        "ranked, layer 1": (1.0, 6),
    }
    assert found.figure("text-given", "mean", "substring, first half") is None
    assert found.tests and not any("layer" in test.metric for test in found.tests)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["flags"].get("layer") for row in rows if row["item"].endswith("@layer2")} == {2}
    shown = "\n".join(lines(finished, found))
    assert "substring by read layer (%), mean of the groups" in shown and "substring, layer 0" not in shown
    assert "| lit | 0.0 | 100.0 | 0.0 |" in markdown(finished, found)
    assert set(found.to_json()["rows"][0]) == {"reader", "group", "metric", "mean", "low", "high", "n"}


def test_a_killed_run_goes_on_at_the_layer_where_it_stopped(
    layered: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = layered((0, 2))

    class Killed(Moving):
        def at_layer(self, layer: int) -> Moving:
            if layer == 2:
                raise KeyboardInterrupt
            return super().at_layer(layer)

    with pytest.raises(KeyboardInterrupt):
        run(experiment, [Contender("lit", lambda: Killed(experiment), layered=True)], tmp_path, SUBJECT)
    reader = Moving(experiment)
    finished = run(experiment, [Contender("lit", lambda: reader, layered=True)], tmp_path, SUBJECT)
    assert reader.seen == [2] and len(finished.rows) == 16 + 12


def test_the_report_sets_the_first_half_beside_the_papers_figures(
    layered: Callable[..., Experiment], tmp_path: Path
) -> None:
    experiment = layered("all")
    run(experiment, [Contender("lit", lambda: Moving(experiment), layered=True)], tmp_path / "all", SUBJECT)
    report = build_report([tmp_path / "all"])
    assert "substring by read layer (%)" in report.page
    assert "made in the same way" in report.page and "layers=half" not in report.markdown
    assert "| lit, this run | 33.3 " in report.markdown and "| lit, the paper's | *70." in report.markdown
    plain = layered(())
    run(plain, [Contender("lit", lambda: Moving(plain), layered=True)], tmp_path / "plain", SUBJECT)
    report = build_report([tmp_path / "plain"])
    assert "It is not made as theirs are" in report.page and "| lit, this run | 100.0 " in report.markdown


def test_folds_are_moved_together(layered: Callable[..., Experiment]) -> None:
    experiment = layered((4,))
    readers = {fold: Moving(experiment) for fold in (0, 1)}
    moved = FoldedReader("lit", readers, experiment.items).at_layer(4)
    assert [reader.seen for reader in readers.values()] == [[4], [4]]
    assert moved.ask([experiment.items[0].query])[0].text == "It is Nothing."


def test_what_is_said_of_other_layers() -> None:
    assert foreign_note((15,), (0, 15)).startswith("The decoder was trained on layer 15; at 1 of 2")
    assert "any one of the layers [3, 5]; at 0 of 1" in foreign_note((3, 5), (3,), sampled=True)
