"""Replies of a given form: JSON that pydantic accepts, with one re-ask that says what was wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from latentqa.data.providers.base import Reply, Request
from latentqa.data.schema import reasons
from latentqa.types import Message

Form = TypeVar("Form", bound=BaseModel)
Ask = Callable[[Request], Awaitable[Reply]]

SHOWN = 80
REFUSAL = re.compile(
    r"^\W*(?:i['’]?m sorry|i am sorry|sorry,|i (?:can['’]?t|cannot|won['’]?t|am unable|am not able) |"
    r"i['’]m (?:unable|not able) |as an ai\b|unfortunately, i )",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


class UnusableReply(Exception):
    """A reply that does not have the form, after the re-ask too; its text is the reason, as a sentence."""


def is_refusal(text: str) -> bool:
    """Whether a text begins as refusals do.

    Example:
        >>> is_refusal("I'm sorry, but I can't help with that."), is_refusal("A pirate.")
        (True, False)
    """
    return REFUSAL.match(text) is not None


async def ask_form(ask: Ask, request: Request, form: type[Form]) -> tuple[Form, Request]:
    """The reply to a request in a form, and the request that got it.

    A reply that is cut off, is no JSON or has the wrong form is answered by saying so, once. A refusal is not
    argued with.

    Raises:
        UnusableReply: a refusal, or two replies that cannot be used.
    """
    request = replace(request, schema=schema(form))
    reply = await ask(request)
    found = read_form(reply, form)
    if not isinstance(found, str):
        return found, request
    again = _again(request, reply, found)
    second = await ask(again)
    better = read_form(second, form)
    if isinstance(better, str):
        raise UnusableReply(f"the writer's reply {better}, twice: {_shown(second.text)}")
    return better, again


def read_form(reply: Reply, form: type[Form]) -> Form | str:
    """The value that a reply holds, or what is wrong with it, as part of a sentence.

    Raises:
        UnusableReply: the reply is a refusal.
    """
    if reply.finish == "refusal" or is_refusal(reply.text):
        raise UnusableReply(f"the writer refused: {_shown(reply.text)}")
    if reply.finish == "length":
        return "was cut off at max_tokens"
    value = _json(reply.text)
    if value is None:
        return "is prose instead of JSON"
    try:
        return form.model_validate(value)
    except ValidationError as error:
        return f"has the wrong form ({reasons(error)})"


def schema(form: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a form."""
    return form.model_json_schema()


def _again(request: Request, reply: Reply, problem: str) -> Request:
    """The request with the bad reply and what is wrong with it; with more room if it was cut off."""
    told = (
        f"Your reply {problem}. Answer again with one JSON object and nothing else. Its schema: "
        f"{json.dumps(request.schema)}"
    )
    messages = (
        *request.messages,
        Message(role="assistant", content=reply.text[:4000] or "(nothing)"),
        Message(role="user", content=told),
    )
    room = 2 * request.max_tokens if reply.finish == "length" else request.max_tokens
    return replace(request, messages=messages, max_tokens=room)


def _json(text: str) -> Any:
    """The JSON object in a text: the whole text, a fenced block, or what stands between its outer braces."""
    fenced = _FENCE.search(text)
    between = text[text.find("{") : text.rfind("}") + 1]
    for candidate in (text, fenced[1] if fenced else "", between):
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _shown(text: str) -> str:
    short = " ".join(text.split())
    return repr(short if len(short) <= SHOWN else f"{short[:SHOWN]}…")
