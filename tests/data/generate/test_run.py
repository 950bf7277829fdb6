"""Whole runs: every writer, resumption, locks, and each failure with its sentence."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import pytest

from latentqa.data import check_file, read_examples
from latentqa.data.generate import DataConfig, MakeResult, Models, Status, estimate, read_card
from latentqa.data.generate.lock import held
from latentqa.data.providers import FakeEndpoint, Generate, Reply
from latentqa.errors import ConfigError, DataError, ProviderError
from latentqa.types import Message

Config = Callable[..., DataConfig]
Run = Callable[..., MakeResult]
Write = Callable[[dict[str, Any]], str]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_rules_make_a_file_that_training_takes(tmp_path: Path, config: Config, run: Run) -> None:
    result = run(config(tmp_path / "out", controls={"count": 60}))
    examples = read_examples(tmp_path / "out" / "data.jsonl")
    assert result.rows["checks"] == len(examples) and check_file(tmp_path / "out" / "data.jsonl").ok
    assert all(example.qa and example.source == "latentqa data" for example in examples)
    card = read_card(tmp_path / "out")
    assert card["counts"]["pairs"] == sum(len(example.qa) for example in examples) == result.counts["pairs"]
    assert sum(card["split"]["labels"].values()) == card["counts"]["labels"]
    assert card["licence"] == "Apache-2.0" and card["writers"] == {
        f"{part}: rules": len(examples) for part in ("control", "dialog", "pairs")
    }


def test_the_same_settings_make_the_same_bytes(tmp_path: Path, config: Config, run: Run) -> None:
    for name in "ab":
        run(config(tmp_path / name))
    for file in ("data.jsonl", "card.json", "pairs.jsonl", "checks.rejected.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_finished_stages_are_not_made_again(tmp_path: Path, config: Config, run: Run) -> None:
    first = run(config(tmp_path, until="dialogs"))
    assert first.data is None and "stopped before" in str(first)
    before = (tmp_path / "dialogs.jsonl").stat().st_mtime_ns
    result = run(config(tmp_path))
    assert result.data and (tmp_path / "dialogs.jsonl").stat().st_mtime_ns == before
    assert run(config(tmp_path)).counts == result.counts


def test_other_settings_are_refused_and_redone(tmp_path: Path, config: Config, run: Run) -> None:
    run(config(tmp_path))
    other = config(tmp_path, pairs={"count": 3})
    with pytest.raises(DataError, match=r"other settings \(pairs\.count: 5 before, now 3\).*--redo"):
        run(other)
    controls = (tmp_path / "controls.jsonl").stat().st_mtime_ns
    assert run(other, redo=True).counts["pairs"] <= 36
    assert (tmp_path / "controls.jsonl").stat().st_mtime_ns == controls


def test_a_file_changed_by_hand_is_taken_as_it_is(tmp_path: Path, config: Config, run: Run) -> None:
    run(config(tmp_path))
    lines = (tmp_path / "controls.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "controls.jsonl").write_text("".join(lines[:5]), encoding="utf-8")
    result = run(config(tmp_path))
    assert result.edited == ("controls.jsonl",) and result.rows["checks"] == 5
    (tmp_path / "controls.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"controls\.jsonl row 1 is no control"):
        run(config(tmp_path))


def test_an_endpoint_writes_every_stage_with_provenance(
    tmp_path: Path, endpoint_config: Config, run: Run, writes: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    told: list[Status] = []
    price = {"price": {"input": 1.0, "output": 1.0}}
    with FakeEndpoint(writes) as server:
        config = endpoint_config(tmp_path, server.url, dialogs={"completions": "writer"}, writer=price)
        result = run(config, report=told.append)
        sent = len(server.bodies)
        assert run(config, redo=True).usage["sent"] == 0 and len(server.bodies) == sent
    assert result.usage["sent"] == sent and result.usage["dollars"] == pytest.approx(sent * 120 / 1e6)
    assert {one.stage for one in told} == {"seeds", "controls", "dialogs", "completions", "pairs", "checks"}
    last = [one for one in told if one.stage == "pairs"][-1]
    assert last.done == last.total and last.dollars and last.rate > 0 and "US dollars" in str(last)
    cached = {row["key"][:16] for row in rows(tmp_path / "requests.jsonl")}
    for name in ("controls", "dialogs", "pairs"):
        for row in rows(tmp_path / f"{name}.jsonl"):
            origin = row.get("origin", {})
            assert (
                origin["writer"] == "endpoint" and origin["model"] == "fake" and len(origin["prompt"]) == 16
            )
            assert origin.get("request", "") in cached or row.get("kind") == "control"
    card = read_card(tmp_path)
    assert not any(b"secret-key" in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert "licence, after the terms of the model" in card["licence"] and set(card["prompts_sha256"])
    assert card["counts"]["pairs_by_kind"].keys() >= {"description", "reasoning", "future"}


def test_a_recorded_run_is_replayed_without_a_server(
    tmp_path: Path, endpoint_config: Config, config: Config, run: Run, writes: Write
) -> None:
    with FakeEndpoint(writes) as server:
        run(endpoint_config(tmp_path / "first", server.url))
    writer = {"kind": "replay", "model": "fake", "recording": tmp_path / "first"}
    run(config(tmp_path / "again", writer=writer))
    first, again = (read_examples(tmp_path / name / "data.jsonl") for name in ("first", "again"))
    assert first == again
    with pytest.raises(ProviderError, match="holds no reply of other to"):
        run(config(tmp_path / "other", writer=writer | {"model": "other"}))
    with pytest.raises(ConfigError, match="A replay needs writer.recording"):
        run(config(tmp_path / "none", writer={"kind": "replay", "model": "fake"}))


def test_batches_give_what_single_requests_give(
    tmp_path: Path, endpoint_config: Config, run: Run, writes: Write
) -> None:
    with FakeEndpoint(writes) as server:
        run(endpoint_config(tmp_path / "single", server.url))
        single = len(server.bodies)
        run(endpoint_config(tmp_path / "batch", server.url, writer={"batch": True, "poll": 0.01}))
        assert len(server.bodies) == single and len(server.batches) == 3
    one, other = (read_examples(tmp_path / name / "data.jsonl") for name in ("single", "batch"))
    assert one == other


def scripted(text: str) -> Callable[[str], Generate]:
    def load(name: str) -> Generate:
        def generate(dialogs: Sequence[Sequence[Message]], max_new_tokens: int) -> list[Reply]:
            return [Reply(f"{text} {dialog[-1]['content']}", 0, 5) for dialog in dialogs]

        return generate

    return load


def test_the_target_completes_on_policy(tmp_path: Path, config: Config, run: Run) -> None:
    kinds = {"system": 0.5, "stimulus_completion": 0.5}
    settings = config(tmp_path, controls={"count": 40}, dialogs={"completions": "target", "kinds": kinds})
    result = run(settings, models=Models(generate=scripted("You said:")))
    examples = read_examples(tmp_path / "data.jsonl")
    shown = [example for example in examples if example.kind == "stimulus_completion"]
    assert shown and all(example.dialog[-1]["content"].startswith("You said: ") for example in shown)
    hidden = [
        pair
        for example in examples
        if example.kind == "system"
        for pair in example.qa
        if pair.kind == "future"
    ]
    assert any('It will begin: "You said:' in pair.answer for pair in hidden)
    assert not any(
        pair.kind == "future" for example in shown for pair in example.qa if "exact" not in example.label
    )
    assert result.tokens_per_second and "tokens/s" in str(result)


def test_empty_completions_are_rejected(tmp_path: Path, config: Config, run: Run) -> None:
    def load(name: str) -> Generate:
        return lambda dialogs, max_new_tokens: [Reply(" ") for _ in dialogs]

    settings = config(tmp_path, dialogs={"completions": "target", "target": "tiny", "kinds": {"system": 1.0}})
    result = run(settings, models=Models(generate=load))
    reasons = Counter(row["reason"] for row in rows(tmp_path / "dialogs.rejected.jsonl"))
    assert reasons == {"tiny answered with nothing": result.rejected["dialogs"]}


def prose(dialogs: Sequence[Sequence[Message]], max_new_tokens: int) -> list[Reply]:
    return [Reply("Well, it depends on the weather.", 0, 6) for _ in dialogs]


def test_a_local_model_that_writes_prose_gives_rejected_rows(
    tmp_path: Path, config: Config, run: Run
) -> None:
    settings = config(tmp_path, writer={"kind": "local", "model": "tiny"})
    result = run(settings, models=Models(generate=lambda name: prose))
    assert result.rows["controls"] == 0 and result.rejected["controls"] == 12
    reason = rows(tmp_path / "controls.rejected.jsonl")[0]["reason"]
    assert reason.startswith("the writer's reply is prose instead of JSON, twice: 'Well, it depends")
    with pytest.raises(ConfigError, match=r"The model tiny has to be handed in"):
        run(config(tmp_path / "b", writer={"kind": "local", "model": "tiny"}))


def test_a_writer_that_refuses(tmp_path: Path, endpoint_config: Config, run: Run, writes: Write) -> None:
    def refusing(body: dict[str, Any]) -> str:
        said = writes(body)
        return "I'm sorry, but I can't help with that." if '"description"' in said else said

    with FakeEndpoint(refusing) as server:
        result = run(endpoint_config(tmp_path, server.url, seeds={"shares": {"persona": 1.0}}))
    assert result.rows["pairs"] == 0
    assert {row["reason"] for row in rows(tmp_path / "pairs.rejected.jsonl")} == {
        "the writer refused: \"I'm sorry, but I can't help with that.\""
    }


def test_one_re_ask_mends_a_reply(tmp_path: Path, endpoint_config: Config, run: Run, writes: Write) -> None:
    def careless(body: dict[str, Any]) -> str:
        return writes(body) if len(body["messages"]) > 1 else '{"wrong": "form"}'

    with FakeEndpoint(careless) as server:
        result = run(endpoint_config(tmp_path, server.url))
        assert result.rows["controls"] == 12 and len(server.bodies) % 2 == 0


def test_a_server_that_misbehaves_now_and_then(
    tmp_path: Path, endpoint_config: Config, run: Run, writes: Write
) -> None:
    faults: Any = ["429", "500", None, "cut", None, "no json", None, "no choices", "slow", None] * 2
    with FakeEndpoint(writes, faults) as server:
        result = run(endpoint_config(tmp_path, server.url, writer={"timeout": 0.5, "retries": 8}))
    assert result.rows["pairs"] == 12 and result.usage["retried"] >= 10 and result.usage["failed"] == 0


def test_requests_that_fail_for_good(
    tmp_path: Path, endpoint_config: Config, run: Run, writes: Write
) -> None:
    faults: Any = [None, None, None, None, "500", "500"]
    one = {"retries": 1, "concurrency": 1}
    with FakeEndpoint(writes, faults) as server:
        with pytest.raises(ProviderError, match=r"1 of 12 requests to .* failed: the request failed 2 times"):
            run(endpoint_config(tmp_path / "a", server.url, writer=one))
        run(endpoint_config(tmp_path / "a", server.url, writer=one))
    with FakeEndpoint(writes, faults) as server:
        result = run(endpoint_config(tmp_path / "b", server.url, writer=one | {"failures": 0.2}))
    assert result.rows["controls"] == 11
    assert "status 500" in rows(tmp_path / "b" / "controls.rejected.jsonl")[0]["reason"]


def test_no_key_is_said_before_anything_is_made(
    tmp_path: Path, config: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ProviderError, match="There is no key"):
        run(config(tmp_path, writer={"kind": "endpoint", "model": "any"}))
    assert not (tmp_path / "seeds.jsonl").exists()


def test_a_second_run_on_a_folder_is_refused(tmp_path: Path, config: Config, run: Run) -> None:
    with held(tmp_path):
        with pytest.raises(
            DataError, match=rf"in use by another run \(process {os.getpid()} on .*, begun 20"
        ):
            run(config(tmp_path))
    assert run(config(tmp_path)).data


def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, config: Config, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(config(tmp_path, until="controls"))
    real = Path.open

    class Full:
        def __init__(self, stream: TextIO) -> None:
            self._stream = stream

        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *details: object) -> None:
            self._stream.close()

    def opened(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        stream = real(path, mode, *args, **options)
        return Full(stream) if "pairs.jsonl" in path.name and "w" in mode else stream

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(DataError, match=r"Cannot write .*pairs\.jsonl: No space left on device"):
        run(config(tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "pairs.jsonl").exists() and (tmp_path / "dialogs.jsonl").exists()
    assert run(config(tmp_path)).data


def test_a_folder_that_cannot_be_made(tmp_path: Path, config: Config, run: Run) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="Cannot make the folder"):
        run(config(tmp_path / "file" / "out"))


def test_a_damaged_record_is_named(tmp_path: Path, config: Config, run: Run) -> None:
    (tmp_path / "stages.json").write_text("{")
    with pytest.raises(DataError, match=r"stages\.json cannot be read .*Remove it"):
        run(config(tmp_path))


def test_a_dry_run_prices_and_sends_nothing(tmp_path: Path, endpoint_config: Config, config: Config) -> None:
    price = {"price": {"input": 2.0, "output": 8.0}}
    settings = endpoint_config(
        tmp_path / "x", "http://127.0.0.1:9/v1", controls={"count": 1000}, writer=price
    )
    told = estimate(settings)
    requests = {stage.stage: stage.requests for stage in told.stages}
    assert requests == {"controls": 1000, "dialogs": pytest.approx(920, abs=10), "pairs": 1000}
    tokens = [
        sum(getattr(stage, name) for stage in told.stages) for name in ("input_tokens", "output_tokens")
    ]
    assert told.dollars == pytest.approx((2 * tokens[0] + 8 * tokens[1]) / 1e6) and told.minutes > 1
    assert not (tmp_path / "x").exists()
    unknown = estimate(endpoint_config(tmp_path, "http://127.0.0.1:9/v1"))
    assert unknown.dollars is None and "unknown (set writer.price.input" in str(unknown)
    assert estimate(config(tmp_path)).dollars == 0.0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"until": "contols"}, "there is no stage 'contols'. Did you mean 'controls'?"),
        ({"writer": {"kind": "endpoint"}}, "the writer endpoint needs writer.model"),
        (
            {"dialogs": {"completions": "writer"}},
            "rules write no completions; set dialogs.completions: target",
        ),
        ({"dialogs": {"kinds": {"stimulus_completion": 1.0}}}, "need completions: writer or target"),
        (
            {"writer": {"kind": "endpoint", "model": "m"}, "pairs": {"writer": "local"}},
            "a run has one model that writes, beside rules; asked for endpoint and local",
        ),
    ],
)
def test_settings_that_do_not_go_together(tmp_path: Path, config: Config, changes: Any, said: str) -> None:
    with pytest.raises(ValueError) as error:
        config(tmp_path, **changes)
    assert said in str(error.value)


def test_a_killed_run_loses_only_what_was_in_flight(tmp_path: Path, writes: Write) -> None:
    """Kill -9 in the middle; then every request is sent once, but for those that were in flight."""
    with FakeEndpoint(writes, delay=0.05) as server:
        command = [
            sys.executable,
            "-m",
            "latentqa",
            "data",
            "make",
            "--writer",
            "endpoint",
            "--controls",
            "24",
        ]
        command += ["--out", str(tmp_path / "out"), "writer.model=fake", "writer.concurrency=4"]
        command += [f"writer.base_url={server.url}"]
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while len(server.bodies) < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        started.send_signal(signal.SIGKILL)
        assert started.wait() == -signal.SIGKILL
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        times = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
    assert "data: " in done.stdout
    assert 0 <= sum(times.values()) - len(times) <= 4 and max(times.values()) <= 2
    assert len(read_examples(tmp_path / "out" / "data.jsonl")) >= 20
