"""p(correct) for a decoder's card, fitted on labels that its training held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from latentqa.benchmarks.calibration import confidence_items
from latentqa.benchmarks.embedding import Embedding, load_embedding
from latentqa.benchmarks.experiment import draw
from latentqa.benchmarks.scorers import score_confidence
from latentqa.benchmarks.statistics import fit_logistic
from latentqa.data import Example, is_held_out
from latentqa.decoder import Confidence, Decoder
from latentqa.decoder.confidence import signals_of
from latentqa.decoder.references import some_vectors
from latentqa.errors import DataError
from latentqa.types import Activation, Answer

SIGNALS = ("support", "logprob", "percentile", "agreement")
N_OTHERS = 20
DISTRACTORS = 9
RISK_POINTS = 20
SMALLEST = 40


@dataclass(frozen=True)
class Judged:
    """A free answer to a question whose right answer is known, and whether it was correct."""

    answer: Answer
    correct: bool


def held_out_examples(decoder: Decoder, examples: Sequence[Example]) -> list[Example]:
    """Examples with pairs whose labels the decoder's training held out, by its card's seed and share.

    Raises:
        DataError: the card does not say what was held out, or no example is of such a label.
    """
    settings = decoder.card.training.get("settings", {})
    share, seed = settings.get("held_out"), settings.get("seed")
    if not share or seed is None:
        raise DataError(
            f"The card of decoder {decoder.name} does not say which labels its training held out. Give "
            "labels that it was not trained on, with --all-labels."
        )
    found = [example for example in examples if example.qa and is_held_out(example.label, share, seed)]
    if not found:
        raise DataError(
            f"None of {len(examples)} examples has pairs and a label that the training of decoder "
            f"{decoder.name} held out (share {share}, seed {seed}). Give the data that it was trained on."
        )
    return found


def fit_confidence(
    decoder: Decoder,
    examples: Sequence[Example],
    *,
    limit: int | None = 400,
    samples: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Judged, ...]:
    """Give a decoder's card p(correct), and its references the dialogs that specificity compares with.

    Args:
        decoder: with its target and a calibration; its card and references are replaced.
        examples: with pairs, of labels that the decoder was not trained on.
        limit: questions that are asked, drawn by the seed.
        samples: further answers drawn to each question, for the signal `agreement`.
        seed: of the draws.
        progress: called with (answers done, answers in all).

    Returns:
        The answers that it was fitted on.

    Raises:
        DataError: too few questions, or answers that are all right or all wrong.
    """
    items = draw(confidence_items(examples, "fit", DISTRACTORS, seed), limit, seed)
    if len(items) < SMALLEST:
        raise DataError(
            f"A confidence needs at least {SMALLEST} questions with {DISTRACTORS} wrong answers each, and "
            f"there are {len(items)}. Give more labels."
        )
    embedding = load_embedding([pair.answer for example in examples for pair in example.qa])
    pairs = decoder.pairs([item.query for item in items])
    answers = decoder.ask_many(
        pairs,
        samples=samples,
        seed=seed,
        on_answer=None if progress is None else lambda number, _: progress(number + 1, len(pairs)),
    )
    judged = tuple(
        Judged(answer, bool(score_confidence(item, answer.text, (), embedding.embed)["free_right"]))
        for item, answer in zip(items, answers, strict=True)
    )
    models = _models(judged, embedding)
    if not models:
        raise DataError(
            f"{sum(one.correct for one in judged)} of {len(judged)} answers are correct, so nothing tells "
            "right from wrong. Give other labels, or calibrate the decoder first."
        )
    others = some_vectors(_one_per_dialog(pairs, decoder.card.span), N_OTHERS, seed=seed)
    decoder.card = decoder.card.model_copy(update={"confidence": models})
    decoder.references = replace(decoder.references, others={decoder.card.span: others})
    return judged


def _models(judged: Sequence[Judged], embedding: Embedding) -> tuple[Confidence, ...]:
    """One model of the signals that every answer has; with `agreement` also one without it."""
    if len({one.correct for one in judged}) < 2:
        return ()
    there = [name for name in SIGNALS if all(name in signals_of(one.answer) for one in judged)]
    sets = dict.fromkeys((tuple(name for name in there if name != "agreement"), tuple(there)))
    return tuple(_fit(judged, names, embedding) for names in sets)


def _fit(judged: Sequence[Judged], names: Sequence[str], embedding: Embedding) -> Confidence:
    signals = [signals_of(one.answer) for one in judged]
    outcomes = [one.correct for one in judged]
    fitted = fit_logistic(np.array([[found[name] for name in names] for found in signals]), outcomes)
    model = Confidence(
        signals=tuple(names),
        center=tuple(fitted.center.tolist()),
        spread=tuple(fitted.spread.tolist()),
        weights=tuple(fitted.weights.tolist()),
        intercept=fitted.intercept,
        answers=len(judged),
        correct=sum(outcomes) / len(outcomes),
        embedding=embedding.name,
    )
    sure = [model.probability(found) for found in signals]
    return model.model_copy(update={"risk": _risk(sure, outcomes)})


def _risk(sure: Sequence[float], outcomes: Sequence[bool]) -> tuple[tuple[float, float], ...]:
    """At rising p: the share of wrong answers among those at least that sure."""
    order = sorted(range(len(sure)), key=sure.__getitem__)
    starts = sorted({round(k * (len(order) - 1) / RISK_POINTS) for k in range(RISK_POINTS)})
    points = []
    for start in starts:
        kept = [outcomes[number] for number in order[start:]]
        points.append((round(sure[order[start]], 4), round(1 - sum(kept) / len(kept), 4)))
    return tuple(points)


def _one_per_dialog(pairs: Sequence[tuple[Activation, str]], span: str) -> list[Activation]:
    """Activations of the card's span, each dialog's once."""
    found = {id(activation): activation for activation, _ in pairs if activation.span == span}
    return list(found.values()) or list({id(activation): activation for activation, _ in pairs}.values())
