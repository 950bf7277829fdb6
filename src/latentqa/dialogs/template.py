"""A tokenizer's chat template, taken apart by rendering it and never by known token ids.

Every content is replaced by a sentinel and the template is rendered: the text between the sentinels is what
the template itself writes. That depends on the roles alone, so it is kept for each tokenizer and sequence of
roles.
"""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from latentqa.dialogs.layout import Layout, Slot
from latentqa.errors import DialogError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

FOLD_NOTE = "system role folded into the first user turn"
PLAIN_NOTE = "no chat template: plain format"
RAW_NOTE = "raw text: no chat template is used"
PLAIN_TEMPLATE = (
    "{{ start_text }}{% for message in messages %}{% if not loop.first %}{{ '\n\n' }}{% endif %}"
    "{{ message['role'] | capitalize + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n\nAssistant:' }}{% endif %}"
)
"""The format for tokenizers without a chat template: `System: …`, `User: …` and `Assistant: …`, a blank
line between them, each assistant turn closed by the end-of-text token, and the beginning-of-text token first
where the tokenizer would write one. After Vicuna's format, with the role names of this project."""
LAYOUTS_KEPT = 512
_RENAME = (
    "{%- set renamed = namespace(messages=[]) -%}{%- for message in messages -%}"
    "{%- set role = 'NAME' if message['role'] == 'assistant' else message['role'] -%}"
    "{%- set renamed.messages = renamed.messages + [{'role': role, 'content': message['content']}] -%}"
    "{%- endfor -%}{%- set messages = renamed.messages -%}"
)
_ANSWERS = re.compile(r"(?<![ \w])assistant(?![ \w])")
"""The role's name in a template, and not the word in a sentence such as a default system message."""


class _DroppedError(Exception):
    """The template printed a message never, twice or out of order."""


_layouts: WeakKeyDictionary[PreTrainedTokenizerBase, dict] = WeakKeyDictionary()
_Refusal = (TemplateError, _DroppedError)


