"""The endpoint, against a fake server on loopback that misbehaves."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.data.providers import (
    Backoff,
    BatchRunner,
    EndpointProvider,
    FakeEndpoint,
    GaveUp,
    Reply,
    Request,
    RequestCache,
    Runner,
    Session,
)
from latentqa.data.providers.fake import Fault
from latentqa.errors import MissingPackageError, ProviderError

Ask = Callable[..., Request]
Make = Callable[..., Runner]


def asked(server: FakeEndpoint, make: Make, request: Request, **changes: float) -> Reply:
    provider = EndpointProvider(base_url=server.url, timeout=changes.pop("timeout", 5.0))
    with Session(make(provider, **changes)) as session:
        return session.run(session.runner.ask(request))


def test_a_request_and_its_reply(monkeypatch: pytest.MonkeyPatch, runner: Make, request_for: Ask) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    with FakeEndpoint(lambda body: f"{len(body['messages'])} message") as server:
        reply = asked(server, runner, request_for(schema={"title": "Form", "type": "object"}, sample=3))
    assert reply == Reply("1 message", 100, 20)
    body = server.bodies[0]
    assert body["model"] == "any" and body["seed"] == 3 and body["max_tokens"] == 1024
    assert body["response_format"]["json_schema"]["name"] == "Form"
    assert server.keys == ["Bearer secret-key"]


@pytest.mark.parametrize("fault", ["429", "500", "cut", "no json", "no choices"])
def test_what_passes_is_tried_again(fault: Fault, runner: Make, request_for: Ask) -> None:
    with FakeEndpoint(lambda _: "Ahoy", [fault, fault]) as server:
        assert asked(server, runner, request_for()).text == "Ahoy"
    assert len(server.bodies) == 3


def test_a_slow_answer_is_a_lost_one(runner: Make, request_for: Ask) -> None:
    with FakeEndpoint(lambda _: "Ahoy", ["slow"]) as server:
        began = time.monotonic()
        assert asked(server, runner, request_for(), timeout=0.3).text == "Ahoy"
    assert 0.3 <= time.monotonic() - began < 3 and len(server.bodies) == 2


def test_a_wrong_key_ends_the_run_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, runner: Make, request_for: Ask
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    with FakeEndpoint(lambda _: "Ahoy", ["401"]) as server:
        with pytest.raises(ProviderError, match=r"with status 401: .*Check the key\.") as error:
            asked(server, runner, request_for())
    assert "secret" not in str(error.value) and len(server.bodies) == 1


def test_no_key_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ProviderError, match="the environment variable OPENAI_API_KEY is not set"):
        EndpointProvider()
    with pytest.raises(ProviderError, match="MY_KEY is not set"):
        EndpointProvider(base_url="https://models.example/v1", key_variable="MY_KEY")
    assert EndpointProvider(base_url="http://localhost:8000/v1").name == "http://localhost:8000/v1"


def test_an_endpoint_that_is_not_there(runner: Make, request_for: Ask) -> None:
    with FakeEndpoint(lambda _: "") as server:
        gone = server.url
    with Session(runner(EndpointProvider(base_url=gone), retries=9)) as session:
        with pytest.raises(ProviderError, match=r"There is no answer from http://127\.0\.0\.1:\d+/v1"):
            session.run(session.runner.ask(request_for()))


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'latentqa\[data\]'"):
        EndpointProvider(base_url="http://localhost:1/v1")


def test_importing_providers_loads_no_sdk() -> None:
    code = "import sys; import latentqa.data.generate; print('openai' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_many_requests_fill_the_limit(cache: RequestCache, request_for: Ask) -> None:
    with FakeEndpoint(lambda body: body["messages"][0]["content"], delay=0.1) as server:
        runner = Runner(EndpointProvider(base_url=server.url), cache, concurrency=16)

        async def work(number: int) -> None:
            reply = await runner.ask(request_for(str(number)))
            assert reply.text == str(number)

        with Session(runner) as session:
            session.run(runner.each(range(64), work))
    assert server.most == 16 and runner.usage.sent == 64


def test_a_batch_goes_up_as_a_file_and_is_waited_for(tmp_path: Path, request_for: Ask) -> None:
    seen: list[str] = []
    with FakeEndpoint(lambda body: body["messages"][-1]["content"].upper()) as server:
        with RequestCache(tmp_path / "requests.jsonl") as cache:
            provider = EndpointProvider(base_url=server.url)
            runner = BatchRunner(provider, cache, journal=tmp_path / "batch.json", poll=0.01)

            async def work(number: int) -> None:
                first = await runner.ask(request_for(f"a{number}"))
                second = await runner.ask(request_for(f"b{first.text}"))
                seen.append(second.text)

            with Session(runner) as session:
                session.run(runner.each(range(3), work))
    assert sorted(seen) == ["BA0", "BA1", "BA2"]
    assert len(server.batches) == 2 and not server.bodies and not (tmp_path / "batch.json").exists()


def test_a_killed_run_waits_for_the_same_batch(tmp_path: Path, request_for: Ask) -> None:
    with FakeEndpoint(lambda body: "done") as server, RequestCache(tmp_path / "requests.jsonl") as cache:

        def runner() -> BatchRunner:
            provider = EndpointProvider(base_url=server.url)
            return BatchRunner(
                provider, cache, journal=tmp_path / "batch.json", poll=0.01, backoff=Backoff(0.01)
            )

        async def work(number: int) -> None:
            await started.ask(request_for(str(number)))

        started = runner()
        with Session(started) as session:
            started._wanted = {request_for("0").key: request_for("0")}
            session.run(started._submit())  # and here it is killed
        started = runner()
        with Session(started) as session:
            session.run(started.each([0], work))
        assert len(server.batches) == 1 and request_for("0") in cache


def test_a_request_that_was_given_up_is_no_reply(runner: Make, request_for: Ask) -> None:
    with FakeEndpoint(lambda _: "Ahoy", [None, "500", "500"]) as server:
        with Session(runner(EndpointProvider(base_url=server.url), retries=1)) as session:
            asyncio_runner = session.runner
            session.run(asyncio_runner.ask(request_for("fine")))
            with pytest.raises(GaveUp, match="status 500"):
                session.run(asyncio_runner.ask(request_for("bad")))
            with pytest.raises(GaveUp, match="status 500"):
                asyncio.run(asyncio_runner.recall(request_for("bad")))
