"""Mixes of LatentQA dialogs with tasks: what is drawn, grouped, mapped and ranked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from latentqa.data import QA, Example, write_examples
from latentqa.data.tasks import (
    ClassificationSettings,
    ContextSettings,
    FactSettings,
    RelationSettings,
    Text,
    Unseen,
    classification_examples,
    context_examples,
    fact_examples,
    read_tables,
    relation_examples,
    text_passages,
)
from latentqa.decoder import Card, load_decoder, load_target
from latentqa.dialogs import decoder_prompt
from latentqa.errors import ConfigError
from latentqa.models import tiny_tokenizer
from latentqa.training import DataSource, TrainConfig, train
from latentqa.training import parts as parts_module
from latentqa.training.mix import Mix, load_mix, mapped_dialogs
from latentqa.training.plan import Entry, Pass, make_plan
from tests.training.conftest import toy_examples

Make = Callable[..., TrainConfig]
PROMPT = decoder_prompt(tiny_tokenizer())


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small file of each task."""
    folder = tmp_path_factory.mktemp("tasks")
    tokenizer, left = tiny_tokenizer(), Counter[str]()
    tables = [t for t in read_tables([]) if t.name in ("river_continent", "verb_past", "moon_planet")]
    relations = RelationSettings(contexts=2)
    write_examples(
        folder / "relations.jsonl", relation_examples(tables, relations, Unseen(frozenset(), False), left)
    )
    write_examples(folder / "facts.jsonl", fact_examples(FactSettings(dialogs=120, exchanges=1)))
    texts = [
        Text(f"t:{n}", f"the {n} ships sail out at noon and come back when it is dark") for n in range(80)
    ]
    passages = text_passages(texts, tokenizer, ContextSettings(most=3), left)
    write_examples(
        folder / "context.jsonl", context_examples(passages, tokenizer, ContextSettings(most=3), left)
    )
    rows = "".join(f"statement {n},{'true' if n % 4 else 'false'}\n" for n in range(60))
    (folder / "s.csv").write_text("text,label\n" + rows)
    asked = ClassificationSettings(questions=("Is it true?", "Is it so?"), yes="true")
    write_examples(folder / "class.jsonl", classification_examples(folder / "s.csv", asked, left))
    return folder


def entries(plan: Iterable[Pass]) -> list[Entry]:
    return [entry for one in plan for group in one.groups for entry in group]


def mixed(config: Make, tasks: Path, toy_file: Path, **changes: Any) -> tuple[TrainConfig, Mix]:
    names = ("relations", "facts", "context", "class")
    data = [{"path": str(toy_file)}, *({"path": str(tasks / f"{name}.jsonl")} for name in names)]
    settings = config(**{"data": data, "examples": 600, "contrast": {"group": 4}, **changes})
    return settings, load_mix(settings)


def test_groups_are_of_one_pool_with_different_answers(config: Make, tasks: Path, toy_file: Path) -> None:
    settings, mix = mixed(config, tasks, toy_file, plain=0.2)
    plan = make_plan(settings, mix.parts, PROMPT)
    seen: set[str] = set()
    sizes: dict[str, set[int]] = {}
    for group in (group for one in plan for group in one.groups):
        examples = [mix.train[entry.example] for entry in group]
        (pool,) = {entry.pool for entry in group}
        seen.add(pool or examples[0].group)
        sizes.setdefault(pool, set()).add(len(group))
        answers = [entry.pairs[0][1].casefold() for entry in group]
        assert len(set(answers)) == len(answers) > 1
        assert len({example.label for example in examples}) == len(examples)
        if pool:
            assert all(example.kind == "task" for example in examples)  # no ordinary dialog among them
            own = {q.question for e in examples for q in e.qa if q.pool == pool}
            assert all(entry.pairs[0][0] in own for entry in group)
    assert {"relation-verb_past", "class-s-is-true", "persona"} <= seen
    assert any(pool.startswith("context-next") for pool in seen) and len(seen) > 12
    assert sizes["class-s-is-true"] == {2} and 4 in sizes["relation-verb_past"]


def test_answers_that_repeat_still_make_groups(config: Make, tasks: Path, toy_file: Path) -> None:
    """Six continents for 28 rivers: most entries are used, though no group can hold one twice."""
    settings, mix = mixed(config, tasks, toy_file, examples=900, contrast={"group": 6})
    used = Counter(entry.pool for entry in entries(make_plan(settings, mix.parts, PROMPT)))
    assert used["relation-river_continent"] > 0.7 * used["relation-verb_past"] * 28 / 32


def test_a_swapped_question_is_one_of_the_same_pool(config: Make, tasks: Path, toy_file: Path) -> None:
    settings, mix = mixed(config, tasks, toy_file, contrast={"group": 4, "same_question": 1})
    for group in (group for one in make_plan(settings, mix.parts, PROMPT) for group in one.groups):
        (question,) = {entry.pairs[0][0] for entry in group}
        for entry in group:
            example = mix.train[entry.example]
            assert any(pair.pool == entry.pool and pair.answer == entry.pairs[0][1] for pair in example.qa)
        if group[0].pool.startswith("context"):
            count = group[0].pool.rpartition("-")[2]
            assert (f" {count} token" in question) != (count == "1")


