"""The batch interface of an endpoint: requests go up as a file, and replies come back within a day.

What a run needs is found out in rounds: every row is worked on until it lacks a reply, what is lacking is
sent as one batch, and so on. A batch's id is written down before it is waited for, so that a run that was
killed goes on waiting for the same one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from latentqa.data.jsonl import write_text
from latentqa.data.providers.base import Reply, Request, RetryLater
from latentqa.data.providers.endpoint import EndpointProvider, read_reply
from latentqa.data.providers.runner import GaveUp, Row, Runner, Work
from latentqa.errors import ProviderError

ROWS = 5000  # that are worked on in the same rounds
PURPOSE, ADDRESS, WINDOW = "batch", "/v1/chat/completions", "24h"
ENDED = ("completed", "failed", "expired", "cancelled")
Value = TypeVar("Value")


class NotYet(Exception):
    """A reply that the next batch will bring."""


@dataclass
class BatchRunner(Runner):
    """A runner that sends batches instead of single requests.

    Attributes:
        journal: file that holds the id of the batch that is waited for.
        poll: seconds between looks at it.
    """

    journal: Path = Path("batch.json")
    poll: float = 30.0
    _wanted: dict[str, Request] = field(default_factory=dict)
    _arrived: dict[str, Reply] = field(default_factory=dict)

    async def ask(self, request: Request) -> Reply:
        """The reply, if it has come.

        Raises:
            NotYet: it is put into the next batch.
            GaveUp: the batch brought an error in its place.
        """
        found = self.cache.get(request)
        if found is not None:
            return found
        key = request.key
        if key in self.failures:
            raise GaveUp(self.failures[key])
        if key in self._arrived:
            reply = self._arrived.pop(key)
            self.cache.put(request, reply)
            self.usage.add(reply)
            return reply
        self._wanted[key] = request
        raise NotYet

    async def each(
        self, rows: Iterable[Row], work: Work[Row], advance: Callable[[], None] = lambda: None
    ) -> None:
        """Do the work of every row, some thousand rows at a time, with one batch a round."""
        for chunk in _chunks(rows):
            if self.journal.is_file():
                await self._collect(json.loads(self.journal.read_text("utf-8"))["batch"])
            while True:
                self._wanted = {}
                for row in chunk:
                    try:
                        await work(row)
                    except (NotYet, GaveUp):
                        pass
                if not self._wanted:
                    break
                await self._collect(await self._submit())
            for _ in chunk:
                advance()

    @property
    def _endpoint(self) -> EndpointProvider:
        assert isinstance(self.provider, EndpointProvider)
        return self.provider

    async def _submit(self) -> str:
        """Send what is wanted as a batch, and return its id."""
        endpoint = self._endpoint
        rows = (
            {"custom_id": key, "method": "POST", "url": ADDRESS, "body": endpoint.body(request)}
            for key, request in self._wanted.items()
        )
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        client = endpoint.client
        file = await self._patiently(
            lambda: client.files.create(file=("requests.jsonl", content), purpose=PURPOSE)
        )
        made = await self._patiently(
            lambda: client.batches.create(input_file_id=file.id, endpoint=ADDRESS, completion_window=WINDOW)
        )
        write_text(self.journal, json.dumps({"batch": made.id, "requests": len(self._wanted)}))
        return made.id

    async def _collect(self, batch: str) -> None:
        """Wait for a batch to end, and take its replies."""
        client = self._endpoint.client
        while True:
            found = await self._patiently(lambda: client.batches.retrieve(batch))
            if found.status in ENDED:
                break
            await asyncio.sleep(self.poll)
        for file in (found.output_file_id, found.error_file_id):
            if file:
                content = await self._patiently(lambda file=file: client.files.content(file))
                for line in content.text.splitlines():
                    self._take(json.loads(line))
        self.journal.unlink(missing_ok=True)
        for key in self._wanted.keys() - self._arrived.keys() - self.failures.keys():
            self.failures[key] = f"the batch {batch} ended as {found.status} without an answer"
            self.usage.failed += 1
        if not self._arrived and self._wanted:
            raise ProviderError(
                f"The batch {batch} ended as {found.status} with no reply. See it at the provider."
            )

    def _take(self, row: dict[str, Any]) -> None:
        response = row.get("response") or {}
        if response.get("status_code") == 200:
            self._arrived[row["custom_id"]] = read_reply(response["body"])
        else:
            error = row.get("error") or response.get("body") or "no reason given"
            self.failures[row["custom_id"]] = f"the batch refused the request: {json.dumps(error)[:200]}"
            self.usage.failed += 1

    async def _patiently(self, call: Callable[[], Awaitable[Value]]) -> Value:
        """The result of a call of the API, tried again as single requests are.

        Raises:
            ProviderError: it failed for good.
        """
        for tries in itertools.count(1):
            try:
                return await call()
            except Exception as error:
                failure = self._endpoint.failure(error)
                if not isinstance(failure, RetryLater):
                    raise failure from None
                if tries > self.retries:
                    raise ProviderError(
                        f"{self.provider.name} failed {tries} times, at last with {failure.reason}. Repeat "
                        "the command later; nothing is sent twice."
                    ) from None
                await asyncio.sleep(self.backoff.seconds(tries, failure.after))
        raise AssertionError


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    source = iter(rows)
    while chunk := list(itertools.islice(source, ROWS)):
        yield chunk
