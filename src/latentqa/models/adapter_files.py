"""Adapters in and out of files: the standard PEFT layout, safetensors only.

A folder with `adapter_config.json` and `adapter_model.safetensors`, which plain PEFT loads too.
"""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp

import torch
from peft import LoraConfig, PeftConfig, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from latentqa.errors import AdapterError
from latentqa.models.adapters import (
    adapter_parameters,
    add_adapter,
    remove_adapter,
    require_adapter,
)
from latentqa.models.blocks import describe, unwrap
from latentqa.models.hub import ADAPTER_CONFIG, find_file

ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
"""What PEFT writes before each key: the path of the model inside a `PeftModel`."""


def load_adapter(
    model: nn.Module,
    path_or_hub_id: str | Path,
    name: str,
    revision: str | None = None,
    *,
    trainable: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Put a saved LoRA adapter on the model, in place; it stays switched off.

    Every key and shape of the file is checked against the model, which is left as it was if anything is
    wrong.

    Args:
        model: a transformers model, PEFT-wrapped or not.
        path_or_hub_id: a folder or hub id in the PEFT layout.
        name: a new name for it.
        revision: of the hub id.
        trainable: whether its parameters require gradients.
        dtype: of its weights. PEFT computes an update in it: in fp32 on a bf16 model every input is copied.

    Raises:
        AdapterError: if there is no such adapter, or it is damaged, pickled, or made for another model.
    """
    config = read_adapter_config(path_or_hub_id, revision)
    tensors = read_adapter_weights(path_or_hub_id, revision)
    config.inference_mode = not trainable
    attach_adapter(model, name, config, tensors, source=str(path_or_hub_id), dtype=dtype)


def attach_adapter(
    model: nn.Module,
    name: str,
    config: LoraConfig,
    tensors: Mapping[str, torch.Tensor],
    *,
    source: str = "",
    dtype: torch.dtype = torch.float32,
) -> None:
    """Put an adapter that is in memory on the model, in place; it stays switched off.

    Args:
        model: a transformers model, PEFT-wrapped or not.
        name: a new name for it.
        config: of the adapter; with `inference_mode` it is frozen.
        tensors: its weights, named as `adapter_weights` names them.
        source: what messages call it; its name unless given.
        dtype: of its weights on the model.

    Raises:
        AdapterError: if it does not fit the model, which is then left as it was.
    """
    add_adapter(model, config, name)
    try:
        _copy_weights(model, name, tensors, source or repr(name))
    except AdapterError:
        remove_adapter(model, name)
        raise
    for parameter in adapter_parameters(model, name):
        parameter.data = parameter.data.to(dtype)


def adapter_weights(model: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """A copy of one adapter's weights on the CPU, by their PEFT names without the `PeftModel`'s prefix.

    Raises:
        AdapterError: if the model has no adapter of that name.
    """
    require_adapter(model, name)
    # Never the embeddings: PEFT's default adds them when they are targeted, and asks the hub whether they
    # grew.
    found = get_peft_model_state_dict(unwrap(model), adapter_name=name, save_embedding_layers=False)
    return {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in sorted(found.items())}


def adapter_config(model: nn.Module, name: str) -> LoraConfig:
    """The config of one adapter as others should find it: naming its base, its lists in a fixed order.

    Raises:
        AdapterError: if the model has no adapter of that name.
    """
    require_adapter(model, name)
    return _portable_config(unwrap(model), name)


def save_adapter(model: nn.Module, name: str, folder: str | Path) -> None:
    """Write one adapter in the PEFT layout; each file is replaced in one step, never half-written.

    Raises:
        AdapterError: if the model has no adapter of that name, or the folder cannot be written.
    """
    write_adapter(folder, adapter_config(model, name), adapter_weights(model, name), name=name)


def write_adapter(
    folder: str | Path, config: LoraConfig, tensors: Mapping[str, torch.Tensor], *, name: str = "default"
) -> None:
    """Write an adapter that is in memory in the PEFT layout; each file is replaced in one step.

    Args:
        folder: where; made if it is missing.
        config: of the adapter.
        tensors: its weights, named as `adapter_weights` names them.
        name: what messages call it.

    Raises:
        AdapterError: if the folder cannot be written.
    """
    folder = Path(folder)
    named = {_PREFIX + key: tensor.contiguous() for key, tensor in sorted(tensors.items())}
    unfinished = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = Path(mkdtemp(prefix=".adapter-", dir=folder))
        save_file(named, unfinished / ADAPTER_WEIGHTS, metadata={"format": "pt"})
        config.save_pretrained(str(unfinished))
        for file in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
            os.replace(unfinished / file, folder / file)
    except (OSError, SafetensorError) as error:
        raise AdapterError(
            f"Adapter {name!r} cannot be written to {folder}: {error}. "
            "Free some space, or choose another folder."
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def read_adapter_config(path_or_hub_id: str | Path, revision: str | None = None) -> LoraConfig:
    """The config of a saved adapter.

    Raises:
        AdapterError: if there is none, it cannot be read, or it is not LoRA.
    """
    file = find_file(path_or_hub_id, ADAPTER_CONFIG, revision)
    if file is None:
        raise AdapterError(
            f"No adapter in {path_or_hub_id}: it has no {ADAPTER_CONFIG}. "
            "Pass a folder or hub id in the PEFT layout, as save_adapter writes it."
        )
    try:
        config = PeftConfig.from_pretrained(str(file.parent))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AdapterError(
            f"{file} cannot be read as a PEFT config: {error}. Save or download it again."
        ) from error
    if not isinstance(config, LoraConfig):
        raise AdapterError(f"{file} describes a {config.peft_type} adapter; only LoRA can be loaded.")
    return config


def read_adapter_weights(path_or_hub_id: str | Path, revision: str | None = None) -> dict[str, torch.Tensor]:
    """The weights of a saved adapter, by their PEFT names without the `PeftModel`'s prefix.

    Raises:
        AdapterError: if there are none, or they are damaged, pickled or not finite.
    """
    file = find_file(path_or_hub_id, ADAPTER_WEIGHTS, revision)
    if file is None:
        raise AdapterError(
            f"No weights in {path_or_hub_id}: it has no {ADAPTER_WEIGHTS}. A pickled adapter_model.bin is "
            "never read, since it can run code: let its author save it as safetensors."
        )
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise AdapterError(
            f"{file} cannot be read as safetensors ({error}): it is truncated or of another format. "
            "Save or download it again."
        ) from error
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise AdapterError(
            f"{file} holds NaN or infinite values in {len(broken)} tensors (first: {broken[0]})."
        )
    return {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items()}


@torch.no_grad()
def _copy_weights(model: nn.Module, name: str, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    wanted = get_peft_model_state_dict(unwrap(model), adapter_name=name, save_embedding_layers=False)
    missing = sorted(wanted.keys() - tensors.keys())
    unknown = sorted(tensors.keys() - wanted.keys())
    shapes = [key for key in wanted if key in tensors and wanted[key].shape != tensors[key].shape]
    for problem, keys in (("lacks", missing), ("has no place for", unknown)):
        if keys:
            raise AdapterError(
                f"Adapter {source} does not fit {describe(model)}: it {problem} {len(keys)} tensors of the "
                f"{len(wanted)} that its config asks for (first: {keys[0]}). "
                "Load it on the base it was made for."
            )
    if shapes:
        key = shapes[0]
        raise AdapterError(
            f"Adapter {source} does not fit {describe(model)}: {key} has shape {list(tensors[key].shape)} "
            f"where the model needs {list(wanted[key].shape)}. Load it on the base it was made for."
        )
    for key, parameter in wanted.items():
        parameter.copy_(tensors[key])


def _portable_config(base: nn.Module, name: str) -> LoraConfig:
    """The adapter's config as others should find it: naming its base, its lists in a fixed order."""
    config: LoraConfig = copy.deepcopy(base.peft_config[name])  # type: ignore[index, operator]
    config.base_model_name_or_path = getattr(base, "name_or_path", None) or config.base_model_name_or_path
    config.task_type = config.task_type or "CAUSAL_LM"
    config.inference_mode = True
    if isinstance(config.target_modules, set):
        config.target_modules = sorted(config.target_modules)
    return config
