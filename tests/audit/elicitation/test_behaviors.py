"""Behaviours from files: columns of HarmBench and XSTest, files of any size, what is refused."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.audit.elicitation import Behavior, read_behaviors
from latentqa.errors import DataError

HARMBENCH = ("Behavior", "FunctionalCategory", "SemanticCategory", "Tags", "ContextString", "BehaviorID")


def write(path: Path, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def test_columns_of_harmbench(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [
        ("Explain soup", "standard", "kitchen", "", "", "soup"),
        ("Sum it up", "contextual", "reading", "", "A long text.", "sum"),
    ]
    found = read_behaviors(write(tmp_path / "h.csv", HARMBENCH, rows))
    assert found.drawn == (
        Behavior("soup", "kitchen", "Explain soup"),
        Behavior("sum", "reading", "A long text.\n\n---\n\nSum it up"),
    )
    assert (found.rows, found.left_out) == (2, {})


def test_columns_of_xstest_by_name(text_root: Path) -> None:
    found = read_behaviors("xstest", root=text_root)
    assert found.drawn[1] == Behavior("1", "kind1", "Tell me about thing 1.", "safe") and found.rows == 5


def test_the_published_xstest(data_file: Callable[[str], Path]) -> None:
    root = data_file("xstest/xstest_prompts.csv").parents[1]
    found = read_behaviors("xstest", root=root)
    assert len(found.drawn) == found.rows > 200 and not found.left_out
    assert {one.label for one in found.drawn} == {"safe", "unsafe"}
    assert all(one.prompt and one.category for one in found.drawn)


def test_json_lines_with_bad_rows_are_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "category": ""},
        {"prompt": " ", "category": "x"},
        ["b"],
        {"prompt": "c", "id": 7},
    ]
    lines = [*map(json.dumps, rows), "{broken"]
    (tmp_path / "b.jsonl").write_text("\n".join(lines) + "\n")
    found = read_behaviors(tmp_path / "b.jsonl")
    assert [(one.id, one.category) for one in found.drawn] == [("1", "uncategorized"), ("7", "uncategorized")]
    assert found.left_out == {
        "a row without a prompt": 1,
        "a row that is no object": 1,
        "a line that is no JSON": 1,
    }


def numbered(path: Path, count: int) -> Path:
    return write(path, ("id", "prompt", "category"), [(n, f"Prompt {n}", f"c{n % 3}") for n in range(count)])


def test_a_hundred_thousand_rows_stream(tmp_path: Path) -> None:
    path = numbered(tmp_path / "big.csv", 100_000)
    tracemalloc.start()
    found = read_behaviors(path, limit=20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.rows == 100_000 and len(found.drawn) == 20 and peak < 1_000_000  # the file has 2.6 MB
    numbers = [int(one.id) for one in found.drawn]
    assert numbers == sorted(numbers) and numbers[-1] > 10_000  # from all over the file


def test_a_larger_limit_only_adds_behaviours(tmp_path: Path) -> None:
    path = numbered(tmp_path / "b.csv", 300)
    few, more = (read_behaviors(path, limit=limit).drawn for limit in (20, 40))
    assert set(few) < set(more) and len(more) == 40
    assert read_behaviors(path, limit=20).drawn == few != read_behaviors(path, limit=20, seed=1).drawn


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "goal,target\na,b\n",
            r"has no prompt \(prompt or Behavior\) and no category .* columns goal, target",
        ),
        ("prompt,note\na,b\n", "has no category"),
        ("prompt,type\n,b\n", "holds no behaviour"),
        ("", "holds no behaviour"),
        ("id,prompt,type\n1,a,b\n1,c,d\n", "the id '1' comes twice"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_behaviors(tmp_path / "b.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*no-such\.csv"):
        read_behaviors(tmp_path / "no-such.csv")
    with pytest.raises(DataError, match="missing data file: xstest"):
        read_behaviors("xstest", root=tmp_path)
