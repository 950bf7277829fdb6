"""Small runs of tiny random models on a toy that can be learnt by heart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from latentqa.activations import WriteSite
from latentqa.data import QA, Example, write_examples
from latentqa.decoder import Reading, Target, Wiring
from latentqa.dialogs import decoder_prompt, render, resolve_span
from latentqa.models import adapter_parameters, add_adapter, load_model, tiny_model, tiny_tokenizer
from latentqa.training import ContrastSettings, LITModule, TrainConfig, run
from latentqa.training.loss import LossSettings, PreparedEntry

REPOSITORY = Path(__file__).parents[2]
JOBS = ("pirate", "nurse", "lighthouse keeper", "monk", "detective", "poet", "farmer", "king")
NO_CONTRAST = ContrastSettings.model_validate({"group": 1})


def toy_examples(count: int = 8) -> list[Example]:
    """One persona a label; its answers can be told from the control alone, and no two are the same."""
    jobs = [JOBS[number % 8] + (f" {number}" if number >= 8 else "") for number in range(count)]
    return [
        Example(
            id=f"toy:{number}",
            label=f"persona-toy-{number:02d}",
            kind="system",
            dialog=[
                {"role": "system", "content": f"You are a {JOBS[number % 8]}, number {number}."},
                {"role": "user", "content": "What should I cook tonight?"},
            ],
            qa=[
                QA(question="Who is the assistant?", answer=f"It is a {jobs[number]}."),
                QA(question="What would it say?", answer=f"What a {jobs[number]} says."),
            ],
            source="toy",
        )
        for number in range(count)
    ]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer("chatml").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight toy examples as JSONL."""
    path = tmp_path_factory.mktemp("toy") / "toy.jsonl"
    write_examples(path, toy_examples())
    return path


@pytest.fixture
def config(tmp_path: Path, model_folder: Path, toy_file: Path) -> Callable[..., TrainConfig]:
    """A function that makes the settings of a quick run: six steps of eight examples, no evaluation."""

    def make(**changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "output": tmp_path / "run",
            "model": str(model_folder),
            "data": [{"path": str(toy_file)}],
            "lora": {"rank": 4, "alpha": 8},
            "examples": 48,
            "examples_per_step": 8,
            "tokens_per_pass": 400,
            "learning_rate": 5e-3,
            "plain": 0,
            "held_out": 0,
            "calibrate": 0,
            "dtype": "float32",
            "device": "cpu",
        }
        return TrainConfig.model_validate({**settings, **changes})

    return make


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log every step, not every tenth."""
    arguments = run.trainer_arguments

    def logging(*settings: Any) -> Any:
        found = arguments(*settings)
        found.logging_steps = 1
        return found

    monkeypatch.setattr(run, "trainer_arguments", logging)


def torchrun(*command: str) -> None:
    """Run a command in two processes on the CPU."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{REPOSITORY / 'src'}:{REPOSITORY}"}
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*two, *command], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]


def log(config: TrainConfig) -> list[dict[str, Any]]:
    """Rows of a run's log."""
    return [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]


def losses(config: TrainConfig) -> list[float]:
    """The losses that a run logged."""
    return [row["loss"] for row in log(config) if "loss" in row]


def make_module(
    architecture: str = "llama",
    *,
    layers: tuple[int, ...] = (2,),
    site: str = "block:0",
    contrast: ContrastSettings = NO_CONTRAST,
    share: bool = True,
    stop: bool = True,
    target: Target | None = None,
    settings: dict[str, Any] | None = None,
    **wiring: Any,
) -> LITModule:
    """A decoder on a tiny model that is its own target, with a random adapter."""
    tokenizer = tiny_tokenizer()
    loaded = load_model(tiny_model(architecture, **(settings or {})), tokenizer=tokenizer)
    target = target or Target(loaded)
    add_adapter(loaded.model, LoraConfig(r=4, target_modules="all-linear"), "decoder")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapter_parameters(loaded.model, "decoder"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    wired = Wiring(
        loaded.model, decoder_prompt(tokenizer), WriteSite.parse(site), adapter="decoder", **wiring
    )
    return LITModule(wired, target, LossSettings(1.0, contrast, layers, share=share, stop=stop))


def make_entries(count: int = 8, *, pairs: int = 1, span: str = "all") -> list[PreparedEntry]:
    """The toy, rendered, with the first pairs of each example."""
    tokenizer = tiny_tokenizer()
    prompt = decoder_prompt(tokenizer)
    entries = []
    for example in toy_examples(count):
        rendered = render(tokenizer, example.dialog)
        asked = tuple((pair.question, prompt.answer(pair.answer)) for pair in example.qa[:pairs])
        entries.append(PreparedEntry(Reading(rendered, resolve_span(rendered, span)), asked))
    return entries


def in_groups(entries: Sequence[PreparedEntry], size: int) -> list[list[PreparedEntry]]:
    return [list(entries[first : first + size]) for first in range(0, len(entries), size)]


def gradients(module: LITModule) -> dict[str, torch.Tensor]:
    """Of what is trained, by name; taken off the module."""
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad(set_to_none=True)
    return found
