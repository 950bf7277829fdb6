"""The decoder: a language model that answers questions about another model's activations."""

from __future__ import annotations

import bisect
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import torch

from latentqa.activations.checks import check_finite
from latentqa.decoder.card import Card
from latentqa.decoder.confidence import agreement, model_for, signals_of
from latentqa.decoder.forward import Row
from latentqa.decoder.generate import Generated, Sampling, cut_at_stop, generate, stream
from latentqa.decoder.references import References
from latentqa.decoder.score import mean_scores
from latentqa.decoder.target import Target
from latentqa.decoder.wiring import Slot, Wiring
from latentqa.errors import ActivationError, ConfigError, LayerError, QuestionError
from latentqa.models import remove_adapter, save_adapter
from latentqa.types import Activation, Answer, Query, Score, Verdict

MEMORY = 100_000  # reference scores kept
GUIDE = "mean"  # the reference that guides answers
SAMPLE_TEMPERATURE = 0.7  # of the samples that a greedy answer is compared with
Key = tuple[tuple[object, ...], str, tuple[int, ...]]  # what it is put to, question, answer


class Decoder:
    """Answers questions about activations, and scores given answers.

    Made by `load_decoder`, `Decoder.from_pretrained` or training.

    Args:
        wiring: the decoder model, its prompt and its injection.
        card: how it was made and must be used.
        references: what support compares with.
        target: the model that is read, for queries that hold a dialog and no activation.

    Example:
        ```python
        target = load_target("builtin")
        decoder = load_decoder("builtin", target=target)
        activation = target.read(dialog, span="stimulus")
        decoder.ask(activation, "What type of persona will the assistant adopt?").text
        ```
    """

    def __init__(
        self, wiring: Wiring, card: Card, references: References, target: Target | None = None
    ) -> None:
        self.wiring = wiring
        self.card = card
        self.references = references
        self.target = target
        self.read_layers = card.default_layers  # of the dialogs of queries
        self._memory: OrderedDict[Key, float] = OrderedDict()

    @classmethod
    def from_pretrained(cls, name: str | Path, *, target: Target | None = None, **options: object) -> Decoder:
        """Load a decoder from a folder, a hub id or `"builtin"`; see `load_decoder`."""
        from latentqa.decoder.load import load_decoder

        return load_decoder(name, target=target, **options)  # pyright: ignore[reportArgumentType]

    @property
    def name(self) -> str:
        """What the decoder is called in tables."""
        return self.card.name

    @overload
    def ask(self, activation: Activation, question: str, /, **options: object) -> Answer: ...

    @overload
    def ask(self, queries: Sequence[Query], /, **options: object) -> list[Answer]: ...

    def ask(self, what, question=None, /, **options):  # noqa: ANN001, ANN003, ANN202
        """Answer a question about an activation, or many queries at once.

        Args:
            what: an `Activation`, or a sequence of `Query`.
            question: the question, if `what` is an activation.
            options: `max_new_tokens`, `temperature`, `stop`, `seed`, `reference`, `batch_size`, `samples`,
                `specificity`, `support`, `max_error`, `guidance`, `on_answer`; see `ask_many`.

        Raises:
            QuestionError: an empty question.
            LayerError: an activation of other read layers than the decoder's.
            ActivationError: vectors that are not finite or of another width.
        """
        if isinstance(what, Activation):
            if question is None:
                raise QuestionError("No question was asked. Call decoder.ask(activation, question).")
            return self.ask_many([(what, question)], **options)[0]
        return self.ask_many(self.pairs(what), **options)

    def ask_many(
        self,
        pairs: Sequence[tuple[Activation, str]],
        *,
        max_new_tokens: int = 40,
        temperature: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 0,
        reference: str = "mean",
        batch_size: int = 8,
        samples: int = 0,
        specificity: bool = False,
        support: bool = True,
        max_error: float | None = None,
        guidance: float | None = None,
        on_answer: Callable[[int, Answer], None] | None = None,
    ) -> list[Answer]:
        """Answer each (activation, question); questions on one activation share its prefix.

        Args:
            pairs: activations with their questions. Sort by activation to share most.
            max_new_tokens: longest answer, in tokens.
            temperature: 0 is greedy.
            stop: texts that end an answer.
            seed: of the sampling.
            reference: `mean`, `shuffled` or `none`, what support compares with.
            batch_size: answers generated together.
            samples: further answers drawn to each question; the share that says the same is its `agreement`.
            specificity: compare how well each answer fits with how well it fits other dialogs' activations.
            support: compare each answer with the reference too. Without it an answer has no support, no
                percentile and no verdict but `not sure`, and costs about half.
            max_error: an answer is `not sure` unless its p(correct) is one from which on at most this share
                (0–1) of the answers that the card's confidence was fitted on were wrong.
            guidance: `w` of classifier-free guidance by the mean activation (see `Sampling`); 0 is off, and
                None is the card's, with which its verdicts were calibrated.
            on_answer: called with (index, answer) as each batch ends.

        Returns:
            One `Answer` per pair, in order.

        Raises:
            ConfigError: `max_error` without a confidence in the card, or a count below 1.
        """
        if max_error is not None and not self.card.confidence:
            raise ConfigError(
                f"max_error needs the confidence of decoder {self.name}, and its card has none. Fit it with "
                "`latentqa calibrate DIR --labels FOLDER`."
            )
        if max_error is not None and not support:
            raise ConfigError("max_error judges answers by their support. Leave support=False out.")
        if max_new_tokens < 1 or batch_size < 1:
            raise ConfigError(
                f"max_new_tokens and batch_size must be 1 or more; got {max_new_tokens} and {batch_size}."
            )
        weight = self._guidance(guidance)
        for activation, question in pairs:
            self._check(activation, question)
        sampling = Sampling(max_new_tokens, temperature, tuple(stop), seed, weight)
        answers: list[Answer] = []
        for first in range(0, len(pairs), batch_size):
            batch = pairs[first : first + batch_size]
            compared = reference if support else None
            for answer in self._answer_batch(batch, sampling, compared, samples, specificity):
                answers.append(self._with_confidence(answer, max_error))
                if on_answer is not None:
                    on_answer(len(answers) - 1, answer)
        return answers

    def stream(self, activation: Activation, question: str, *, max_new_tokens: int = 40) -> Iterator[str]:
        """Pieces of one greedy answer as they are generated, guided as the card says."""
        self._check(activation, question)
        said = ""
        sampling = Sampling(max_new_tokens, guidance=self._guidance(None))
        with self.wiring.active():
            for answers in stream(self.wiring, *self._posed([(activation, question)], sampling)):
                text = self._text(answers[0])
                if not text.endswith("\ufffd"):  # half a character: wait for the rest
                    yield text[len(said) :]
                    said = text

    @overload
    def score(
        self, activation: Activation, question: str, candidates: Sequence[str], /, *, reference: str = "mean"
    ) -> list[Score]: ...

    @overload
    def score(
        self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /, *, reference: str = "mean"
    ) -> list[list[Score]]: ...

    def score(self, what, question, candidates=None, /, *, reference="mean"):  # noqa: ANN001, ANN202
        """Rank given answers by support.

        Args:
            what: an `Activation`, or a sequence of `Query`.
            question: the question; with queries, the candidates of each.
            candidates: answers to rank, if `what` is an activation.
            reference: `mean`, `shuffled` or `none`.

        Returns:
            Scores, best support first; for queries a list of such lists.
        """
        if isinstance(what, Activation):
            return self.score_many([(what, question)], [candidates or ()], reference=reference)[0]
        return self.score_many(self.pairs(what), question, reference=reference)

    def score_many(
        self,
        pairs: Sequence[tuple[Activation, str]],
        candidates: Sequence[Sequence[str]],
        *,
        reference: str = "mean",
    ) -> list[list[Score]]:
        """Scores of each pair's candidates, best support first."""
        for activation, question in pairs:
            self._check(activation, question)
        texts = [(number, text) for number, group in enumerate(candidates) for text in group]
        answers = [self.wiring.prompt.answer(text) for _, text in texts]
        logprobs = self.logprobs([pairs[number] for number, _ in texts], answers)
        expected = self.logprobs([pairs[number] for number, _ in texts], answers, reference=reference)
        ranked: list[list[Score]] = [[] for _ in pairs]
        for (number, text), tokens, value, prior in zip(texts, answers, logprobs, expected, strict=True):
            ranked[number].append(Score(text, value, value - prior, len(tokens)))
        return [sorted(group, key=lambda score: -score.support) for group in ranked]

    def logprobs(
        self,
        pairs: Sequence[tuple[Activation, str]],
        answers: Sequence[tuple[int, ...]],
        *,
        reference: str | None = None,
    ) -> list[float]:
        """Mean log-probability per token of given answers, on the activations or on a reference.

        Args:
            pairs: activation and question of each answer.
            answers: token ids of each answer.
            reference: None for the activations themselves; else `mean`, `shuffled` or `none`. What depends on
                the activation's span and length alone is computed once.
        """
        slots: list[Slot] = []
        place: dict[object, list[int]] = {}
        keys: list[Key] = []
        rows: list[Row] = []
        row_key: dict[Key, list[int]] = {}
        for (activation, question), answer in zip(pairs, answers, strict=True):
            where = self._place(activation, reference)
            key = (where, question, answer)
            keys.append(key)
            if key in row_key or (reference is not None and key in self._memory):
                continue
            if where not in place:
                found = self._slots(activation, reference)
                place[where] = list(range(len(slots), len(slots) + len(found)))
                slots.extend(found)
            row_key[key] = list(range(len(rows), len(rows) + len(place[where])))
            rows.extend(Row(slot, question, answer) for slot in place[where])
        with self.wiring.active():
            values = mean_scores(self.wiring, slots, rows)
        fresh = {
            key: _log_mean([values[i] for i in indices], len(key[2])) for key, indices in row_key.items()
        }
        result = [fresh[key] if key in fresh else self._memory[key] for key in keys]
        if reference is not None:
            self._remember(fresh)
        return result

    def pairs(self, queries: Sequence[Query]) -> list[tuple[Activation, str]]:
        """Activation and question of each query; dialogs without an activation are read in one go.

        Raises:
            ConfigError: a query without activation, and no target to read its dialog.
        """
        missing = [number for number, query in enumerate(queries) if query.activation is None]
        if missing and self.target is None:
            raise ConfigError(
                "A query holds no activation and the decoder has no target. Pass load_decoder(…, target=…)."
            )
        read: dict[int, Activation] = {}
        if missing and self.target is not None:
            wanted = {(str(queries[n].dialog), queries[n].span): n for n in missing}
            readings = [self.target.reading(queries[n].dialog, queries[n].span) for n in wanted.values()]
            by_key = dict(zip(wanted, self.target.read_many(readings, self.read_layers), strict=True))
            read = {n: by_key[str(queries[n].dialog), queries[n].span] for n in missing}
        return [(query.activation or read[number], query.question) for number, query in enumerate(queries)]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write adapter (or weights), card and references into a folder that `load_decoder` reads."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.wiring.adapter is not None:
            save_adapter(self.wiring.model, self.wiring.adapter, folder)
        else:
            self.wiring.model.save_pretrained(folder)
            self.wiring.prompt.tokenizer.save_pretrained(folder)
        if self.wiring.mapping is not None:
            self.wiring.mapping.save(folder)
        self.references.save(folder)
        self.card.save(folder)

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None) -> str:
        """Upload the decoder; returns its address. The token comes from the hub's login unless given."""
        import tempfile

        from huggingface_hub import HfApi

        hub = HfApi(token=token)
        hub.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(hub.upload_folder(repo_id=repo_id, folder_path=folder))

    def close(self) -> None:
        """Take the decoder's adapter off the base, which is then as it was before."""
        if self.wiring.adapter is not None:
            remove_adapter(self.wiring.model, self.wiring.adapter)

    def _answer_batch(
        self,
        batch: Sequence[tuple[Activation, str]],
        sampling: Sampling,
        reference: str | None,
        samples: int,
        specificity: bool,
    ) -> list[Answer]:
        generated = self._generate(batch, sampling)
        supports: list[float | None] = [None] * len(batch)
        judged: list[tuple[float | None, Verdict]] = [(None, "not sure")] * len(batch)
        if reference is not None:
            found = self._supports(batch, generated, reference)
            claims = self._judged_supports(batch, generated, reference, found)
            judged = [self._judge(pair[0], claim) for pair, claim in zip(batch, claims, strict=True)]
            supports = [*found]
        answers = [
            self._answer(activation, question, answer, support, verdict, sampling)
            for (activation, question), answer, support, verdict in zip(
                batch, generated, supports, judged, strict=True
            )
        ]
        if samples:
            answers = self._with_agreement(batch, answers, sampling, samples)
        if specificity:
            answers = self._with_specificity(batch, answers, generated)
        return answers

    def _generate(self, batch: Sequence[tuple[Activation, str]], sampling: Sampling) -> list[Generated]:
        with self.wiring.active():
            return generate(self.wiring, *self._posed(batch, sampling))

    def _posed(
        self, batch: Sequence[tuple[Activation, str]], sampling: Sampling
    ) -> tuple[list[Slot], list[Row], Sampling, list[int]]:
        """What `stream` takes: slots, each once, rows on them, and the reference of each where it guides."""
        slots: list[Slot] = []
        place: dict[object, int] = {}

        def slot(activation: Activation, reference: str | None) -> int:
            where = self._place(activation, reference)
            if where not in place:
                place[where] = len(slots)
                slots.extend(self._slots(activation, reference))
            return place[where]

        rows = [Row(slot(activation, None), question) for activation, question in batch]
        if sampling.guidance == 0:
            return slots, rows, sampling, []
        return slots, rows, sampling, [slot(activation, GUIDE) for activation, _ in batch]

    def _with_agreement(
        self,
        batch: Sequence[tuple[Activation, str]],
        answers: Sequence[Answer],
        sampling: Sampling,
        samples: int,
    ) -> list[Answer]:
        """The answers with the share of drawn ones that say the same."""
        warm = replace(sampling, temperature=sampling.temperature or SAMPLE_TEMPERATURE)
        drawn: list[list[str]] = [[] for _ in batch]
        for number in range(samples):
            further = self._generate(batch, replace(warm, seed=sampling.seed + 1 + number))
            for texts, one in zip(drawn, further, strict=True):
                texts.append(cut_at_stop(self._text(one), sampling.stop)[0].strip())
        return [
            replace(answer, agreement=agreement(answer.text, texts, answer.question))
            for answer, texts in zip(answers, drawn, strict=True)
        ]

    def _with_specificity(
        self,
        batch: Sequence[tuple[Activation, str]],
        answers: Sequence[Answer],
        generated: Sequence[Generated],
    ) -> list[Answer]:
        """The answers with the share of other dialogs that fit each less well."""
        slots: list[Slot] = []
        place: dict[object, range] = {}
        rows: list[Row] = []
        for (activation, question), tokens in zip(batch, self._answer_tokens(generated), strict=True):
            where = self._place(activation, "others")
            if where not in place:
                others = self._slots(activation, "others")
                place[where] = range(len(slots), len(slots) + len(others))
                slots.extend(others)
            rows.extend(Row(number, question, tokens) for number in place[where])
        with self.wiring.active():
            values = iter(mean_scores(self.wiring, slots, rows))
        found = []
        for (activation, _), answer in zip(batch, answers, strict=True):
            elsewhere = [next(values) for _ in place[self._place(activation, "others")]]
            share = sum(value < answer.logprob for value in elsewhere) / len(elsewhere)
            found.append(replace(answer, specificity=share))
        return found

    def _with_confidence(self, answer: Answer, max_error: float | None) -> Answer:
        """The answer with p(correct), and `not sure` where that is below what `max_error` asks for."""
        model = model_for(self.card.confidence, answer)
        if model is None:
            return answer
        p = model.probability(signals_of(answer))
        sure = max_error is None or p >= model.least(max_error)
        return replace(answer, p_correct=p, verdict=answer.verdict if sure else "not sure")

    def _judged_supports(
        self,
        batch: Sequence[tuple[Activation, str]],
        generated: Sequence[Generated],
        reference: str,
        supports: list[float],
    ) -> list[float]:
        """Supports against the reference that the card's calibration was made with."""
        calibration = self.card.calibration
        if calibration is None or calibration.reference == reference:
            return supports
        return self._supports(batch, generated, calibration.reference)

    def _supports(
        self, batch: Sequence[tuple[Activation, str]], generated: Sequence[Generated], reference: str
    ) -> list[float]:
        if reference == GUIDE and all(answer.reference_logprobs for answer in generated):
            priors = [_mean(answer.reference_logprobs) for answer in generated]
        else:
            priors = self.logprobs(batch, self._answer_tokens(generated), reference=reference)
        return [_mean(answer.logprobs) - prior for answer, prior in zip(generated, priors, strict=True)]

    def _answer_tokens(self, generated: Sequence[Generated]) -> list[tuple[int, ...]]:
        """Token ids of each answer, with the end of turn where it was reached."""
        end = self.wiring.prompt.end_of_turn[:1]
        return [
            (*answer.token_ids, *(end if len(answer.logprobs) > len(answer.token_ids) else ()))
            for answer in generated
        ]

    def _answer(
        self,
        activation: Activation,
        question: str,
        generated: Generated,
        support: float | None,
        judged: tuple[float | None, Verdict],
        sampling: Sampling,
    ) -> Answer:
        percentile, verdict = judged
        return Answer(
            text=cut_at_stop(self._text(generated), sampling.stop)[0].strip(),
            question=question,
            token_logprobs=tuple(generated.logprobs),
            support=support,
            percentile=percentile,
            verdict=verdict,
            read_layers=activation.layers,
            span=activation.span,
            decoder=self.name,
            n_tokens=len(generated.token_ids),
        )

    def _judge(self, activation: Activation, support: float) -> tuple[float | None, Verdict]:
        calibration = self.card.calibration
        if calibration is None:
            return None, "not sure"
        percentile = 100.0 * bisect.bisect_left(calibration.supports, support) / len(calibration.supports)
        foreign = self._references_of(activation).foreign_energy(activation)
        typical = foreign is None or foreign <= calibration.typicality
        return percentile, "supported" if typical and percentile >= calibration.threshold else "not sure"

    def _slots(self, activation: Activation, reference: str | None) -> list[Slot]:
        if reference is None:
            return [self.wiring.slot(activation.vectors, activation.positions)]
        n_layers, n_tokens, _ = activation.vectors.shape
        slots = []
        for vectors in self._references_of(activation).stand_ins(reference, activation):
            if vectors is None:
                slots.append(self.wiring.empty_slot(n_layers, n_tokens))
            else:
                like = vectors.shape[1] == n_tokens
                slots.append(self.wiring.slot(vectors, activation.positions if like else None))
        return slots

    def _references_of(self, activation: Activation) -> References:
        if not self.card.sampled_layer:
            return self.references
        return self.references.of_layer(self.card.read_layers.index(activation.layers[0]))

    def _place(self, activation: Activation, reference: str | None) -> tuple[object, ...]:
        """What a score depends on besides question and answer: references fit any of like shape."""
        if reference is None:
            return (id(activation),)
        span = self._references_of(activation).span_of(reference, activation.span)
        if reference in ("shuffled", "ordinary", "others"):  # other dialogs, at their own length
            return reference, span, activation.layers
        positions = activation.positions if self.wiring.shift_positions else ()
        return reference, span, activation.layers, activation.vectors.shape[1], positions

    def _guidance(self, wanted: float | None) -> float:
        """The weight that was asked for, or the card's.

        Raises:
            ConfigError: a weight that is negative or not finite, or no mean activation to guide by.
        """
        weight = self.card.guidance if wanted is None else wanted
        if not 0 <= weight < math.inf:
            raise ConfigError(f"guidance is a finite weight of 0 or more; got {weight}.")
        if weight and not self.references.mean:
            raise ConfigError(
                f"Decoder {self.name} has no mean activation to guide by. Leave guidance out, or set it to 0."
            )
        return weight

    def _check(self, activation: Activation, question: str) -> None:
        if not question.strip():
            raise QuestionError(
                'The question is empty. Ask one, for example "How will the assistant express itself?".'
            )
        fits = activation.layers == self.card.read_layers
        if self.card.sampled_layer:
            fits = len(activation.layers) == 1 and activation.layers[0] in self.card.read_layers
        if not fits:
            raise LayerError(
                f"The activation holds read layers {list(activation.layers)}, but decoder {self.name} reads "
                f"{list(self.card.read_layers)}. Read with target.read(dialog, layers=decoder.read_layers)."
            )
        if activation.vectors.shape[-1] != self.wiring.width:
            raise ActivationError(
                f"The activation has {activation.vectors.shape[-1]} dimensions, but decoder {self.name} "
                f"takes {self.wiring.width}. Read the model that it was trained for: "
                f"{self.card.target_model}."
            )
        check_finite(activation.vectors, f"The activation of span {activation.span}")

    def _text(self, generated: Generated) -> str:
        return str(self.wiring.prompt.tokenizer.decode(generated.token_ids, skip_special_tokens=True))

    def forget(self) -> None:
        """Drop remembered reference scores: needed after the weights have changed."""
        self._memory.clear()

    def _remember(self, fresh: dict[Key, float]) -> None:
        self._memory.update(fresh)
        while len(self._memory) > MEMORY:
            self._memory.popitem(last=False)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _log_mean(values: Sequence[float], n_tokens: int) -> float:
    """Mean log-probability per token of the mean probability of an answer over several references."""
    if len(values) == 1:
        return values[0]
    totals = torch.tensor(values, dtype=torch.float64) * max(1, n_tokens)
    return float(torch.logsumexp(totals, 0) - math.log(len(values))) / max(1, n_tokens)
