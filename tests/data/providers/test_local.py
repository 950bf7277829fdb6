"""A local model: what waits together is generated together; a recording sends nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from latentqa.data.providers import LocalProvider, ReplayProvider, Reply, Request, RequestCache, Runner
from latentqa.errors import ContextLengthError, ProviderError
from latentqa.types import Message

Ask = Callable[..., Request]


def test_requests_are_generated_in_batches(cache: RequestCache, request_for: Ask) -> None:
    sizes: list[int] = []

    def generate(dialogs: Sequence[Sequence[Message]], max_new_tokens: int) -> list[Reply]:
        sizes.append(len(dialogs))
        return [Reply(dialog[-1]["content"] * 2, 0, 4) for dialog in dialogs]

    provider = LocalProvider("tiny", generate, batch_size=4)
    runner = Runner(provider, cache, concurrency=4)

    async def work(number: int) -> None:
        assert (await runner.ask(request_for(str(number)))).text == str(number) * 2

    asyncio.run(runner.each(range(10), work))
    assert sum(sizes) == 10 and max(sizes) == 4 and len(sizes) <= 4
    assert provider.tokens == 40 and provider.tokens_per_second > 0


def test_a_model_that_fails_is_named(request_for: Ask) -> None:
    def generate(dialogs: Sequence[Sequence[Message]], max_new_tokens: int) -> list[Reply]:
        raise RuntimeError("out of memory")

    with pytest.raises(ProviderError, match="The local model tiny failed: RuntimeError: out of memory"):
        asyncio.run(LocalProvider("tiny", generate).complete(request_for()))


def test_a_recording_answers_what_it_holds(tmp_path: Path, request_for: Ask) -> None:
    with RequestCache(tmp_path / "requests.jsonl") as cache:
        cache.put(request_for("known"), Reply("yes"))
    replay = ReplayProvider(tmp_path)
    assert asyncio.run(replay.complete(request_for("known"))).text == "yes"
    with pytest.raises(ProviderError, match=r"holds no reply of any to 'unknown'….*settings"):
        asyncio.run(replay.complete(request_for("unknown")))
    asyncio.run(replay.close())
    with pytest.raises(ProviderError, match="There is no recording at"):
        ReplayProvider(tmp_path / "nowhere")


def test_a_dialog_that_is_too_long_fails_alone(cache: RequestCache, request_for: Ask) -> None:
    def generate(dialogs: Sequence[Sequence[Message]], max_new_tokens: int) -> list[Reply]:
        if any(dialog[-1]["content"] == "2" for dialog in dialogs):
            raise ContextLengthError("The dialog has 900 tokens, but tiny takes 512.")
        return [Reply("fine") for _ in dialogs]

    runner = Runner(LocalProvider("tiny", generate, batch_size=4), cache, concurrency=4)

    async def work(number: int) -> None:
        await runner.ask(request_for(str(number)))

    asyncio.run(runner.each(range(4), work))
    assert len(cache) == 3 and list(runner.failures.values()) == [
        "The dialog has 900 tokens, but tiny takes 512."
    ]
