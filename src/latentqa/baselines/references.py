"""The decoder as a reader, and the decoder on reference activations: what the question alone gives."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.reads import Moved, move, select
from latentqa.decoder import Decoder, References
from latentqa.decoder.forward import Row
from latentqa.decoder.generate import Generated, Sampling, generate
from latentqa.decoder.score import mean_scores
from latentqa.decoder.wiring import Slot
from latentqa.errors import ConfigError
from latentqa.types import Activation, Answer, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

ReferenceKind = Literal["none", "mean", "shuffled"]
BATCH = 32
KEPT = 200_000  # scores and answers on other dialogs' activations that are kept


class LIT:
    """The trained decoder itself, under its name in tables.

    Source: LatentQA (Pan et al. 2024), as this library trains it.
    Needs: a decoder trained for the target.
    Cannot: say how sure it is without its card's calibration.
    """

    name = "lit"

    def __init__(self, context: ReaderContext) -> None:
        self.decoder = _decoder(context, self.name)
        self._reads = context.reads
        self._answer_tokens = context.answer_tokens
        self._signals = context.signals
        self._moved: Moved | None = None
        self.choices: dict[str, object] = {"layers": self.decoder.read_layers, "tried": 0}

    def at_layer(self, layer: int) -> LIT:
        """The decoder asked at another layer than it was trained on: see `reads.move`."""
        card = self.decoder.card
        other = copy.copy(self)
        other._moved = move(card.read_layers, layer, sampled=card.sampled_layer)
        other.choices = {"layers": other._moved.layers, "tried": 0}
        return other

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """The decoder's greedy answers."""
        return self._ask(queries)

    def ask_with_specificity(self, queries: Sequence[Query], /) -> list[Answer]:
        """The same, each with the share of other dialogs that it fits less well."""
        return self._ask(queries, specificity=True)

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by support against the mean activation."""
        check_queries(self.name, queries, candidates)
        return self.decoder.score_many(self._pairs(queries), candidates)

    def _ask(self, queries: Sequence[Query], *, specificity: bool = False) -> list[Answer]:
        check_queries(self.name, queries)
        answers = self.decoder.ask_many(
            self._pairs(queries),
            max_new_tokens=self._answer_tokens,
            batch_size=BATCH,
            support=self._signals,
            specificity=specificity,
        )
        if self._moved is None:
            return answers
        return [replace(answer, read_layers=self._moved.layers) for answer in answers]

    def _pairs(self, queries: Sequence[Query]) -> list[tuple[Activation, str]]:
        if self._moved is None:
            return _pairs(self.decoder, queries)
        whole = self._reads.activations(queries, sorted(set(self._moved.layers)))
        moved = _together(queries, [self._moved.of(activation) for activation in whole])
        return [(activation, query.question) for activation, query in zip(moved, queries, strict=True)]


class OnReference:
    """The decoder on activations that are not the dialog's own.

    `no-activation` and `mean-activation` see nothing of the dialog: they rank by plain log-probability, so
    that `support` equals `logprob` there. `shuffled` reads another, kept dialog, drawn by what it should have
    read, and ranks by support against the mean activation, as the decoder does: what it gets right beyond
    chance is not read from the dialog. What it says of one reference and question is found once.

    Source: the reference activations of this library's decoder card (docs/design.md, 2).
    Needs: a decoder trained for the target.
    Cannot: tell one dialog from another, by construction.
    """

    def __init__(self, context: ReaderContext, kind: ReferenceKind) -> None:
        self.name = {"none": "no-activation", "mean": "mean-activation", "shuffled": "shuffled"}[kind]
        self.decoder = _decoder(context, self.name)
        self._kind: ReferenceKind = kind
        self._answer_tokens = context.answer_tokens
        self._said: dict[tuple[object, ...], Generated] = {}
        self._scored: dict[tuple[object, ...], float] = {}
        self.choices: dict[str, object] = {"tried": 0}

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """Greedy answers on the reference activations."""
        check_queries(self.name, queries)
        pairs = _pairs(self.decoder, queries)
        keys: list[tuple[object, ...]] = []
        missing: dict[tuple[object, ...], int] = {}
        for number, (activation, question) in enumerate(pairs):
            keys.append((*self._place(activation), question))
            if keys[-1] not in self._said:
                missing.setdefault(keys[-1], number)
        self._generate([(key, *pairs[number]) for key, number in missing.items()])
        decode = self.decoder.wiring.prompt.tokenizer.decode
        answers = []
        for key, (activation, _), query in zip(keys, pairs, queries, strict=True):
            said = self._said[key]
            text = str(decode(said.token_ids, skip_special_tokens=True))
            answers.append(plain_answer(self.name, query, text, activation.layers, logprobs=said.logprobs))
        _bounded(self._said)
        return answers

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates, best first."""
        check_queries(self.name, queries, candidates)
        pairs = _pairs(self.decoder, queries)
        if self._kind != "shuffled":
            return self._without_reading(pairs, candidates)
        answer = self.decoder.wiring.prompt.answer
        texts = [(number, text) for number, group in enumerate(candidates) for text in group]
        places = [self._place(activation) for activation, _ in pairs]
        keys = [(*places[number], pairs[number][1], answer(text)) for number, text in texts]
        missing = {
            key: number for (number, _), key in zip(texts, keys, strict=True) if key not in self._scored
        }
        slots = {place: number for number, place in enumerate(dict.fromkeys(key[:-2] for key in missing))}
        example = {key[:-2]: number for key, number in missing.items()}
        made = [self._slot(pairs[example[place]][0]) for place in slots]
        rows = [Row(slots[key[:-2]], key[-2], key[-1]) for key in missing]
        with self.decoder.wiring.active():
            self._scored.update(zip(missing, mean_scores(self.decoder.wiring, made, rows), strict=True))
        asked = [pairs[number] for number, _ in texts]
        priors = self.decoder.logprobs(asked, [answer(text) for _, text in texts], reference="mean")
        ranked: list[list[Score]] = [[] for _ in pairs]
        for (number, text), key, prior in zip(texts, keys, priors, strict=True):
            value = self._scored[key]
            ranked[number].append(Score(text, value, value - prior, len(answer(text))))
        _bounded(self._scored)
        return [rank(group) for group in ranked]

    def _generate(self, missing: Sequence[tuple[tuple[object, ...], Activation, str]]) -> None:
        wiring = self.decoder.wiring
        for first in range(0, len(missing), BATCH):
            batch = missing[first : first + BATCH]
            slots = [self._slot(activation) for _, activation, _ in batch]
            rows = [Row(place, question) for place, (_, _, question) in enumerate(batch)]
            with wiring.active():
                said = generate(wiring, slots, rows, Sampling(self._answer_tokens))
            self._said.update(zip([key for key, _, _ in batch], said, strict=True))

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

    def _place(self, activation: Activation) -> tuple[object, ...]:
        """What the slot depends on: which stand-in it holds, and its length where that is the dialog's."""
        references = self._references(activation)
        span = references.span_of(self._kind, activation.span)
        length: object = activation.vectors.shape[1]
        if self.decoder.wiring.shift_positions:
            length = activation.positions
        elif self._kind == "shuffled":
            length = None
        return self._drawn(references, activation), span, activation.layers, length

    def _slot(self, activation: Activation) -> Slot:
        references = self._references(activation)
        stand_ins = references.stand_ins(self._kind, activation)
        vectors = stand_ins[self._drawn(references, activation)]
        if vectors is None:
            return self.decoder.wiring.empty_slot(*activation.vectors.shape[:2])
        positions = activation.positions if vectors.shape[1] == activation.vectors.shape[1] else None
        return self.decoder.wiring.slot(vectors, positions)

    def _drawn(self, references: References, activation: Activation) -> int:
        """Number of the stand-in for these tokens."""
        count = len(references.stand_ins(self._kind, activation))
        return random.Random(f"{activation.token_ids}:{activation.positions}").randrange(count)

    def _references(self, activation: Activation) -> References:
        decoder = self.decoder
        if not decoder.card.sampled_layer:
            return decoder.references
        return decoder.references.of_layer(decoder.card.read_layers.index(activation.layers[0]))


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
        if activation is not None and set(wanted) <= set(activation.layers):
            activation = select(activation, wanted)
        elif activation is not None and not decoder.card.sampled_layer:
            activation = None
        cut.append(Query(query.dialog, query.span, query.question, activation))
    pairs = decoder.pairs(cut)
    one = _together(queries, [activation for activation, _ in pairs])
    return [(activation, question) for activation, (_, question) in zip(one, pairs, strict=True)]


def _together(queries: Sequence[Query], activations: Sequence[Activation]) -> list[Activation]:
    """One and the same object for all questions on one dialog and span, which then share its pass."""
    kept: dict[tuple[object, ...], Activation] = {}
    found = []
    for query, activation in zip(queries, activations, strict=True):
        contents = tuple((message["role"], message["content"]) for message in query.dialog)
        found.append(kept.setdefault((contents, query.span, id(query.activation)), activation))
    return found


def _bounded(kept: dict[tuple[object, ...], Any]) -> None:
    """Drop everything that is kept where it has become too much."""
    if len(kept) > KEPT:
        kept.clear()
