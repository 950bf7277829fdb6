"""A tiny target with a tiny random decoder on the same weights: it knows nothing, but its loss is real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from latentqa.activations import WriteSite
from latentqa.data import plain_dialogs
from latentqa.decoder import (
    Card,
    Decoder,
    Mapping,
    MappingCard,
    PromptCard,
    Target,
    Wiring,
    make_references,
)
from latentqa.decoder.card import template_hash
from latentqa.dialogs import decoder_prompt
from latentqa.models import (
    LoadedModel,
    adapter_parameters,
    add_adapter,
    find_blocks,
    hidden_size,
    load_model,
    tiny_model,
    tiny_tokenizer,
    weights_hash,
)
from latentqa.steering import Pair, Steering

ADAPTER = "decoder"
DIALOG = [{"role": "user", "content": "What should I cook tonight?"}]
STIMULI = [
    "What should I cook tonight?",
    "Where is the harbour?",
    "Please answer in one sentence.",
    "Tell me about soup.",
    "Who speaks here?",
    "How are you?",
    "Describe a street.",
    "Is it true or false?",
]
PAIRS = [
    Pair("Who is the assistant?", "A lighthouse keeper."),
    Pair("How will it speak?", "In short sentences."),
]
QUICK = {"samples": 4, "held_out": 2, "batch": 2, "pairs_per_sample": 1, "steps": 4, "evaluate_every": 2}


def random_adapter(model: torch.nn.Module, name: str, seed: int = 1, scale: float = 0.2) -> None:
    """Put an adapter on a model that does change its output, and freeze it."""
    add_adapter(model, LoraConfig(r=4, target_modules="all-linear"), name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(model, name):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
            parameter.requires_grad_(False)


def make_target(architecture: str = "llama", *, layers: tuple[int, ...] = (2,), **settings: Any) -> Target:
    """A tiny target in eval mode."""
    loaded = load_model(tiny_model(architecture, **settings), tokenizer=tiny_tokenizer())
    return Target(loaded, read_layers=layers)


def make_decoder(
    target: Target, base: LoadedModel | None = None, *, mapped: bool = False, **card: Any
) -> Decoder:
    """A decoder with a random adapter on the target's weights, or on another copy."""
    base = base or target.loaded
    random_adapter(base.model, ADAPTER)
    prompt = decoder_prompt(base.tokenizer)
    fields: dict[str, Any] = {
        "name": "tiny",
        "base_model": base.name,
        "base_hash": weights_hash(base.model),
        "template_hash": template_hash(base.tokenizer),
        "hidden_size": hidden_size(base.model),
        "n_blocks": len(find_blocks(base.model)),
        "target_model": target.name,
        "target_hash": target.weights_hash,
        "read_layers": target.read_layers,
        "write_site": f"block:{max(target.read_layers)}",
        "injection": "replace",
        "spans": ("stimulus", "stimulus+completion"),
        "mapping": MappingCard(ridge=0.01, gain=1.0, dialogs=1) if mapped else None,
        "prompt": PromptCard(
            placeholder=prompt.placeholder.text, placeholder_id=prompt.placeholder_id, system=prompt.system
        ),
    }
    made = Card(**{**fields, **card})
    mapping = make_mapping(len(target.read_layers), hidden_size(target.model)) if mapped else None
    wiring = Wiring(
        base.model,
        prompt,
        WriteSite.parse(made.write_site),
        made.injection,
        made.scale,
        ADAPTER,
        mapping=mapping,
    )
    readings = [target.reading(dialog, made.span) for dialog in plain_dialogs()[:8]]
    references = make_references(target.read_many(readings, made.default_layers))
    return Decoder(wiring, made, references, target)


def make_mapping(n_layers: int, width: int) -> Mapping:
    """A random map of all read layers of a token to one vector."""
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(n_layers * width, width, generator=generator) * width**-0.5
    return Mapping(torch.zeros(n_layers, width), weight, torch.zeros(width))


@pytest.fixture
def target() -> Target:
    """A tiny llama read at layer 2; fresh for each test."""
    return make_target()


@pytest.fixture
def decoder(target: Target) -> Decoder:
    """A random decoder on the target's weights."""
    return make_decoder(target)


@pytest.fixture
def steering(target: Target) -> Callable[..., Steering]:
    """A function that makes a random steering of vectors for the target."""

    def make(*layers: int, seed: int = 0, scale: float = 1.0, **card: Any) -> Steering:
        generator = torch.Generator().manual_seed(seed)
        chosen = layers or (1,)
        vectors = torch.randn(len(chosen), hidden_size(target.model), generator=generator) * scale
        return Steering.from_vectors(target, chosen, vectors, **{"method": "random", **card})

    return make


@pytest.fixture
def adapter_steering(target: Target) -> Callable[..., Steering]:
    """A function that makes a random LoRA steering for the target."""
    from latentqa.models import remove_adapter
    from latentqa.steering import steering_lora

    def make(*layers: int, seed: int = 0, **card: Any) -> Steering:
        add_adapter(target.model, steering_lora(target, layers or (0, 1)), "made")
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapter_parameters(target.model, "made"):
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        made = Steering.from_adapter(target, "made", **{"method": "sft", **card})
        remove_adapter(target.model, "made")
        return made

    return make


def logits(target: Target) -> torch.Tensor:
    """Of the target's bare model call, as whatever is on now."""
    with torch.no_grad():
        return target.model(torch.arange(5, 25)[None]).logits


def parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of all parameters by the names that they have without adapters' wrappers."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a steering is saved."""
    return tmp_path / "gate"
