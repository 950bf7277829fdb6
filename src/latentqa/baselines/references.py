"""The decoder as a reader, and the decoder on reference activations: what the question alone gives."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.reads import select
from latentqa.decoder import Decoder
from latentqa.decoder.forward import Row
from latentqa.decoder.generate import Sampling, generate
from latentqa.decoder.score import mean_scores
from latentqa.decoder.wiring import Slot
from latentqa.errors import ConfigError
from latentqa.types import Activation, Answer, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

ReferenceKind = Literal["none", "mean", "shuffled"]
BATCH = 8


class LIT:
    """The trained decoder itself, under its name in tables.

    Source: LatentQA (Pan et al. 2024), as this library trains it.
    Needs: a decoder trained for the target.
    Cannot: say how sure it is without its card's calibration.
    """

    name = "lit"

    def __init__(self, context: ReaderContext) -> None:
        self.decoder = _decoder(context, self.name)
        self._answer_tokens = context.answer_tokens
        self.choices: dict[str, object] = {"layers": self.decoder.read_layers, "tried": 0}

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """The decoder's greedy answers."""
        check_queries(self.name, queries)
        pairs = _pairs(self.decoder, queries)
        return self.decoder.ask_many(pairs, max_new_tokens=self._answer_tokens)

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by support against the mean activation."""
        check_queries(self.name, queries, candidates)
        return self.decoder.score_many(_pairs(self.decoder, queries), candidates)


class OnReference:
    """The decoder on activations that are not the dialog's own.

    `no-activation` and `mean-activation` see nothing of the dialog: they rank by plain log-probability, so
    that `support` equals `logprob` there. `shuffled` reads another, kept dialog, drawn by the seed, and ranks
    by support against the mean activation, as the decoder does: what it gets right beyond chance is not read
    from the dialog.

    Source: the reference activations of this library's decoder card (docs/design.md, 2).
    Needs: a decoder trained for the target.
    Cannot: tell one dialog from another, by construction.
    """

    def __init__(self, context: ReaderContext, kind: ReferenceKind) -> None:
        self.name = {"none": "no-activation", "mean": "mean-activation", "shuffled": "shuffled"}[kind]
        self.decoder = _decoder(context, self.name)
        self._kind: ReferenceKind = kind
        self._seed = context.seed
        self._answer_tokens = context.answer_tokens
        self._memory: dict[tuple[object, ...], float] = {}
        self.choices: dict[str, object] = {"tried": 0}

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """Greedy answers on the reference activations."""
        check_queries(self.name, queries)
        pairs = _pairs(self.decoder, queries)
        wiring = self.decoder.wiring
        answers: list[Answer] = []
        for first in range(0, len(pairs), BATCH):
            batch = list(range(first, min(first + BATCH, len(pairs))))
            slots = [self._slot(pairs[number][0], queries[number]) for number in batch]
            rows = [Row(place, queries[number].question) for place, number in enumerate(batch)]
            with wiring.active():
                said = generate(wiring, slots, rows, Sampling(self._answer_tokens))
            for number, one in zip(batch, said, strict=True):
                text = str(wiring.prompt.tokenizer.decode(one.token_ids, skip_special_tokens=True))
                layers = pairs[number][0].layers
                answers.append(plain_answer(self.name, queries[number], text, layers, logprobs=one.logprobs))
        return answers

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates, best first."""
        check_queries(self.name, queries, candidates)
        pairs = _pairs(self.decoder, queries)
        if self._kind != "shuffled":
            return self._without_reading(pairs, candidates)
        answer = self.decoder.wiring.prompt.answer
        texts = [(number, text) for number, group in enumerate(candidates) for text in group]
        slots = [self._slot(activation, query) for (activation, _), query in zip(pairs, queries, strict=True)]
        rows = [Row(number, pairs[number][1], answer(text)) for number, text in texts]
        with self.decoder.wiring.active():
            values = mean_scores(self.decoder.wiring, slots, rows)
        asked = [pairs[number] for number, _ in texts]
        priors = self.decoder.logprobs(asked, [answer(text) for _, text in texts], reference="mean")
        ranked: list[list[Score]] = [[] for _ in pairs]
        for (number, text), value, prior in zip(texts, values, priors, strict=True):
            ranked[number].append(Score(text, value, value - prior, len(answer(text))))
        return [rank(group) for group in ranked]

    def _without_reading(
        self, pairs: Sequence[tuple[Activation, str]], candidates: Sequence[Sequence[str]]
    ) -> list[list[Score]]:
        answer = self.decoder.wiring.prompt.answer
        texts = [(number, text) for number, group in enumerate(candidates) for text in group]
        asked = [pairs[number] for number, _ in texts]
        values = self.decoder.logprobs(asked, [answer(text) for _, text in texts], reference=self._kind)
        ranked: list[list[Score]] = [[] for _ in pairs]
        for (number, text), value in zip(texts, values, strict=True):
            ranked[number].append(Score(text, value, value, len(answer(text))))
        return [rank(group) for group in ranked]

    def _slot(self, activation: Activation, query: Query) -> Slot:
        decoder = self.decoder
        references = decoder.references
        if decoder.card.sampled_layer:
            references = references.of_layer(decoder.card.read_layers.index(activation.layers[0]))
        stand_ins = references.stand_ins(self._kind, activation)
        contents = [(message["role"], message["content"]) for message in query.dialog]
        vectors = random.Random(f"{self._seed}:{contents}:{query.span}").choice(stand_ins)
        if vectors is None:
            return decoder.wiring.empty_slot(*activation.vectors.shape[:2])
        positions = activation.positions if vectors.shape[1] == activation.vectors.shape[1] else None
        return decoder.wiring.slot(vectors, positions)


def _decoder(context: ReaderContext, name: str) -> Decoder:
    if context.decoder is None:
        raise ConfigError(
            f'Reader "{name}" needs a decoder, and none was given. Load one with load_decoder(…, target=…).'
        )
    return context.decoder


def _pairs(decoder: Decoder, queries: Sequence[Query]) -> list[tuple[Activation, str]]:
    """Activation at the decoder's layers and question of each query; one that holds more layers is cut."""
    wanted = decoder.read_layers
    cut = []
    for query in queries:
        activation = query.activation
        if activation is not None and not decoder.card.sampled_layer:
            fits = set(wanted) <= set(activation.layers)
            activation = select(activation, wanted) if fits else None
        cut.append(Query(query.dialog, query.span, query.question, activation))
    return decoder.pairs(cut)
