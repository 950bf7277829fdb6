"""What one training or evaluation item is: a dialog, the span that is read, and its question-answer pairs.

The schema refuses what would go wrong later and silently: unknown fields, numbers in place of text, empty
questions and answers, dialogs whose turns do not fit their kind, text that no tokenizer can encode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetPydanticSchema,
    ValidationError,
    model_validator,
)
from pydantic_core import core_schema

from latentqa.types import Message

ExampleKind = Literal["control", "stimulus", "stimulus_completion", "system", "plain", "task"]
QAKind = Literal["description", "reasoning", "extractive", "future", "context", "class", "relation", "fact"]

EXAMPLE_KINDS: tuple[ExampleKind, ...] = get_args(ExampleKind)
ROLES = ("system", "user", "assistant", "text")
TURNS = ("control", "stimulus", "completion")
"""Spans that only a dialog of turns has."""

DEFAULT_READ: dict[ExampleKind, str] = {
    "control": "stimulus",
    "stimulus": "stimulus",
    "stimulus_completion": "stimulus+completion",
    "system": "stimulus",
    "plain": "stimulus",
    "task": "stimulus",
}
"""The span that is read, by kind. A control read for itself is the dialog's only user turn: its
`stimulus`."""


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"holds half a character (a lone surrogate) at position {error.start}") from None
    return text


def _message(value: Any) -> Message:
    if not isinstance(value, Mapping):
        raise ValueError(f"a message is an object with role and content, found {type(value).__name__}")
    if set(value) != {"role", "content"}:
        raise ValueError(
            f"a message has exactly role and content, found {', '.join(map(str, value)) or 'nothing'}"
        )
    role, content = value["role"], value["content"]
    if role not in ROLES:
        raise ValueError(f"role is one of {', '.join(ROLES)}, found {role!r}")
    if not isinstance(content, str):
        raise ValueError(f"content is text, found {type(content).__name__}")
    return Message(role=role, content=_filled(content))


Text = Annotated[str, AfterValidator(_filled)]
"""Text that says something and can be encoded."""

_Turn = Annotated[
    Message,
    GetPydanticSchema(lambda _source, _handler: core_schema.no_info_plain_validator_function(_message)),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class QA(_Frozen):
    """A question on an activation and its right answer.

    Attributes:
        question: what is asked.
        answer: what the decoder should say.
        kind: `description` (what the control is), `reasoning` (how a reply would go), `extractive` (what a
            text says), `future` (what comes next); of the tasks `context` (the tokens beside a span), `class`
            (a label of a text), `relation` (the object of a subject), `fact` (what the user said of
            themselves); None if unknown.
        pool: names the pairs whose questions can be swapped: each one's answer is right for the question of
            any other, on its own activation. A training group holds pairs of one pool. Empty: all pairs of
            the example's label group that have none.
    """

    question: Text
    answer: Text
    kind: QAKind | None = None
    pool: str = ""


class Example(_Frozen):
    """A dialog, the span of it that is read, and questions with their answers.

    Dialogs by kind: `control` is the control alone as a user turn; `stimulus` is control, reply, stimulus (or
    system prompt, stimulus); `stimulus_completion` has the assistant's turn as well; `system` is a system
    prompt and a stimulus; `plain` has no control, though it may begin with a neutral system prompt; `task` is
    what a task asks about: a dialog without control, or a raw text, the only message and of role `text`.

    Attributes:
        id: unique within a data set.
        label: names the control; what is split and joined by.
        kind: which of the six.
        dialog: the messages.
        read: name of the span that is read; by default the kind's in `DEFAULT_READ`.
        qa: pairs, possibly none.
        source: where the item is from.
        group: first part of the label (`persona`, `goal`, `sqa`, `plain`, `relation`, …); filled in from it.
        thinking: reasoning texts that a published item carries, by field name; kept, never rendered.

    Example:
        >>> example = Example(id="1", label="persona-job-nurse", kind="control", source="ours",
        ...                   dialog=[{"role": "user", "content": "Please play a nurse."}])
        >>> example.group, example.read
        ('persona', 'stimulus')
    """

    id: Text
    label: Text
    kind: ExampleKind
    dialog: list[_Turn]
    read: Text = ""
    qa: list[QA] = []
    source: Text
    group: Text = ""
    thinking: dict[str, str] = {}

    @model_validator(mode="before")
    @classmethod
    def _fill_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        filled = dict(values)
        kind, label = filled.get("kind"), filled.get("label")
        if isinstance(kind, str) and kind in DEFAULT_READ:
            filled.setdefault("read", DEFAULT_READ[kind])
        if isinstance(label, str):
            filled.setdefault("group", label.split("-", 1)[0])
        return filled

    @model_validator(mode="after")
    def _check_whole(self) -> Example:
        if self.group != self.label.split("-", 1)[0]:
            raise ValueError(
                f"group is the first part of the label: {self.label!r} is not of group {self.group!r}"
            )
        problem = dialog_problem(self.kind, [message["role"] for message in self.dialog])
        if self.dialog and self.dialog[0]["role"] == "text" and self.read.partition(":")[0] in TURNS:
            problem = problem or f"a raw text has no span {self.read}: read all, last:8 or chars:0-20"
        if problem:
            raise ValueError(problem)
        return self


def dialog_problem(kind: ExampleKind, roles: list[str]) -> str | None:
    """Says what is wrong with a dialog's turns for its kind; None if nothing is."""
    if "text" in roles:
        alone = kind == "task" and roles == ["text"]
        return None if alone else "a message of role text stands alone, in an example of kind task"
    turns = roles[1:] if roles[:1] == ["system"] else roles
    if not turns or any(role != ("user", "assistant")[i % 2] for i, role in enumerate(turns)):
        found = ", ".join(roles) or "none"
        return f"after an optional system message, turns alternate from the user's; found {found}"
    if kind == "control" and roles != ["user"]:
        return f"kind control is the control alone, as one user turn; found {', '.join(roles)}"
    if kind == "system" and roles[0] != "system":
        return f"kind system begins with a system message; found {', '.join(roles)}"
    if kind in ("system", "stimulus") and roles[-1] != "user":
        return f"kind {kind} ends with the user's turn; found {', '.join(roles)}"
    if kind == "stimulus_completion" and roles[-1] != "assistant":
        return f"kind stimulus_completion ends with the assistant's turn; found {', '.join(roles)}"
    if kind in ("stimulus", "stimulus_completion") and turns is roles and len(turns) < 3:
        return (
            f"kind {kind} begins with a control and its reply, or a system message; found {', '.join(roles)}"
        )
    return None


def reasons(error: ValidationError) -> str:
    """Turns pydantic's errors into one sentence: where, what, found."""
    parts = []
    for item in error.errors(include_url=False):
        place = ".".join(map(str, item["loc"]))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            message = "is missing"
        elif item["type"] == "extra_forbidden":
            message = "is not a known field"
        elif item["type"] == "model_type":
            message = f"is not an object but {type(item['input']).__name__}"
        elif item["type"].endswith("_type"):
            message = f"has the wrong type: {message}, found {type(item['input']).__name__}"
        parts.append(f"{place} {message}".strip())
    return "; ".join(parts)
