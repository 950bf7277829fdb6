"""A fake endpoint on this machine's loopback, for tests: it answers, and misbehaves where it is told to."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal

Fault = Literal["429", "500", "401", "slow", "cut", "no json", "no choices"]
REASONS = {
    200: "OK",
    401: "Unauthorized",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
SLOW = 30.0  # seconds; longer than any client of a test waits


class FakeEndpoint:
    """Speaks as much of OpenAI's protocol as the endpoint writer uses: chat completions and batches.

    Args:
        reply: from the request's body to the text of the reply.
        faults: what happens to the first requests in place of an answer, in turn; None answers.
        delay: seconds before each answer.

    Attributes:
        bodies: of the chat requests, in order; faults included.
        keys: of the `Authorization` headers, one per chat request.
        most: chat requests that were open at the same time.
        batches: batches by id.

    Example:
        >>> with FakeEndpoint(lambda body: "Ahoy") as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        reply: Callable[[dict[str, Any]], str],
        faults: Sequence[Fault | None] = (),
        delay: float = 0.0,
    ) -> None:
        self._reply = reply
        self._faults = list(faults)
        self._delay = delay
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most = 0
        self.batches: dict[str, dict[str, Any]] = {}
        self._files: dict[str, bytes] = {}
        self._open = 0
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._port = 0

    @property
    def url(self) -> str:
        """What `base_url` is set to."""
        return f"http://127.0.0.1:{self._port}/v1"

    def __enter__(self) -> FakeEndpoint:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self._started.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def serve_forever(self, port: int) -> None:
        """Serve on a port until the process ends; for benchmarks that put the server into its own."""
        self._port = port
        self._serve()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connection, "127.0.0.1", self._port, backlog=1024)
        )
        self._port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(self._loop), return_exceptions=True))
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        content = await reader.readexactly(int(headers.get("content-length", 0)))
        if path.endswith("/chat/completions"):
            return await self._chat(json.loads(content), headers, writer)
        status, answer = self._other(method, path, content)
        await _send(writer, status, answer)
        return True

    async def _chat(
        self, body: dict[str, Any], headers: dict[str, str], writer: asyncio.StreamWriter
    ) -> bool:
        number = len(self.bodies)
        self.bodies.append(body)
        self.keys.append(headers.get("authorization", ""))
        fault = self._faults[number] if number < len(self._faults) else None
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            await asyncio.sleep(SLOW if fault == "slow" else self._delay)
        finally:
            self._open -= 1
        if fault in ("429", "500", "401"):
            error = {"error": {"message": f"fake {fault}", "type": "fake"}}
            await _send(
                writer, int(fault), json.dumps(error).encode(), "retry-after: 0\r\n" * (fault == "429")
            )
        elif fault == "cut":
            writer.write(
                b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"id"'
            )
            await writer.drain()
            return False
        elif fault == "no json":
            await _send(writer, 200, b"<html>busy</html>")
        elif fault == "no choices":
            await _send(writer, 200, b'{"id": "x", "object": "chat.completion", "choices": []}')
        else:
            await _send(writer, 200, json.dumps(completion(body, self._reply(body))).encode())
        return True

    def _other(self, method: str, path: str, content: bytes) -> tuple[int, bytes]:
        """Files and batches; a batch is done when it is looked at for the second time."""
        parts = path.split("/")
        if method == "POST" and path.endswith("/files"):
            name = f"file-{len(self._files)}"
            start, end = content.index(b'{"custom_id"'), content.rindex(b"}\n") + 2
            self._files[name] = content[start:end]
            return 200, json.dumps(_file(name)).encode()
        if method == "POST" and path.endswith("/batches"):
            name = f"batch-{len(self.batches)}"
            self.batches[name] = {"input": json.loads(content)["input_file_id"], "looks": 0}
            return 200, json.dumps(_batch(name, "in_progress", None)).encode()
        if path.endswith("/content"):
            return 200, self._files[parts[-2]]
        if "/batches/" in path:
            found = self.batches[parts[-1]]
            found["looks"] += 1
            if found["looks"] < 2:
                return 200, json.dumps(_batch(parts[-1], "in_progress", None)).encode()
            return 200, json.dumps(_batch(parts[-1], "completed", self._answer(found["input"]))).encode()
        return 404, b'{"error": {"message": "no such path"}}'

    def _answer(self, name: str) -> str:
        rows = [json.loads(line) for line in self._files[name].splitlines()]
        lines = [
            {
                "custom_id": row["custom_id"],
                "response": {"status_code": 200, "body": completion(row["body"], self._reply(row["body"]))},
            }
            for row in rows
        ]
        self._files[f"{name}-out"] = "".join(json.dumps(line) + "\n" for line in lines).encode()
        return f"{name}-out"


def completion(body: dict[str, Any], text: str) -> dict[str, Any]:
    """A chat completion with that text."""
    return {
        "id": "fake",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": body.get("model", "fake"),
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }


async def _send(writer: asyncio.StreamWriter, status: int, content: bytes, more: str = "") -> None:
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\ncontent-type: application/json\r\n{more}"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    await writer.drain()


def _file(name: str) -> dict[str, Any]:
    made = {"id": name, "object": "file", "bytes": 0, "created_at": 0, "filename": "requests.jsonl"}
    return made | {"purpose": "batch", "status": "processed"}


def _batch(name: str, status: str, output: str | None) -> dict[str, Any]:
    made = {"id": name, "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-0"}
    return made | {"completion_window": "24h", "status": status, "created_at": 0, "output_file_id": output}
