"""Scorers: what a reader's answer and ranking are worth, as named values per item."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

from latentqa.benchmarks.experiment import Embed, Item
from latentqa.data.split import words
from latentqa.types import Answer, Score

GENERIC = 0.5
"""Specificity below which an answer is generic: most other dialogs fit it at least as well."""
Values = dict[str, float]
Scorer = Callable[[Item, str | None, Sequence[Score], Embed | None], Values]


def contains(text: str, phrase: str) -> bool:
    """Whether a text holds a phrase, whatever the case."""
    return phrase.lower() in text.lower()


def first_mentioned(text: str, phrases: Sequence[str]) -> str | None:
    """The phrase that a text names first, as whole words and whatever the case; None where it names none.

    Of two at the same place it is the longer one.

    Example:
        >>> first_mentioned("An orange, or a red apple.", ["red", "orange", "Orange County"])
        'orange'
    """
    places = []
    for phrase in phrases:
        found = re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, flags=re.IGNORECASE)
        if found:
            places.append((found.start(), -len(phrase), phrase))
    return min(places)[2] if places else None


def ranked_first(scores: Sequence[Score], gold: str, among: Sequence[str] | None = None) -> float:
    """1 where the right answer has strictly the best support of all candidates, else 0: ties lose."""
    allowed = None if among is None else set(among)
    kept = [score for score in scores if allowed is None or score.answer in allowed]
    right = [score.support for score in kept if score.answer == gold]
    wrong = [score.support for score in kept if score.answer != gold]
    if not right or math.isnan(right[0]):
        return 0.0
    return float(not wrong or right[0] > max(wrong))


def overlap(text: str, gold: str) -> float:
    """F1 (0–1) of the words that an answer shares with the right one, small words left out."""
    said, wanted = words(text), words(gold)
    shared = len(said & wanted)
    return 2 * shared / (len(said) + len(wanted)) if shared else 0.0


def score_relation(item: Item, answer: str | None, scores: Sequence[Score], embed: Embed | None) -> Values:
    """`substring`, `first` (the first object that the answer names is the right one) and `ranked`."""
    del embed
    values: Values = {}
    if answer is not None:
        values["substring"] = float(contains(answer, item.gold))
        named = first_mentioned(answer, item.candidates)
        values["first"] = float(named is not None and named.lower() == item.gold.lower())
    if scores:
        values["ranked"] = ranked_first(scores, item.gold)
    return values


def score_ranking(item: Item, answer: str | None, scores: Sequence[Score], embed: Embed | None) -> Values:
    """For each set of candidates in `meta["sets"]`: `NAME` by support, and `free_NAME` by embedding.

    A free answer is right if it lies nearer to the right answer than to every other one of the set.
    """
    sets: Mapping[str, Sequence[str]] = item.meta.get("sets", {"top1": item.candidates})
    values: Values = {}
    for name, among in sets.items():
        if scores:
            values[name] = ranked_first(scores, item.gold, among)
    if answer is not None and embed is not None:
        texts = list(dict.fromkeys(text for among in sets.values() for text in among))
        vectors = embed([answer, *texts])
        similarity = dict(zip(texts, (vectors[1:] @ vectors[0]).tolist(), strict=True))
        for name, among in sets.items():
            wrong = [similarity[text] for text in among if text != item.gold]
            values[f"free_{name}"] = float(similarity[item.gold] > max(wrong, default=-math.inf))
        values["similarity"] = similarity[item.gold]
    if answer is not None:
        values["overlap"] = overlap(answer, item.gold)
    return values


def score_yes_no(item: Item, answer: str | None, scores: Sequence[Score], embed: Embed | None) -> Values:
    """`p_yes` = p(yes) / (p(yes) + p(no)), `truth`, and whether the larger one is right.

    The same on supports is `p_yes_support`: what the activations add to the question's own leaning.
    """
    del answer, embed
    yes, no = item.candidates
    by_text = {score.answer: score for score in scores}
    if yes not in by_text or no not in by_text:
        return {}
    truth = float(item.gold == yes)
    one, other = by_text[yes], by_text[no]
    p_yes = sigmoid(one.logprob * one.n_tokens - other.logprob * other.n_tokens)
    p_support = sigmoid(one.support * one.n_tokens - other.support * other.n_tokens)
    return {
        "truth": truth,
        "p_yes": p_yes,
        "accuracy": float((p_yes > 0.5) == bool(truth) and p_yes != 0.5),
        "p_yes_support": p_support,
        "accuracy_support": float((p_support > 0.5) == bool(truth) and p_support != 0.5),
    }


def score_confidence(item: Item, answer: str | None, scores: Sequence[Score], embed: Embed | None) -> Values:
    """What a reader's own signals say, in nats a token, and whether it was right.

    `right` is said of the ranking, `free_right` of the free answer.
    """
    values: Values = {}
    if scores:
        best = max(scores, key=lambda score: score.support)
        rest = [score.support for score in scores if score is not best]
        values |= {
            "right": ranked_first(scores, item.gold),
            "support": best.support,
            "margin": best.support - max(rest, default=best.support),
            "logprob": best.logprob,
            "share": softmax_share([score.support for score in scores]),
        }
    if answer is not None and embed is not None:
        vectors = embed([answer, item.gold, *[text for text in item.candidates if text != item.gold]])
        similarity = vectors[1:] @ vectors[0]
        values["free_right"] = float(similarity[0] > max(similarity[1:].tolist(), default=-math.inf))
    return values


def answer_signals(answer: Answer) -> Values:
    """Signals of a free answer: its support and mean log-probability (nats a token), its percentile.

    With its specificity also whether it is generic.
    """
    values: Values = {"free_logprob": answer.logprob}
    if answer.support is not None:
        values["free_support"] = answer.support
    if answer.percentile is not None:
        values["free_percentile"] = answer.percentile
    if answer.specificity is not None:
        values |= {"specificity": answer.specificity, "generic": float(answer.specificity < GENERIC)}
    return values


def softmax_share(values: Sequence[float]) -> float:
    """The largest value's share of the softmax of all."""
    top = max(values)
    return 1.0 / sum(math.exp(value - top) for value in values)


def sigmoid(value: float) -> float:
    """The logistic function, without overflow."""
    if value >= 0:
        return 1.0 / (1.0 + math.exp(-value))
    return math.exp(value) / (1.0 + math.exp(value))


SCORERS: dict[str, Scorer] = {
    "relation": score_relation,
    "ranking": score_ranking,
    "yes_no": score_yes_no,
    "confidence": score_confidence,
}
"""By the name that items carry."""
