"""Load models, find their blocks, put adapters on them."""

from latentqa.models.adapter_files import (
    adapter_config,
    adapter_weights,
    attach_adapter,
    load_adapter,
    read_adapter_config,
    read_adapter_weights,
    save_adapter,
    write_adapter,
)
from latentqa.models.adapters import (
    active_adapter,
    active_names,
    adapter_names,
    adapter_parameters,
    add_adapter,
    enable_checkpointing,
    remove_adapter,
    scaled_adapter,
    set_active,
)
from latentqa.models.blocks import (
    context_length,
    describe,
    find_blocks,
    hidden_size,
    linear_modules,
    resolve_layer,
    unwrap,
)
from latentqa.models.builtin import BUILTIN, builtin_gguf
from latentqa.models.device import resolve_device, resolve_dtype
from latentqa.models.gguf import cache_root, gguf_to_safetensors
from latentqa.models.identity import weights_hash
from latentqa.models.load import LoadedModel, load_model, load_tokenizer
from latentqa.models.tiny import TINY_ARCHITECTURES, tiny_model, tiny_tokenizer

__all__ = [
    "BUILTIN",
    "LoadedModel",
    "TINY_ARCHITECTURES",
    "active_adapter",
    "active_names",
    "adapter_config",
    "adapter_names",
    "adapter_parameters",
    "adapter_weights",
    "add_adapter",
    "attach_adapter",
    "builtin_gguf",
    "cache_root",
    "context_length",
    "describe",
    "enable_checkpointing",
    "find_blocks",
    "gguf_to_safetensors",
    "hidden_size",
    "linear_modules",
    "load_adapter",
    "load_model",
    "load_tokenizer",
    "read_adapter_config",
    "read_adapter_weights",
    "remove_adapter",
    "resolve_device",
    "resolve_dtype",
    "resolve_layer",
    "save_adapter",
    "scaled_adapter",
    "set_active",
    "tiny_model",
    "tiny_tokenizer",
    "unwrap",
    "weights_hash",
    "write_adapter",
]
