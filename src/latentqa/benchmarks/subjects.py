"""Who was read by whom: hashes and versions that results of one table must share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from latentqa.benchmarks.runner import Subject

if TYPE_CHECKING:
    from torch import Tensor

    from latentqa.decoder import Decoder, Target

PACKAGES = ("latentqa", "torch", "transformers", "peft", "scikit-learn", "scipy")


def subject_of(target: Target | None, decoder: Decoder | None) -> Subject:
    """The models of a run, by name and hash, and the versions of what ran them."""
    return Subject(
        target=target.name if target else "",
        target_hash=target_hash(target) if target else "",
        decoder=decoder.name if decoder else "",
        decoder_hash=decoder_hash(decoder) if decoder else "",
        versions=versions(),
        adapter_hash=adapter_hash(target) if target else "",
    )


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Package → version of those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def target_hash(target: Target) -> str:
    """Hash of a target's weights; with an adapter of its own, of that too."""
    own = adapter_hash(target)
    return hashlib.sha256((target.weights_hash + own).encode()).hexdigest() if own else target.weights_hash


def adapter_hash(target: Target) -> str:
    """Hash of the target's own adapters, in their order; empty for a target that has none."""
    if not target.adapter_names:
        return ""
    digest = hashlib.sha256()
    for name in target.adapter_names:
        digest.update(_adapter_digest(target.model, name))
    return digest.hexdigest()


def decoder_hash(decoder: Decoder) -> str:
    """Hash of a decoder's card, its measured figures left out, of its weights and of its references."""
    from latentqa.models import weights_hash

    card = decoder.card.model_dump(mode="json", exclude={"figures", "training"})
    digest = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    if decoder.wiring.adapter is None:
        digest.update(weights_hash(decoder.wiring.model).encode())
    else:
        digest.update(_adapter_digest(decoder.wiring.model, decoder.wiring.adapter))
    for name, vectors in sorted(decoder.references.mean.items()):
        digest.update(name.encode() + _bytes(vectors))
    return digest.hexdigest()


def others_hash(decoder: Decoder) -> str:
    """Hash of the other dialogs that a decoder compares an answer with, for its specificity."""
    digest = hashlib.sha256()
    for name, group in sorted(decoder.references.others.items()):
        digest.update(name.encode())
        for vectors in group:
            digest.update(_bytes(vectors))
    return digest.hexdigest()


def _adapter_digest(model: object, name: str) -> bytes:
    from latentqa.models import adapter_parameters

    digest = hashlib.sha256()
    for parameter in adapter_parameters(model, name):  # pyright: ignore[reportArgumentType]
        digest.update(_bytes(parameter.detach()))
    return digest.digest()


def _bytes(tensor: Tensor) -> bytes:
    """All values as bf16: the same whatever dtype they were loaded in."""
    import torch

    return tensor.to(torch.bfloat16).cpu().contiguous().view(torch.uint8).numpy().tobytes()
