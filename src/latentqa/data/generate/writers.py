"""Who writes the rows: the protocol that rules and models share, and the writer that prompts a model."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from latentqa.data.generate.config import DataConfig, DialogKind, WriterKind
from latentqa.data.generate.prompts import fill, prompt_hash
from latentqa.data.generate.rows import Control, Draft, Origin, Paired, Rejected, Seed
from latentqa.data.providers import GaveUp, Request, Session, UnusableReply, ask_form
from latentqa.data.providers.structured import Ask
from latentqa.data.schema import QA, ExampleKind, QAKind, Text
from latentqa.types import Message

Advance = Callable[[], None]
Given = TypeVar("Given", Seed, Control, Draft)
Made = TypeVar("Made")


class Writer(Protocol):
    """Makes the rows of a stage from those of the stage before.

    `prepare` is called first, with the same rows: a writer that asks a model sends its requests there, many
    at once. The other methods then only put rows together, in order.
    """

    @property
    def kind(self) -> WriterKind:
        """As the settings name it."""
        ...

    @property
    def model(self) -> str:
        """The model that writes; empty for rules."""
        ...

    def prepare(self, stage: str, rows: Iterable[Any], advance: Advance) -> None:
        """Get what the rows of a stage need."""
        ...

    def controls(self, seeds: Iterable[Seed]) -> Iterator[Control | Rejected]:
        """One control per seed."""
        ...

    def dialogs(self, controls: Iterable[Control]) -> Iterator[Draft | Rejected]:
        """One dialog per control."""
        ...

    def pairs(self, drafts: Iterable[Draft]) -> Iterator[Paired | Rejected]:
        """The pairs of each dialog."""
        ...


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ControlForm(_Form):
    """What is asked for a control."""

    control: Text


class DialogForm(_Form):
    """What is asked for a dialog."""

    reply: Text
    stimulus: Text


class PairForm(_Form):
    """One pair."""

    question: Text
    answer: Text


Pairs = Annotated[list[PairForm], Field(min_length=1)]


class PairsForm(_Form):
    """What is asked on a passage or a completion."""

    pairs: Pairs


class DescribedForm(_Form):
    """What is asked on a control."""

    description: Pairs
    reasoning: Pairs


class TextWriter:
    """Prompts a model for every row.

    Args:
        config: the run's settings.
        kind: `endpoint`, `local` or `replay`.
        session: asks the model, and remembers its replies.
    """

    def __init__(self, config: DataConfig, kind: WriterKind, session: Session) -> None:
        self.kind: WriterKind = kind
        self.model = config.writer.model
        self._config = config
        self._session = session
        self._ask: Ask = session.runner.recall

    def prepare(self, stage: str, rows: Iterable[Any], advance: Advance) -> None:
        """Send the requests of a stage."""
        make = {"controls": self._control, "dialogs": self._dialog, "pairs": self._paired}[stage]
        self._ask = self._session.runner.ask
        try:
            send(self._session, rows, make, advance)
        finally:
            self._ask = self._session.runner.recall

    def controls(self, seeds: Iterable[Seed]) -> Iterator[Control | Rejected]:
        """One control per seed."""
        return self._finished("controls", seeds, self._control)

    def dialogs(self, controls: Iterable[Control]) -> Iterator[Draft | Rejected]:
        """One dialog per control."""
        return self._finished("dialogs", controls, self._dialog)

    def pairs(self, drafts: Iterable[Draft]) -> Iterator[Paired | Rejected]:
        """The pairs of each dialog."""
        return self._finished("pairs", drafts, self._paired)

    def _finished(
        self, stage: str, rows: Iterable[Given], make: Callable[[Given], Coroutine[Any, Any, Made]]
    ) -> Iterator[Made | Rejected]:
        """The rows put together from what was prepared."""
        for row in rows:
            try:
                yield finish(make(row))
            except (GaveUp, UnusableReply) as error:
                yield Rejected(stage, row.id, str(error))

    async def _control(self, seed: Seed) -> Control:
        name = "passage" if seed.group == "sqa" else "control"
        text = fill(name, category=seed.category, theme=seed.theme, variant=seed.variant)
        form, request = await ask_form(self._ask, self._request(text), ControlForm)
        return Control(seed.id, seed.label, _flat(form.control), seed, origin=self._origin(name, request))

    async def _dialog(self, control: Control) -> Draft:
        if control.seed.group == "sqa":
            turn = (Message(role="user", content=control.text),)
            return Draft(control.id, control, "control", turn, origin=self._origin("passage", None))
        form, request = await ask_form(
            self._ask, self._request(fill("dialog", control=control.text)), DialogForm
        )
        kind = kind_of(control.id, self._config)
        origin = self._origin("dialog", request)
        return Draft(
            control.id, control, kind, turns(kind, control.text, form.reply, form.stimulus), origin=origin
        )

    async def _paired(self, draft: Draft) -> Paired:
        settings = self._config.pairs
        control = draft.control
        found: list[QA] = []
        if control.seed.group == "sqa":
            name = "extractive"
            text = fill(name, control=control.text, count=settings.count)
            form, request = await ask_form(self._ask, self._request(text), PairsForm)
            found += _pairs(form.pairs[: settings.count], "extractive")
        else:
            name = "pairs"
            reasoning = max(settings.count * 2 // 5, 1)
            described = max(settings.count - reasoning, 1)
            stimulus = draft.stimulus or "(nothing yet)"
            text = fill(
                name, control=control.text, stimulus=stimulus, descriptions=described, reasonings=reasoning
            )
            form, request = await ask_form(self._ask, self._request(text), DescribedForm)
            found += _pairs(form.description[:described], "description")
            found += _pairs(form.reasoning[:reasoning], "reasoning")
        if draft.completion and settings.future and draft.kind != "stimulus_completion":
            text = fill("future", stimulus=draft.stimulus, completion=draft.completion, count=settings.future)
            foreseen, _ = await ask_form(self._ask, self._request(text), PairsForm)
            found += _pairs(foreseen.pairs[: settings.future], "future")
        return Paired(draft, tuple(found), self._origin(name, request))

    def _request(self, text: str) -> Request:
        writer = self._config.writer
        message = Message(role="user", content=text)
        return Request(writer.model, (message,), writer.max_tokens, writer.temperature)

    def _origin(self, name: str, request: Request | None) -> Origin:
        key = request.key[:16] if request is not None else ""
        return Origin(self.kind, self.model, prompt_hash(name), key)


class Completions:
    """Lets a model answer each dialog's stimulus under its control.

    Args:
        config: the run's settings.
        model: name of the model.
        session: asks it, and remembers its replies.
    """

    def __init__(self, config: DataConfig, model: str, session: Session) -> None:
        self._model = model
        self._settings = config.dialogs
        self._temperature = config.writer.temperature if config.dialogs.completions == "writer" else 0.0
        self._session = session

    def prepare(self, drafts: Iterable[Draft], advance: Advance) -> None:
        """Send the requests."""

        async def work(draft: Draft) -> None:
            if _is_answered(draft):
                await self._session.runner.ask(self._request(draft))

        send(self._session, drafts, work, advance)

    def fill(self, drafts: Iterable[Draft]) -> Iterator[Draft | Rejected]:
        """The dialogs with their completions; what is read for itself has none."""
        for draft in drafts:
            if not _is_answered(draft):
                yield draft
                continue
            try:
                reply = finish(self._session.runner.recall(self._request(draft)))
            except GaveUp as error:
                yield Rejected("dialogs", draft.id, str(error))
                continue
            text = reply.text.strip()
            if text:
                yield replace(draft, completion=text)
            else:
                yield Rejected("dialogs", draft.id, f"{self._model} answered with nothing")

    def _request(self, draft: Draft) -> Request:
        return Request(self._model, draft.dialog, self._settings.max_new_tokens, self._temperature)


def _is_answered(draft: Draft) -> bool:
    return draft.kind != "control"


def send(
    session: Session,
    rows: Iterable[Given],
    make: Callable[[Given], Coroutine[Any, Any, Any]],
    advance: Advance,
) -> None:
    """Send the requests of many rows, so that `finish` finds their replies in the cache."""

    async def work(row: Given) -> None:
        try:
            await make(row)
        except UnusableReply:
            pass

    session.run(session.runner.each(rows, work, advance))


def finish(coroutine: Coroutine[Any, Any, Made]) -> Made:
    """The result of work whose requests have all been answered: nothing in it has to be waited for."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    coroutine.close()
    raise AssertionError("a request was not prepared")


def kind_of(name: str, config: DataConfig) -> DialogKind:
    """The kind of a dialog, by its id alone."""
    kinds: dict[DialogKind, float] = {
        kind: share for kind, share in config.dialogs.kinds.items() if share > 0 and kind != "control"
    }
    chooser = random.Random(f"{config.seed}:kind:{name}")
    return chooser.choices(list(kinds), list(kinds.values()))[0] if kinds else "system"


def turns(kind: ExampleKind, control: str, reply: str, stimulus: str) -> tuple[Message, ...]:
    """The turns of a dialog: its control as a system prompt, or as a first user turn with a reply."""
    user = Message(role="user", content=_flat(stimulus))
    if kind == "system":
        return (Message(role="system", content=control), user)
    return (Message(role="user", content=control), Message(role="assistant", content=_flat(reply)), user)


def _pairs(forms: list[PairForm], kind: QAKind) -> list[QA]:
    return [QA(question=_flat(one.question), answer=_flat(one.answer), kind=kind) for one in forms]


def _flat(text: str) -> str:
    return " ".join(text.split())
