"""The LoRA of a weights steering: on chosen blocks of the target and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence

from peft import LoraConfig

from latentqa.decoder.target import Target
from latentqa.errors import SteeringError
from latentqa.models import linear_modules


def steering_lora(
    target: Target,
    layers: Sequence[int],
    *,
    rank: int = 8,
    alpha: float = 16.0,
    targets: Sequence[str] | str = "all-linear",
) -> LoraConfig:
    """The PEFT config of a LoRA on some blocks, which baselines use too so that they differ in nothing else.

    Args:
        target: the model that is steered.
        layers: blocks that get an update, 0-based.
        rank: of each update.
        alpha: the update is scaled by alpha / rank.
        targets: last parts of linear modules' names, or `all-linear`.

    Raises:
        SteeringError: none of the blocks has such a module.
    """
    modules = linear_modules(target.model, layers, targets)
    if not modules:
        raise SteeringError(
            f"targets {targets!r} names no linear module in blocks {', '.join(map(str, layers))} of "
            f"{target.name}. Use all-linear."
        )
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]  # PEFT takes any number
        target_modules=modules,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
