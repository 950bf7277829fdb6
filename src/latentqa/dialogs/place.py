"""Render a dialog to text and know which characters belong to which message.

The filled-in layout of the template is compared with the true rendering. Where they differ (templates that
strip contents or rewrite thinking), marks inside the true contents show where each content went.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentqa.dialogs.layout import Layout, Placed, Slot
from latentqa.dialogs.template import ChatTemplate, as_messages, start_text
from latentqa.errors import DialogError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ROLES = ("system", "user", "assistant")
TEXT = "text"
"""The role of a raw text: the only message, read as it is, without any chat template."""


def place(
    tokenizer: PreTrainedTokenizerBase, dialog: Sequence, *, generation_prompt: bool | None = None
) -> Placed:
    """Render a dialog to text through the tokenizer's own chat template and say where each message lies.

    Args:
        tokenizer: its chat template is used, or `PLAIN_TEMPLATE` if it has none.
        dialog: messages `{"role", "content"}`, or one message of role `text`.
        generation_prompt: whether to end with the generation prompt; None adds it unless the assistant spoke
            last. A raw text has none.

    Raises:
        DialogError: the dialog is empty or malformed, or the template refuses it.
    """
    roles, contents = _checked(dialog)
    if roles == (TEXT,):
        return Layout(start_text(tokenizer), (Slot(TEXT, "", ""),), "", folded=False).place(contents)
    generation = roles[-1] != "assistant" if generation_prompt is None else generation_prompt
    chat = ChatTemplate(tokenizer)
    layout = chat.layout(roles, generation)
    text = chat.render(as_messages(roles, contents, layout.folded), generation)
    for filling in (contents, [content.strip() for content in contents]):
        placed = layout.place(filling)
        if placed.text == text:
            return placed
    found = _find_contents(chat, layout, roles, contents, generation, text)
    if found.literals[0] != layout.lead:  # a template that prints today's date, met on another day
        layout = chat.layout(roles, generation, anew=True)
    return layout.around(found.literals).place(found.contents)


def _checked(dialog: Sequence) -> tuple[tuple[str, ...], list[str]]:
    """Roles and contents of a dialog."""
    if not dialog:
        raise DialogError("The dialog is empty. Give at least one message {'role': …, 'content': …}.")
    roles, contents = [], []
    for number, message in enumerate(dialog):
        try:
            role, content = message["role"], message["content"]
        except (KeyError, TypeError, IndexError):
            raise DialogError(
                f"Message {number} of the dialog is {message!r}. A message is {{'role': …, 'content': …}}."
            ) from None
        if role not in ROLES and (role != TEXT or len(dialog) > 1):
            known = ", ".join(ROLES)
            raise DialogError(
                f"Message {number} of the dialog has the unknown role {role!r}. Roles: {known}. "
                f"A raw text is one message of role {TEXT}, alone."
            )
        if not isinstance(content, str):
            kind = type(content).__name__
            raise DialogError(f"The content of message {number} is a {kind}. Give it as one string.")
        roles.append(role)
        contents.append(content)
    return tuple(roles), contents


@dataclass(frozen=True)
class _Found:
    """A rendered text without its marks, and where each content begins and ends in it."""

    text: str
    bounds: tuple[tuple[int, int], ...]

    @property
    def contents(self) -> list[str]:
        """The contents as printed."""
        return [self.text[begin:end] for begin, end in self.bounds]

    @property
    def literals(self) -> list[str]:
        """What stands before, between and after the contents."""
        begins = [begin for begin, _ in self.bounds] + [len(self.text)]
        ends = [0] + [end for _, end in self.bounds]
        return [self.text[end:begin] for end, begin in zip(ends, begins, strict=True)]


def _find_contents(
    chat: ChatTemplate,
    layout: Layout,
    roles: tuple[str, ...],
    contents: list[str],
    generation: bool,
    text: str,
) -> _Found:
    """Find where the contents went in a rendering that changed them."""
    for mark_start in (True, False):
        marked = [_marked(number, content, mark_start) for number, content in enumerate(contents)]
        found = _read_marks(chat.render(as_messages(roles, marked, layout.folded), generation), len(roles))
        if found is not None and found.text == text:
            return found
    raise DialogError(
        "The tokenizer's chat template rewrites the messages of this dialog so that they cannot be found in "
        "what it prints. Remove special tags from the contents, or use a simpler chat template."
    )


def _marked(number: int, content: str, mark_start: bool) -> str:
    """Put marks wherever a template may begin to print this content, and at its end.

    A template may strip a content, and print what is inside `<think>` before the rest or not at all: the
    first mark that is printed counts.
    """
    begins = [len(content) - len(content.lstrip())] if mark_start or "</think>" not in content else []
    for tag in ("<think>", "</think>"):
        before, found, rest = content.rpartition(tag)
        if found:
            begins.append(len(before) + len(tag) + len(rest) - len(rest.lstrip()))
    end = max(len(content.rstrip()), *begins, 0)
    text = content[:end] + f"\ue000/{number}\ue001" + content[end:]
    for begin in sorted(set(begins), reverse=True):
        text = text[:begin] + f"\ue000{number}\ue001" + text[begin:]
    return text


def _read_marks(rendering: str, count: int) -> _Found | None:
    """Take the marks out again; None where a content's begin or end was not printed, or not in order."""
    text, seen = "", {}
    for piece in re.split("\ue000(/?\\d+\ue001)", rendering):
        if piece.endswith("\ue001"):
            seen.setdefault(piece[:-1], len(text))
        else:
            text += piece
    bounds = [(seen.get(f"{number}", -1), seen.get(f"/{number}", -1)) for number in range(count)]
    edges = [edge for bound in bounds for edge in bound]
    if -1 in edges or edges != sorted(edges):
        return None
    return _Found(text, tuple(bounds))
