"""Context prediction: from the activations of a span of any text, which tokens come next, or came before?

The text itself is the label. What a span's states hold about the tokens around it is what a decoder learns to
read, without any writer.

Source: the self-supervised task of Activation Oracles (Karvonen et al. 2025).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from latentqa.data.plain import for_calibration, plain_turns
from latentqa.data.schema import QA, Example
from latentqa.data.split import is_held_out
from latentqa.data.tasks.texts import Text
from latentqa.dialogs import Rendered, chars_span, render
from latentqa.dialogs.tokens import tokenize
from latentqa.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GROUP = "context"
FEWEST = 6  # tokens of a text that is worth asking about

NEXT_ONE: tuple[str, ...] = (
    "What is the next token?",
    "Which token comes right after this?",
    "How does the text go on? Give the next token.",
    "Continue what is read here by one token.",
    "Name the token that follows.",
)
NEXT: tuple[str, ...] = (
    "What are the next {count} tokens?",
    "Which {count} tokens come right after this?",
    "How does the text go on? Give the next {count} tokens.",
    "Continue what is read here by {count} tokens.",
    "Name the {count} tokens that follow.",
)
PREVIOUS_ONE: tuple[str, ...] = (
    "What is the previous token?",
    "Which token comes right before this?",
    "What did the text say just before? Give one token.",
    "Name the token that leads up to this.",
    "Go back by one token: what stands there?",
)
PREVIOUS: tuple[str, ...] = (
    "What are the previous {count} tokens?",
    "Which {count} tokens come right before this?",
    "What did the text say just before? Give {count} tokens.",
    "Name the {count} tokens that lead up to this.",
    "Go back by {count} tokens: what stands there?",
)


class ContextSettings(BaseModel):
    """What the task takes.

    Attributes:
        form: `text` reads texts as they are, `chat` as a user's turn, as the benchmarks do; `both` half each.
        window: tokens of a text that the target is given at a time; a longer text is cut.
        per_text: windows of one text that are used; 0 is all.
        span: most tokens that are read.
        most: most tokens that are asked for.
        pairs: questions on each span: next and previous tokens in turn.
        share: of the texts that are used, drawn by the seed.
        seed: of every draw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    form: Literal["text", "chat", "both"] = "both"
    window: int = Field(64, ge=8)
    per_text: int = Field(4, ge=0)
    span: int = Field(32, ge=1)
    most: int = Field(20, ge=1, le=100)
    pairs: int = Field(2, ge=1, le=8)
    share: float = Field(1.0, gt=0, le=1)
    seed: int = 0


@dataclass(frozen=True)
class Passage:
    """A text in the dialog whose last message it is.

    Attributes:
        name: where it is from.
        dialog: the messages.
        source: who wrote it, if that is no file.
    """

    name: str
    dialog: tuple[Message, ...]
    source: str = "text"


def context_examples(
    passages: Iterable[Passage],
    tokenizer: PreTrainedTokenizerBase,
    settings: ContextSettings,
    left_out: Counter[str],
) -> Iterator[Example]:
    """Makes an example of each passage: a span of its last message, and which tokens lie around it.

    Tokens are those of the tokenizer; the span is named by characters, so that another tokenizer finds
    the same text, though not the same number of tokens.

    Args:
        passages: gone through once.
        tokenizer: the target's.
        settings: sizes and seed.
        left_out: counts passages that are too short.
    """
    for passage in passages:
        generator = random.Random(f"{settings.seed}:context:{passage.name}")
        rendered = render(tokenizer, passage.dialog)
        last = rendered.messages[-1]
        first = max(last.content_start, 1)  # the state of token 0 is a sink that says nothing of the text
        if last.content_end - first < FEWEST:
            left_out["a text too short to ask about"] += 1
            continue
        example = _example(passage, rendered, (first, last.content_end), settings, generator)
        if example is None:
            left_out["a text whose spans cannot be named by characters"] += 1
        else:
            yield example


def text_passages(
    texts: Iterable[Text],
    tokenizer: PreTrainedTokenizerBase,
    settings: ContextSettings,
    left_out: Counter[str],
) -> Iterator[Passage]:
    """Cuts texts into windows, each a raw text or a user's turn.

    Args:
        texts: gone through once.
        tokenizer: the target's.
        settings: form, window and seed.
        left_out: counts windows that are not used.
    """
    for text in texts:
        if settings.share < 1 and not is_held_out(text.name, settings.share, settings.seed):
            left_out["a text not drawn (share)"] += 1
            continue
        for number, part in enumerate(_windows(text.text, tokenizer, settings.window)):
            if settings.per_text and number >= settings.per_text:
                left_out[f"a window beyond the first {settings.per_text} of a text"] += 1
                continue
            name = f"{text.name}#{number}"
            role = "user" if read_as_chat(name, settings) else "text"
            yield Passage(name, (Message(role=role, content=part),))


