"""How a run makes its readers: on shared activations, fitted on what they may see, asked nothing twice."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
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
SEED = 0
"""Of readers that do not depend on the seed of the draws."""


def maker(
    experiment: str,
    shared: ReaderContext,
    folder: Path,
    share: Path,
    made: MutableMapping[Any, Reader] | None = None,
) -> Make:
    """How a reader of a name is made; what a repeatable one says is shared with other runs.

    Where the seed draws no folds, all seeds have one training split, and so the same readers.

    Args:
        experiment: its name, for messages.
        shared: what all readers are made from.
        folder: of the run; readers that are trained on its folds are kept there.
        share: folder of what was said, and of readers that other seeds train alike; see `memory`.
        made: readers of other seeds on the same models, to be used again; added to.
    """
    identity, key = _identity(shared), reading_key(shared.reads.reading)
    kept = {} if made is None else made

    def make(name: str, training: Training) -> Reader:
        if training.fold is not None and READERS[name].needs_fit:
            return fresh(name, training, folder / f"{name}-fold{training.fold}", shared.seed)
        alike = (name, training.fold, _ids(training.fit), _ids(training.validation))
        if alike not in kept:
            kept[alike] = fresh(name, training, share / name, SEED)
        if not READERS[name].repeatable:
            return kept[alike]
        about = {"answer_tokens": shared.answer_tokens, "signals": shared.signals}
        return Remembering(kept[alike], share, key, identity(READERS[name].needs_decoder), about)

    def fresh(name: str, training: Training, place: Path, seed: int) -> Reader:
        from latentqa.baselines import make_reader

        context = replace(
            shared,
            fit_items=[_fit_item(item) for item in training.fit],
            validation=[(_fit_item(item), item.candidates) for item in training.validation],
            folder=place,
            seed=seed,
        )
        vars(context)["reads"] = shared.reads  # one target pass a dialog, whoever reads it
        try:
            return make_reader(name, context)
        except LatentQAError as error:
            raise type(error)(f"Reader {name} on {experiment}: {error}") from error

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


def _ids(items: Sequence[Item]) -> tuple[str, ...]:
    return tuple(item.id for item in items)


def _fit_item(item: Item) -> FitItem:
    return FitItem(item.query, item.gold, str(item.meta.get("label", item.gold)), item.unit)