class ChatTemplate:
    """A tokenizer's chat template, or the plain format, with the layouts found so far."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.plain = tokenizer.chat_template is None
        self.known = _layouts.setdefault(tokenizer, {})

    def render(self, messages: list[dict[str, str]], generation: bool) -> str:
        """The text of these messages, with the generation prompt if asked."""
        plain: dict[str, Any] = {}
        if self.plain:
            plain = {"chat_template": PLAIN_TEMPLATE, "start_text": start_text(self.tokenizer)}
        text = self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=generation, **plain
        )
        assert isinstance(text, str)
        return text

    def layout(self, roles: tuple[str, ...], generation: bool, *, anew: bool = False) -> Layout:
        """What the template writes around messages of these roles; `anew` forgets what was found before.

        Raises:
            DialogError: the template refuses them, or does not print each message once and in order.
        """
        key = (str(self.tokenizer.chat_template), roles, generation)
        if anew or key not in self.known:
            if len(self.known) >= LAYOUTS_KEPT:
                self.known.clear()
            self.known[key] = self._analyse(roles, generation)
        return self.known[key]

    def _analyse(self, roles: tuple[str, ...], generation: bool) -> Layout:
        try:
            return self._build(roles, generation, folded=False)
        except _Refusal as problem:
            refusal = problem
        if roles[0] == "system":
            try:
                layout = self._build(roles, generation, folded=True)
            except _Refusal as problem:
                refusal = problem
            else:
                logger.info("%s (the chat template says: %s)", FOLD_NOTE, refusal)
                return layout
        asked = ", ".join(roles)
        raise DialogError(
            f"The tokenizer's chat template refuses a dialog of the roles {asked}: {refusal}. "
            "Most templates want user and assistant to take turns, the user first."
        ) from refusal

    def _build(self, roles: tuple[str, ...], generation: bool, *, folded: bool) -> Layout:
        literals = self.literals(roles, generation, folded)
        added = None if folded or roles[0] == "system" else self._added_system(roles, literals[0])
        if added is not None:
            preamble = ""
            first_header = literals[0].removeprefix(added.header + (added.default or "") + added.tail)
        else:
            first_role = "user" if folded else roles[0]
            preamble, first_header = self._split_preamble(literals[0], first_role)
        slots = tuple(self._slots(roles, first_header, literals[1:], folded))
        generation_text = literals[-1].removeprefix(slots[-1].tail)
        return Layout(preamble, slots if added is None else (added, *slots), generation_text, folded)

    def _slots(
        self, roles: tuple[str, ...], header: str, after: Sequence[str], folded: bool
    ) -> Iterator[Slot]:
        for number, role in enumerate(roles):
            next_role = roles[number + 1] if number + 1 < len(roles) else None
            joined = folded and number == 0 and next_role == "user"
            tail = "" if joined else self._tail(roles[: number + 1], after[number], next_role, folded)
            yield Slot(role, header, tail)
            header = after[number].removeprefix(tail)

    def literals(self, roles: tuple[str, ...], generation: bool, folded: bool = False) -> list[str]:
        """What the template writes before, between and after the contents."""
        sentinels = [f"\ue000{number}\ue001" for number in range(len(roles))]
        text = self.render(as_messages(roles, sentinels, folded), generation)
        literals = []
        for sentinel in sentinels:
            before, found, text = text.partition(sentinel)
            if not found or "\ue000" in before:
                raise _DroppedError("it does not print every message once and in order")
            literals.append(before)
        if "\ue000" in text:
            raise _DroppedError("it prints a message twice")
        return [*literals, text]

    def _tail(self, roles: tuple[str, ...], after: str, next_role: str | None, folded: bool) -> str:
        """End of the last of these messages: what follows its content if the dialog ends with it."""
        try:
            tail = self.literals(roles, False, folded)[-1]
        except _Refusal:
            tail = None
        if tail is not None and after.startswith(tail):
            return tail
        if next_role is None:
            return after
        header = self._usual_header(next_role)
        return after.removesuffix(header) if header and after.endswith(header) else ""

    def _usual_header(self, role: str) -> str:
        """Header of this role after another message, or "" where that cannot be told."""
        openings = (("system",), ("user", "assistant")) if role == "user" else (("user",),)
        for opening in openings:
            try:
                between = self.literals((*opening, role), False)[-2]
                tail = self.literals(opening, False)[-1]
            except _Refusal:
                continue
            if tail and between.startswith(tail):
                return between.removeprefix(tail)
        return ""

    def _split_preamble(self, literal: str, role: str) -> tuple[str, str]:
        """Split what precedes the first content into text of its own (such as a date) and header."""
        if role == "system":
            return "", literal
        shared = os.path.commonprefix([literal[::-1], self._usual_header(role)[::-1]])
        return (literal[: -len(shared)], literal[-len(shared) :]) if shared else ("", literal)

    def _added_system(self, roles: tuple[str, ...], literal: str) -> Slot | None:
        """The system message that the template writes by itself when the dialog has none."""
        try:
            header, after, *_ = self.literals(("system", *roles), False)
        except _Refusal:
            return None
        content = literal[len(header) : len(literal) - len(after)]
        if not content.strip() or literal != header + content + after:
            return None
        return Slot("system", header, self._tail(("system",), after, roles[0], False), content)


def as_messages(roles: Sequence[str], contents: Sequence[str], folded: bool) -> list[dict[str, str]]:
    """Messages for the template; `folded` puts the system message into the first user turn."""
    messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    if not folded:
        return messages
    system, *rest = messages
    if rest and rest[0]["role"] == "user":
        both = system["content"] + "\n\n" + rest[0]["content"]
        return [{"role": "user", "content": both}, *rest[1:]]
    return [{"role": "user", "content": system["content"]}, *rest]


def renamed_answers(tokenizer: PreTrainedTokenizerBase, role: str) -> PreTrainedTokenizerBase:
    """A copy of a tokenizer whose chat template calls the assistant by another name; the original is kept.

    Raises:
        DialogError: there is no chat template, or the role is no plain word.
    """
    if not isinstance(tokenizer.chat_template, str) or not role.isidentifier():
        raise DialogError(
            f"The answering role cannot be called {role!r}: that takes one word and a tokenizer with one "
            "chat template. Leave answer_role out."
        )
    renamed = copy.copy(tokenizer)
    renamed.chat_template = _RENAME.replace("NAME", role) + _ANSWERS.sub(role, tokenizer.chat_template)
    return renamed


def start_text(tokenizer: PreTrainedTokenizerBase) -> str:
    """The beginning-of-text token as text, where this tokenizer would write one before a plain text."""
    start = tokenizer.bos_token
    if not isinstance(start, str):
        return ""
    return start if tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id] else ""
