"""A cache in a new folder, a quick runner, and a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from latentqa.data.providers import Backoff, Provider, Request, RequestCache, Runner
from latentqa.types import Message

QUICK = Backoff(first=0.001, longest=0.01)


def ask(text: str = "Who speaks?", **changes: Any) -> Request:
    return Request("any", (Message(role="user", content=text),), **changes)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[RequestCache]:
    with RequestCache(tmp_path / "requests.jsonl") as opened:
        yield opened


@pytest.fixture
def runner(cache: RequestCache) -> Callable[..., Runner]:
    def make(provider: Provider, **changes: Any) -> Runner:
        return Runner(provider, cache, **({"backoff": QUICK, "retries": 3, "concurrency": 4} | changes))

    return make


@pytest.fixture
def request_for() -> Callable[..., Request]:
    return ask
