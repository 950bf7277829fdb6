"""Claims: answers that say the same, counted over dialogs and spans, ranked by how often they recur.

One confident sentence is weak evidence; the same claim on many dialogs, and not on the base, is strong.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from latentqa.audit.material import Said
from latentqa.benchmarks import Embedding
from latentqa.decoder import Decoder

SAME = {"all-MiniLM-L6-v2": 0.75}
"""Cosine from which two answers count as the same claim, by name of the embedding."""
RECURS = 2
"""Dialogs from which a claim recurs; what was said once is not tested."""
PRIOR = 2
"""Dialogs without a claim that are added when claims are ranked: 4 of 4 say less than 12 of 12."""
SAME_BY_WORDS = 0.45
"""The same where the embedding compares words (TF-IDF)."""


@dataclass(frozen=True, eq=False)
class Claim:
    """Answers to one question that say the same.

    Attributes:
        text: the answer in the middle of them.
        question: that they answer.
        mode: `model` or `difference`, which was read.
        dialogs: on which it was said.
        of: dialogs on which the question was asked.
        control_dialogs: on which the same was said of the base (of no difference, in difference mode).
        spans: span → dialogs on which it was said there.
        supported: share of these answers whose verdict is `supported`.
        support: their mean support, in nats a token.
        p: how likely so many more dialogs than controls are by chance: a one-sided sign test over dialogs;
            against the decoder's own rate of false verdicts where there is no control; None without either,
            and for what was said on one dialog only.
        q: the same corrected for the number of claims (Benjamini and Hochberg 1995).
        said: the answers, best support first.
        controlled: whether there was a control to compare with.
    """

    text: str
    question: str
    mode: str
    dialogs: int
    of: int
    control_dialogs: int
    spans: dict[str, int]
    supported: float
    support: float
    p: float | None
    q: float | None
    said: tuple[Said, ...]
    controlled: bool

    @property
    def excess(self) -> float:
        """Share of dialogs with the claim, minus that of the control."""
        return (self.dialogs - self.control_dialogs) / max(1, self.of)

    @property
    def confidence(self) -> float | None:
        """1 − q: how sure one may be that the claim is not chance, among all claims of the audit."""
        return None if self.q is None else 1.0 - self.q


def find_claims(
    said: Sequence[Said], control: Sequence[Said], embedding: Embedding, decoder: Decoder
) -> list[Claim]:
    """Claims of some answers, in no particular order.

    Args:
        said: answers in one mode.
        control: answers to the same questions on the same places of the base (or of no difference), or
            none.
        embedding: by which answers are compared.
        decoder: whose card says how often its verdicts are false.
    """
    found: list[Claim] = []
    for question in dict.fromkeys(one.answer.question for one in said):
        own = [one for one in said if one.answer.question == question and one.answer.text]
        other = [one for one in control if one.answer.question == question and one.answer.text]
        if own:
            found += _claims_of(question, own, other, embedding, decoder)
    return found


def rank_claims(claims: Sequence[Claim]) -> list[Claim]:
    """Most recurrent beyond the control first, then by supported answers and support; with q values."""
    order = sorted(claims, key=_rank)
    corrected = benjamini_hochberg([one.p for one in order])
    return [_with_q(one, q) for one, q in zip(order, corrected, strict=True)]


def benjamini_hochberg(values: Sequence[float | None]) -> list[float | None]:
    """P values corrected for their number by the false discovery rate; None stays None.

    Example:
        >>> benjamini_hochberg([0.01, None, 0.04])
        [0.02, None, 0.04]
    """
    known = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    lowest = 1.0
    for rank in range(len(known), 0, -1):
        value, place = known[rank - 1]
        lowest = min(lowest, value * len(known) / rank)
        corrected[place] = lowest
    return corrected


def sign_test(more: int, fewer: int) -> float:
    """P value that a fair coin shows at least `more` heads in `more + fewer` throws.

    Example:
        >>> sign_test(5, 0)
        0.03125
    """
    return binomial_tail(more, more + fewer, 0.5)


def binomial_tail(k: int, n: int, chance: float) -> float:
    """P value that at least `k` of `n` trials of a chance succeed."""
    return math.fsum(math.comb(n, i) * chance**i * (1 - chance) ** (n - i) for i in range(k, n + 1))


def _claims_of(
    question: str, said: Sequence[Said], control: Sequence[Said], embedding: Embedding, decoder: Decoder
) -> list[Claim]:
    counts = Counter(one.answer.text for one in said)
    texts = sorted(counts, key=lambda text: (-counts[text], text))
    others = list(dict.fromkeys(one.answer.text for one in control))
    vectors = embedding.embed([*texts, *others])
    limit = SAME.get(embedding.name, SAME_BY_WORDS)
    own, theirs = vectors[: len(texts)], vectors[len(texts) :]
    groups = _groups(own, limit)
    asked = {one.place.number for one in said}
    claims = []
    for members in groups:
        middle = members[int((own[members] @ own[members].T).sum(0).argmax())]
        inside = {texts[number] for number in members}
        near = {
            text
            for text, vector in zip(others, theirs, strict=True)
            if text in inside or vector @ own[middle] >= limit
        }
        answers = sorted(
            (one for one in said if one.answer.text in inside), key=lambda one: -(one.answer.support or 0.0)
        )
        found = {one.place.number for one in answers}
        elsewhere = {one.place.number for one in control if one.answer.text in near}
        claims.append(
            _claim(question, texts[middle], answers, found, elsewhere, asked, bool(control), decoder)
        )
    return claims


def _claim(
    question: str,
    text: str,
    said: list[Said],
    found: set[int],
    elsewhere: set[int],
    asked: set[int],
    controlled: bool,
    decoder: Decoder,
) -> Claim:
    supported = [one for one in said if one.answer.verdict == "supported"]
    calibration = decoder.card.calibration
    p: float | None = None
    if controlled:
        p = (
            None
            if len(found | elsewhere) < RECURS
            else sign_test(len(found - elsewhere), len(elsewhere - found))
        )
    elif calibration is not None:
        sure = {one.place.number for one in supported}
        chance = 1 - calibration.threshold / 100
        p = None if len(found) < RECURS else binomial_tail(len(sure), len(asked), chance)
    spans = {span: len({one.place.number for one in said if one.place.span == span}) for span in _spans(said)}
    return Claim(
        text=text,
        question=question,
        mode=said[0].mode,
        dialogs=len(found),
        of=len(asked),
        control_dialogs=len(elsewhere),
        spans=spans,
        supported=len(supported) / len(said),
        support=sum(one.answer.support or 0.0 for one in said) / len(said),
        p=p,
        q=None,
        said=tuple(said),
        controlled=controlled,
    )


def _groups(vectors: NDArray[np.float32], limit: float) -> list[list[int]]:
    """Texts, commonest first, each put to the first leader that it is near enough to."""
    leaders: list[int] = []
    groups: list[list[int]] = []
    for number, vector in enumerate(vectors):
        place = next((n for n, leader in enumerate(leaders) if vectors[leader] @ vector >= limit), None)
        if place is None:
            leaders.append(number)
            groups.append([number])
        else:
            groups[place].append(number)
    return groups


def _spans(said: Sequence[Said]) -> list[str]:
    return list(dict.fromkeys(one.place.span for one in said))


def _rank(claim: Claim) -> tuple[bool, float, float, float, str]:
    """What recurs first; then by excess, which counts for less where few dialogs were asked."""
    shrunk = (claim.dialogs - claim.control_dialogs) / (claim.of + PRIOR)
    return claim.dialogs < RECURS, -shrunk, -claim.supported, -claim.support, claim.text


def _with_q(claim: Claim, q: float | None) -> Claim:
    return replace(claim, q=q)
