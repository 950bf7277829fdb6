"""A model on this machine as a provider: requests that wait at the same time are generated as one batch.

This room loads no model: the function that generates is handed in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from latentqa.data.providers.base import Reply, Request
from latentqa.data.providers.runner import GaveUp
from latentqa.errors import ContextLengthError, LatentQAError, ProviderError
from latentqa.types import Message

Waiting = tuple[Request, asyncio.Future[Reply]]
GATHER = 0.05  # seconds that a batch waits for more requests


class Generate(Protocol):
    """Generates replies to a batch of dialogs with the model that it holds."""

    def __call__(self, dialogs: Sequence[Sequence[Message]], max_new_tokens: int, /) -> list[Reply]:
        """One reply per dialog, in order."""
        ...


class LocalProvider:
    """Collects requests and generates their replies together, in a thread.

    Args:
        name: of the model.
        generate: makes replies to a batch of dialogs.
        batch_size: most dialogs generated together.

    Attributes:
        seconds: spent generating.
        tokens: generated.
    """

    def __init__(self, name: str, generate: Generate, batch_size: int = 16) -> None:
        self.name = name
        self.seconds = 0.0
        self.tokens = 0
        self._generate = generate
        self._batch_size = batch_size
        self._waiting: list[Waiting] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def tokens_per_second(self) -> float:
        """Tokens generated per second of generating."""
        return self.tokens / self.seconds if self.seconds else 0.0

    async def complete(self, request: Request) -> Reply:
        """Wait for the batch that the request is put into."""
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((request, future))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._work())
        return await future

    async def close(self) -> None:
        """Stop waiting for more."""
        if self._running is not None:
            self._running.cancel()

    async def _work(self) -> None:
        while self._waiting:
            if len(self._waiting) < self._batch_size:
                await asyncio.sleep(GATHER)
            first = self._waiting[0][0].max_tokens
            batch = [one for one in self._waiting if one[0].max_tokens == first][: self._batch_size]
            self._waiting = [one for one in self._waiting if one not in batch]
            try:
                await self._answer(batch, first)
            except ContextLengthError:  # of one dialog; the others must not suffer for it
                for one in batch:
                    await self._alone(one, first)
            except Exception as error:
                failure = _failure(self.name, error)
                for _, future in batch:
                    if not future.done():
                        future.set_exception(failure)

    async def _answer(self, batch: list[Waiting], max_new_tokens: int) -> None:
        dialogs = [list(request.messages) for request, _ in batch]
        started = time.monotonic()
        replies = await asyncio.to_thread(self._generate, dialogs, max_new_tokens)
        self.seconds += time.monotonic() - started
        self.tokens += sum(reply.output_tokens for reply in replies)
        for (_, future), reply in zip(batch, replies, strict=True):
            if not future.done():
                future.set_result(reply)

    async def _alone(self, one: Waiting, max_new_tokens: int) -> None:
        try:
            await self._answer([one], max_new_tokens)
        except ContextLengthError as error:
            one[1].set_exception(GaveUp(str(error)))


def _failure(name: str, error: Exception) -> Exception:
    if isinstance(error, LatentQAError):
        return error
    return ProviderError(f"The local model {name} failed: {type(error).__name__}: {error}")
