"""The retrieval probe: ridge regression from activations to features of the answers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentqa.baselines.fit import FitItem, ReaderError, Validation
from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.reads import CHUNK, depth
from latentqa.baselines.search import Found, Settings, first_settings, reciprocal_rank, search
from latentqa.errors import DataError
from latentqa.models import resolve_layer
from latentqa.types import Answer, Message, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

DEPTHS = (0.3, 0.5, 0.65)
ANSWER_DEPTH = 0.5
QUESTION = "Describe the assistant."  # the same for all, so that states tell answers apart and nothing else
HEADER, TAIL = 3, 5  # tokens at the span's ends that are inputs of their own
SHARPNESS = 10.0  # of the softmax that turns cosines into log-probabilities
HELD_OUT = 0.2
CANDIDATES = 10
OWN_MEAN = 20  # training items from which a question has means of its own


class RetrievalProbe:
    """Candidates by how near their features are to those that a ridge regression expects.

    An answer's features are the mean state of its text in the target at half depth. Two closed-form
    regressions predict them: `tokens` from each token of the span, with the same weights for all, averaged;
    `pooled` from mean, header and tail tokens at once; compared by cosine in a softly whitened space.
    `support` is the cosine, `logprob` that of a softmax over the candidates. A free answer is the nearest
    training answer. Settings are chosen on the validation items or, without any, on a fifth of the labels.

    Source: ridge regression to features of the answers, this library's own (docs/design.md, 8).
    Needs: a training split of dialogs with their answers.
    Cannot: take the question into account, or write an answer that it was not given.
    """

    name = "retrieval-probe"

    def __init__(self, context: ReaderContext) -> None:
        target = context.target
        self._target = target
        self._reads = context.reads
        self._seed = context.seed
        self._budget = context.budget
        if context.layers:
            self._layers = tuple(sorted({resolve_layer(target.model, layer) for layer in context.layers}))
            sets = (self._layers, *((layer,) for layer in self._layers if len(self._layers) > 1))
        else:
            early, middle, late = (depth(target, share) for share in DEPTHS)
            self._layers = tuple(sorted({early, middle, late}))
            sets = tuple(dict.fromkeys((tuple(sorted({early, middle})), (middle,), self._layers)))
        self._answer_layer = depth(target, ANSWER_DEPTH)
        self._axes = {
            "inputs": ("tokens", "pooled", "both"),
            "whitening": (0.1, 0.01, 1.0, 10.0),
            "pooled ridge": (1.0, 10.0, 0.1),
            "ridge": (0.01, 0.1, 0.001),
            "layers": sets,
        }
        self._found = Found(first_settings(self._axes))
        self._states: dict[str, Tensor] = {}
        self._model: _Model | None = None
        self._answers: list[str] = []

    @property
    def choices(self) -> dict[str, object]:
        """The chosen inputs, penalties, layers and whitening, and how many settings were tried."""
        return self._found.choices()

    def fit(self, items: Sequence[FitItem], validation: Validation = ()) -> None:
        """Fit the regressions.

        Args:
            items: dialogs with their answers.
            validation: settings are chosen on these; training items on the same dialogs are left out
                meanwhile.

        Raises:
            DataError: fewer than two different answers.
        """
        if len({item.answer for item in items}) < 2:
            raise DataError(
                f"{self.name} was given {len(items)} training items with fewer than two different answers. "
                "Give a training split."
            )
        inside, outside, judged = self._split(items, validation)
        data = self._gather(inside)
        if judged and self._budget > 0:

            def value(settings: Settings) -> float:
                self._model = data.solve(settings, self._layers)
                return reciprocal_rank(self._rank, judged)

            self._found = search(self._axes, value, self._budget)
        if outside:
            data = data.plus(self._gather(outside))
        self._model = data.solve(self._found.settings, self._layers)
        self._answers = list(dict.fromkeys(item.answer for item in items))

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """The nearest training answer to each query."""
        check_queries(self.name, queries)
        model = self._fitted()
        known = torch.stack(self._features(self._answers))
        layers = self._found.settings["layers"]
        answers = []
        for query, inputs in zip(queries, self._inputs(queries), strict=True):
            cosines = model.cosines(inputs, known, query.question)
            best = int(cosines.argmax())
            answers.append(
                plain_answer(
                    self.name, query, self._answers[best], layers, support=float(cosines[best]), n_tokens=1
                )
            )
        return answers

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by cosine."""
        check_queries(self.name, queries, candidates)
        return self._rank(queries, candidates)

    def _rank(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]]) -> list[list[Score]]:
        model = self._fitted()
        self._features([text for texts in candidates for text in texts])  # all in one go
        ranked = []
        for query, texts, inputs in zip(queries, candidates, self._inputs(queries), strict=True):
            cosines = model.cosines(inputs, torch.stack(self._features(texts)), query.question)
            logprobs = (SHARPNESS * cosines).log_softmax(0)
            scores = [
                Score(text, logprob, support, 1)
                for text, logprob, support in zip(texts, logprobs.tolist(), cosines.tolist(), strict=True)
            ]
            ranked.append(rank(scores))
        return ranked

    def _fitted(self) -> _Model:
        if self._model is None:
            raise ReaderError(
                f"{self.name} has not been fitted. Call fit(items) with a training split first."
            )
        return self._model

    def _split(
        self, items: Sequence[FitItem], validation: Validation
    ) -> tuple[list[FitItem], list[FitItem], Validation]:
        """What the search is fitted on, what is added afterwards, and what it is judged on."""
        if validation:
            seen = {_said(item.query) for item, _ in validation}
            inside = [item for item in items if _said(item.query) not in seen]
            if len({item.answer for item in inside}) < 2:
                return list(items), [], ()
            return inside, [item for item in items if _said(item.query) in seen], validation
        labels = sorted({item.label for item in items})
        chooser = random.Random(f"{self._seed}:held out")
        out = set(chooser.sample(labels, int(HELD_OUT * len(labels))))
        outside = [item for item in items if item.label in out]
        answers = list(dict.fromkeys(item.answer for item in outside))
        if len(answers) < CANDIDATES:
            return list(items), [], ()
        judged = []
        for item in outside:
            others = [answer for answer in answers if answer != item.answer]
            judged.append((item, (item.answer, *chooser.sample(others, CANDIDATES - 1))))
        return [item for item in items if item.label not in out], outside, judged

    def _inputs(self, queries: Sequence[Query]) -> Iterator[Tensor]:
        """Inputs `[L, 1 + H + K, D]` of each query: mean, header and tail tokens."""
        return self._reads.map(queries, self._layers, _ends_and_mean)

    def _gather(self, items: Sequence[FitItem]) -> _Data:
        """Moments over all tokens, and inputs and features of each item."""
        moments = _Moments()
        inputs, features = [], []
        for first in range(0, len(items), CHUNK):
            chunk = items[first : first + CHUNK]
            states = self._features([item.answer for item in chunk])
            vectors = self._reads.vectors([item.query for item in chunk], self._layers)
            moments.add(vectors, states)
            inputs += [_ends_and_mean(one) for one in vectors]
            features += states
        questions = [item.query.question for item in items]
        return _Data(moments, torch.stack(inputs), torch.stack(features), questions)

    def _features(self, texts: Sequence[str]) -> list[Tensor]:
        """Mean state `[E]` of each text's tokens in the target, float32 on the CPU."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._states]
        for first in range(0, len(missing), CHUNK):
            batch = missing[first : first + CHUNK]
            readings = [self._target.reading(_answered(text), "completion:content") for text in batch]
            read = self._target.read_many(readings, (self._answer_layer,))
            for text, activation in zip(batch, read, strict=True):
                self._states[text] = activation.vectors[0].float().mean(0).cpu()
        return [self._states[text] for text in texts]


class _Moments:
    """Sums over all tokens of inputs, of their products, and of their products with the features."""

    def __init__(self) -> None:
        self.count = 0
        self.parts: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
        self.shift: Tensor | None = None

    def add(self, vectors: Sequence[Tensor], states: Sequence[Tensor]) -> None:
        """Take in spans `[L, T, D]` whose tokens all have the features `[E]`."""
        flat = [one.float().cpu().transpose(0, 1).flatten(1) for one in vectors]
        if self.shift is None:
            self.shift = torch.cat(flat).mean(0)  # keeps the products small enough for float32
        flat = [one - self.shift for one in flat]
        rows, sums = torch.cat(flat), torch.stack([one.sum(0) for one in flat])
        counts = torch.tensor([float(len(one)) for one in flat])
        features = torch.stack(list(states))
        found = (rows.sum(0), counts @ features, rows.T @ rows, sums.T @ features)
        self.count += len(rows)
        fresh = tuple(part.double() for part in found)
        old = self.parts or tuple(map(torch.zeros_like, fresh))
        x, y, xx, xy = (one + other for one, other in zip(old, fresh, strict=True))
        self.parts = x, y, xx, xy

    def plus(self, other: _Moments) -> _Moments:
        """Both together, at this one's shift."""
        assert self.parts and other.parts and self.shift is not None and other.shift is not None
        moved = (other.shift - self.shift).double()
        x, y, xx, xy = other.parts
        total = x + other.count * moved
        cross = torch.outer(x, moved)
        xx = xx + cross + cross.T + other.count * torch.outer(moved, moved)
        xy = xy + torch.outer(moved, y)
        joined = _Moments()
        joined.count, joined.shift = self.count + other.count, self.shift
        own = self.parts
        joined.parts = own[0] + total, own[1] + y, own[2] + xx, own[3] + xy
        return joined

    def ridge(self, columns: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
        """Mean `[C]` and weights `[C, E]` from some of the inputs.

        Args:
            columns: `[C]`, indices of the inputs.
            penalty: as a share of each input's variance.
        """
        assert self.parts is not None and self.shift is not None
        x, y, xx, xy = (part / self.count for part in self.parts)
        x, xx, xy = x[columns], xx[columns][:, columns], xy[columns]
        covariance = xx - torch.outer(x, x)
        loaded = covariance + torch.diag(penalty * covariance.diagonal().clamp(min=1e-9))
        weight = torch.linalg.solve(loaded, xy - torch.outer(x, y))
        return (x + self.shift[columns].double()).float(), weight.float()


@dataclass(frozen=True, eq=False)
class _Data:
    """What the regressions are solved from.

    Attributes:
        moments: over all tokens.
        inputs: `[N, L, 1 + H + K, D]`, mean, header and tail tokens of each item.
        features: `[N, E]`, of each item's answer.
        questions: of each item.
    """

    moments: _Moments
    inputs: Tensor
    features: Tensor
    questions: list[str]

    def plus(self, other: _Data) -> _Data:
        return _Data(
            self.moments.plus(other.moments),
            torch.cat([self.inputs, other.inputs]),
            torch.cat([self.features, other.features]),
            self.questions + other.questions,
        )

    def solve(self, settings: Settings, layers: tuple[int, ...]) -> _Model:
        """The regressions and the space that they are compared in."""
        rows = [layers.index(layer) for layer in settings["layers"]]
        regressions: list[_Regression] = []
        if settings["inputs"] != "pooled":
            width = self.inputs.shape[-1]
            columns = torch.cat([torch.arange(row * width, (row + 1) * width) for row in rows])
            mean, weight = self.moments.ridge(columns, settings["ridge"])
            regressions.append(_Regression(rows, False, mean, torch.ones_like(mean), weight))
        if settings["inputs"] != "tokens":
            regressions.append(self._pooled(rows, settings["pooled ridge"]))
        centres = self._centres(self.features)
        offsets = [self._centres(one.many(self.inputs)) for one in regressions]
        around = torch.stack([centres.get(question, centres[""]) for question in self.questions])
        return _Model(
            regressions, offsets, centres, _whitening(self.features - around, settings["whitening"])
        )

    def _pooled(self, rows: list[int], penalty: float) -> _Regression:
        """Ridge in its dual form: there are more inputs than items."""
        inputs = self.inputs[:, rows].float().flatten(1)
        mean, spread = inputs.mean(0), inputs.std(0) + 1e-6
        inputs = (inputs - mean) / spread
        wanted = self.features - self.features.mean(0)
        gram = (inputs @ inputs.T).double()
        gram.diagonal().add_(penalty * len(inputs))
        weight = inputs.T @ torch.linalg.solve(gram, wanted.double()).float()
        return _Regression(rows, True, mean, spread, weight)

    def _centres(self, values: Tensor) -> dict[str, Tensor]:
        """Mean of `[N, E]` over all items (under ""), and over those of each question that has enough."""
        numbers: dict[str, list[int]] = {}
        for number, question in enumerate(self.questions):
            numbers.setdefault(question, []).append(number)
        own = {question: values[own].mean(0) for question, own in numbers.items() if len(own) >= OWN_MEAN}
        return {"": values.mean(0), **own}


@dataclass(frozen=True, eq=False)
class _Regression:
    """From an item's inputs `[L, 1 + H + K, D]` to expected features."""

    rows: list[int]
    pooled: bool
    mean: Tensor
    spread: Tensor
    weight: Tensor

    def many(self, inputs: Tensor) -> Tensor:
        """Expected features `[N, E]`, up to a constant; averaging over tokens is averaging their inputs."""
        chosen = inputs[:, self.rows].float()
        flat = chosen.flatten(1) if self.pooled else chosen[:, :, 0].flatten(1)
        return ((flat - self.mean) / self.spread) @ self.weight


@dataclass(frozen=True, eq=False)
class _Model:
    """Fitted regressions; means over questions are taken off both sides before the comparison."""

    regressions: list[_Regression]
    offsets: list[dict[str, Tensor]]
    centres: dict[str, Tensor]
    whitening: Tensor

    def cosines(self, inputs: Tensor, features: Tensor, question: str) -> Tensor:
        """Cosine `[C]` between what is expected and each candidate's features `[C, E]`."""
        expected = torch.zeros_like(features[0])
        for regression, offset in zip(self.regressions, self.offsets, strict=True):
            own = regression.many(inputs[None])[0] - offset.get(question, offset[""])
            expected = expected + torch.nn.functional.normalize(own @ self.whitening, dim=0)
        centred = (features - self.centres.get(question, self.centres[""])) @ self.whitening
        return torch.nn.functional.cosine_similarity(centred, expected[None], dim=1)


def _whitening(centred: Tensor, softness: float) -> Tensor:
    """`[E, E]` that makes directions more alike in size; softness 0 makes them all equal."""
    covariance = (centred.T @ centred).double() / len(centred)
    values, directions = torch.linalg.eigh(covariance)
    values = values.clamp(min=0)
    scale = (values + softness * values.mean() + 1e-9).rsqrt()
    return ((directions * scale) @ directions.T).float()


def _ends_and_mean(vectors: Tensor) -> Tensor:
    """Mean, first and last tokens, `[L, 1 + H + K, D]` on the CPU; short spans repeat what they have."""
    length = vectors.shape[1]
    first = [min(place, length - 1) for place in range(HEADER)]
    last = [max(0, length - TAIL + place) for place in range(TAIL)]
    mean = vectors.float().mean(1, keepdim=True).to(vectors.dtype)
    return torch.cat([mean, vectors[:, first + last]], dim=1).cpu()


def _answered(text: str) -> list[Message]:
    return [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": text.strip()}]


def _said(query: Query) -> str:
    return repr([(message["role"], message["content"]) for message in query.dialog])
