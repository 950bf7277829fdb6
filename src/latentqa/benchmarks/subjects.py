"""Who was read by whom: hashes and versions that results of one table must share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from latentqa.benchmarks.runner import Subject

if TYPE_CHECKING:
    from latentqa.decoder import Decoder, Target

PACKAGES = ("latentqa", "torch", "transformers", "peft", "scikit-learn", "scipy")
SAMPLES = 64
"""Values hashed of each parameter of a decoder's adapter, evenly spaced."""


def subject_of(target: Target | None, decoder: Decoder | None) -> Subject:
    """The models of a run, by name and hash, and the versions of what ran them."""
    return Subject(
        target=target.name if target else "",
        target_hash=target_hash(target) if target else "",
        decoder=decoder.name if decoder else "",
        decoder_hash=decoder_hash(decoder) if decoder else "",
        versions=versions(),
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
    if not target.adapter:
        return target.weights_hash
    names = (target.adapter,) if isinstance(target.adapter, str) else target.adapter
    digest = hashlib.sha256(target.weights_hash.encode())
    for name in names:
        digest.update(_adapter_digest(target.model, name))
    return digest.hexdigest()


def decoder_hash(decoder: Decoder) -> str:
    """Hash of a decoder's card, its measured figures left out, and of its weights."""
    from latentqa.models import weights_hash

    card = decoder.card.model_dump(mode="json", exclude={"figures", "training"})
    digest = hashlib.sha256(json.dumps(card, sort_keys=True).encode())
    if decoder.wiring.adapter is None:
        digest.update(weights_hash(decoder.wiring.model).encode())
    else:
        digest.update(_adapter_digest(decoder.wiring.model, decoder.wiring.adapter))
    return digest.hexdigest()


def _adapter_digest(model: object, name: str) -> bytes:
    import torch

    from latentqa.models import adapter_parameters

    digest = hashlib.sha256()
    for parameter in adapter_parameters(model, name):  # pyright: ignore[reportArgumentType]
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // SAMPLES)].to(torch.bfloat16).cpu().contiguous()
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.digest()
