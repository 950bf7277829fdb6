"""Activations for baselines: one target pass a dialog, kept for the next reader."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from latentqa.decoder.target import Reading, Target
from latentqa.models import find_blocks, resolve_layer
from latentqa.types import Activation, Query

CHUNK = 64  # dialogs read at a time
KEPT_BYTES = 2**30
GRID = (0.5, 0.3, 0.65, 0.1, 0.8, 0.95)  # depths, the most useful first
Made = TypeVar("Made")
Key = tuple[str, str]


def depth(target: Target, share: float) -> int:
    """The block at a share (0–1) of the target's depth."""
    count = len(find_blocks(target.model))
    return min(count - 1, int(share * count + 0.5))


def grid(target: Target, layers: Sequence[int] | None) -> tuple[int, ...]:
    """Read layers that a baseline may choose from: those given, or six depths, the middle one first."""
    if layers:
        return tuple(dict.fromkeys(resolve_layer(target.model, layer) for layer in layers))
    return tuple(dict.fromkeys(depth(target, share) for share in GRID))


class Reads:
    """Activations of queries at any layers; what was read stays in memory up to 1 GB.

    Args:
        target: the model that is read.
        layers: layers that are read together with those asked for, so that a dialog passes through the
            target once for all readers.

    Attributes:
        target: the model that is read.
        layers: as given.

    Example:
        >>> from latentqa.decoder import Target
        >>> from latentqa.models import load_model, tiny_model, tiny_tokenizer
        >>> target = Target(load_model(tiny_model(), tokenizer=tiny_tokenizer()))
        >>> query = Query([{"role": "user", "content": "Hi"}], "last:2", "Who?")
        >>> Reads(target).vectors([query], (1, 3))[0].shape
        torch.Size([2, 2, 32])
    """

    def __init__(self, target: Target, layers: Sequence[int] = ()) -> None:
        self.target = target
        self.layers = tuple(layers)
        self._kept: OrderedDict[Key, Activation] = OrderedDict()
        self._bytes = 0
        self._readings: dict[Key, Reading] = {}

    def reading(self, query: Query) -> Reading:
        """The rendered dialog with its span."""
        key = _key(query)
        if key not in self._readings:
            if len(self._readings) > 10_000:
                self._readings.clear()
            self._readings[key] = self.target.reading(query.dialog, query.span)
        return self._readings[key]

    def vectors(self, queries: Sequence[Query], layers: Sequence[int]) -> list[Tensor]:
        """Vectors `[L, T, D]` of each query at these layers, without the dialog's token 0.

        Token 0 holds no meaning and a norm that swamps any mean; it stays where it is the whole span.
        """
        found = self.activations(queries, layers)
        return [_without_first(activation) for activation in found]

    def activations(self, queries: Sequence[Query], layers: Sequence[int]) -> list[Activation]:
        """Activations of each query at exactly these layers: the query's own if it holds them, else read."""
        wanted = tuple(layers)
        missing: dict[Key, Query] = {}
        for query in queries:
            if not _holds(query.activation, wanted) and not _holds(self._kept.get(_key(query)), wanted):
                missing.setdefault(_key(query), query)
        read: dict[Key, Activation] = {}
        if missing:
            # What is read already is read again with the rest: kept activations hold all layers asked for.
            asked = {*wanted, *self.layers}
            asked.update(*(self._kept[key].layers for key in missing if key in self._kept))
            readings = [self.reading(query) for query in missing.values()]
            read = dict(zip(missing, self.target.read_many(readings, sorted(asked)), strict=True))
        chosen = []
        for query in queries:
            key = _key(query)
            whole = query.activation
            if not _holds(whole, wanted):
                whole = read[key] if key in read else self._kept[key]
            assert whole is not None
            chosen.append(select(whole, wanted))
        for key, activation in read.items():
            self._keep(key, activation)
        return chosen

    def map(
        self, queries: Sequence[Query], layers: Sequence[int], function: Callable[[Tensor], Made]
    ) -> Iterator[Made]:
        """What a function makes of each query's vectors `[L, T, D]`, a chunk of dialogs at a time."""
        for first in range(0, len(queries), CHUNK):
            yield from map(function, self.vectors(queries[first : first + CHUNK], layers))

    def _keep(self, key: Key, activation: Activation) -> None:
        old = self._kept.pop(key, None)
        self._bytes += _size(activation) - (_size(old) if old else 0)
        self._kept[key] = activation
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])


def select(activation: Activation, layers: Sequence[int]) -> Activation:
    """The same activation at some of its layers, in this order."""
    if activation.layers == tuple(layers):
        return activation
    rows = [activation.layers.index(layer) for layer in layers]
    return Activation(
        vectors=activation.vectors[rows],
        token_ids=activation.token_ids,
        positions=activation.positions,
        layers=tuple(layers),
        span=activation.span,
        model_id=activation.model_id,
        model_hash=activation.model_hash,
    )


@dataclass(frozen=True)
class Moved:
    """What a decoder is given where it is asked at one layer of the target.

    Attributes:
        layers: that are read of each token, one for each vector that the decoder takes.
        taken: the decoder's own read layers, in whose places they are put.
    """

    layers: tuple[int, ...]
    taken: tuple[int, ...]

    def of(self, whole: Activation) -> Activation:
        """The vectors of these layers, of an activation that holds them, under the decoder's own layers."""
        rows = [whole.layers.index(layer) for layer in self.layers]
        return replace(whole, vectors=whole.vectors[torch.tensor(rows)], layers=self.taken)


def move(read_layers: Sequence[int], layer: int, *, sampled: bool = False) -> Moved:
    """What "read layer k" means for a decoder.

    Its highest read layer is put at k, and the others keep their distance below it, down to layer 0; so at
    its own highest layer a decoder reads what it always does. One that takes any one of a set reads k under
    its own number, or under the middle one's where k is not in the set.

    Args:
        read_layers: that the decoder was trained on, ascending.
        layer: k, not negative.
        sampled: whether it takes any one of them.

    Example:
        >>> move((9, 15), 12).layers, move((9, 15), 4).layers, move((9, 15), 12).taken
        ((6, 12), (0, 4), (9, 15))
    """
    if sampled:
        own = layer if layer in read_layers else read_layers[len(read_layers) // 2]
        return Moved((layer,), (own,))
    highest = max(read_layers)
    return Moved(tuple(max(0, layer - (highest - own)) for own in read_layers), tuple(read_layers))


def _key(query: Query) -> Key:
    return repr([(message["role"], message["content"]) for message in query.dialog]), query.span


def _holds(activation: Activation | None, layers: Sequence[int]) -> bool:
    return activation is not None and set(layers) <= set(activation.layers)


def _size(activation: Activation) -> int:
    return activation.vectors.numel() * activation.vectors.element_size()


def _without_first(activation: Activation) -> Tensor:
    kept = [number for number, position in enumerate(activation.positions) if position > 0]
    if not kept or len(kept) == len(activation.positions):
        return activation.vectors
    return activation.vectors[:, torch.tensor(kept)]
