"""How fast data is made: by rules, by a whole run, and by an endpoint that answers after a second.

The endpoint is the package's own fake one, in a process of its own on this machine's loopback; the ideal rate
is requests in flight divided by its delay.

    python benchmarks/data.py                     # about a minute
    python benchmarks/data.py --only endpoint --in-flight 64 --delay 1
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path

from latentqa.data.generate import DataConfig, RulesWriter, make
from latentqa.data.generate.seeds import draw_seeds, load_seeds
from latentqa.data.providers import EndpointProvider, FakeEndpoint, Request, RequestCache, Runner, Session
from latentqa.types import Message

ROUNDS = 20  # answers per request in flight
AIMS = {"rules": "at least 20,000 pairs/s", "endpoint": "at least 95 % of the ideal rate, below 300 MB"}


def rules(controls: int) -> dict[str, float]:
    """Pairs a second of the rules writer alone, from seeds to question-answer pairs."""
    config = DataConfig.model_validate({"output": "unused", "controls": {"count": controls}})
    seeds = list(draw_seeds(config, load_seeds(config.seeds)))
    writer = RulesWriter(config)
    list(writer.pairs(writer.dialogs(writer.controls(seeds[:500]))))  # pyright: ignore[reportArgumentType]
    began = time.perf_counter()
    rows = writer.pairs(writer.dialogs(writer.controls(seeds)))  # pyright: ignore[reportArgumentType]
    pairs = sum(len(row.pairs) for row in rows)  # pyright: ignore[reportAttributeAccessIssue]
    return {"pairs": pairs, "pairs_per_second": pairs / (time.perf_counter() - began)}


def whole(controls: int) -> dict[str, float]:
    """Pairs a second of a whole run by rules: stages to disk, checks and card included."""
    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig.model_validate({"output": folder, "controls": {"count": controls}})
        began = time.perf_counter()
        pairs = make(config).counts["pairs"]
        return {"pairs": pairs, "pairs_per_second": pairs / (time.perf_counter() - began)}


def endpoint(in_flight: int, delay: float) -> dict[str, float]:
    """Requests a second against the fake endpoint, as a share of what is possible, and peak memory."""
    port = _free_port()
    server = multiprocessing.Process(target=_serve, args=(port, delay), daemon=True)
    server.start()
    try:
        _wait(port)
        with tempfile.TemporaryDirectory() as folder, RequestCache(Path(folder) / "requests.jsonl") as cache:
            provider = EndpointProvider(base_url=f"http://127.0.0.1:{port}/v1")
            runner = Runner(provider, cache, concurrency=in_flight)

            async def work(number: int) -> None:
                await runner.ask(Request("fake", (Message(role="user", content=f"Number {number}"),)))

            with Session(runner) as session:
                session.run(runner.each(range(-in_flight, 0), work))  # connections are made
                count = in_flight * ROUNDS
                began = time.perf_counter()
                session.run(runner.each(range(count), work))
                seconds = time.perf_counter() - began
    finally:
        server.terminate()
        server.join()
    ideal = in_flight / delay
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "requests_per_second": count / seconds,
        "ideal": ideal,
        "share_of_ideal": count / seconds / ideal,
        "peak_megabytes": memory,
    }


def _serve(port: int, delay: float) -> None:
    FakeEndpoint(lambda body: "Of course.", delay=delay).serve_forever(port)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("the fake endpoint did not start")


def main() -> None:
    """Measure what is asked for and print one JSON object a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["rules", "whole", "endpoint"], action="append")
    parser.add_argument("--controls", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--delay", type=float, default=1.0)
    given = parser.parse_args()
    wanted = given.only or ["endpoint", "rules", "whole"]
    if "endpoint" in wanted:  # first, so that the memory is its own
        _print("endpoint", endpoint(given.in_flight, given.delay))
    if "rules" in wanted:
        _print("rules", rules(given.controls))
    if "whole" in wanted:
        _print("whole", whole(given.controls // 5))


def _print(name: str, figures: dict[str, float]) -> None:
    print(json.dumps({"name": name, "aim": AIMS.get(name, "")} | figures), flush=True)


if __name__ == "__main__":
    main()
