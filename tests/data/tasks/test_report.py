"""A task's file and its card: whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from latentqa.data import Example, check_file, read_examples
from latentqa.data.tasks import FactSettings, fact_examples, write_task
from latentqa.errors import DataError


def test_a_file_and_its_card(tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("text")
    out = tmp_path / "facts.jsonl"
    made = fact_examples(FactSettings(dialogs=30))
    report = write_task(
        out, "facts", made, Counter({"bad": 2, "none": 0}), settings={"a": 1}, inputs=[source]
    )
    examples = read_examples(out)
    assert report.examples == len(examples) == 30
    assert report.pairs == sum(len(e.qa) for e in examples) == sum(report.kinds.values())
    assert report.left_out == {"bad": 2} and "left out, bad: 2" in str(report)
    card = json.loads((tmp_path / "facts.card.json").read_text())
    assert card["settings"] == {"a": 1} and len(card["inputs"]["in.txt"]) == 64
    assert card["examples"] == 30 and card["version"]
    assert check_file(out).ok


def test_nothing_is_written_where_nothing_was_made_or_something_broke(tmp_path: Path) -> None:
    out = tmp_path / "x.jsonl"
    out.write_text("before")
    with pytest.raises(DataError, match=r"made no example .*too short: 3"):
        write_task(out, "context", iter(()), Counter({"too short": 3}), settings={})

    def broken() -> Iterator[Example]:
        yield from fact_examples(FactSettings(dialogs=3))
        raise DataError("row 4 is bad")

    with pytest.raises(DataError, match="row 4 is bad"):
        write_task(out, "facts", broken(), Counter(), settings={})
    assert out.read_text() == "before" and [path.name for path in tmp_path.iterdir()] == ["x.jsonl"]
