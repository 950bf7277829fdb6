"""Tiny random models as targets, and toys whose answers can be told from what is read."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from latentqa.baselines import FitItem, ReaderContext
from latentqa.decoder import Target
from latentqa.models import load_model, tiny_model, tiny_tokenizer
from latentqa.types import Activation, Query
from tests.decoder.conftest import make_decoder

QUESTION = "Who is the assistant?"
JOBS = ("pirate", "nurse", "monk", "poet")
LAYERS = (1, 2)


def make_target(architecture: str = "llama", template: str | None = "chatml", **settings: Any) -> Target:
    """A tiny random target, fresh for each test."""
    return Target(load_model(tiny_model(architecture, **settings), tokenizer=tiny_tokenizer(template)))


def toy_items(count: int = 16, question: str = QUESTION) -> list[FitItem]:
    """Items whose user turn names the job that is the answer."""
    return [
        FitItem(
            Query([{"role": "user", "content": f"{n} says the {JOBS[n % 4]}"}], "stimulus", question),
            f"a {JOBS[n % 4]}",
            JOBS[n % 4],
        )
        for n in range(count)
    ]


def validation_of(items: list[FitItem]) -> list[tuple[FitItem, tuple[str, ...]]]:
    """Each item with all answers as candidates."""
    return [(item, tuple(f"a {job}" for job in JOBS)) for item in items]


def activation(vectors: torch.Tensor, layers: tuple[int, ...] = LAYERS) -> Activation:
    """An activation of these vectors `[L, T, D]`, from positions 4 on."""
    length = vectors.shape[1]
    return Activation(vectors, (5,) * length, tuple(range(4, 4 + length)), layers, "stimulus", "tiny", "hash")


@pytest.fixture
def target() -> Target:
    """A tiny llama."""
    return make_target()


@pytest.fixture
def context(target: Target) -> ReaderContext:
    """A context with a decoder and a few items."""
    items = toy_items()
    return ReaderContext(
        target,
        make_decoder(target),
        fit_items=items,
        validation=validation_of(items[:3]),
        answer_tokens=3,
        budget=3,
        finetune_examples=16,
    )
