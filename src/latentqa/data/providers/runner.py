"""Runs many requests against one provider: a limit on those in flight, cache, jittered retries, spend."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from latentqa.data.providers.base import Provider, Reply, Request, RetryLater
from latentqa.data.providers.cache import RequestCache
from latentqa.errors import ProviderError

Row = TypeVar("Row")
Value = TypeVar("Value")
Work = Callable[[Row], Awaitable[object]]
CONNECTION_TRIES = 3  # refused connections before the first answer, after which nobody is there
MILLION = 1_000_000
STAGGER = 0.006
"""Seconds between the first requests: servers meet a burst with 429, and replies that come in bursts wait for
one another, which cost 4 % of the rate at 64 in flight and a second's delay.
"""


class GaveUp(Exception):
    """A request that failed for good; its text says why."""


@dataclass(frozen=True)
class Backoff:
    """How long is waited before a request is sent again.

    Attributes:
        first: seconds before the second try; each further wait is about twice as long.
        longest: seconds.
    """

    first: float = 0.5
    longest: float = 30.0

    def seconds(self, tries: int, after: float | None) -> float:
        """Seconds to wait after so many tries, drawn from the upper half of the span.

        They are never fewer than the server asked for.
        """
        span = min(self.longest, self.first * 2 ** (tries - 1))
        return max(span * random.uniform(0.5, 1.0), after or 0.0)


@dataclass
class Usage:
    """What was sent and what it cost.

    Attributes:
        sent: requests that were answered.
        cached: requests that were not sent, since they had been answered before or were being answered.
        failed: requests that failed for good.
        retried: times that a request was sent again.
        input_tokens: of requests that were sent.
        output_tokens: of their replies.
        input_price: US dollars a million tokens; None is unknown.
        output_price: likewise.
    """

    sent: int = 0
    cached: int = 0
    failed: int = 0
    retried: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    input_price: float | None = None
    output_price: float | None = None

    @property
    def dollars(self) -> float | None:
        """What it cost; None if the price is unknown."""
        if self.input_price is None or self.output_price is None:
            return None
        return (self.input_tokens * self.input_price + self.output_tokens * self.output_price) / MILLION

    def add(self, reply: Reply) -> None:
        """Count an answered request."""
        self.sent += 1
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens


@dataclass
class Runner:
    """Asks a provider, remembering each reply.

    Attributes:
        provider: who answers.
        cache: replies of this run and those before it.
        concurrency: requests in flight at once.
        retries: how often a request is sent again.
        backoff: waits between tries.
        usage: counts so far.
        failures: key of each request that failed for good → why.
    """

    provider: Provider
    cache: RequestCache
    concurrency: int = 16
    retries: int = 6
    backoff: Backoff = field(default_factory=Backoff)
    usage: Usage = field(default_factory=Usage)
    failures: dict[str, str] = field(default_factory=dict)
    _flying: dict[str, asyncio.Future[Reply]] = field(default_factory=dict)

    async def ask(self, request: Request) -> Reply:
        """The reply to a request, from the cache if it was answered before; equal requests are sent once.

        Raises:
            GaveUp: all tries failed.
            ProviderError: no try can succeed.
        """
        found = self.cache.get(request)
        if found is not None:
            self.usage.cached += 1
            return found
        key = request.key
        if key in self._flying:
            self.usage.cached += 1
            return await asyncio.shield(self._flying[key])
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._flying[key] = future
        try:
            reply = await self._try(request)
            self.cache.put(request, reply)
            future.set_result(reply)
            self.usage.add(reply)
            return reply
        except BaseException as error:  # raised again: those who wait for the same request must hear of it
            future.set_exception(error if isinstance(error, Exception) else GaveUp("it was interrupted"))
            future.exception()  # nobody else may be waiting
            raise
        finally:
            del self._flying[key]

    async def recall(self, request: Request) -> Reply:
        """The reply to a request that was asked before; nothing is sent.

        Raises:
            GaveUp: there is none.
        """
        found = self.cache.get(request)
        if found is None:
            raise GaveUp(self.failures.get(request.key, "the request was never answered"))
        return found

    async def each(
        self, rows: Iterable[Row], work: Work[Row], advance: Callable[[], None] = lambda: None
    ) -> None:
        """Do the work of every row, `concurrency` rows at once.

        Args:
            rows: gone through once, and no faster than they are worked on.
            work: asks what a row needs; a `GaveUp` is noted, any other exception ends the run.
            advance: called after each row.
        """
        source = iter(rows)

        async def worker(number: int) -> None:
            await asyncio.sleep(number * STAGGER)
            for row in source:
                try:
                    await work(row)
                except GaveUp:
                    pass
                advance()
                await asyncio.sleep(0)  # rows that are all known must not hold up the others, nor Ctrl-C

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.concurrency):
                    group.create_task(worker(number))
        except BaseExceptionGroup as errors:  # of several workers the first failure says why
            raise _first(errors) from None

    async def _try(self, request: Request) -> Reply:
        tries = 0
        while True:
            tries += 1
            try:
                return await self.provider.complete(request)
            except GaveUp as error:
                self.failures[request.key] = str(error)
                self.usage.failed += 1
                raise
            except RetryLater as error:
                self._check_there(error, tries)
                if tries > self.retries:
                    times = f"{tries} times" if tries > 1 else "once"
                    reason = f"the request failed {times}, at last with {error.reason}"
                    self.failures[request.key] = reason
                    self.usage.failed += 1
                    self._check_alive(reason)
                    raise GaveUp(reason) from None
                self.usage.retried += 1
                await asyncio.sleep(self.backoff.seconds(tries, error.after))

    def _check_there(self, error: RetryLater, tries: int) -> None:
        """Stop early where nobody has ever answered."""
        if error.connection and not self.usage.sent and tries >= CONNECTION_TRIES:
            raise ProviderError(
                f"There is no answer from {self.provider.name}: {error.reason}. Check writer.base_url, and "
                "that the server is running."
            ) from None

    def _check_alive(self, reason: str) -> None:
        """Stop where request after request fails and none has succeeded."""
        if not self.usage.sent and self.usage.failed >= self.concurrency:
            raise ProviderError(
                f"{self.provider.name} answered none of {self.usage.failed} requests: {reason}. Repeat the "
                "command later; nothing is sent twice."
            )


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The first exception of a group; the others are of tasks that failed with it."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


class Session:
    """An event loop for several rounds of requests, so that connections outlive a round.

    Args:
        runner: asks, in all rounds.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from latentqa.data.providers.base import FakeProvider
        >>> with RequestCache(Path(tempfile.mkdtemp()) / "requests.jsonl") as cache:
        ...     with Session(Runner(FakeProvider(["Ahoy"]), cache)) as session:
        ...         session.run(session.runner.ask(Request("any", ()))).text
        'Ahoy'
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._loop = asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        """Run a coroutine to its end; Ctrl-C cancels it."""
        return self._loop.run(coroutine)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *details: object) -> None:
        with self._loop:
            self._loop.run(self.runner.provider.close())
