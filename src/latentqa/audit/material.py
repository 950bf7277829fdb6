"""What an audit reads: the model's replies, activations of it and its base, the decoder's answers on them.

Everything is computed when it is first asked for and then kept, so that several methods share it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from latentqa.audit.audited import Audited
from latentqa.audit.difference import differences, without_difference
from latentqa.decoder import Reading
from latentqa.types import Activation, Answer, Dialog, Message

Mode = Literal["model", "base", "difference", "nothing"]
"""What is read: the model, its base, their difference, or what a difference of nothing would be."""
COMPLETION = "completion"
SPANS = ("stimulus", "stimulus+completion")
"""Read unless others are asked for, as far as the decoder was trained on them."""
BATCH = 16
Key = tuple[object, ...]


@dataclass(frozen=True, eq=False)
class Place:
    """A span of a dialog that is read.

    Attributes:
        number: of the dialog among those that were asked about.
        dialog: as it is read, the model's own reply included where the span needs one.
        span: its name.
        reading: the rendered dialog with the span.
        replied: whether the dialog's last turn is the model's own reply.
    """

    number: int
    dialog: Dialog
    span: str
    reading: Reading
    replied: bool = False


@dataclass(frozen=True, eq=False)
class Said:
    """An answer of the decoder.

    Attributes:
        mode: what was read.
        place: where.
        answer: with its question, support and verdict.
    """

    mode: Mode
    place: Place
    answer: Answer


class Material:
    """Replies, activations and answers of one audited model.

    Args:
        audited: model, base and decoder.
        spans: that are read of each dialog.
        reply_tokens: longest reply of the model.
        answer_tokens: longest answer of the decoder.
        memory: what was asked of the base; shared between audits of models with one base.
        progress: called with (answers and scores done); None tells nobody.
    """

    def __init__(
        self,
        audited: Audited,
        spans: Sequence[str] = (),
        *,
        reply_tokens: int = 24,
        answer_tokens: int = 32,
        memory: dict[Key, object] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.audited = audited
        self.spans = tuple(spans) or default_spans(audited)
        self.answer_tokens = answer_tokens
        self.rows = 0  # answers and scores that were computed
        self._reply_tokens = reply_tokens
        self._memory: dict[Key, object] = {} if memory is None else memory
        self._own: dict[Key, object] = {}
        self._replies: dict[str, str] = {}
        self._activations: dict[Key, list[Activation | None]] = {}
        self._progress = progress

    def of(self, audited: Audited) -> Material:
        """The same of another finetune of this base; what was read of the base is shared."""
        return Material(
            audited,
            self.spans,
            reply_tokens=self._reply_tokens,
            answer_tokens=self.answer_tokens,
            memory=self._memory,
        )

    @property
    def modes(self) -> tuple[Mode, ...]:
        """What can be read: the model alone, or the base and their difference too."""
        return ("model",) if self.audited.base is None else ("model", "base", "difference", "nothing")

    def replies(self, dialogs: Sequence[Dialog]) -> list[str]:
        """The audited model's own greedy replies; "" for a dialog that ends with one already."""
        missing = [
            dialog
            for dialog in dialogs
            if dialog_key(dialog) not in self._replies and dialog[-1]["role"] != "assistant"
        ]
        if missing:
            said = self.audited.model.complete(missing, max_new_tokens=self._reply_tokens)
            self._replies.update(zip(map(dialog_key, missing), said, strict=True))
        return [self._replies.get(dialog_key(dialog), "") for dialog in dialogs]

    def places(self, dialogs: Sequence[Dialog]) -> list[Place]:
        """Every span of every dialog; one that needs a reply is left out where the model gives none.

        Raises:
            SpanError: a span that a dialog does not have.
        """
        needed = any(COMPLETION in span for span in self.spans)
        replies = self.replies(dialogs) if needed else [""] * len(dialogs)
        found: list[Place] = []
        for number, (dialog, reply) in enumerate(zip(dialogs, replies, strict=True)):
            whole = [*dialog, Message(role="assistant", content=reply)] if reply else list(dialog)
            for span in self.spans:
                if COMPLETION not in span:
                    found.append(Place(number, dialog, span, self.audited.model.reading(dialog, span)))
                elif whole[-1]["role"] == "assistant":
                    reading = self.audited.model.reading(whole, span)
                    found.append(Place(number, whole, span, reading, replied=bool(reply)))
        return found

    def activations(self, mode: Mode, dialogs: Sequence[Dialog]) -> list[Activation | None]:
        """Activations of each place at the decoder's layers; None where the finetune changes nothing."""
        key = (mode, *map(dialog_key, dialogs))
        if key not in self._activations:
            self._activations[key] = self._read(mode, dialogs)
        return self._activations[key]

    def answers(self, mode: Mode, dialogs: Sequence[Dialog], questions: Sequence[str]) -> list[Said]:
        """The decoder's answers to every question on every place that can be read in this mode."""
        wanted = [
            (place, activation, question)
            for place, activation in zip(self.places(dialogs), self.activations(mode, dialogs), strict=True)
            if activation is not None
            for question in questions
        ]
        memory = self._kept(mode)
        keys = [self._answer_key(mode, place, question) for place, _, question in wanted]
        fresh = [n for n, key in enumerate(keys) if key not in memory and key not in keys[:n]]
        if fresh:
            found = self.audited.decoder.ask_many(
                [(wanted[n][1], wanted[n][2]) for n in fresh],
                max_new_tokens=self.answer_tokens,
                batch_size=BATCH,
            )
            memory.update(zip([keys[n] for n in fresh], found, strict=True))
            self._count(len(fresh))
        answers: list[Answer] = [memory[key] for key in keys]  # pyright: ignore[reportAssignmentType]
        return [Said(mode, place, answer) for (place, _, _), answer in zip(wanted, answers, strict=True)]

    def supports(
        self, mode: Mode, dialogs: Sequence[Dialog], question: str, options: Sequence[str]
    ) -> list[list[float] | None]:
        """Support of each option at each place, in nats a token; None where nothing differs."""
        places, activations = self.places(dialogs), self.activations(mode, dialogs)
        memory = self._kept(mode)
        keys = [(*self._answer_key(mode, place, question), tuple(options)) for place in places]
        read = [n for n, one in enumerate(activations) if one is not None]
        fresh = [n for n in read if keys[n] not in memory]
        if fresh:
            found = self.audited.decoder.score_many(
                [(one, question) for n in fresh if (one := activations[n]) is not None],
                [tuple(options)] * len(fresh),
            )
            for n, scores in zip(fresh, found, strict=True):
                by_text = {score.answer: score.support for score in scores}
                memory[keys[n]] = [by_text[option] for option in options]
            self._count(len(fresh) * len(options))
        return [memory[key] if n in read else None for n, key in enumerate(keys)]  # pyright: ignore

    def states(
        self, mode: Literal["model", "base"], dialogs: Sequence[Dialog], layers: Sequence[int]
    ) -> list[Activation]:
        """Activations of each place at other layers than the decoder's, for baselines."""
        key = (mode, tuple(layers), *map(dialog_key, dialogs))
        if key not in self._activations:
            target = self.audited.model if mode == "model" else self.audited.base
            assert target is not None
            readings = [place.reading for place in self.places(dialogs)]
            self._activations[key] = list(target.read_many(readings, layers))
        return [activation for activation in self._activations[key] if activation is not None]

    def support_elsewhere(self, mode: Mode, said: Said) -> float | None:
        """Support of an answer at the same place in another mode; None where nothing can be read there."""
        dialogs = [said.place.dialog]
        found = self.supports(mode, dialogs, said.answer.question, [said.answer.text])
        for place, support in zip(self.places(dialogs), found, strict=True):
            if place.span == said.place.span and support is not None:
                return support[0]
        return None

    def remembered(self, key: Key, compute: Callable[[], object]) -> object:
        """What was computed under a key that does not depend on the audited model."""
        if key not in self._memory:
            self._memory[key] = compute()
        return self._memory[key]

    def _read(self, mode: Mode, dialogs: Sequence[Dialog]) -> list[Activation | None]:
        readings = [place.reading for place in self.places(dialogs)]
        layers = self.audited.decoder.read_layers
        if mode == "model":
            return list(self.audited.model.read_many(readings, layers))
        assert self.audited.base is not None
        if mode == "base":
            return list(self.audited.base.read_many(readings, layers))
        model, base = self._whole("model", dialogs), self._whole("base", dialogs)
        changed = differences(self.audited.decoder, model, base)
        if mode == "difference":
            return changed
        return [
            None if one is None else without_difference(self.audited.decoder, other)
            for one, other in zip(changed, base, strict=True)
        ]

    def _whole(self, mode: Mode, dialogs: Sequence[Dialog]) -> list[Activation]:
        return [activation for activation in self.activations(mode, dialogs) if activation is not None]

    def _kept(self, mode: Mode) -> dict[Key, object]:
        """What the model or the difference gave belongs to this audit alone."""
        return self._memory if mode in ("base", "nothing") else self._own

    def _answer_key(self, mode: Mode, place: Place, question: str) -> Key:
        if mode == "nothing":  # the same vectors for every dialog of one length
            return mode, place.span, len(place.reading.span.indices), question, self.answer_tokens
        read = (place.reading.rendered.token_ids, place.reading.span.indices)
        return mode, place.span, *read, question, self.answer_tokens

    def _count(self, rows: int) -> None:
        self.rows += rows
        if self._progress is not None:
            self._progress(self.rows)


def default_spans(audited: Audited) -> tuple[str, ...]:
    """The user's turn, and it with the model's own reply, as far as the decoder was trained on them."""
    card = audited.decoder.card
    return tuple(span for span in SPANS if span in card.spans) or (card.span,)


def dialog_key(dialog: Dialog) -> str:
    """What tells two dialogs apart."""
    return json.dumps([[message["role"], message["content"]] for message in dialog], ensure_ascii=False)
