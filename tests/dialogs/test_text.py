"""Raw texts, read without a chat template, and spans by characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latentqa.dialogs import available_spans, chars_span, render, resolve_span, span_kind
from latentqa.errors import DialogError, SpanError
from latentqa.models.tiny import tiny_tokenizer

TEXT = "The ferry leaves at nine, and the last one at ten."


def raw(text: str = TEXT, template: str | None = "chatml") -> list[int]:
    return list(render(tiny_tokenizer(template), [{"role": "text", "content": text}]).token_ids)


def test_a_raw_text_is_its_own_tokens_alone() -> None:
    tokenizer = tiny_tokenizer()
    assert raw() == tokenizer(TEXT)["input_ids"] == raw(template=None) == raw(template="default_system")
    rendered = render(tokenizer, [{"role": "text", "content": TEXT}])
    assert rendered.text == TEXT and rendered.generation_start is None
    assert rendered.notes == ("raw text: no chat template is used",)
    assert available_spans(rendered) == ("all",)
    assert resolve_span(rendered, "all").indices == tuple(range(len(rendered.token_ids)))
    with pytest.raises(SpanError, match="'stimulus' is empty"):
        resolve_span(rendered, "stimulus")


def test_a_raw_text_stands_alone() -> None:
    turns = [{"role": "text", "content": TEXT}, {"role": "user", "content": "Hi"}]
    with pytest.raises(DialogError, match="A raw text is one message of role text, alone"):
        render(tiny_tokenizer(), turns)


@pytest.mark.parametrize("template", ["chatml", "strip", "default_system", "thinking", None])
def test_characters_name_the_same_words_in_any_rendering(template: str | None) -> None:
    begin = TEXT.index("leaves")
    for role in ("user", "text"):
        rendered = render(tiny_tokenizer(template), [{"role": role, "content": TEXT}])
        span = resolve_span(rendered, f"chars:{begin}-{begin + len('leaves at')}")
        assert "".join(rendered.tokens[i] for i in span.indices).strip() == "leaves at"
        last = resolve_span(rendered, f"chars:{len(TEXT) - 1}-{len(TEXT)}")
        assert rendered.tokens[last.indices[0]].endswith(".")


def test_characters_count_in_the_last_message() -> None:
    dialog = [{"role": "user", "content": "leaves"}, {"role": "assistant", "content": "No leaves here."}]
    rendered = render(tiny_tokenizer(), dialog)
    span = resolve_span(rendered, "chars:3-9")
    assert "".join(rendered.tokens[i] for i in span.indices).strip() == "leaves"
    assert min(span.indices) >= rendered.messages[-1].content_start


@given(text=st.text("ab c.\n", min_size=1, max_size=30).filter(str.strip), data=st.data())
def test_a_span_named_by_characters_is_found_again(text: str, data: st.DataObject) -> None:
    rendered = render(tiny_tokenizer(), [{"role": "user", "content": text}])
    last = rendered.messages[-1]
    first = data.draw(st.integers(last.content_start, last.content_end - 1))
    end = data.draw(st.integers(first + 1, last.content_end))
    name = chars_span(rendered, first, end)
    if name is not None:
        assert resolve_span(rendered, name).indices == tuple(range(first, end))


def test_tokens_outside_the_text_have_no_name() -> None:
    rendered = render(tiny_tokenizer(), [{"role": "user", "content": TEXT}])
    last = rendered.messages[-1]
    assert chars_span(rendered, last.start, last.content_end) is None
    assert chars_span(rendered, last.content_start, last.content_end) == f"chars:0-{len(TEXT)}"


@pytest.mark.parametrize("name", ["chars:9-3", "chars:3-3", "chars:0-51"])
def test_characters_that_are_not_there_are_refused(name: str) -> None:
    rendered = render(tiny_tokenizer(), [{"role": "text", "content": TEXT}])
    with pytest.raises(SpanError, match="the last message has 50 characters"):
        resolve_span(rendered, name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("chars:1-2", "tokens"), ("[1]", "tokens"), ("'a'", "tokens"), ("last:8", "last:8"), ("all", "all")],
)
def test_spans_that_name_tokens_of_one_dialog_are_of_one_kind(name: str, kind: str) -> None:
    assert span_kind(name) == kind


def test_blanks_before_a_text_are_counted() -> None:
    rendered = render(tiny_tokenizer(), [{"role": "text", "content": "  led by blanks"}])
    span = resolve_span(rendered, "chars:2-5")
    assert "".join(rendered.tokens[i] for i in span.indices).strip() == "led"
