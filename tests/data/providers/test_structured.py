"""Replies of a form: JSON in whatever wrapping, one re-ask, no quarrel with a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from pydantic import BaseModel, ConfigDict

from latentqa.data.providers import FakeProvider, Reply, Request, UnusableReply, ask_form

Ask = Callable[..., Request]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid")

    who: str


def found(provider: FakeProvider, request: Request) -> Form:
    return asyncio.run(ask_form(provider.complete, request, Form))[0]


@pytest.mark.parametrize(
    "text",
    [
        '{"who": "a pirate"}',
        '```json\n{"who": "a pirate"}\n```',
        'Here you are: {"who": "a pirate"} Enjoy!',
    ],
)
def test_json_is_found_in_its_wrapping(text: str, request_for: Ask) -> None:
    provider = FakeProvider([text])
    assert found(provider, request_for()).who == "a pirate"
    schema = provider.requests[0].schema
    assert schema is not None and schema["properties"]["who"]["type"] == "string"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("A pirate, I think.", "prose instead of JSON"),
        ('{"whom": "a pirate"}', "who is missing; whom is not a known field"),
        ('{"who": 3}', "who has the wrong type"),
        (Reply('{"who": "a pir', finish="length"), "cut off at max_tokens"),
    ],
)
def test_a_bad_reply_is_told_what_was_wrong_once(bad: str | Reply, said: str, request_for: Ask) -> None:
    provider = FakeProvider([bad, '{"who": "a nurse"}'])
    assert found(provider, request_for(max_tokens=100)).who == "a nurse"
    again = provider.requests[1]
    assert said in again.messages[-1]["content"] and again.messages[-2]["role"] == "assistant"
    assert again.max_tokens == (200 if "cut off" in said else 100)
    assert again.key != provider.requests[0].key


def test_prose_twice_is_given_up(request_for: Ask) -> None:
    provider = FakeProvider(["A pirate.", "I said: a pirate."])
    with pytest.raises(UnusableReply, match="the writer's reply is prose instead of JSON, twice: 'I said"):
        found(provider, request_for())
    assert len(provider.requests) == 2


@pytest.mark.parametrize(
    "refusal", ["I'm sorry, but I can't help with that.", Reply("No.", finish="refusal"), "I cannot do this."]
)
def test_a_refusal_is_not_asked_again(refusal: str | Reply, request_for: Ask) -> None:
    provider = FakeProvider([refusal])
    with pytest.raises(UnusableReply, match="the writer refused: "):
        found(provider, request_for())
    assert len(provider.requests) == 1
