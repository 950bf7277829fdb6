"""The runner: limit in flight, cache, retries, and when it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from latentqa.data.providers import (
    Backoff,
    FakeProvider,
    GaveUp,
    Reply,
    Request,
    RequestCache,
    RetryLater,
    Runner,
)
from latentqa.errors import ProviderError

Ask = Callable[..., Request]
Make = Callable[..., Runner]


def test_a_request_is_sent_once(runner: Make, request_for: Ask) -> None:
    provider = FakeProvider(["Ahoy"])
    asked = runner(provider)

    async def go() -> list[Reply]:
        together = await asyncio.gather(asked.ask(request_for()), asked.ask(request_for()))
        return [*together, await asked.ask(request_for())]

    assert [reply.text for reply in asyncio.run(go())] == ["Ahoy"] * 3
    assert len(provider.requests) == 1 and asked.usage.sent == 1 and asked.usage.cached == 2


def test_what_may_pass_is_tried_again(runner: Make, request_for: Ask) -> None:
    provider = FakeProvider([RetryLater("status 429", 0.0), RetryLater("status 500"), "Ahoy"])
    asked = runner(provider)
    assert asyncio.run(asked.ask(request_for())).text == "Ahoy"
    assert asked.usage.retried == 2 and asked.usage.failed == 0


def test_a_request_is_given_up_after_its_retries(runner: Make, request_for: Ask) -> None:
    asked = runner(FakeProvider(["Ahoy", RetryLater("status 500")]), retries=2)

    async def go() -> None:
        await asked.ask(request_for("first"))
        with pytest.raises(GaveUp, match="failed 3 times, at last with status 500"):
            await asked.ask(request_for("second"))

    asyncio.run(go())
    assert list(asked.failures.values()) == ["the request failed 3 times, at last with status 500"]


def test_nobody_there_is_found_out_early(runner: Make, request_for: Ask) -> None:
    refused = RetryLater("a broken connection (refused)", connection=True)
    asked = runner(FakeProvider([refused]), retries=50)
    with pytest.raises(
        ProviderError, match=r"There is no answer from fake: .*refused.*Check writer.base_url"
    ):
        asyncio.run(asked.ask(request_for()))


def test_a_server_that_only_fails_ends_the_run(runner: Make, request_for: Ask) -> None:
    asked = runner(FakeProvider([RetryLater("status 503")]), retries=0, concurrency=3)

    async def work(number: int) -> None:
        await asked.ask(request_for(str(number)))

    with pytest.raises(ProviderError, match="answered none of 3 requests: the request failed once"):
        asyncio.run(asked.each(range(100), work))


def test_no_more_are_in_flight_than_allowed(cache: RequestCache, request_for: Ask) -> None:
    class Slow(FakeProvider):
        now = most = 0

        async def complete(self, request: Request) -> Reply:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            return Reply("done")

    provider = Slow([])
    asked = Runner(provider, cache, concurrency=7)

    async def work(number: int) -> None:
        await asked.ask(request_for(str(number)))

    advanced = []
    asyncio.run(asked.each(range(40), work, lambda: advanced.append(1)))
    assert provider.most == 7 and len(advanced) == 40 and len(cache) == 40


def test_rows_are_taken_no_faster_than_they_are_worked_on(runner: Make, request_for: Ask) -> None:
    asked = runner(FakeProvider(["Ahoy"]), concurrency=2)
    taken: list[int] = []

    def rows() -> object:
        for number in range(1000):
            taken.append(number)
            yield number

    async def work(number: int) -> None:
        if number == 5:
            raise ProviderError("stop")
        await asked.ask(request_for(str(number)))

    with pytest.raises(ProviderError, match="stop"):
        asyncio.run(asked.each(rows(), work))  # pyright: ignore[reportArgumentType]
    assert len(taken) < 12


def test_waits_grow_are_jittered_and_heed_the_server() -> None:
    backoff = Backoff(first=1.0, longest=8.0)
    for tries, span in ((1, 1.0), (2, 2.0), (4, 8.0), (9, 8.0)):
        drawn = [backoff.seconds(tries, None) for _ in range(200)]
        assert span / 2 <= min(drawn) < max(drawn) <= span
    assert backoff.seconds(1, 20.0) == 20.0


def test_dollars_are_known_where_prices_are(runner: Make, request_for: Ask) -> None:
    asked = runner(FakeProvider([Reply("one", 1_000_000, 500_000)]))
    asyncio.run(asked.ask(request_for()))
    assert asked.usage.dollars is None
    asked.usage.input_price, asked.usage.output_price = 0.5, 2.0
    assert asked.usage.dollars == 1.5
