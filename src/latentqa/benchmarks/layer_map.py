"""Layer map: how well one answer fits each single state of a dialog, at every token and read layer."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from latentqa.benchmarks.experiment import ExperimentSettings
from latentqa.benchmarks.layers import foreign_note
from latentqa.benchmarks.runner import FORMAT, HEADER_FILE
from latentqa.benchmarks.statistics import bootstrap_mean
from latentqa.errors import ConfigError, DataError
from latentqa.reader import Reader
from latentqa.types import Activation, Dialog, Message, Query

Capture = Callable[[Dialog, str, Sequence[int]], Activation]
"""Activations of a span at layers: (dialog, span, layers) → `[L, T, D]`."""
STATES_PER_BATCH = 64
DIALOG: tuple[Message, ...] = (
    Message(role="system", content="You are a pirate who has just come home from the sea."),
    Message(role="user", content="What should I cook tonight?"),
)


class LayerMapSettings(ExperimentSettings):
    """What `bench run layer-map key=value` takes.

    Attributes:
        dialog: JSON file with a list of messages; a pirate asked about supper without one.
        question: that is asked of each state.
        answer: whose support is mapped.
        span: tokens that are mapped.
        layers: read layers; empty is every block.
    """

    dialog: Path | None = None
    question: str = "What type of persona will the assistant adopt?"
    answer: str = "The assistant will adopt the persona of a pirate."
    span: str = "all"
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class LayerMap:
    """Support of one answer at every token and layer.

    Attributes:
        reader: that was asked.
        question: that was asked.
        answer: whose support it is.
        tokens: texts of the `T` tokens.
        positions: of those tokens in the rendered dialog.
        layers: the `L` read layers.
        trained_layers: layers that the decoder was trained to read.
        support: `[L][T]`, in nats a token.
        sampled: whether the decoder takes any one of `trained_layers`.
    """

    reader: str
    question: str
    answer: str
    tokens: tuple[str, ...]
    positions: tuple[int, ...]
    layers: tuple[int, ...]
    trained_layers: tuple[int, ...]
    support: tuple[tuple[float, ...], ...]
    sampled: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What the map does not show by itself."""
        read = "Each token is read alone, at one layer after the other."
        return read, foreign_note(self.trained_layers, self.layers, sampled=self.sampled)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the notes."""
        return {**{name: _lists(value) for name, value in vars(self).items()}, "notes": list(self.notes)}


def layer_map(
    reader: Reader,
    dialog: Dialog,
    question: str,
    answer: str,
    *,
    capture: Capture,
    layers: Sequence[int],
    trained_layers: Sequence[int],
    decode: Callable[[int], str],
    span: str = "all",
    sampled: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> LayerMap:
    """Ask a reader about every single state of a span.

    One target pass reads all layers. A decoder that takes several layers at once reads "layer k" as
    `baselines.reads.move` says: the highest of them is put at k, the others as far below it as they were.

    Args:
        reader: its `score` takes queries that hold an activation.
        dialog: the messages.
        question: that is asked.
        answer: whose support is mapped.
        capture: reads the target.
        layers: read layers of the map.
        trained_layers: that the decoder takes.
        decode: text of a token id.
        span: tokens of the map.
        sampled: whether the decoder takes any one of `trained_layers`.
        progress: called with (states done, states in all).
    """
    if not layers or not trained_layers:
        raise ConfigError("A layer map needs at least one layer, and the layers that the decoder takes.")
    from latentqa.baselines.reads import move

    moves = [move(trained_layers, layer, sampled=sampled) for layer in layers]
    whole = capture(dialog, span, sorted({layer for one in moves for layer in one.layers}))
    at = [one.of(whole) for one in moves]
    n_tokens = whole.vectors.shape[1]
    places = [(row, column) for row in range(len(at)) for column in range(n_tokens)]
    values = [[0.0] * n_tokens for _ in at]
    for first in range(0, len(places), STATES_PER_BATCH):
        batch = places[first : first + STATES_PER_BATCH]
        queries = [Query(dialog, span, question, _one_token(at[row], column)) for row, column in batch]
        scored = reader.score(queries, [(answer,)] * len(batch))
        for (row, column), scores in zip(batch, scored, strict=True):
            values[row][column] = float(scores[0].support)
        if progress is not None:
            progress(first + len(batch), len(places))
    return LayerMap(
        reader=reader.name,
        question=question,
        answer=answer,
        tokens=tuple(decode(token_id) for token_id in whole.token_ids),
        positions=whole.positions,
        layers=tuple(layers),
        trained_layers=tuple(trained_layers),
        support=tuple(tuple(row) for row in values),
        sampled=sampled,
    )


def map_json(found: LayerMap, *, seed: int = 0) -> dict[str, Any]:
    """As `latentqa bench run layer-map --json` prints it: a row per layer, its mean over the tokens."""
    rows = []
    for layer, values in zip(found.layers, found.support, strict=True):
        interval = bootstrap_mean(values, range(len(values)), seed=seed)
        rows.append({"reader": "lit", "group": f"layer {layer}", "metric": "support", **vars(interval)})
    return {
        "experiment": "layer-map",
        "data": "",
        "seed": seed,
        "rows": rows,
        "tests": [],
        "filtered": {},
        "map": found.to_json(),
    }


def save_layer_map(
    found: LayerMap, folder: str | os.PathLike[str], subject: Mapping[str, Any], *, seed: int = 0
) -> tuple[Path, ...]:
    """Write `layer-map.json`, `.png`, `.html` and the run's header into a folder; returns the first three.

    Args:
        found: the map.
        folder: made if it is not there.
        subject: target, decoder and versions, for the report.
        seed: of the run.
    """
    from latentqa.benchmarks.plots import layer_map_png
    from latentqa.benchmarks.report import layer_map_page

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    image = layer_map_png(found)
    contents = {
        "layer-map.json": (json.dumps(found.to_json(), ensure_ascii=False, indent=1) + "\n").encode(),
        "layer-map.png": image,
        "layer-map.html": layer_map_page(found, image).encode(),
    }
    for name, content in contents.items():
        temporary = folder / f"{name}.tmp"
        temporary.write_bytes(content)
        os.replace(temporary, folder / name)
    header = {
        "format": FORMAT,
        "experiment": "layer-map",
        "kind": "map",
        "seed": seed,
        "subject": dict(subject),
    }
    (folder / HEADER_FILE).write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    return tuple(folder / name for name in contents)


def map_dialog(settings: LayerMapSettings) -> Dialog:
    """The dialog of the settings.

    Raises:
        DataError: the file is not there, or holds no list of messages.
    """
    if settings.dialog is None:
        return DIALOG
    try:
        messages = json.loads(settings.dialog.read_text(encoding="utf-8"))
        return [Message(role=str(one["role"]), content=str(one["content"])) for one in messages]
    except OSError as error:
        raise DataError(
            f"Cannot read {settings.dialog}: {error.strerror or error}. Check the name."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f'{settings.dialog} is no JSON list of messages {{"role", "content"}} ({error}).'
        ) from error


def _one_token(activation: Activation, column: int) -> Activation:
    return replace(
        activation,
        vectors=activation.vectors[:, column : column + 1],
        token_ids=(activation.token_ids[column],),
        positions=(activation.positions[column],),
    )


def _lists(value: Any) -> Any:
    return [_lists(one) for one in value] if isinstance(value, tuple) else value
