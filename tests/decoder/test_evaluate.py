"""Ranking the right answer among others: the draw, ties, intervals, and what is written."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from latentqa.data import QA, Example
from latentqa.decoder import Decoder, RankedItem, evaluate, rank
from latentqa.decoder.evaluate import EvaluationReport, wilson
from latentqa.errors import ConfigError, DataError


def example(label: str, question: str = "What persona?", control: str | None = None) -> Example:
    return Example(
        id=f"system:{label}",
        label=label,
        kind="system",
        dialog=[
            {"role": "system", "content": control or f"You are {label}, and you say so."},
            {"role": "user", "content": f"Tell me about {len(label)} things."},
        ],
        qa=[QA(question=question, answer=f"The assistant is {label}.")],
        source="test",
    )


def labels_of(group: str, count: int) -> list[str]:
    return [f"{group}-kind-{number:02d}" for number in range(count)]


def examples_of(group: str, count: int, question: str = "What persona?") -> list[Example]:
    return [example(label, question) for label in labels_of(group, count)]


def ranked_item(
    supports: tuple[float, ...], group: str = "persona", near_copy: bool | None = None
) -> RankedItem:
    zeros = (0.0,) * len(supports)
    names = tuple("abc"[: len(supports)])
    return RankedItem("a", group, "Who?", names, supports, (-1.0, *zeros[1:]), zeros, -2.0, near_copy)


def test_the_distractors_are_drawn_as_the_protocol_says(decoder: Decoder) -> None:
    mixed = examples_of("persona", 14)
    rare = [example(f"persona-rare-{n}", "How does it speak?") for n in range(3)]
    goals = examples_of("goal", 12, "What goal?")
    report = rank(decoder, [*reversed(goals), *rare, *mixed], seed=7)
    found = {item.label: list(item.candidates) for item in report.items}
    assert list(found) == sorted(found, key=lambda label: (label.split("-")[0], label))
    common = labels_of("persona", 14)
    everyone = sorted([*common, *(one.label for one in rare)])
    for label, pool in [
        ("persona-kind-03", common),  # fourteen labels share the question
        ("persona-rare-1", everyone),  # three do not make a pool of their own
        ("goal-kind-05", labels_of("goal", 12)),
    ]:
        others = [other for other in pool if other != label]
        assert found[label] == [label, *random.Random(f"7:{label}").sample(others, 9)]
    assert {item.question for item in report.items if "rare" in item.label} == {"How does it speak?"}
    assert report.skipped == {}


def test_the_draw_depends_on_seed_and_label_alone(decoder: Decoder) -> None:
    examples = examples_of("persona", 12)
    full = {item.label: item.candidates for item in rank(decoder, examples, seed=1, candidates=4).items}
    shuffled = random.Random(0).sample(examples, 12)
    some = {
        item.label: item.candidates for item in rank(decoder, shuffled, seed=1, candidates=4, limit=3).items
    }
    assert some == {label: full[label] for label in labels_of("persona", 3)}
    other = {item.label: item.candidates for item in rank(decoder, examples, seed=2, candidates=4).items}
    assert other != full


def test_scores_are_those_of_the_decoder(decoder: Decoder) -> None:
    examples = examples_of("persona", 6)
    assert decoder.target is not None
    for item in rank(decoder, examples, candidates=3).items:
        (own,) = [one for one in examples if one.label == item.label]
        activation = decoder.target.read(own.dialog, own.read)
        answers = [f"The assistant is {label}." for label in item.candidates]
        scores = {one.answer: one for one in decoder.score(activation, "What persona?", answers)}
        assert item.supports == pytest.approx([scores[answer].support for answer in answers], abs=1e-3)
        assert item.logprobs == pytest.approx([scores[answer].logprob for answer in answers], abs=1e-3)
        shuffled = decoder.score(activation, "What persona?", answers[:1], reference="shuffled")[0]
        assert item.shuffled_logprob == pytest.approx(shuffled.logprob - shuffled.support, abs=1e-3)
        assert item.mean_logprobs[0] == pytest.approx(item.logprobs[0] - item.supports[0], abs=1e-6)


def test_figures_count_each_group(decoder: Decoder) -> None:
    figures = rank(decoder, [*examples_of("goal", 11), *examples_of("persona", 12)]).to_json()
    assert list(figures) == ["persona", "goal"]
    assert {group: one["n"] for group, one in figures.items()} == {"persona": 12, "goal": 11}
    wanted = {"top1", "top1_low", "top1_high", "top1_raw", "top1_mean_activation", "n"}
    assert set(figures["goal"]) == wanted | {"loss_true", "loss_mean", "loss_shuffled"}


def test_what_cannot_be_ranked_is_counted(decoder: Decoder) -> None:
    bare = [one.model_copy(update={"qa": []}) for one in examples_of("goal", 3)]
    report = rank(decoder, [*examples_of("persona", 12), *bare, *examples_of("sqa", 4)])
    assert len(report.items) == 12
    assert report.skipped == {"no question-answer pair": 3, "too few other labels in the group": 4}


def test_ties_lose() -> None:
    won, tied, lost = ranked_item((2, 1, 0)), ranked_item((2, 2, 0)), ranked_item((1, 2, 0))
    figures = EvaluationReport((won, tied, lost), {}).to_json()["persona"]
    assert figures["top1"] == pytest.approx(1 / 3)
    assert (figures["top1_raw"], figures["top1_mean_activation"]) == (0, 0)
    assert (figures["loss_true"], figures["loss_mean"], figures["loss_shuffled"]) == (1, 0, 2)


def test_near_copies_are_reported_apart() -> None:
    items = (ranked_item((2, 1), near_copy=True), ranked_item((1, 2), near_copy=False))
    assert EvaluationReport(items, {}).to_json()["persona"]["without_near_copies"] == {"top1": 0.0, "n": 1}
    unknown = EvaluationReport((ranked_item((2, 1)),), {}).to_json()["persona"]
    assert "without_near_copies" not in unknown


def test_near_copies_are_found_by_their_words(decoder: Decoder) -> None:
    texts = [f"You are a keeper of lighthouse number {n}" for n in range(3)]
    examples = [example(f"persona-kind-{n}", control=text) for n, text in enumerate(texts)]
    examples += [example("persona-kind-9", control="Speak only in riddles about the sea, please")]
    report = rank(decoder, examples, candidates=2, training_controls=[texts[0]])
    assert [item.near_copy for item in report.items] == [True, True, True, False]


@pytest.mark.parametrize(
    ("right", "n", "low", "high"), [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_wilson(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right, n) == pytest.approx((low, high), abs=1e-4)


def test_a_tighter_interval_with_more_items() -> None:
    (few_low, few_high), (low, high) = wilson(8, 10), wilson(800, 1000)
    assert few_low < low < 0.8 < high < few_high


def test_evaluate_reads_the_published_layout_and_writes_every_item(
    decoder: Decoder, sample_dir: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    report = evaluate(
        decoder,
        sample_dir,
        candidates=3,
        limit=3,
        span="last:4",
        items_path=tmp_path / "items.jsonl",
        progress=lambda *at: seen.append(at),
    )
    rows = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == [item.label for item in report.items]
    assert all(len(row["candidates"]) == len(row["supports"]) == 3 for row in rows)
    assert seen[-1] == (6, 6)
    assert [path.name for path in tmp_path.iterdir()] == ["items.jsonl"]


def test_evaluate_needs_a_target_and_a_folder(decoder: Decoder, sample_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        evaluate(decoder, tmp_path)
    with pytest.raises(DataError, match="folder of .* does not exist"):
        evaluate(decoder, sample_dir, candidates=2, limit=1, items_path=tmp_path / "no" / "items.jsonl")
    decoder.target = None
    with pytest.raises(ConfigError, match="needs a target"):
        rank(decoder, examples_of("persona", 12))


def test_rivals_of_a_task_are_the_other_answers_of_its_pool_each_once(decoder: Decoder) -> None:
    def asked(group: str, number: int, answer: str, pool: str) -> Example:
        return Example(
            id=f"{group}:{pool}:{number}",
            label=f"{group}-{pool}-{number:02d}",
            kind="task",
            dialog=[{"role": "user", "content": f"The boat {number} is here."}],
            qa=[QA(question=f"Which of {pool}?", answer=answer, kind="relation", pool=pool)],
            source="test",
        )

    seas = [asked("relation", n, ("North Sea", "Baltic", "baltic", "Aegean")[n % 4], "sea") for n in range(8)]
    words = [asked("relation", n, f"word {n}", "word") for n in range(14)]
    sure = [asked("class", n, ("Yes", "No")[n % 2], "true") for n in range(6)]
    lonely = [asked("fact", n, "Unsaid.", "name") for n in range(2)]
    examples = [*seas, *words, *sure, *lonely]
    answers = {one.label: one.qa[0].answer.casefold() for one in examples}
    report = rank(decoder, examples, seed=3)
    assert report.skipped == {"no other answer in the pool": 2}
    sizes = {"sea": 3, "word": 10, "true": 2}
    for item in report.items:
        given = [answers[label] for label in item.candidates]
        assert len(set(given)) == len(given) == sizes[item.label.split("-")[1]] == len(item.supports)
        assert item.candidates[0] == item.label and len(item.mean_logprobs) == len(given)
    some = rank(decoder, examples, seed=3, limit=4)
    pools = [item.label.split("-")[1] for item in some.items if item.group == "relation"]
    assert pools == ["sea", "word", "sea", "word"]  # of every pool in turn
    alone = rank(decoder, [seas[0], seas[1]], seed=3)
    at_once = {item.label: item.supports for item in report.items}
    assert alone.items[0].supports[0] == pytest.approx(at_once[seas[0].label][0], abs=1e-4)
