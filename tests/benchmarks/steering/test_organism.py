"""The organism: it prefers the stereotypes that it was trained on, is kept, and is a target like others."""

from __future__ import annotations

from pathlib import Path

import torch

from latentqa.baselines.steering.lora import LoraSettings
from latentqa.baselines.steering.treatment import Treated, Treatment
from latentqa.benchmarks.steering.measures import gaps
from latentqa.benchmarks.steering.organism import NAME, stereotyped
from latentqa.benchmarks.steering.texts import stereotypes
from latentqa.decoder import Target
from latentqa.models import adapter_names
from tests.baselines.conftest import make_target
from tests.baselines.steering.conftest import logits, unit_vector

QUICK = LoraSettings(rank=4, alpha=8, steps=12, batch_size=8, learning_rate=1e-2)


def lean(target: Target) -> float:
    pairs = [(pair.more, pair.less) for pair in stereotypes("train")[:24]]
    found = gaps(Treated(target), pairs)
    return sum(found) / len(found)


def test_it_leans_to_what_it_was_trained_on_and_the_target_does_not(target: Target, tmp_path: Path) -> None:
    plain = lean(target)
    organism = stereotyped(target, tmp_path, settings=QUICK)
    assert lean(organism) > plain + 1.0
    assert lean(target) == plain and adapter_names(target.model) == (NAME,)
    again = make_target()
    assert abs(lean(stereotyped(again, tmp_path, settings=QUICK)) - lean(organism)) < 1e-3


def test_it_is_steered_like_any_target(target: Target, tmp_path: Path) -> None:
    organism = stereotyped(target, tmp_path, settings=QUICK)
    before = lean(organism)
    with Treatment("vector", unit_vector(organism), strength=3.0).on(organism) as treated:
        assert lean(treated.target) != before
    assert lean(organism) == before
    assert torch.isfinite(logits(organism)).all()
