"""Settings of small runs, and a fake endpoint that writes what the prompts ask for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latentqa.data.generate import DataConfig, MakeResult, Models, make
from latentqa.data.providers import Backoff

QUICK = Backoff(first=0.001, longest=0.01)
WORDS = (
    "lantern orchard granite ferry violin kettle meadow copper harbor thunder walnut pigeon ladder saffron "
    "glacier parrot anvil mustard chimney turnip saddle compass velvet barley puppet rocket magnet donkey"
).split()


def settings(output: Path, **changes: Any) -> DataConfig:
    values: dict[str, Any] = {"output": output, "controls": {"count": 12}}
    return DataConfig.model_validate(values | changes)


def by_endpoint(output: Path, url: str, **changes: Any) -> DataConfig:
    writer = {"kind": "endpoint", "model": "fake", "base_url": url, "concurrency": 4, "retries": 3}
    writer |= changes.pop("writer", {})
    return settings(output, writer=writer, **changes)


@pytest.fixture
def config() -> Callable[..., DataConfig]:
    return settings


@pytest.fixture
def endpoint_config() -> Callable[..., DataConfig]:
    return by_endpoint


@pytest.fixture
def run() -> Callable[..., MakeResult]:
    def go(config: DataConfig, **options: Any) -> MakeResult:
        return make(config, **({"backoff": QUICK, "models": Models()} | options))

    return go


def words_of(text: str, count: int) -> str:
    """Words that depend on the text alone, so that different prompts get different replies."""
    digest = hashlib.sha256(text.encode()).digest()
    return " ".join(WORDS[byte % len(WORDS)] for byte in digest[:count])


def write(body: dict[str, Any]) -> str:
    """What a well-behaved model replies to each of our prompts."""
    text = body["messages"][0]["content"]
    told = words_of(text, 6)
    if '"control": "the instruction"' in text or '"control": "the passage"' in text:
        return json.dumps(
            {"control": f"You are the keeper of the {told} and you talk about it all day long."}
        )
    if '"stimulus": "…"' in text:
        return json.dumps({"reply": "Of course.", "stimulus": "What should I have for dinner tonight?"})
    if '"reasoning": [{' in text:
        control = text.split('"""')[1]
        known = " ".join(word for word in control.split() if word in WORDS)
        pairs = [
            {"question": f"Who speaks here, number {n}?", "answer": f"The keeper of the {known}, {n}."}
            for n in "abc"
        ]
        return json.dumps(
            {
                "description": pairs,
                "reasoning": [{"question": "And if it rains?", "answer": f"It would talk of the {known}."}]
                * 2,
            }
        )
    if '{"pairs": [{' in text:
        return json.dumps(
            {"pairs": [{"question": f"What lies there, {n}?", "answer": f"A {told} {n}."} for n in "abcde"]}
        )
    return f"Well, the {told} is all that matters."


@pytest.fixture
def writes() -> Callable[[dict[str, Any]], str]:
    return write
