"""The models of a run: target and decoder, with the adapter that is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig

from latentqa.activations import WriteSite
from latentqa.decoder.load import find_decoder
from latentqa.decoder.target import Target, load_target
from latentqa.decoder.wiring import Wiring
from latentqa.dialogs import decoder_prompt
from latentqa.errors import ConfigError
from latentqa.models import (
    LoadedModel,
    active_names,
    adapter_parameters,
    add_adapter,
    enable_checkpointing,
    find_blocks,
    linear_modules,
    load_adapter,
    load_model,
    resolve_layer,
)
from latentqa.training.config import TrainConfig

ADAPTER = "decoder"


def make_decoder_model(config: TrainConfig, base: LoadedModel, layers: Sequence[int]) -> Wiring:
    """Put an adapter on the base, fresh or that of `config.start`, or free all weights of a copy; wire it."""
    site = write_site(config.model_copy(update={"read_layers": tuple(layers)}))
    site.module(base.model)
    for parameter in base.model.parameters():
        parameter.requires_grad_(config.kind == "full")
    if config.kind == "lora":
        if config.start is None:
            add_adapter(base.model, _lora(config, base, site), ADAPTER, seed=config.seed)
        else:
            load_adapter(base.model, find_decoder(config.start), ADAPTER, trainable=True)
        for parameter in adapter_parameters(base.model, ADAPTER):
            parameter.requires_grad_(True)
    if config.checkpointing:
        enable_checkpointing(base.model)
    return Wiring(
        base.model,
        decoder_prompt(base.tokenizer, template=config.template),
        site,
        config.injection,
        config.scale,
        ADAPTER if config.kind == "lora" else None,
        config.shift_positions,
    )


def load_models(config: TrainConfig) -> tuple[Target, LoadedModel]:
    """The target and the decoder's base; one model where the decoder is an adapter of the target's base."""
    options: dict[str, Any] = {
        "dtype": config.dtype,
        "device": config.device,
        "trust_remote_code": config.trust_remote_code,
    }
    base = load_model(config.model, attention=config.attention, **options)
    if config.target is None and config.kind == "lora":
        return Target(base, adapter=active_names(base.model) or None), base
    return load_target(config.target or config.model, **options), base


def _lora(config: TrainConfig, base: LoadedModel, site: WriteSite) -> LoraConfig:
    settings = config.lora
    first = settings.first_block
    if first is None:
        first = 0 if site.block is None else site.block + 1
    n_blocks = len(find_blocks(base.model))
    if not 0 <= first < n_blocks:
        raise ConfigError(
            f"lora.first_block {first} leaves no block to train: the model has {n_blocks}, and the write "
            f"site is {site}."
        )
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # pyright: ignore[reportArgumentType]  # PEFT takes any number
        target_modules=_lora_modules(base, settings.targets, first, settings.head),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _lora_modules(base: LoadedModel, targets: tuple[str, ...] | str, first: int, head: bool) -> list[str]:
    """Full names of the linear modules that get an update."""
    found = linear_modules(base.model, range(first, len(find_blocks(base.model))), targets)
    if not found:
        raise ConfigError(f"lora.targets {targets} names no linear module of {base.name}. Use all-linear.")
    if head:
        output = base.model.get_output_embeddings()
        found.append(next(name for name, module in base.model.named_modules() if module is output))
    return found


def write_site(config: TrainConfig) -> WriteSite:
    """The write site; `read` is the last read layer."""
    last = f"block:{max(config.read_layers)}"
    return WriteSite.parse(last if config.write_site == "read" else config.write_site)


def set_read_layers(config: TrainConfig, target: Target) -> tuple[int, ...]:
    """The read layers, resolved and ascending; the target reads them from now on."""
    wanted = config.read_layers or target.read_layers
    layers = tuple(sorted({resolve_layer(target.model, layer) for layer in wanted}))
    target.read_layers = layers
    return layers
