"""Render a dialog through the tokenizer's own chat template and know which token belongs to which message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentqa.dialogs.layout import PlacedMessage
from latentqa.dialogs.place import TEXT, place
from latentqa.dialogs.template import FOLD_NOTE, PLAIN_NOTE, RAW_NOTE
from latentqa.dialogs.tokens import Tokens, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RenderedMessage:
    """The tokens of one message: header `[start, content_start)`, content, tail `[content_end, end)`.

    A token that holds a character of the content counts as content; a token that straddles two messages
    counts for the earlier one.

    Attributes:
        role: `"system"`, `"user"` or `"assistant"`; `"text"` for a raw text.
        start: first token of the header.
        content_start: first token of the content.
        content_end: one past the last token of the content.
        end: one past the last token of the tail.
        text: the content as the template printed it.
    """

    role: str
    start: int
    content_start: int
    content_end: int
    end: int
    text: str


@dataclass(frozen=True)
class Rendered:
    """A dialog as the model sees it.

    Attributes:
        token_ids: the `T` token ids, beginning-of-text and generation prompt included.
        messages: where each message lies; a system message that the template added is one of them.
        generation_start: first token of the generation prompt, or None without one.
        text: the rendered text.
        tokens: the text of each token; joined they give `text` (one that only completes a character has "").
        notes: what was unusual, e.g. `"system role folded into the first user turn"`.
        offsets: the characters `[start, end)` of `text` that each token covers.
    """

    token_ids: tuple[int, ...]
    messages: tuple[RenderedMessage, ...]
    generation_start: int | None
    text: str
    tokens: tuple[str, ...]
    notes: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]


def render(
    tokenizer: PreTrainedTokenizerBase, dialog: Sequence, *, generation_prompt: bool | None = None
) -> Rendered:
    """Render a dialog and say which token belongs to which message.

    Args:
        tokenizer: its chat template is used; without one, the plain format of `PLAIN_TEMPLATE`.
        dialog: messages `{"role", "content"}`; one message of role `text` is raw text, without any template.
        generation_prompt: whether to end with the generation prompt; None adds it unless the assistant spoke
            last.

    Raises:
        DialogError: the dialog is empty or malformed, or the template refuses it.

    Example:
        >>> from latentqa.models.tiny import tiny_tokenizer
        >>> rendered = render(tiny_tokenizer(), [{"role": "user", "content": "Where is the harbour?"}])
        >>> user = rendered.messages[0]
        >>> "".join(rendered.tokens[user.content_start : user.content_end])
        'Where is the harbour?'
    """
    placed = place(tokenizer, dialog, generation_prompt=generation_prompt)
    tokens = tokenize(tokenizer, placed.text)
    messages, floor = [], 0
    for message in placed.messages:
        messages.append(_in_tokens(message, tokens, floor))
        floor = messages[-1].end
    generation_start = None if placed.generation_start is None else floor
    if placed.messages[0].role == TEXT:
        notes: tuple[str, ...] = (RAW_NOTE,)
    else:
        notes = (FOLD_NOTE,) * placed.layout.folded + (PLAIN_NOTE,) * (tokenizer.chat_template is None)
    return Rendered(
        tokens.ids, tuple(messages), generation_start, placed.text, tokens.texts(), notes, tokens.offsets
    )


def _in_tokens(message: PlacedMessage, tokens: Tokens, floor: int) -> RenderedMessage:
    """Move a message's bounds from characters to tokens; no token before `floor` is taken."""
    start = max(floor, tokens.starting(message.start))
    content_end = max(start, tokens.starting(message.content_end))
    content_start = max(start, tokens.reaching(message.content_start)) if message.text else content_end
    end = max(content_end, tokens.starting(message.end))
    return RenderedMessage(message.role, start, content_start, content_end, end, message.text)
