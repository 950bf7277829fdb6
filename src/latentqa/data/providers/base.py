"""What every text provider has in common: a request, a reply, and how a failure is told apart.

A provider turns one request into one reply. It knows nothing of caches, retries or concurrency: those are the
runner's, so that they are the same for an endpoint, a local model and a recording.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

from latentqa.types import Message

Finish = Literal["stop", "length", "refusal"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: all that its answer depends on.

    Attributes:
        model: name that the provider knows it by.
        messages: the dialog so far.
        max_tokens: longest reply.
        temperature: 0 is greedy.
        schema: JSON schema that the reply must have; None for free text.
        sample: number that tells equal requests apart, where several answers are wanted.
    """

    model: str
    messages: tuple[Message, ...]
    max_tokens: int = 1024
    temperature: float = 1.0
    schema: dict[str, Any] | None = field(default=None, hash=False)
    sample: int = 0

    @property
    def key(self) -> str:
        """Hash of the whole request, by which its reply is cached (sha256, hexadecimal)."""
        text = json.dumps(self.plain(), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()

    def plain(self) -> dict[str, Any]:
        """The request as JSON holds it."""
        return {
            "model": self.model,
            "messages": self.messages,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "schema": self.schema,
            "sample": self.sample,
        }


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back.

    Attributes:
        text: the reply.
        input_tokens: of the request.
        output_tokens: of the reply.
        finish: `stop`, `length` (cut off at the longest) or `refusal`.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    finish: Finish = "stop"


class RetryLater(Exception):
    """A request failed in a way that may pass: too many requests, a server error, a lost connection.

    Args:
        reason: what happened, as part of a sentence.
        after: seconds that the server asked to wait; None if it did not say.
        connection: no connection was made at all.
    """

    def __init__(self, reason: str, after: float | None = None, *, connection: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after
        self.connection = connection


@runtime_checkable
class Provider(Protocol):
    """Anything that answers requests."""

    @property
    def name(self) -> str:
        """What messages call it: an address, a model, a file."""
        ...

    async def complete(self, request: Request) -> Reply:
        """Answer one request.

        Raises:
            RetryLater: it may work later.
            ProviderError: it never will.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class FakeProvider:
    """A scripted provider, for tests: each reply in turn, the last one again and again.

    Args:
        replies: texts, replies, or exceptions that are raised.

    Attributes:
        requests: everything that was asked.

    Example:
        >>> import asyncio
        >>> fake = FakeProvider(["Ahoy"])
        >>> asyncio.run(fake.complete(Request("any", ()))).text
        'Ahoy'
    """

    name = "fake"

    def __init__(self, replies: Sequence[str | Reply | Exception]) -> None:
        self._replies = list(replies)
        self.requests: list[Request] = []

    async def complete(self, request: Request) -> Reply:
        """The next reply of the script."""
        said = self._replies[min(len(self.requests), len(self._replies) - 1)]
        self.requests.append(request)
        await asyncio.sleep(0)
        if isinstance(said, Exception):
            raise said
        return Reply(said, 10, len(said.split())) if isinstance(said, str) else said

    async def close(self) -> None:
        """Nothing to let go of."""
