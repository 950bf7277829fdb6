"""The logit lens on what the model computes, against its base."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentqa.audit.battery import Question
from latentqa.audit.material import Material, Mode
from latentqa.audit.methods.method import Peers, Rows, by_dialog, tokens_of
from latentqa.audit.organisms import MultipleChoice
from latentqa.baselines import ReaderContext
from latentqa.baselines.logit_lens import LogitLens
from latentqa.baselines.reads import depth
from latentqa.types import Dialog, Query

LENS_DEPTH = 0.75
LENS_WORDS = 10


class Lens:
    """The logit lens: words that the output head finds in the model's states and not in its base's.

    Args:
        peers: with the base.
    """

    name = "logit-lens"
    doc = (
        "The words that the output head finds in the middle of the model, against the base on the same text."
    )

    def __init__(self, peers: Peers) -> None:
        self._layer = depth(peers.base, LENS_DEPTH)
        self._lens = _Words(ReaderContext(peers.base, layers=(self._layer,)))
        self._tokenizer = peers.base.tokenizer

    def rows(self, material: Material, choice: MultipleChoice, dialogs: Sequence[Dialog]) -> Rows:
        """Mean gain of each hypothesis's tokens."""
        tokens = [tokens_of(material, f" {option}") for option in choice.options]
        gains = self._gains(material, dialogs)
        values = [[float(gain[list(ids)].mean()) for ids in tokens] for gain in gains]
        return by_dialog(material.places(dialogs), values)

    def says(self, material: Material, dialogs: Sequence[Dialog], questions: Sequence[Question]) -> list[str]:
        """The words that gain most, one finding each; the questions count for nothing."""
        mean = torch.stack(self._gains(material, dialogs)).mean(0)
        best = mean.topk(min(5 * LENS_WORDS, len(mean))).indices.tolist()
        special = set(self._tokenizer.all_special_ids)
        words = [str(self._tokenizer.decode([token])).strip() for token in best if token not in special]
        return list(dict.fromkeys(word for word in words if len(word) > 1))[:LENS_WORDS]

    def _gains(self, material: Material, dialogs: Sequence[Dialog]) -> list[Tensor]:
        """Log-probability of every token, minus the base's at the same place (or on ordinary turns)."""
        own = self._words(material, dialogs, "model")
        if material.audited.base is None:
            prior = self._lens.prior()
            return [one - prior for one in own]
        return [one - other for one, other in zip(own, self._words(material, dialogs, "base"), strict=True)]

    def _words(self, material: Material, dialogs: Sequence[Dialog], mode: Mode) -> list[Tensor]:
        assert mode in ("model", "base")
        states = material.states(mode, dialogs, (self._layer,))
        queries = [
            Query(place.dialog, place.span, "", activation)
            for place, activation in zip(material.places(dialogs), states, strict=True)
        ]
        return self._lens.words(queries)


class _Words(LogitLens):
    """The lens's pooled log-probabilities themselves."""

    def words(self, queries: Sequence[Query]) -> list[Tensor]:
        """`[V]` float32 of each query."""
        return list(self._words(queries, self._found.settings))

    def prior(self) -> Tensor:
        """The mean of the same over ordinary dialogs."""
        return self._prior(self._found.settings)
