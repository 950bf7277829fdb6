"""Relations: the subject is read, the object is nowhere to be seen, and the benchmark stays unseen."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.benchmarks.relations import PAPER
from latentqa.benchmarks.texts import text_span
from latentqa.data import Example
from latentqa.data.tasks import (
    TEST_RELATIONS,
    RelationSettings,
    Table,
    Unseen,
    benchmark_unseen,
    read_tables,
    relation_examples,
)
from latentqa.dialogs import render, resolve_span
from latentqa.errors import DataError
from latentqa.models import tiny_tokenizer

NOTHING = Unseen(frozenset(), False)
HEADER = "subject\tobject\tcontext\tquery\n"


def made(tables: list[Table], left_out: Counter[str] | None = None, **settings: object) -> list[Example]:
    chosen = RelationSettings.model_validate(settings)
    return list(relation_examples(tables, chosen, NOTHING, Counter() if left_out is None else left_out))


def tsv(folder: Path, name: str, *rows: str) -> str:
    path = folder / f"{name}.tsv"
    path.write_text(HEADER + "".join("\t".join(row.split("|")) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_the_shipped_tables_are_large_enough_and_clean() -> None:
    tables = read_tables([])
    assert len(tables) >= 25
    for table in tables:
        assert len(table.rows) >= 25, table.name
        assert len(table.questions) >= 3 and len(table.contexts) >= 4
        assert len({row.object.casefold() for row in table.rows}) >= 3
        for row in table.rows:
            for question in table.questions:
                assert row.subject.casefold() not in question.casefold().split(), (table.name, row)


def test_every_shipped_subject_has_texts_that_hold_it_and_not_its_object() -> None:
    tables = read_tables([])
    examples = made(tables)
    texts = Counter(example.label for example in examples)
    assert len(texts) == sum(len(table.rows) for table in tables) and min(texts.values()) >= 4
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        text, answer = example.dialog[0]["content"], example.qa[0].answer
        begin, end = map(int, example.read.removeprefix("chars:").split("-"))
        assert f"relation-{example.id.split(':')[1]}-{text[begin:end]}" == example.label
        assert answer.casefold() not in text.casefold().split()
        assert len({pair.answer for pair in example.qa}) == len({pair.pool for pair in example.qa}) == 1


def test_a_row_reads_the_tokens_that_the_benchmark_reads() -> None:
    for template in ("chatml", "default_system"):
        tokenizer = tiny_tokenizer(template)
        locate = text_span(tokenizer)
        for example in made(read_tables([]), contexts=1)[::15]:
            subject = example.label.split("-", 2)[2]
            expected = json.loads(locate(example.dialog, subject))
            assert list(resolve_span(render(tokenizer, example.dialog), example.read).indices) == expected


def test_the_six_relations_are_those_of_the_benchmark() -> None:
    assert {Path(name).name for name in PAPER} == set(TEST_RELATIONS)


def test_the_shipped_tables_hold_no_pair_of_the_benchmark(data_file: Callable[[str], Path]) -> None:
    unseen = benchmark_unseen(data_file("relations").parent)
    assert unseen.known and len(unseen.pairs) > 1000
    for table in read_tables([]):
        assert all(unseen.why(table, row.subject, row.object) is None for row in table.rows), table.name


def test_nothing_of_the_benchmark_gets_through(data_file: Callable[[str], Path]) -> None:
    root = data_file("relations")
    unseen = benchmark_unseen(root.parent)
    counts: Counter[str] = Counter()
    examples = list(relation_examples(read_tables([str(root)]), RelationSettings(), unseen, counts))
    assert examples and counts["a row of a relation that the benchmark tests"] > 3000
    for example in examples:
        subject, found = example.label.split("-", 2)[2].casefold(), example.qa[0].answer.casefold()
        assert (subject, found) not in unseen.pairs
        assert example.label.split("-")[1] not in TEST_RELATIONS


def test_a_pair_of_the_benchmark_is_kept_out_whatever_the_table_is_called(tmp_path: Path) -> None:
    (tmp_path / "relations").mkdir()
    for name in TEST_RELATIONS:
        tsv(tmp_path / "relations", name, "Norway|Krone||")
    unseen = benchmark_unseen(tmp_path)
    tables = read_tables([tsv(tmp_path, "money", "krone|norway||", "Peru|Sol||", "Fiji|Dollar||")])
    counts: Counter[str] = Counter()
    examples = list(relation_examples(tables, RelationSettings(), unseen, counts))
    assert {example.qa[0].answer for example in examples} == {"Sol", "Dollar"}
    assert counts["a pair that the benchmark tests"] == 1
    (tmp_path / "relations" / "country_currency.tsv").unlink()
    with pytest.raises(DataError, match=r"lacks country_currency\.tsv"):
        benchmark_unseen(tmp_path)


def test_a_table_that_brings_its_texts(tmp_path: Path) -> None:
    path = tsv(
        tmp_path,
        "color",
        "bananas|yellow|They ate bananas at noon|On the outside, the color of x",
        "bananas|yellow|They ate bananas at noon|On the outside, the color of x",
        "bananas|yellow|yellow bananas|On the outside, the color of x",
        "lime|green|no such fruit|On the outside, the color of x",
        "lime||a lime|On the outside, the color of x",
        "lime|green|a lime and limestone|On the outside, the color of x",
    )
    counts: Counter[str] = Counter()
    examples = made(read_tables([path]), counts)
    assert [example.dialog[0]["content"] for example in examples] == [
        "They ate bananas at noon",
        "a lime and limestone",
    ]
    assert examples[1].read == "chars:2-6"
    assert counts == {
        "a text that was there before": 1,
        "a text that holds the object": 1,
        "a text without its subject": 1,
        "a row without subject or object": 1,
    }
    assert {pair.question for pair in examples[0].qa} == {
        "What is on the outside, the color of this?",
        "Name on the outside, the color of this.",
        "Tell me on the outside, the color of this.",
    }


def test_relations_are_split_whole(tmp_path: Path) -> None:
    tables = read_tables([])
    settings = RelationSettings(test_share=0.2, contexts=2)
    train, test = (
        {e.qa[0].pool for e in relation_examples(tables, settings, NOTHING, Counter(), test=test)}
        for test in (False, True)
    )
    assert train and test and not train & test and len(train | test) == len(tables)
    other = RelationSettings(test_share=0.2, contexts=2, seed=7)
    assert {t.name for t in tables if other.is_test(t.name)} != {
        t.name for t in tables if settings.is_test(t.name)
    }


def test_sentences_around_are_optional_and_texts_are_a_function_of_the_seed() -> None:
    tables = [table for table in read_tables([]) if table.name == "river_continent"]
    plain = made(tables, vary=False)
    sentences = {pattern.split("{subject}")[0] for pattern in tables[0].contexts}
    assert all(any(e.dialog[0]["content"].startswith(one) for one in sentences) for e in plain)
    varied = made(tables)
    assert varied == made(tables) != made(tables, seed=1)
    assert len({e.dialog[0]["content"] for e in varied}) > len(plain)


YAML = "questions: ['Which?']\ncontexts: ['Of {subject}.']\npairs: |\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (YAML + "  a = b\n  a = c\n", "the subject 'a' comes twice"),
        (YAML + "  a = b\n  c = b\n", "at least two objects"),
        (YAML + "  a b\n", "write it as subject = object"),
        (YAML.replace("{subject}", "it") + "  a = b\n", "no place for the {subject}"),
        ("questions: []\npairs: ''\n", "is no table: questions"),
        ("questions: ['Q?']\npairs: 'a = b'\npears: x\n", "pears is not a known field"),
        ("questions: [", "is no YAML"),
        ("just text", "is no table"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t.yaml").write_text(content)
    with pytest.raises(DataError, match=said):
        read_tables([str(tmp_path / "t.yaml")])


def test_tables_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no table at"):
        read_tables([str(tmp_path / "nowhere")])
    (tmp_path / "x.csv").write_text("subject,object\n")
    with pytest.raises(DataError, match="is no table"):
        read_tables([str(tmp_path / "x.csv")])
    (tmp_path / "x.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(DataError, match="has no column subject: found a, b"):
        read_tables([str(tmp_path / "x.tsv")])
    (tmp_path / "d").mkdir()
    one, other = tsv(tmp_path, "same", "a|b||"), tsv(tmp_path / "d", "same", "a|b||")
    with pytest.raises(DataError, match="Two tables are called 'same'"):
        read_tables([one, other])
