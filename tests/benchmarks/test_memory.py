"""What repeatable readers said is kept: asked once, whatever the run, and never mixed up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from latentqa.benchmarks import Contender, run, summarize
from latentqa.benchmarks.memory import Memory, Remembering, code_hash, reading_key
from latentqa.decoder.target import Reading
from latentqa.dialogs import render, resolve_span
from latentqa.errors import ConfigError, DataError
from latentqa.models import tiny_tokenizer
from latentqa.reader import FakeReader
from latentqa.types import Answer, Query, Score
from tests.benchmarks.conftest import SUBJECT, key, make_experiment

QUERIES = [
    Query([{"role": "user", "content": text}], "stimulus", "Which?") for text in ("one", "two", "three")
]


class Counting(FakeReader):
    """Remembers what it was asked; its answer holds the dialog's text."""

    def __init__(self, layer: int | None = None) -> None:
        super().__init__({"Which?": "red"})
        self.choices = {"prompt": 2, "tried": 12, "validation": 0.5}
        self.answered: list[Query] = []
        self.scored: list[tuple[Query, str]] = []
        self._layer = layer

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        self.answered += queries
        return [
            replace(one, text=f"{query.dialog[0]['content']} {self._layer}")
            for one, query in zip(super().ask(queries), queries, strict=True)
        ]

    def ask_with_specificity(self, queries: Sequence[Query], /) -> list[Answer]:
        return [replace(answer, specificity=0.25) for answer in self.ask(queries)]

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        self.scored += [(q, text) for q, texts in zip(queries, candidates, strict=True) for text in texts]
        return super().score(queries, candidates)

    def at_layer(self, layer: int) -> Counting:
        return Counting(layer)


def remembering(reader: Counting, folder: Path, **changes) -> Remembering:
    identity = {"target": "abc", "code": "def"} | changes
    return Remembering(reader, folder, key, identity, {"answer_tokens": 20})


def test_another_run_asks_nothing_twice(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    one = remembering(first, tmp_path)
    said = one.ask([*QUERIES, QUERIES[0]])
    scored = one.score(QUERIES, [["red", "blue"]] * 3)
    assert len(first.answered) == 3 and len(first.scored) == 6 and one.remembered == 1
    other = remembering(second, tmp_path)
    assert other.ask(QUERIES) == said[:3]
    assert other.score(QUERIES, [["blue", "red"]] * 3) == scored
    assert not second.answered and not second.scored
    assert other.remembered == other.asked == 9
    other.score(QUERIES[:1], [["red", "green"]])
    assert [text for _, text in second.scored] == ["green"]


@pytest.mark.parametrize("change", [{"target": "xyz"}, {"code": "new"}, {"decoder": "d"}])
def test_another_model_or_other_code_is_asked_itself(tmp_path: Path, change: dict[str, str]) -> None:
    remembering(Counting(), tmp_path).ask(QUERIES)
    fresh = Counting()
    remembering(fresh, tmp_path, **change).ask(QUERIES)
    assert len(fresh.answered) == 3


def test_other_choices_are_another_reader_and_the_search_is_not(tmp_path: Path) -> None:
    remembering(Counting(), tmp_path).ask(QUERIES)
    same, other = Counting(), Counting()
    same.choices = {"prompt": 2, "tried": 3, "validation": 0.9}
    other.choices = {"prompt": 1}
    remembering(same, tmp_path).ask(QUERIES)
    remembering(other, tmp_path).ask(QUERIES)
    assert not same.answered and len(other.answered) == 3


def test_each_layer_has_answers_of_its_own(tmp_path: Path) -> None:
    one = remembering(Counting(), tmp_path)
    texts = [reader.ask(QUERIES)[0].text for reader in (one, one.at_layer(3), one.at_layer(5))]
    assert texts == ["one None", "one 3", "one 5"]
    again = remembering(Counting(), tmp_path).at_layer(5)
    assert again.ask(QUERIES)[0].text == "one 5" and again.remembered == 3


def test_specificity_is_asked_for_where_it_is_missing(tmp_path: Path) -> None:
    reader = Counting()
    one = remembering(reader, tmp_path)
    one.ask(QUERIES)
    assert [answer.specificity for answer in one.ask_with_specificity(QUERIES[:2])] == [0.25, 0.25]
    assert len(reader.answered) == 5
    one.ask_with_specificity(QUERIES[:2])
    assert len(reader.answered) == 5


def test_a_killed_write_is_cut_off_and_damage_is_named(tmp_path: Path) -> None:
    remembering(Counting(), tmp_path).ask(QUERIES)
    [path] = [path for path in tmp_path.iterdir() if "answers" in path.name]
    with path.open("a") as file:
        file.write('{"key": "abc", "val')
    fresh = Counting()
    remembering(fresh, tmp_path).ask(QUERIES)
    assert not fresh.answered and path.read_text().endswith("}\n")
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], "{}", *lines[2:]]) + "\n")
    with pytest.raises(DataError, match="line 2"):
        remembering(Counting(), tmp_path)
    path.write_text(json.dumps({"format": 1, "reader": "somebody else"}) + "\n")
    with pytest.raises(ConfigError, match="another reader"):
        remembering(Counting(), tmp_path)


def test_a_file_that_was_never_begun_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_text('{"format"')
    kept = Memory(path, {"reader": "r"})
    kept.add({"a": 1})
    assert Memory(path, {"reader": "r"}).get("a") == 1 and Memory(path, {"reader": "r"}).get("b") is None


def test_dialogs_that_begin_alike_are_one() -> None:
    def reading(query: Query) -> Reading:
        rendered = render(tiny_tokenizer(), query.dialog)
        return Reading(rendered, resolve_span(rendered, query.span))

    of = reading_key(reading)
    user = {"role": "user", "content": "Where is the harbour?"}
    short = Query([user], "stimulus", "Who?")
    longer = Query([user, {"role": "assistant", "content": "Down the road."}], "stimulus", "Who?")
    assert of(short) == of(longer)
    others = [
        Query([user], "stimulus", "Why?"),
        Query([user], "stimulus:content", "Who?"),
        Query([{"role": "system", "content": "Be a pirate."}, user], "stimulus", "Who?"),
        replace(longer, span="stimulus+completion"),
    ]
    assert len({of(short), *map(of, others)}) == 5


def test_seeds_share_what_was_said_and_the_table_says_so(tmp_path: Path) -> None:
    experiment = make_experiment()
    readers = [Counting(), Counting()]
    for seed, reader in enumerate(readers):
        contender = Contender("fake", lambda reader=reader: remembering(reader, tmp_path / ".said"))
        finished = run(experiment, [contender], tmp_path / f"seed{seed}", SUBJECT, seed=seed)
        cost = summarize(finished).costs["fake"]
        assert cost["remembered"] == (0 if seed == 0 else 12 * 4)
    assert len(readers[0].answered) == 12 and not readers[1].answered


def test_the_hash_of_the_code_is_that_of_the_rooms() -> None:
    assert code_hash(("decoder", "types.py")) == code_hash(("decoder", "types.py"))
    assert code_hash(("decoder",)) != code_hash(("decoder", "types.py"))
