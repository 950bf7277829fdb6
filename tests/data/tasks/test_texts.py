"""Texts from files, folders and data sets: one at a time, and what is wrong is named."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from latentqa.data.tasks import Text, local_path, read_texts
from latentqa.data.tasks.texts import LONGEST
from latentqa.errors import DataError, MissingPackageError


def read(source: object, left_out: Counter[str] | None = None, **options: str) -> list[Text]:
    return list(read_texts(str(source), Counter() if left_out is None else left_out, **options))


def test_paragraphs_of_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffFirst line\nand second.\n \n\nAnother one.\n", encoding="utf-8")
    assert read(path) == [Text("a.txt:1", "First line\nand second."), Text("a.txt:5", "Another one.")]


def test_a_long_paragraph_is_cut_between_words(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("word " * 3000)
    found = read(path)
    assert len(found) > 2 and all(len(text.text) <= LONGEST for text in found)
    assert " ".join(text.text for text in found).split() == ["word"] * 3000
    assert len({text.name for text in found}) == len(found)


def test_rows_of_a_jsonl_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"body": "One."}), "broken", json.dumps({"body": 3}), json.dumps({"body": "Two."})]
    path.write_text("\n".join(rows))
    counts: Counter[str] = Counter()
    assert [text.text for text in read(path, counts, field="body")] == ["One.", "Two."]
    assert counts == {"a line that is no JSON": 1, "a row without text": 1}
    with pytest.raises(DataError, match=r"has no field 'text': found body\. Name it: --field"):
        read(path)


def test_a_folder_is_read_in_order_and_hidden_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "b" / "x.md").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    assert [(t.name, t.text) for t in read(tmp_path)] == [("a.txt:1", "one"), ("b/x.md:1", "two")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no text"):
        read(tmp_path / "empty")


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file or folder"):
        read(tmp_path / "nowhere.txt")
    (tmp_path / "latin.txt").write_bytes(b"good\n\nbad \xe9\n")
    with pytest.raises(DataError, match="not UTF-8: see line 3"):
        read(tmp_path / "latin.txt")


def test_a_large_file_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("w") as file:
        file.writelines("a line of a paragraph\n\n" for _ in range(100_000))
    tracemalloc.start()
    count = sum(1 for _ in read_texts(str(path), Counter()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 100_000 and peak < 300_000 < path.stat().st_size


def test_data_sets_need_their_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "a.parquet").write_bytes(b"")
    for source in ("hf:some/set", tmp_path / "a.parquet"):
        with pytest.raises(MissingPackageError, match=r"pip install 'latentqa\[data\]'"):
            read(source)


def test_a_data_set_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, config: str | None, *, split: str, streaming: bool) -> list[dict[str, object]]:
        assert streaming
        if name == "gone":
            raise FileNotFoundError("no such data set")
        return [{"text": f"{name} {config} {split}"}, {"text": None}]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))
    counts: Counter[str] = Counter()
    assert read("hf:a/b@en", counts, split="test") == [Text("a/b:1", "a/b en test")]
    assert counts == {"a row without text": 1}
    with pytest.raises(DataError, match="data set gone cannot be read: FileNotFoundError: no such"):
        read("hf:gone")
    assert local_path("hf:a/b") is None and local_path("a.txt") == Path("a.txt")
