"""Spans: sets of tokens of a rendered dialog, by name, by index or by quoted text.

`control`, `stimulus` and `completion` include the template's tokens; `NAME:content` is the text alone,
`NAME:header` what the template writes before it and `NAME:tail` what it writes after it. `a+b` is a union.
`chars:12-25` names tokens by the characters of the last message's text, and so for any tokenizer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence

from latentqa.dialogs.place import TEXT
from latentqa.dialogs.render import Rendered, RenderedMessage
from latentqa.errors import SpanError
from latentqa.types import Span

NAMES = ("control", "stimulus", "completion")
PARTS = ("content", "header", "tail")
CHOSEN = "tokens"
"""The kind of all spans that name tokens of one dialog: indices, characters, quotations."""
_CHARS = re.compile(r"chars:(\d+)-(\d+)")
_HELP = (
    "A span is control, stimulus or completion (also NAME:content, NAME:header, NAME:tail), all, last:N, a "
    "union such as stimulus+completion, token indices such as [3,4,5], characters of the last message such "
    "as chars:12-25, or a quoted text such as '\"tonight\"'"
)


def resolve_span(rendered: Rendered, span: str | Sequence[int] | Span) -> Span:
    """Find the tokens of a span.

    - `stimulus`: the last user message, from its header through the generation prompt or, if a completion
      follows, through the assistant's header.
    - `completion`: the assistant's message where it is the last one: its text and end of turn.
    - `control`: everything before the stimulus.
    - `all`, `last:8`, `[3,4,5]` or a sequence of indices, `"a quoted text"` (every token that overlaps its
      first occurrence in the rendered text), and unions with `+`.
    - `chars:12-25`: every token that overlaps these characters (25 is the first one after) of the last
      message's text, as the template prints it.

    Raises:
        SpanError: the span is unknown, empty, or not in this dialog.
    """
    if isinstance(span, Span):
        return Span(span.name, _checked_indices(rendered, span.name, span.indices))
    if not isinstance(span, str):
        indices = tuple(span)
        return Span(str(list(indices)), _checked_indices(rendered, str(list(indices)), indices))
    name = span.strip()
    return Span(name, _checked_indices(rendered, name, _named(rendered, name)))


def span_kind(name: str) -> str:
    """What spans of one name have in common over dialogs: the name, or `tokens` for tokens of one dialog.

    Example:
        >>> span_kind("stimulus:content"), span_kind("chars:3-9"), span_kind("[4, 5]")
        ('stimulus:content', 'tokens', 'tokens')
    """
    return CHOSEN if name[:1] in ("'", '"', "[") or _CHARS.fullmatch(name) else name


def chars_span(rendered: Rendered, first: int, end: int) -> str | None:
    """Name the tokens `[first, end)` by characters of the last message; None where these name others too."""
    begin = _content_at(rendered)
    if not rendered.messages[-1].content_start <= first < end <= rendered.messages[-1].content_end:
        return None
    name = f"chars:{rendered.offsets[first][0] - begin}-{rendered.offsets[end - 1][1] - begin}"
    if not _CHARS.fullmatch(name) or _chars(rendered, name) != list(range(first, end)):
        return None
    return name


def available_spans(rendered: Rendered) -> tuple[str, ...]:
    """Names of the spans of whole messages that this dialog has."""
    return tuple(name for name in NAMES if _tokens_of(rendered, name, "")) + ("all",)


def _named(rendered: Rendered, name: str) -> Iterable[int]:
    if name[:1] in ("'", '"') and len(name) > 1 and name[-1] == name[0]:
        return _quoted(rendered, name)
    if name.startswith("["):
        return _listed(rendered, name)
    if _CHARS.fullmatch(name):
        return _chars(rendered, name)
    indices: set[int] = set()
    for term in name.split("+"):
        found = tuple(_term(rendered, term.strip(), name))
        if not found:
            raise _absent(rendered, term.strip())
        indices.update(found)
    return sorted(indices)


def _term(rendered: Rendered, term: str, name: str) -> Iterable[int]:
    if term == "all":
        return range(len(rendered.token_ids))
    if match := re.fullmatch(r"last:(\d+)", term):
        return _last(rendered, int(match.group(1)))
    message, _, part = term.partition(":")
    if message not in NAMES or part not in ("", *PARTS) or term.endswith(":"):
        raise SpanError(f"Span {name!r} is not known. {_HELP}.")
    return _tokens_of(rendered, message, part)


def _last(rendered: Rendered, count: int) -> range:
    length = len(rendered.token_ids)
    if not 1 <= count <= length:
        raise SpanError(
            f"Span 'last:{count}' does not fit: the rendered dialog has {length} tokens. "
            f"Ask for last:1 to last:{length}."
        )
    return range(length - count, length)


def _tokens_of(rendered: Rendered, name: str, part: str) -> list[int]:
    finders: dict[str, Callable[[Rendered, str], list[int]]] = {
        "control": _control,
        "stimulus": _stimulus,
        "completion": _completion,
    }
    return finders[name](rendered, part)


def _completion_message(rendered: Rendered) -> RenderedMessage | None:
    last = rendered.messages[-1]
    return last if last.role == "assistant" else None


def _stimulus_number(rendered: Rendered) -> int | None:
    numbers = [number for number, message in enumerate(rendered.messages) if message.role == "user"]
    return numbers[-1] if numbers else None


def _stimulus(rendered: Rendered, part: str) -> list[int]:
    number = _stimulus_number(rendered)
    if number is None:
        return []
    message, completion = rendered.messages[number], _completion_message(rendered)
    end = message.end
    if completion is not None:
        end = completion.content_start
    elif rendered.generation_start is not None:
        end = len(rendered.token_ids)
    return _part(message.start, message.content_start, message.content_end, end, part)


def _completion(rendered: Rendered, part: str) -> list[int]:
    message = _completion_message(rendered)
    if message is None:
        return []
    if part == "header":
        return list(range(message.start, message.content_start))
    return _part(message.content_start, message.content_start, message.content_end, message.end, part)


def _control(rendered: Rendered, part: str) -> list[int]:
    number, completion = _stimulus_number(rendered), _completion_message(rendered)
    if rendered.messages[0].role == TEXT:
        return []
    if number is not None:
        messages, end = rendered.messages[:number], rendered.messages[number].start
    else:
        messages = rendered.messages if completion is None else rendered.messages[:-1]
        end = messages[-1].end if messages else 0
    if not messages:
        return []
    if part == "":
        return list(range(end))
    return [
        index
        for message in messages
        for index in _part(message.start, message.content_start, message.content_end, message.end, part)
    ]


def _part(start: int, content_start: int, content_end: int, end: int, part: str) -> list[int]:
    bounds = {
        "": (start, end),
        "header": (start, content_start),
        "content": (content_start, content_end),
        "tail": (content_end, end),
    }
    return list(range(*bounds[part]))


def _quoted(rendered: Rendered, name: str) -> list[int]:
    quoted = name[1:-1]
    begin = rendered.text.find(quoted) if quoted else -1
    if begin < 0:
        known = ", ".join(available_spans(rendered))
        raise SpanError(
            f"The quoted text {name} does not occur in the rendered dialog {_shortened(rendered.text)!r}. "
            f"Quote it exactly as it stands there, or name one of the spans {known}."
        )
    end = begin + len(quoted)
    return [index for index, (a, b) in enumerate(rendered.offsets) if a < end and b > begin]


def _chars(rendered: Rendered, name: str) -> list[int]:
    begin, end = map(int, name.removeprefix("chars:").split("-"))
    length, at = len(rendered.messages[-1].text), _content_at(rendered)
    if not begin < end <= length:
        raise SpanError(
            f"Span {name} does not fit: the last message has {length} characters. Name two numbers from 0 to "
            f"{length}, the smaller first."
        )
    return [i for i, (a, b) in enumerate(rendered.offsets) if a < at + end and b > at + begin]


def _content_at(rendered: Rendered) -> int:
    """Where the text of the last message begins in the rendered text, in characters.

    Its first token may begin earlier (with the end of the header) or, where the tokenizer leaves blanks out
    of its offsets, later.
    """
    last = rendered.messages[-1]
    if last.content_start >= last.content_end:
        return rendered.offsets[last.start][0] if last.start < len(rendered.offsets) else 0
    blanks = len(last.text) - len(last.text.lstrip())
    return rendered.text.find(last.text, max(0, rendered.offsets[last.content_start][0] - blanks))


def _listed(rendered: Rendered, name: str) -> list[int]:
    try:
        indices = json.loads(name)
    except json.JSONDecodeError:
        raise SpanError(f"Span {name!r} is not a list of token indices. {_HELP}.") from None
    return indices


def _checked_indices(rendered: Rendered, name: str, indices: Iterable[int]) -> tuple[int, ...]:
    found = tuple(indices)
    length = len(rendered.token_ids)
    if not found:
        raise _absent(rendered, name)
    for index in found:
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < length:
            raise SpanError(
                f"Span {name} holds the index {index!r}, but the rendered dialog has 0 to {length - 1}."
            )
    return tuple(sorted(set(found)))


def _absent(rendered: Rendered, name: str) -> SpanError:
    roles = ", ".join(message.role for message in rendered.messages)
    return SpanError(
        f"Span {name!r} is empty: the rendered dialog has the roles {roles}. "
        f"It has the spans {', '.join(available_spans(rendered))}."
    )


def _shortened(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[:limit] + "…"
