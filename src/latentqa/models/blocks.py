"""Find the blocks of any architecture, and what else a caller must know of its shape.

A read layer `k` is the *output* of block `k`, 0-based; negative numbers count from the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from latentqa.errors import LayerError


def unwrap(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside a `PeftModel`, or the model itself. The adapter's layers stay in it."""
    get_base_model = getattr(model, "get_base_model", None)
    return get_base_model() if get_base_model is not None else model  # type: ignore[return-value]


def find_blocks(model: nn.Module, path: str | None = None) -> nn.ModuleList:
    """The model's blocks, in order of depth.

    The largest `nn.ModuleList` whose items are all `GradientCheckpointingLayer`, looked for under
    `model.get_decoder()` first, since a vision tower can be the longer list.

    Args:
        model: a transformers model, PEFT-wrapped or not.
        path: where the blocks are, e.g. `"model.layers"`, for the architectures that the rule does not fit.

    Raises:
        LayerError: if there is no such list.

    Example:
        >>> from latentqa.models.tiny import tiny_model
        >>> len(find_blocks(tiny_model("gpt2", layers=3)))
        3
    """
    base = unwrap(model)
    if path is not None:
        return _blocks_at(base, path)
    roots = [base.get_decoder(), base] if hasattr(base, "get_decoder") else [base]
    for root in roots:
        lists = [module for module in root.modules() if _is_block_list(module)]
        if lists:
            return max(lists, key=len)  # type: ignore[arg-type, return-value]
    raise LayerError(
        f"The blocks of {describe(base)} ({type(base).__name__}) were not found: it has no list of "
        'GradientCheckpointingLayer modules. Pass path="…", the path of its block list, e.g. "model.layers".'
    )


def _is_block_list(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.ModuleList)
        and len(module) > 0
        and all(isinstance(item, GradientCheckpointingLayer) for item in module)
    )


def _blocks_at(base: nn.Module, path: str) -> nn.ModuleList:
    try:
        found = base.get_submodule(path)
    except AttributeError as error:
        raise LayerError(
            f"There is no module {path!r} in {describe(base)} ({type(base).__name__}): {error}. "
            "Leave path out, or pass the path of the list of blocks."
        ) from error
    if not isinstance(found, nn.ModuleList) or len(found) == 0:
        raise LayerError(
            f"Module {path!r} of {describe(base)} is a {type(found).__name__}, not a list of blocks. "
            "Pass the path of the nn.ModuleList that holds them."
        )
    return found


def resolve_layer(model: nn.Module, layer: int, *, path: str | None = None) -> int:
    """The 0-based index of a read layer; a negative one counts from the end.

    Raises:
        LayerError: if the model has no such block.

    Example:
        >>> from latentqa.models.tiny import tiny_model
        >>> resolve_layer(tiny_model(layers=4), -1)
        3
    """
    count = len(find_blocks(model, path))
    if not -count <= layer < count:
        raise LayerError(
            f"Read layer {layer} does not exist: {describe(model)} has {count} blocks (0–{count - 1}). "
            f"Pass 0..{count - 1}, or -1..-{count} to count from the end."
        )
    return layer % count


def linear_modules(
    model: nn.Module, layers: Iterable[int], targets: Sequence[str] | str = "all-linear"
) -> list[str]:
    """Full names of the linear modules of some blocks, for a LoRA on these blocks alone.

    Args:
        model: a transformers model, PEFT-wrapped or not; adapters that are on it are passed over.
        layers: blocks, 0-based.
        targets: last parts of the modules' names, such as `q_proj`, or `all-linear`.
    """
    base = unwrap(model)
    names = {id(module): name for name, module in base.named_modules()}
    blocks = find_blocks(base)
    found = []
    for layer in layers:
        for path, module in blocks[layer].named_modules():
            name = path.removesuffix(".base_layer")
            linear = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
            chosen = targets == "all-linear" or name.rpartition(".")[2] in targets
            if linear and chosen and ".lora_" not in name:
                found.append(f"{names[id(blocks[layer])]}.{name}")
    return found


def hidden_size(model: nn.Module) -> int:
    """d_model: the length of a residual-stream vector."""
    return unwrap(model).config.get_text_config(decoder=True).hidden_size


def context_length(model: nn.Module) -> int | None:
    """The most tokens that the model takes, or None if its config does not say."""
    return getattr(unwrap(model).config.get_text_config(decoder=True), "max_position_embeddings", None)


def describe(model: nn.Module) -> str:
    """A short name of the model for messages: the last part of its hub id or folder, else its class."""
    base = unwrap(model)
    name = getattr(base, "name_or_path", "") or type(base).__name__
    return Path(name).name or name
