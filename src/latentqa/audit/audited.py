"""Who is audited: a model, the base that it was finetuned from if known, and the decoder that reads both."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from latentqa.decoder import Decoder, Target, load_decoder, load_target
from latentqa.errors import ModelError
from latentqa.models import describe, find_blocks, hidden_size, read_adapter_config

logger = logging.getLogger(__name__)
SAMPLE = 4096
"""Values compared of each weight matrix, evenly spaced."""
RELATED = 0.5
"""Mean cosine of weight matrices from which a model counts as a finetune of another; strangers have 0."""


@dataclass(frozen=True, eq=False)
class Audited:
    """A model with what it is compared with and read by.

    Attributes:
        model: that is audited.
        base: that it was finetuned from; None if that is not known: then nothing is compared.
        decoder: that reads them.
    """

    model: Target
    base: Target | None
    decoder: Decoder

    def alone(self) -> Audited:
        """The same, compared with nothing."""
        return Audited(self.model, None, self.decoder)


def load_audited(name: str, *, decoder: str = "builtin", base: str | None = None, **options: Any) -> Audited:
    """Load a model, its base and a decoder; an adapter, its base and the decoder share one set of weights.

    Args:
        name: the model: a hub id, a folder (of an adapter too), a `.gguf` file or `builtin`.
        decoder: as of `load_decoder`.
        base: the model that it was finetuned from; an adapter names its own.
        options: `dtype`, `device`, `trust_remote_code`, `quantization` of `load_target`; `revision` is the
            model's own.

    Raises:
        ModelError: the model is no finetune of the base, or is the base itself.
        AdapterError: an adapter for another architecture.
    """
    model = load_target(name, **options)
    known = _base(model, name, base, {key: value for key, value in options.items() if key != "revision"})
    shared = {key: value for key, value in options.items() if key in ("dtype", "device", "trust_remote_code")}
    reader = load_decoder(decoder, target=known or model, **shared)
    model.read_layers = reader.read_layers
    return Audited(model, known, reader)


def check_finetune(model: Target, base: Target) -> None:
    """Refuse a model that is no finetune of a base, or is the base itself.

    Raises:
        ModelError: another architecture or size, unrelated weights, or the very same ones.
    """
    names = f"{model.name} is no finetune of {base.name}"
    advice = "Name the model that it was finetuned from with --base, or leave --base out."
    one, other = _shape(model.model), _shape(base.model)
    for what in one:
        if one[what] != other[what]:
            raise ModelError(f"{names}: its {what} is {one[what]}, and the base's {other[what]}. {advice}")
    if model.weights_hash == base.weights_hash:
        raise ModelError(
            f"{model.name} has the same weights as {base.name}: there is nothing to compare. Leave "
            "--base out to audit it alone."
        )
    similarity = relatedness(model.model, base.model)
    if similarity < RELATED:
        raise ModelError(
            f"{names}: their weights are unrelated (mean cosine {similarity:.2f}; a finetune's is near 1). "
            + advice
        )


def relatedness(one: nn.Module, other: nn.Module) -> float:
    """Mean cosine of the weight matrices of two models: near 1 for a finetune, 0 for a stranger."""
    values = [
        float(torch.nn.functional.cosine_similarity(left, right, dim=0))
        for left, right in zip(_samples(one), _samples(other), strict=True)
    ]
    return sum(values) / max(1, len(values))


def _base(model: Target, name: str, base: str | None, options: dict[str, Any]) -> Target | None:
    if model.adapter is None:
        if base is None:
            return None
        found = load_target(base, **options)
        if found.adapter is not None:
            raise ModelError(
                f"The base {base} is itself an adapter. Name the plain model under it with --base."
            )
        check_finetune(model, found)
        return found
    own = read_adapter_config(name).base_model_name_or_path or "its base"
    if base is not None and base != own:
        given = load_target(base, **options)
        if given.weights_hash != model.weights_hash:
            raise ModelError(
                f"{name} is no finetune of {base}: it is an adapter of {own} ({model.weights_hash[:12]}); "
                f"{base} has other weights ({given.weights_hash[:12]}). Leave --base out."
            )
    return Target(replace(model.loaded, name=own), read_layers=model.read_layers)


def _shape(model: PreTrainedModel) -> dict[str, object]:
    return {
        "architecture": model.config.model_type,
        "number of blocks": len(find_blocks(model)),
        "hidden size": hidden_size(model),
        "list of weight matrices in the blocks": _names(model),
    }


def _names(model: nn.Module) -> str:
    """Number and shapes of the matrices, in short: for a message, and to be compared."""
    shapes = sorted({tuple(weight.shape) for _, weight in _matrices(model)})
    return f"{sum(1 for _ in _matrices(model))} of shapes {shapes}"


def _matrices(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return ((name, weight) for name, weight in find_blocks(model).named_parameters() if weight.dim() == 2)


def _samples(model: nn.Module) -> Iterator[Tensor]:
    for _, weight in _matrices(model):
        flat = weight.detach().reshape(-1)
        yield flat[:: max(1, flat.numel() // SAMPLE)].float().cpu()


def describe_audited(audited: Audited) -> str:
    """Model, base and decoder in one line."""
    base = f", finetuned from {audited.base.name}" if audited.base is not None else ""
    return f"{audited.model.name} ({describe(audited.model.model)}){base}, read by {audited.decoder.name}"
