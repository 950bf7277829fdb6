"""What is seen when: a pure function of seed, epoch and example."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from latentqa.data import QA, Example, plain_examples
from latentqa.dialogs import decoder_prompt
from latentqa.errors import DataError
from latentqa.models import tiny_tokenizer
from latentqa.training import DataSource, TrainConfig
from latentqa.training.parts import Part
from latentqa.training.plan import Entry, Pass, group_tokens, make_plan, with_plain
from tests.training.conftest import toy_examples

PROMPT = decoder_prompt(tiny_tokenizer())
ALONE = {"group": 1, "same_question": 0}


def source(**settings: Any) -> DataSource:
    return DataSource.model_validate({"path": "toy", **settings})


def planned(
    config: TrainConfig, examples: Sequence[Example], sources: DataSource | Sequence[DataSource] | None = None
) -> list[Pass]:
    if not isinstance(sources, Sequence):
        return make_plan(config, [Part(sources or source(), list(examples))], PROMPT)
    parts = [Part(of, [example]) for example, of in zip(examples, sources, strict=True)]
    return make_plan(config, parts, PROMPT)


def entries(passes: Sequence[Pass]) -> list[Entry]:
    return [entry for one in passes for group in one.groups for entry in group]


Make = Callable[..., TrainConfig]


def test_the_plan_is_a_pure_function_of_its_inputs(config: Make) -> None:
    examples = toy_examples(24)
    settings = {
        "examples": 100,
        "plain": 0.2,
        "questions_per_dialog": 2,
        "read_layers": [1, 2],
        "sample_layer": True,
    }
    first, again = (planned(config(**settings), examples) for _ in range(2))
    assert first == again
    assert planned(config(**settings, seed=1), examples) != first


def test_a_longer_run_begins_like_a_shorter_one(config: Make) -> None:
    examples = toy_examples(24)
    short, long = (planned(config(examples=count), examples) for count in (50, 200))
    assert long[: len(short)] == short
    assert sum(one.n_examples for one in long) >= 200 > sum(one.n_examples for one in long[:-1])


def test_an_examples_draw_does_not_depend_on_its_company(config: Make) -> None:
    """Span, pairs and layer come from (seed, epoch, id) alone."""
    settings = config(
        examples=24, contrast=ALONE, read_layers=[0, 1, 2, 3], sample_layer=True, questions_per_dialog=1
    )
    spans = source(spans={"stimulus": 1, "all": 1, "last:3": 1})

    def drawn(examples: Sequence[Example]) -> dict[str, tuple[Any, ...]]:
        found = entries(planned(settings, examples, spans))
        return {examples[e.example].id: (e.span, e.pairs, e.layer) for e in found[: len(examples)]}

    examples = toy_examples(24)
    everyone, some = drawn(examples), drawn(list(reversed(examples[4:16])))
    assert some == {name: everyone[name] for name in some} and len(some) == 12
    for i in range(3):
        assert len({draw[i] for draw in everyone.values()}) > 2  # the draws do differ between examples


def test_epochs_differ(config: Make) -> None:
    examples = toy_examples(24)
    found = entries(planned(config(examples=48, contrast=ALONE), examples))
    first, second = found[:24], found[24:]
    assert {e.example for e in first} == {e.example for e in second} == set(range(24))
    assert [e.example for e in first] != [e.example for e in second]
    asked = [{e.example: e.pairs for e in epoch} for epoch in (first, second)]
    assert asked[0] != asked[1]


def test_weights_are_how_often_an_example_is_seen_in_an_epoch(config: Make) -> None:
    examples = toy_examples(40)
    weights = [2.0] * 10 + [0.5] * 20 + [1.0] * 10
    sources = [source(weight=weight) for weight in weights]
    epoch = 40
    found = entries(planned(config(examples=epoch * 50, contrast=ALONE), examples, sources))
    seen = Counter(entry.example for entry in found)
    epochs = seen[35]
    assert epochs >= 45
    assert {seen[number] for number in range(10)} <= {2 * epochs, 2 * epochs + 1, 2 * epochs - 1}
    halves = [seen[number] / epochs for number in range(10, 30)]
    assert 0.4 < sum(halves) / 20 < 0.6 and all(0.2 < half < 0.8 for half in halves)


def test_spans_are_drawn_by_weight(config: Make) -> None:
    examples = toy_examples(40)
    found = entries(planned(config(examples=2000), examples, source(spans={"stimulus": 3, "all": 1})))
    share = Counter(entry.span for entry in found)["stimulus"] / len(found)
    assert 0.7 < share < 0.8


def test_reasoning_pairs_can_be_left_out(config: Make) -> None:
    pairs = [QA(question="Who?", answer="A monk."), QA(question="How?", answer="Quietly.", kind="reasoning")]
    examples = [one.model_copy(update={"qa": pairs}) for one in toy_examples(8)]
    with_reasoning = entries(planned(config(examples=200, contrast=ALONE), examples))
    assert {entry.pairs[0][0] for entry in with_reasoning} == {"Who?", "How?"}
    without = entries(planned(config(examples=200, contrast=ALONE), examples, source(reasoning=0)))
    assert {entry.pairs[0][0] for entry in without} == {"Who?"}


def test_groups_hold_different_labels_of_one_kind(config: Make) -> None:
    goals = [
        one.model_copy(
            update={"label": one.label.replace("persona", "goal"), "id": f"goal:{one.id}", "group": "goal"}
        )
        for one in toy_examples(12)
    ]
    examples = [*toy_examples(12), *goals]
    for one in planned(config(examples=200, contrast={"group": 4}), examples):
        for group in one.groups:
            assert len(group) == 4
            assert len({examples[entry.example].group for entry in group}) == 1
            assert len({entry.example for entry in group}) == 4


def trades(count: int) -> list[Example]:
    """Examples of six trades in turn, whose answers have their trade in common and little else."""
    names = ("baker", "pilot", "singer", "farmer", "judge", "tailor")
    made = []
    for number, example in enumerate(toy_examples(count)):
        answer = f"It is a {names[number % 6]} who answers in manner {number}."
        made.append(example.model_copy(update={"qa": [QA(question="Who?", answer=answer)]}))
    return made


@pytest.mark.parametrize(("near", "least", "most"), [(0.0, 0, 6), (0.5, 7, 18), (1.0, 24, 24)])
def test_answers_that_are_alike_are_grouped(config: Make, near: float, least: int, most: int) -> None:
    examples = trades(96)
    passes = planned(config(examples=96, contrast={"group": 4, "near": near}), examples)
    groups = [group for one in passes for group in one.groups]
    assert len({entry.example for group in groups for entry in group}) == 96
    named = [{entry.pairs[0][1].split()[3] for entry in group} for group in groups]
    # of 48 entries at most three of each trade are left over, which is five of twelve groups
    assert least <= sum(len(own) == 1 for own in named) <= most
    for group in groups:
        assert len(group) == 4 and len({examples[entry.example].label for entry in group}) == 4


def test_few_different_answers_still_make_groups_if_they_are_alike(config: Make) -> None:
    answers = [[QA(question="Who?", answer=f"A {('baker', 'pilot')[n % 2]}.")] for n in range(24)]
    examples = [e.model_copy(update={"qa": qa}) for e, qa in zip(toy_examples(24), answers, strict=True)]
    passes = planned(config(examples=24, contrast={"group": 4, "near": 1.0}), examples)
    groups = [group for one in passes for group in one.groups]
    assert {len(group) for group in groups} == {2} and len(groups) == 12


def test_one_question_is_put_to_all_answers_of_a_group(config: Make) -> None:
    examples = toy_examples(24)
    always = planned(config(contrast={"group": 4, "same_question": 1}), examples)
    assert all(len({e.pairs[0][0] for e in group}) == 1 for one in always for group in one.groups)
    never = planned(config(examples=400, contrast={"group": 4, "same_question": 0}), examples)
    own = {(q.question, q.answer) for example in examples for q in example.qa}
    assert all(entry.pairs[0] in own for entry in entries(never))
    assert any(len({e.pairs[0][0] for e in group}) > 1 for one in never for group in one.groups)


def test_ordinary_dialogs_take_their_share(config: Make) -> None:
    examples = toy_examples(24)
    plain = with_plain(examples, 0.2, 0)
    labels = {example.label for example in plain}
    assert any("toy" in label for label in labels) and len(labels) > 100  # bare stimuli, and our own dialogs
    everything = [*examples, *plain]
    found = entries(planned(config(examples=3000, plain=0.2), everything))
    share = sum(everything[e.example].kind == "plain" for e in found) / len(found)
    assert 0.15 < share < 0.25
    assert with_plain(examples, 0.0, 0) == []


def test_passes_keep_to_the_token_budget(config: Make) -> None:
    plan = planned(config(examples=200, tokens_per_pass=1500), toy_examples(24))
    for one in plan:
        tokens = sum(group_tokens(group, PROMPT) for group in one.groups)
        assert tokens <= 1500 or len(one.groups) == 1
    assert max(len(one.groups) for one in plan) > 1
    tiny = planned(config(examples=200, tokens_per_pass=64), toy_examples(24))
    assert all(len(one.groups) == 1 for one in tiny)


def test_answers_of_like_length_lie_together(config: Make) -> None:
    examples = [
        one.model_copy(update={"qa": [QA(question="Who?", answer="word " * (1 + i % 16) + "abcd"[i // 16])]})
        for i, one in enumerate(toy_examples(64))
    ]
    groups = [group for one in planned(config(examples=64), examples) for group in one.groups]
    lengths = [[len(PROMPT.answer(entry.pairs[0][1])) for entry in group] for group in groups]
    assert max(max(group) - min(group) for group in lengths) <= 3


@pytest.mark.parametrize("examples", [[], [toy_examples(1)[0].model_copy(update={"qa": []})]])
def test_nothing_to_learn_from_is_refused(config: Make, examples: list[Example]) -> None:
    with pytest.raises(DataError, match="No training example has a question-answer pair"):
        planned(config(), examples)


def test_ordinary_dialogs_alone_are_refused(config: Make) -> None:
    with pytest.raises(DataError):
        planned(config(), plain_examples(20))