def read_as_chat(name: str, settings: ContextSettings) -> bool:
    """Whether a text is read as a user's turn; in form `both` by the seed and its name."""
    raw = random.Random(f"{settings.seed}:form:{name}").random() < 0.5
    return settings.form == "chat" or (settings.form == "both" and not raw)


def on_policy_prompt(prompt: Text, settings: ContextSettings) -> list[Message] | str:
    """What the target is given to write on: a user's turn, or a text to be continued."""
    if read_as_chat(prompt.name, settings):
        return [Message(role="user", content=prompt.text)]
    return prompt.text


def on_policy_passages(
    prompts: Iterable[Text],
    replies: Iterable[str],
    settings: ContextSettings,
    model: str,
    left_out: Counter[str],
) -> Iterator[Passage]:
    """Passages of what a target itself wrote: its reply in a dialog, or a text with its continuation.

    Args:
        prompts: what it was given, see `on_policy_prompt`.
        replies: what it wrote on each.
        settings: the form.
        model: the target's name.
        left_out: counts empty replies.
    """
    for prompt, reply in zip(prompts, replies, strict=True):
        given = on_policy_prompt(prompt, settings)
        if not reply.strip():
            left_out["nothing was written by the target"] += 1
            continue
        if isinstance(given, str):
            dialog = (Message(role="text", content=given + reply),)
        else:
            dialog = (*given, Message(role="assistant", content=reply.strip()))
        yield Passage(f"on-policy:{prompt.name}", dialog, f"on policy, {model}")


def own_prompts() -> list[Text]:
    """Our own ordinary user turns but for those that verdicts are calibrated on, to write on policy on."""
    labels = {f"plain-{number:04d}": turn for number, turn in enumerate(plain_turns())}
    return [Text(label, turn) for label, turn in labels.items() if not for_calibration(label)]


def _windows(text: str, tokenizer: PreTrainedTokenizerBase, size: int) -> Iterator[str]:
    offsets = tokenize(tokenizer, text).offsets
    for first in range(0, len(offsets), size):
        part = text[offsets[first][0] : offsets[min(first + size, len(offsets)) - 1][1]].strip()
        if part:
            yield part


def _example(
    passage: Passage,
    rendered: Rendered,
    bounds: tuple[int, int],
    settings: ContextSettings,
    generator: random.Random,
) -> Example | None:
    start, stop = bounds
    length = generator.randint(1, min(settings.span, stop - start - 2))
    begin = generator.randint(start + 1, stop - length - 1)  # at least one token on either side
    end = begin + length
    read = chars_span(rendered, begin, end)
    if read is None:
        return None
    directions = ["next", "previous"]
    generator.shuffle(directions)
    asked: dict[str, QA] = {}
    for number in range(settings.pairs):
        pair = _pair(rendered, directions[number % 2], (start, begin, end, stop), settings.most, generator)
        if pair is not None:
            asked.setdefault(pair.question, pair)
    if not asked:
        return None
    return Example(
        id=f"{GROUP}:{passage.name}",
        label=f"{GROUP}-{passage.name.rpartition('#')[0] or passage.name}",
        kind="task",
        dialog=list(passage.dialog),
        read=read,
        qa=list(asked.values()),
        source=f"{GROUP}; {passage.source}",
    )


def _pair(
    rendered: Rendered,
    direction: str,
    places: tuple[int, int, int, int],
    most: int,
    generator: random.Random,
) -> QA | None:
    """One question and its answer; None where the tokens are blanks."""
    start, begin, end, stop = places
    count = generator.randint(1, min(most, stop - end if direction == "next" else begin - start))
    first, last = (end, end + count - 1) if direction == "next" else (begin - count, begin - 1)
    answer = " ".join(rendered.text[rendered.offsets[first][0] : rendered.offsets[last][1]].split())
    forms = {"next": (NEXT_ONE, NEXT), "previous": (PREVIOUS_ONE, PREVIOUS)}[direction][count > 1]
    question = generator.choice(forms).format(count=count)
    if not answer:
        return None
    return QA(question=question, answer=answer, kind="context", pool=f"{GROUP}-{direction}-{count}")
