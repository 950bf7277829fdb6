"""How a run makes its readers: on shared activations, fitted on what they may see, asked nothing twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentqa.baselines import READERS, FitItem
from latentqa.benchmarks.contenders import Make, Training
from latentqa.benchmarks.experiment import Item
from latentqa.benchmarks.memory import Remembering, code_hash, reading_key
from latentqa.benchmarks.runner import Prepare
from latentqa.benchmarks.subjects import others_hash, subject_of
from latentqa.errors import LatentQAError
from latentqa.reader import Reader
from latentqa.types import Query

if TYPE_CHECKING:
    from latentqa.baselines import ReaderContext

ROOMS = ("types.py", "reader.py", "models", "activations", "dialogs", "decoder", "baselines")
"""Code that what a reader says depends on."""


def maker(experiment: str, shared: ReaderContext, folder: Path, share: Path) -> Make:
    """How a reader of a name is made; what a repeatable one says is shared with other runs.

    Args:
        experiment: its name, for messages.
        shared: what all readers are made from.
        folder: of the run; readers that are trained are kept there.
        share: folder of what was said; see `memory`.
    """
    identity, key = _identity(shared), reading_key(shared.reads.reading)

    def make(name: str, training: Training) -> Reader:
        from latentqa.baselines import make_reader

        fold = "" if training.fold is None else f"-fold{training.fold}"
        context = replace(
            shared,
            fit_items=[_fit_item(item) for item in training.fit],
            validation=[(_fit_item(item), item.candidates) for item in training.validation],
            folder=folder / f"{name}{fold}",
        )
        vars(context)["reads"] = shared.reads  # one target pass a dialog, whoever reads it
        try:
            reader = make_reader(name, context)
        except LatentQAError as error:
            raise type(error)(f"Reader {name} on {experiment}: {error}") from error
        if not READERS[name].repeatable:
            return reader
        about = {"answer_tokens": shared.answer_tokens, "signals": shared.signals}
        return Remembering(reader, share, key, identity(READERS[name].needs_decoder), about)

    return make


def preparing(shared: ReaderContext) -> Prepare:
    """Captures each dialog once, at every layer that some reader takes."""

    def prepare(items: Sequence[Item]) -> list[Query]:
        queries = [item.query for item in items]
        activations = shared.reads.activations(queries, shared.reads.layers)
        return [
            replace(query, activation=activation)
            for query, activation in zip(queries, activations, strict=True)
        ]

    return prepare


def _identity(shared: ReaderContext) -> Callable[[bool], dict[str, Any]]:
    """Who says it: models, versions and code; the decoder only of readers that use it."""
    found = subject_of(shared.target, shared.decoder)
    base: dict[str, Any] = {
        "target": found.target_hash,
        "versions": dict(found.versions),
        "code": code_hash(ROOMS),
        "dtype": str(shared.target.model.dtype),
        "device": shared.target.model.device.type,
    }
    own: dict[str, Any] = {"decoder": found.decoder_hash}
    if shared.decoder is not None:
        own["others"] = others_hash(shared.decoder)
    return lambda needs_decoder: {**base, **(own if needs_decoder else {})}


def _fit_item(item: Item) -> FitItem:
    return FitItem(item.query, item.gold, str(item.meta.get("label", item.gold)))
