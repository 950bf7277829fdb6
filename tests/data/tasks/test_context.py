"""Context prediction: the answer is what stands beside the span, and the span is never told apart wrongly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from latentqa.data import Example
from latentqa.data.tasks import (
    ContextSettings,
    Passage,
    Text,
    context_examples,
    on_policy_passages,
    on_policy_prompt,
    own_prompts,
    text_passages,
)
from latentqa.dialogs import render, resolve_span
from latentqa.models import tiny_tokenizer

WORDS = "the harbour lay still while seven boats waited for a wind that would not come before night".split()


def some_texts(count: int = 12, length: int = 60) -> list[Text]:
    chooser = random.Random(3)
    return [Text(f"f.txt:{n}", " ".join(chooser.choices(WORDS, k=length))) for n in range(count)]


def made(texts: Iterable[Text], left_out: Counter[str] | None = None, **settings: object) -> list[Example]:
    chosen = ContextSettings.model_validate(settings)
    counts: Counter[str] = Counter() if left_out is None else left_out
    tokenizer = tiny_tokenizer()
    return list(context_examples(text_passages(texts, tokenizer, chosen, counts), tokenizer, chosen, counts))


@pytest.mark.parametrize("template", ["chatml", "strip", None])
def test_an_answer_is_the_tokens_beside_the_span(template: str | None) -> None:
    tokenizer = tiny_tokenizer(template)
    settings = ContextSettings(pairs=4)
    passages = text_passages(some_texts(), tokenizer, settings, Counter())
    examples = list(context_examples(passages, tokenizer, settings, Counter()))
    assert len(examples) > 20
    for example in examples:
        rendered = render(tokenizer, example.dialog)
        span = resolve_span(rendered, example.read).indices
        assert list(span) == list(range(span[0], span[-1] + 1)) and 0 not in span
        for pair in example.qa:
            _, direction, count = pair.pool.split("-")
            near = (
                range(span[-1] + 1, span[-1] + 1 + int(count))
                if direction == "next"
                else range(span[0] - int(count), span[0])
            )
            text = "".join(rendered.tokens[i] for i in near)
            assert pair.answer == " ".join(text.split())
            assert str(count) in pair.question or (count == "1" and " token" in pair.question)


def test_raw_texts_and_turns_come_half_each_and_no_label_twice_in_a_row() -> None:
    roles = Counter(example.dialog[0]["role"] for example in made(some_texts(40)))
    assert 0.3 < roles["text"] / roles.total() < 0.7
    assert {e.dialog[0]["role"] for e in made(some_texts(), form="text")} == {"text"}
    assert {e.dialog[0]["role"] for e in made(some_texts(), form="chat")} == {"user"}


def test_a_text_s_examples_do_not_depend_on_its_company() -> None:
    texts = some_texts()
    everyone = {example.id: example for example in made(texts)}
    some = made(reversed(texts[3:7]))
    assert some and all(everyone[example.id] == example for example in some)
    assert {e.read for e in made(texts, seed=1)} != {e.read for e in everyone.values()}


def test_what_is_left_out_is_counted() -> None:
    counts: Counter[str] = Counter()
    made([Text("a:1", "too short"), *some_texts(4, 400)], counts, window=32, per_text=2)
    assert counts["a text too short to ask about"] >= 1
    assert counts["a window beyond the first 2 of a text"] > 4
    counts = Counter()
    kept = made(some_texts(200), counts, share=0.25)
    assert 20 < len({e.label for e in kept}) < 80 and counts["a text not drawn (share)"] > 100


def test_what_the_target_wrote_is_read_in_its_reply_or_continuation() -> None:
    tokenizer = tiny_tokenizer()
    settings = ContextSettings()
    prompts = [Text(f"p{n}", "Where are the boats?") for n in range(20)]
    given = [on_policy_prompt(prompt, settings) for prompt in prompts]
    assert {type(one) for one in given} == {str, list}
    replies = ["" if n == 4 else " " + " ".join(WORDS) for n in range(20)]
    counts: Counter[str] = Counter()
    passages = list(on_policy_passages(prompts, replies, settings, "tiny", counts))
    assert counts == {"nothing was written by the target": 1} and len(passages) == 19
    for example in context_examples(passages, tokenizer, settings, counts):
        assert example.source == "context; on policy, tiny"
        rendered = render(tokenizer, example.dialog)
        read = "".join(rendered.tokens[i] for i in resolve_span(rendered, example.read).indices)
        assert read.strip() in example.dialog[-1]["content"]
        assert [m["role"] for m in example.dialog] in (["text"], ["user", "assistant"])


def test_our_own_prompts_leave_those_alone_that_verdicts_are_calibrated_on() -> None:
    from latentqa.data import calibration_dialogs

    turns = {prompt.text for prompt in own_prompts()}
    assert len(turns) > 150 and not turns & {dialog[-1]["content"] for dialog in calibration_dialogs()}


def test_a_beginning_of_text_token_is_never_read() -> None:
    tokenizer = tiny_tokenizer()
    passage = Passage("p", ({"role": "text", "content": " ".join(WORDS)},))
    for seed in range(30):
        (example,) = context_examples([passage], tokenizer, ContextSettings(seed=seed), Counter())
        assert resolve_span(render(tokenizer, example.dialog), example.read).indices[0] > 0
