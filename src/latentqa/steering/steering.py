"""`Steering`: a change of the target with its card, in memory and in a folder."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from latentqa.decoder.target import Target
from latentqa.errors import AdapterError, SteeringError
from latentqa.models import (
    adapter_config,
    adapter_weights,
    find_blocks,
    hidden_size,
    read_adapter_config,
    read_adapter_weights,
    write_adapter,
)
from latentqa.steering import export
from latentqa.steering.card import SteeringCard, adapter_hash
from latentqa.steering.files import whole_folder
from latentqa.steering.layers import check_blocks

logger = logging.getLogger(__name__)
VECTORS_FILE = "vectors.safetensors"
PREFIX = "steering_"
"""What the names of adapters begin with that steering puts on a model for a while."""


@dataclass(frozen=True, eq=False)
class Steering:
    """A change of the target: vectors that are added to blocks' outputs, or a LoRA.

    Made by `make_weights`, `make_vector`, `make_closed_form`, or of what a baseline found by `from_vectors`
    and `from_adapter`. Applied by `steered`.

    Attributes:
        card: how it was made and where it fits.
        vectors: `[L, D]` float32, one for each of the card's layers; None for a LoRA.
        adapter: weights of the LoRA by their PEFT names; None for vectors.
        lora: config of the LoRA; None for vectors.

    Example:
        ```python
        gate = Steering.load("gate")
        with steered(target, gate, strength=0.8):
            print(target.chat([{"role": "user", "content": "What should I do on Sunday?"}]))
        ```
    """

    card: SteeringCard
    vectors: Tensor | None = None
    adapter: Mapping[str, Tensor] | None = field(default=None, repr=False)
    lora: LoraConfig | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """What it is called in tables."""
        return self.card.name

    @classmethod
    def from_vectors(
        cls,
        target: Target,
        layers: Sequence[int],
        vectors: Tensor,
        *,
        method: str,
        name: str | None = None,
        positions: str = "all",
        **card: Any,
    ) -> Steering:
        """A steering of vectors that are there already.

        Args:
            target: the model that they are for.
            layers: blocks whose output they are added to, 0-based, negative from the end.
            vectors: `[len(layers), D]`.
            method: how they were made, such as `contrast`.
            name: what the steering is called; the method unless given.
            positions: where they are added, `all` or `completion`.
            card: more fields of the card: `control`, `pairs`, `settings`, `spread`, …

        Raises:
            SteeringError: vectors of another shape, or not finite.
            LayerError: a block that does not exist or comes twice.
        """
        blocks = check_blocks(target, layers)
        order = sorted(range(len(blocks)), key=lambda index: blocks[index])
        vectors = vectors.detach().to("cpu", torch.float32, copy=True)
        if tuple(vectors.shape) != (len(blocks), hidden_size(target.model)):
            raise SteeringError(
                f"{len(blocks)} blocks of {target.name} need vectors [{len(blocks)}, "
                f"{hidden_size(target.model)}], but they are {list(vectors.shape)}."
            )
        if not torch.isfinite(vectors).all():
            raise SteeringError(f"The vectors of steering {name or method} are not finite.")
        fields = {
            **_place(target),
            "kind": "vectors",
            "layers": tuple(blocks[index] for index in order),
            "norms": tuple(round(float(vectors[index].norm()), 4) for index in order),
            **card,
        }
        made = SteeringCard(name=name or method, method=method, positions=positions, **fields)  # pyright: ignore
        return cls(made, vectors[order].contiguous())

    @classmethod
    def from_adapter(
        cls, target: Target, adapter: str, *, method: str, name: str | None = None, **card: Any
    ) -> Steering:
        """A steering of a LoRA that is on the target, which stays there.

        Args:
            target: the model with the adapter.
            adapter: its name.
            method: how it was made, such as `sft`.
            name: what the steering is called; the method unless given.
            card: more fields of the card: `control`, `pairs`, `settings`, …

        Raises:
            AdapterError: the target has no adapter of that name.
            SteeringError: its weights are not finite.
        """
        tensors = {key: tensor.float() for key, tensor in adapter_weights(target.model, adapter).items()}
        _check_finite(tensors, name or method)
        config = copy.deepcopy(adapter_config(target.model, adapter))
        config.base_model_name_or_path = target.name
        layers = _carrying(target, adapter)
        fields = {**_place(target, adapter), "kind": "adapter", "layers": layers, **card}
        made = SteeringCard(name=name or method, method=method, **fields)
        return cls(made, adapter=tensors, lora=config)

    def described(self, **changes: Any) -> Steering:
        """The same change with other fields on its card."""
        card = SteeringCard.model_validate(self.card.model_dump() | changes)
        return replace(self, card=card)

    def check(self, target: Target) -> None:
        """Refuse a target that this steering was not made for; warn of one with another adapter.

        Raises:
            SteeringError: naming both sides.
        """
        sides = (
            ("hidden size", self.card.hidden_size, hidden_size(target.model)),
            ("number of blocks", self.card.n_blocks, len(find_blocks(target.model))),
            ("weights hash", self.card.base_hash, target.weights_hash),
        )
        for what, expected, found in sides:
            if expected != found:
                raise SteeringError(
                    f"Steering {self.name} was made for {self.card.base_model} with {what} "
                    f"{str(expected)[:16]}, but {target.name} has {what} {str(found)[:16]}. Load the model "
                    "that it was made for, or make one for this model with `latentqa steer make`."
                )
        if self.card.target_adapter != target_adapter_hash(target):
            logger.warning(
                "Steering %s was made for a target with another adapter on the same base than %s has: look "
                "at what it does before you rely on it.",
                self.name,
                target.name,
            )

    def save(self, folder: str | Path) -> None:
        """Write card and weights into a folder, whole or not at all; an older steering there is replaced.

        A LoRA is written in the PEFT layout: plain PEFT loads the folder too.

        Raises:
            SteeringError: something else stands there, or it cannot be written.
        """
        with whole_folder(folder) as place:
            self.card.save(place)
            if self.vectors is not None:
                save_file({"vectors": self.vectors.float().contiguous()}, place / VECTORS_FILE)
            else:
                assert self.adapter is not None and self.lora is not None
                write_adapter(place, self.lora, self.adapter, name=self.name)

    @classmethod
    def load(cls, folder: str | Path) -> Steering:
        """Read what `save` wrote.

        Raises:
            SteeringError: a folder that is missing, damaged or no steering.
        """
        card = SteeringCard.load(folder)
        if card.kind == "vectors":
            return cls(card, _read_vectors(Path(folder) / VECTORS_FILE, card))
        try:
            tensors = {name: tensor.float() for name, tensor in read_adapter_weights(folder).items()}
            return cls(card, adapter=tensors, lora=read_adapter_config(folder))
        except AdapterError as error:
            raise SteeringError(f"Steering {folder} is damaged: {error}") from error

    def export_peft(self, folder: str | Path) -> None:
        """Write the LoRA in the PEFT layout alone, which loads without latentqa; see `export`."""
        export.export_peft(self, folder)

    def export_vector(self, path: str | Path, strength: float = 1.0) -> None:
        """Write the vectors as plain safetensors, `block.K` → `[D]`; see `export`."""
        export.export_vector(self, path, strength)

    def export_gguf(self, path: str | Path, strength: float = 1.0) -> None:
        """Write the vectors as a control vector of repeng and llama.cpp; see `export`."""
        export.export_gguf(self, path, strength)


def target_adapter_hash(target: Target, but: str | None = None) -> str | None:
    """Hash of the target's own adapters: those of steerings, and the one named, are left out."""
    own = [name for name in target.adapter_names if name != but and not name.startswith(PREFIX)]
    return adapter_hash(target.model, own)


