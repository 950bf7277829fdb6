"""A tiny target with stimuli, and contexts of methods on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from latentqa.baselines.steering import Aim
from latentqa.baselines.steering.completions import Completions
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.lora import LoraSettings
from latentqa.baselines.steering.treatment import Treatment
from latentqa.decoder import Target
from latentqa.steering import Pair, Steering
from tests.baselines.conftest import make_target
from tests.decoder.conftest import make_decoder

STIMULI = ("Where is the harbour?", "Why?", "What should I cook tonight?", "Hello there", "Who are you?")
AIM = Aim(
    "soup",
    "Talk about soup.",
    pairs=(Pair("What will it talk about?", "Soup."), Pair("Who is it?", "A cook.")),
    answer="It will talk about soup.",
)
TOKENS = torch.tensor([[5, 9, 30, 41, 7]])


def logits(target: Target) -> torch.Tensor:
    """Of fixed tokens, under whatever is on now."""
    with torch.no_grad():
        return target.model(TOKENS).logits


def unit_vector(target: Target, layer: int = 2, size: float = 4.0, seed: int = 0) -> Steering:
    """A steering by a random vector of that norm."""
    vector = torch.randn(1, 32, generator=torch.Generator().manual_seed(seed))
    return Steering.from_vectors(target, (layer,), size * vector / vector.norm(), method="random")


@pytest.fixture
def target() -> Target:
    return make_target()


@pytest.fixture
def context(target: Target) -> Callable[..., MethodContext]:
    """A function that makes a context; methods made like others share what these made."""

    def make(*, decoder: bool = False, **settings: Any) -> MethodContext:
        made: dict[str, Treatment] = {}

        def others(method: str) -> Treatment:
            from latentqa.baselines.steering import make_treatment

            if method not in made:
                made[method] = make_treatment(method, found)
            return made[method]

        given = {"aim": AIM, "lora": LoraSettings(rank=2, alpha=4, steps=4, batch_size=2), "others": others}
        found = MethodContext(
            target,
            stimuli=STIMULI,
            completions=Completions(target, 6),
            decoder=make_decoder(target) if decoder else None,
            **(given | settings),
        )
        return found

    return make
