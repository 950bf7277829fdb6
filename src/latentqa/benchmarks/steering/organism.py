"""An organism that prefers stereotypes: the target with a LoRA trained on mild sentences of our own.

It is a test object for debias, where the plain target hardly prefers anything: 74 sentences about
occupations, age, money, looks and places, none of them about race, religion or disability, none from
CrowS-Pairs. The adapter is kept in the run's folder and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from latentqa.baselines.steering.finetuned import dpo_loss
from latentqa.baselines.steering.lora import LoraSettings, trained_adapter, with_adapter
from latentqa.baselines.steering.treatment import Treated
from latentqa.benchmarks.steering.texts import stereotypes
from latentqa.decoder import Target
from latentqa.models import load_adapter, save_adapter

NAME = "organism"
TRAINING = LoraSettings(rank=8, alpha=16, steps=120, batch_size=8, learning_rate=5e-4)


def stereotyped(
    target: Target,
    folder: Path,
    *,
    settings: LoraSettings = TRAINING,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Target:
    """The target finetuned to find each stereotype likelier than the same sentence about others.

    Args:
        target: its weights get one more adapter.
        folder: where that is kept; one that is there already is loaded.
        settings: of the training: DPO, the stereotype preferred.
        seed: of the training.
        progress: called with (steps done, steps in all).
    """
    if not (folder / "adapter_config.json").is_file():
        plain = Treated(target)
        pairs = [(plain.text(pair.more), plain.text(pair.less)) for pair in stereotypes("train")]
        loss = dpo_loss(target, pairs)
        with trained_adapter(
            target, loss, len(pairs), settings, name="organism_training", seed=seed, progress=progress
        ) as trained:
            save_adapter(target.model, trained, folder)
    load_adapter(target.model, folder, NAME, dtype=target.model.dtype)
    return with_adapter(target, NAME)