def versions() -> dict[str, str]:
    """Of the packages that make a steering."""
    return {name: version(name) for name in ("latentqa", "torch", "transformers", "peft")}


def _place(target: Target, adapter: str | None = None) -> dict[str, Any]:
    """What a card says of the model; `adapter` is the steering itself."""
    return {
        "base_model": target.name,
        "base_revision": target.loaded.revision,
        "base_hash": target.weights_hash,
        "model_type": target.model.config.get_text_config().model_type,
        "target_adapter": target_adapter_hash(target, adapter),
        "hidden_size": hidden_size(target.model),
        "n_blocks": len(find_blocks(target.model)),
        "versions": versions(),
    }


def _carrying(target: Target, adapter: str) -> tuple[int, ...]:
    """Blocks that carry an adapter."""
    found = []
    for number, block in enumerate(find_blocks(target.model)):
        if any(f".{adapter}." in f"{name}." for name, _ in block.named_parameters()):
            found.append(number)
    return tuple(found)


def _check_finite(tensors: Mapping[str, Tensor], name: str) -> None:
    broken = [key for key, tensor in tensors.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise SteeringError(
            f"The weights of steering {name} are not finite in {len(broken)} of {len(tensors)} tensors "
            f"(first: {broken[0]}). Make it again with a lower learning_rate."
        )


def _read_vectors(path: Path, card: SteeringCard) -> Tensor:
    try:
        vectors = load_file(path)["vectors"]
    except (SafetensorError, OSError, KeyError) as error:
        raise SteeringError(
            f"{path} cannot be read ({error}): it is missing or damaged. Make the steering again."
        ) from error
    if tuple(vectors.shape) != (len(card.layers), card.hidden_size) or not torch.isfinite(vectors).all():
        raise SteeringError(
            f"{path} does not hold {len(card.layers)} finite vectors of {card.hidden_size} dimensions, as "
            "its card says. Make the steering again."
        )
    return vectors.float()
