"""A steering for other programs: a PEFT adapter, plain safetensors, a control vector of llama.cpp."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from latentqa.errors import SteeringError
from latentqa.models import write_adapter

if TYPE_CHECKING:
    from latentqa.steering.steering import Steering

GGUF_ARCHITECTURE = "controlvector"
FORMATS = ("peft", "safetensors", "gguf")


def export_peft(steering: Steering, folder: str | Path) -> None:
    """Write a LoRA in the PEFT layout: `PeftModel.from_pretrained(model, folder)` loads it, without latentqa.

    Raises:
        SteeringError: the steering consists of vectors.
        AdapterError: the folder cannot be written.
    """
    if steering.adapter is None or steering.lora is None:
        raise SteeringError(
            f"Steering {steering.name} ({steering.card.method}) has no adapter: it adds vectors. Export it "
            "as safetensors or gguf."
        )
    write_adapter(folder, steering.lora, steering.adapter, name=steering.name)


def export_vector(steering: Steering, path: str | Path, strength: float = 1.0) -> None:
    """Write vectors as safetensors: `block.K` → float32 `[D]`, to be added to the output of block K.

    Blocks are counted from 0. The metadata names the model, the positions and the control.

    Raises:
        SteeringError: the steering is a LoRA, the strength is not finite, or the file cannot be written.
    """
    vectors = _scaled(steering, strength, "a vector")
    card = steering.card
    described = {
        "format": "latentqa.steering",
        "base_model": card.base_model,
        "base_hash": card.base_hash,
        "method": card.method,
        "positions": card.positions,
        "strength": json.dumps(strength),
        "control": card.control or "",
    }
    tensors = {f"block.{layer}": vector.clone() for layer, vector in zip(card.layers, vectors, strict=True)}
    _write_whole(Path(path), lambda place: save_file(tensors, place, metadata=described))


def export_gguf(steering: Steering, path: str | Path, strength: float = 1.0) -> None:
    """Write vectors as a control-vector GGUF: for `llama-cli --control-vector FILE`, for repeng.

    `direction.K` is added to the output of block K at every position. llama.cpp has no direction for block 0.

    Args:
        steering: of vectors.
        path: of the file.
        strength: the vectors are multiplied by it.

    Raises:
        SteeringError: the steering is a LoRA or changes block 0, the strength is not finite, or the file
            cannot be written.

    Source: the layout of repeng's `ControlVector.export_gguf` and llama.cpp's control-vector loader.
    """
    vectors = _scaled(steering, strength, "a control vector")
    card = steering.card
    if 0 in card.layers:
        raise SteeringError(
            f"Steering {steering.name} changes block 0, for which llama.cpp's control vectors have no place "
            "(they begin at block 1). Export it as safetensors, or make it with layers=[1,…]."
        )
    from gguf import GGUFWriter

    def write(place: Path) -> None:
        writer = GGUFWriter(place, GGUF_ARCHITECTURE)
        writer.add_string(f"{GGUF_ARCHITECTURE}.model_hint", card.model_type)
        writer.add_uint32(f"{GGUF_ARCHITECTURE}.layer_count", len(card.layers))
        for layer, vector in zip(card.layers, vectors, strict=True):
            writer.add_tensor(f"direction.{layer}", vector.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    _write_whole(Path(path), write)


def _scaled(steering: Steering, strength: float, what: str) -> Tensor:
    if steering.vectors is None:
        raise SteeringError(
            f"Steering {steering.name} ({steering.card.method}) is a LoRA and cannot be exported as {what}: "
            "its change depends on the input. Export it as a PEFT adapter (peft); a vector can be exported "
            "as safetensors or gguf."
        )
    vectors = steering.vectors * strength
    if not torch.isfinite(vectors).all():
        raise SteeringError(f"Strength {strength:g} makes vectors that are not finite. Use a lower one.")
    return vectors


def _write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file under a temporary name and move it into place."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        write(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise SteeringError(
            f"{path} could not be written ({error}). Name a file in a folder that is there."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
