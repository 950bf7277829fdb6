"""Decoders of tiny random models: they know nothing, but their wiring is real."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

from latentqa.activations import WriteSite
from latentqa.data import plain_dialogs
from latentqa.decoder import Card, Decoder, PromptCard, References, Target, Wiring, make_references
from latentqa.decoder.card import template_hash
from latentqa.decoder.wiring import Slot
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

ARCHITECTURES = ("llama", "gemma2", "gpt2", "opt", "qwen3")
QUESTIONS = ("Who are you?", "What should I cook tonight with these vegetables?", "Why?")
ADAPTER = "decoder"
DIALOG = [
    {"role": "system", "content": "You are a lighthouse keeper."},
    {"role": "user", "content": "What should I cook tonight?"},
]


def random_adapter(model: torch.nn.Module, name: str = ADAPTER, seed: int = 1) -> None:
    """Put an adapter on a model that does change its output: its weights are random, not PEFT's zeros."""
    add_adapter(model, LoraConfig(r=4, target_modules="all-linear"), name)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(model, name):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def make_wiring(
    architecture: str = "llama",
    *,
    site: str = "block:1",
    template: str = "{placeholders}\n{question}",
    tokenizer: str | None = "chatml",
    settings: dict[str, Any] | None = None,
    **overrides: Any,
) -> Wiring:
    """A wired decoder with a random adapter."""
    model = tiny_model(architecture, **(settings or {}))
    random_adapter(model)
    prompt = decoder_prompt(tiny_tokenizer(tokenizer), template=template)
    return Wiring(model, prompt, WriteSite.parse(site), adapter=ADAPTER, **overrides)


def make_slots(lengths: Sequence[int], width: int = 32, *, gradients: bool = False) -> list[Slot]:
    """Random activations of these lengths."""
    generator = torch.Generator().manual_seed(3)
    return [
        Slot(torch.randn(n, width, generator=generator).requires_grad_(gradients), n, tuple(range(4, 4 + n)))
        for n in lengths
    ]


def make_card(base: LoadedModel, prompt: Any, *, target: Target | None = None, **settings: Any) -> Card:
    """The card of a decoder on a base."""
    given: dict[str, Any] = {
        "name": "tiny",
        "base_model": base.name,
        "base_hash": weights_hash(base.model),
        "template_hash": template_hash(base.tokenizer),
        "hidden_size": hidden_size(base.model),
        "n_blocks": len(find_blocks(base.model)),
        "target_model": target.name if target else base.name,
        "target_hash": target.weights_hash if target else weights_hash(base.model),
        "read_layers": target.read_layers if target else (2,),
        "write_site": "block:1",
        "injection": "replace",
        "prompt": PromptCard(
            placeholder=prompt.placeholder.text, placeholder_id=prompt.placeholder_id, system=prompt.system
        ),
    }
    return Card(**{**given, **settings})


def make_decoder(
    target: Target, *, references: References | None = None, base: LoadedModel | None = None, **card: Any
) -> Decoder:
    """A decoder with a random adapter on the target's weights, or on another base."""
    base = base or target.loaded
    random_adapter(base.model)
    prompt = decoder_prompt(base.tokenizer)
    made = make_card(base, prompt, target=target, **card)
    wiring = Wiring(base.model, prompt, WriteSite.parse(made.write_site), made.injection, made.scale, ADAPTER)
    return Decoder(wiring, made, references or ordinary_references(target), target)


def ordinary_references(target: Target, span: str = "stimulus") -> References:
    """References of a dozen ordinary dialogs."""
    readings = [target.reading(dialog, span) for dialog in plain_dialogs()[:12]]
    return make_references(target.read_many(readings))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny llama with its tokenizer, as `load_target` finds it."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer("chatml").save_pretrained(folder)
    return folder


@pytest.fixture
def target(model_folder: Path) -> Target:
    """The tiny llama in fp32, read at layer 2; fresh for each test."""
    return Target(load_model(str(model_folder), dtype="float32", device="cpu"))


@pytest.fixture
def decoder(target: Target) -> Decoder:
    """A random decoder on the target's weights."""
    return make_decoder(target)
