"""The steering card: how a steering was made, for which model, and what it did to the decoder's loss."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from latentqa.data.jsonl import write_text
from latentqa.errors import SteeringError
from latentqa.models import adapter_names, adapter_weights
from latentqa.steering.pairs import Pair
from latentqa.steering.settings import Positions

STEERING_FILE = "steering.json"
FORMAT = 1


class PairCard(BaseModel):
    """A question-answer pair as the card keeps it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    answer: str
    wanted: bool = True
    focus: str = ""


class SteeringCard(BaseModel):
    """How a steering was made and where it fits.

    Attributes:
        format: version of this file.
        name: what it is called in tables.
        method: `weights`, `vector` or `closed-form`; of baselines `contrast`, `pca`, `random`, `sft`, `dpo`.
        kind: what it changes: `adapter` (a LoRA) or `vectors` (added to blocks' outputs).
        base_model: name of the target's base.
        base_revision: its revision, if it came from a hub.
        base_hash: `models.weights_hash` of it.
        model_type: its architecture as transformers names it, such as `llama`.
        target_adapter: hash of the target's own adapter, if it is a finetune.
        hidden_size: its residual width, `D`.
        n_blocks: its number of blocks.
        decoder: name of the decoder whose loss made it; None for methods without one.
        decoder_hash: hash of that decoder's adapter, or of its weights.
        control: the sentence that it steers towards.
        pairs: the question-answer pairs.
        layers: blocks whose output is changed, or that carry the LoRA; 0-based, ascending.
        positions: where vectors are added: `all`, or `completion` for those that decide completion tokens.
        norms: length of each vector at strength 1.
        spread: root mean square distance of each block's states from their mean, the unit of `norm`.
        settings: what it was made with.
        loss_before: decoder's loss on the wanted answers before, on held-out stimuli, in nats a token.
        loss_after: the same under the steering at strength 1.
        unwanted_before: likewise of the unwanted answers.
        unwanted_after: likewise of the unwanted answers.
        steps: optimiser steps of the version that was kept.
        seconds: wall time of making it.
        notes: what was unusual, and where the pairs come from.
        versions: of the packages that made it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    name: str
    method: str
    kind: Literal["adapter", "vectors"]
    base_model: str
    base_revision: str | None = None
    base_hash: str
    model_type: str
    target_adapter: str | None = None
    hidden_size: int
    n_blocks: int
    decoder: str | None = None
    decoder_hash: str | None = None
    control: str | None = None
    pairs: tuple[PairCard, ...] = ()
    layers: tuple[int, ...] = Field(min_length=1)
    positions: Positions = "all"
    norms: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    settings: dict[str, Any] = {}
    loss_before: float | None = None
    loss_after: float | None = None
    unwanted_before: float | None = None
    unwanted_after: float | None = None
    steps: int | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = {}

    def given_pairs(self) -> list[Pair]:
        """The pairs as `make_weights` and its siblings take them."""
        return [Pair(pair.question, pair.answer, pair.wanted, pair.focus) for pair in self.pairs]

    @classmethod
    def load(cls, folder: str | Path) -> SteeringCard:
        """Read `steering.json` of a steering folder.

        Raises:
            SteeringError: no card there, or one that cannot be read.
        """
        path = Path(folder) / STEERING_FILE
        if not path.is_file():
            raise SteeringError(
                f"{folder} holds no steering: it has no {STEERING_FILE}. Make one with `latentqa steer make`."
            )
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise SteeringError(
                f"{path} cannot be read as a steering card: {_first_problem(error)}. Make the steering "
                "again, or upgrade latentqa."
            ) from error

    def save(self, folder: str | Path) -> None:
        """Write `steering.json` into a folder, replacing an older one at once."""
        write_text(Path(folder) / STEERING_FILE, self.model_dump_json(indent=1) + "\n")


def pair_cards(pairs: Sequence[Pair]) -> tuple[PairCard, ...]:
    """Pairs as a card keeps them."""
    return tuple(PairCard(**asdict(pair)) for pair in pairs)


def adapter_hash(model: nn.Module, names: str | Sequence[str] | None) -> str | None:
    """Short hash of the weights of adapters that are on a model; None without any.

    Args:
        model: a transformers model with adapters in it.
        names: of the adapters; those that the model no longer has are passed over.
    """
    wanted = (names,) if isinstance(names, str) else tuple(names or ())
    present = [name for name in wanted if name in adapter_names(model)]
    if not present:
        return None
    digest = hashlib.sha256()
    for name in present:
        for key, tensor in adapter_weights(model, name).items():
            digest.update(f"{key}{list(tensor.shape)}".encode())
            digest.update(tensor.float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
