"""A file as a sequence of rows on disk, and its draws."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.data import Example, index_rows, is_held_out, read_examples, write_examples
from latentqa.data.seen import Seen
from latentqa.errors import DataError

Make = Callable[..., Example]


@pytest.fixture
def file(tmp_path: Path, example: Make) -> Path:
    path = tmp_path / "rows.jsonl"
    write_examples(path, [example(n, read="chars:0-3" if n % 3 else "stimulus") for n in range(300)])
    return path


def test_rows_are_read_where_they_lie(file: Path) -> None:
    index = index_rows(file)
    assert list(index.train) == read_examples(file) and len(index.held_out) == 0
    assert index.train[7].id == "example-7" and index.train[-1].id == "example-299"
    assert index.spans == {"stimulus", "tokens"} and index.with_pairs == 300


def test_labels_are_held_out_whole(file: Path) -> None:
    index = index_rows(file, fraction=0.3, seed=2)
    assert {e.label for e in index.held_out} == {
        e.label for e in read_examples(file) if is_held_out(e.label, 0.3, 2)
    }
    assert len(index.train) + len(index.held_out) == 300 and index.with_pairs == len(index.train)


def test_a_change_is_made_to_each_row_as_it_is_read(file: Path) -> None:
    index = index_rows(file, change=lambda example: example.model_copy(update={"qa": []}))
    assert index.with_pairs == 0 and index.train[5].qa == [] and index.train[5].id == "example-5"


def test_draws_depend_on_seed_epoch_and_id_alone(file: Path, tmp_path: Path) -> None:
    rows = index_rows(file).train
    drawn = {rows[number].id for number in rows.drawn(0.25, 0, 0)}
    assert 45 < len(drawn) < 105
    assert list(rows.drawn(1.0, 0, 0)) == list(range(300))
    shuffled = tmp_path / "other.jsonl"
    write_examples(shuffled, list(reversed(read_examples(file)))[:150])
    others = index_rows(shuffled).train
    some = {others[number].id for number in others.drawn(0.25, 0, 0)}
    assert some == drawn & {example.id for example in others}
    assert {rows[number].id for number in rows.drawn(0.5, 0, 0)} > drawn  # a larger share only adds
    epochs = [set(rows.drawn(0.25, 0, epoch)) for epoch in range(40)]
    assert len(set.union(*epochs)) > 290 and epochs[0] != epochs[1] != set(rows.drawn(0.25, 1, 1))


def test_bad_rows_and_twins_are_refused(file: Path) -> None:
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, *["{broken"] * 7]))
    with pytest.raises(DataError, match=r"has 7 bad rows: row 301: broken JSON.*; and 2 more"):
        index_rows(file)
    file.write_text("\n".join([*lines, lines[10]]))
    with pytest.raises(DataError, match=r"row 301: id 'example-10' was already used in row 11"):
        index_rows(file)


def test_a_file_that_changes_under_a_run_is_noticed(file: Path) -> None:
    rows = index_rows(file).train
    file.write_text(file.read_text().replace("example-200", "example-x00"))
    assert rows[100].id == "example-100"
    with pytest.raises(DataError, match="was changed while it was in use"):
        rows[200]


def test_a_marked_beginning_is_no_trouble(file: Path) -> None:
    file.write_text("\ufeff" + file.read_text())
    assert index_rows(file).train[0].id == "example-0"


def test_a_row_costs_little_memory(tmp_path: Path, example: Make) -> None:
    path = tmp_path / "rows.jsonl"
    write_examples(path, (example(n) for n in range(20_000)))
    tracemalloc.start()
    index = index_rows(path)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(index.train) == 20_000
    assert held < 20_000 * 24 and peak < 20_000 * 80 < path.stat().st_size / 2


def test_texts_that_came_before_are_known_by_their_row() -> None:
    seen = Seen()
    assert all(seen.first(f"text {n}", n) is None for n in range(5000))
    assert [seen.first(f"text {n}", 9) for n in (0, 17, 4999)] == [0, 17, 4999]
    assert len(seen) == 5000 and seen.first("new", 3) is None