def test_kinds_of_pairs_have_weights_of_their_own(config: Make, tmp_path: Path) -> None:
    pairs = [
        QA(question="Who?", answer="A monk.", kind="description"),
        QA(question="What next?", answer="Rain.", kind="future"),
    ]
    many = [
        one.model_copy(update={"qa": [QA(**{**p.model_dump(), "answer": f"{p.answer} {i}"}) for p in pairs]})
        for i, one in enumerate(toy_examples(40))
    ]
    write_examples(tmp_path / "toy.jsonl", many)
    path = str(tmp_path / "toy.jsonl")
    data = [
        {"path": path, "pair_kinds": ["description"]},
        {"path": path, "pair_kinds": ["future"], "weight": 0.25},
    ]
    settings = config(data=data, examples=2000)
    mix = load_mix(settings)
    asked = Counter(e.pairs[0][0] for e in entries(make_plan(settings, mix.parts, PROMPT)))
    assert 0.15 < asked["What next?"] / asked.total() < 0.25
    result = train(settings.model_copy(update={"examples": 80}), dry_run=True)
    shares = result.plan["entries by part"]
    assert list(shares) == [f"{path} (1)", f"{path} (2)"] and shares[f"{path} (1)"] > 40


def test_an_epoch_of_a_large_mix_is_a_sample_in_proportion(
    config: Make, tasks: Path, toy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(parts_module, "EPOCH", 60)
    data = [
        {"path": str(tasks / "relations.jsonl"), "weight": 2},
        {"path": str(tasks / "facts.jsonl"), "weight": 1},
    ]
    settings = config(data=data, examples=400, contrast={"group": 1})
    mix = load_mix(settings)
    counted = type(mix.parts[0].examples).__getitem__

    def get(self: Any, number: int) -> Example:
        found = counted(self, number)
        read.append(found.id)
        return found

    monkeypatch.setattr(type(mix.parts[0].examples), "__getitem__", get)
    plan = make_plan(settings, mix.parts, PROMPT)
    groups = Counter(mix.train[entry.example].group for entry in entries(plan))
    expected = 2 * len(mix.parts[0].examples) / len(mix.parts[1].examples)
    assert 0.6 * expected < groups["relation"] / groups["fact"] < 1.6 * expected
    seen = {mix.train[entry.example].id for entry in entries(plan)}
    assert plan == make_plan(settings, mix.parts, PROMPT) and len(seen) > 100
    assert len(read) < 400 * 6  # rows that are not drawn are not read


def test_rows_that_name_their_tokens_cannot_be_given_spans(config: Make, tasks: Path) -> None:
    data = [{"path": str(tasks / "relations.jsonl"), "spans": {"stimulus": 1.0}}]
    with pytest.raises(ConfigError, match="name their own tokens"):
        load_mix(config(data=data))
    load_mix(config(data=[{"path": str(tasks / "class.jsonl"), "spans": {"stimulus:tail": 1.0}}]))


def test_a_part_can_be_held_out_or_left_out_of_the_mapping(
    config: Make, tasks: Path, toy_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(toy_file), str(tasks / "relations.jsonl"), str(tasks / "facts.jsonl")]
    data = [{"path": path} for path in paths]
    data[1] |= {"held_out": 1.0}  # type: ignore[dict-item]
    data[2] |= {"mapping": False}  # type: ignore[dict-item]
    mix = load_mix(config(data=data))
    assert len(mix.parts[1].examples) == 0 and {e.group for e in mix.held_out} == {"relation"}
    assert {example.group for example, _ in mapped_dialogs(mix)} == {"persona"}
    whole = load_mix(config(data=[{"path": path} for path in paths]))
    assert {e.group for e, _ in mapped_dialogs(whole)} == {"persona", "relation", "fact"}
    monkeypatch.setattr("latentqa.training.mix.FITTED", 60)
    assert 30 < len(mapped_dialogs(whole)) <= 66


@pytest.mark.parametrize("mapping", [None, {"ridge": 0.01, "gain": 1.0}])
def test_one_run_learns_dialogs_and_tasks(
    config: Make, tasks: Path, toy_file: Path, mapping: dict[str, float] | None
) -> None:
    settings, _ = mixed(
        config,
        tasks,
        toy_file,
        examples=64,
        plain=0.2,
        held_out=0.3,
        evaluate_labels=6,
        mapping=mapping,
        read_layers=[1, 2],
        questions_per_dialog=2,
        contrast={"group": 3, "reference": "mean"},
    )
    result = train(settings)
    card = Card.load(str(result.folder))
    assert card.spans == ("stimulus", "tokens") and card.span == "stimulus"
    target = load_target(settings.model, dtype="float32", device="cpu")
    decoder = load_decoder(str(result.folder), target=target)
    assert set(decoder.references.mean) == {"stimulus", "tokens"}
    for name in ("relation", "fact", "context", "class"):
        assert 0 <= result.figures[f"{name}_top1"] <= 1
    question = "On which continent does the river flow?"
    dialog = [{"role": "user", "content": "They went down the Danube by boat."}]
    ranked = decoder.score(target.read(dialog, '"Danube"'), question, ["Europe", "Africa"])
    assert {score.answer for score in ranked} == {"Europe", "Africa"}


def test_tasks_alone_can_be_trained_on(config: Make, tasks: Path) -> None:
    settings = config(data=[{"path": str(tasks / "context.jsonl")}], examples=16, calibrate=2)
    card = Card.load(str(train(settings).folder))
    assert card.spans == ("tokens",) and card.span == "all" and card.calibration is not None


def test_some_examples_are_evenly_spaced() -> None:
    examples = toy_examples(10)
    assert parts_module.some(examples, 20) == examples and parts_module.some(examples, 0) == []
    assert parts_module.some(examples, 4) == [examples[number] for number in (0, 2, 5, 7)]


def test_the_settings_of_a_part_are_checked() -> None:
    with pytest.raises(ValueError, match="pair_kinds"):
        DataSource.model_validate({"path": "x", "pair_kinds": ["guess"]})
    with pytest.raises(ValueError, match="held_out"):
        DataSource.model_validate({"path": "x", "held_out": 2})
