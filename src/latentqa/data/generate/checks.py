"""What is rejected, and why: leaks, generic answers, copies, wrong lengths and languages, refusals."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from latentqa.data.generate.config import CheckSettings, ControlSettings
from latentqa.data.generate.minhash import Copies, NearCopies
from latentqa.data.generate.rows import Control, Draft, Paired, Rejected
from latentqa.data.providers.structured import is_refusal
from latentqa.data.schema import QA
from latentqa.data.seen import Seen
from latentqa.data.split import FRAMING_WORDS, words

Fits = Callable[[Sequence[str], Sequence[Sequence[str]]], list[list[float]]]
"""How well each answer fits each of its controls: answers `[N]`, controls `[N][C]` → fits `[N][C]`."""

IGNORED = FRAMING_WORDS | frozenset(
    """
    about all also any anything answer answers as asked assistant asks before but character comes does
    each even every give gives going has have having his he her here how i if itself just kind like
    likes may message might more not one only out over own part persona question reply replies role say
    says set she so some someone something speak speaks speaking style takes talk talks than them then
    there these thing things this time told tone up us user users wants was way were what when which
    whole whom why would
    """.split()
)
"""Function words, and the words in which questions and answers on any assistant are put."""
RARE = 0.02  # share of controls up to which a word is a control's own
BETTER = 1 / 3  # share of the other controls that an answer may fit better than its own
SAMPLE = 2000  # controls that answers are compared with
COMMON_ENGLISH = frozenset(
    """
    the a an of to and in is it i you he she they we for with on as at by be are was will would that
    this from or not have has do does what how my your its who which if so but can
    """.split()
)
LATIN, ENGLISH = 0.9, 0.1  # least shares of plain letters, and of common English words
_LETTER = re.compile(r"[^\W\d_]")
_PLAIN = re.compile(r"[a-zA-Z]")


def check_controls(
    controls: Iterable[Control | Rejected], settings: ControlSettings
) -> Iterator[Control | Rejected]:
    """The controls that are no near-copy, no refusal and of the right length."""
    copies = NearCopies(settings.near_copy) if settings.near_copy < 1 else Copies()
    fewest, most = settings.words
    for control in controls:
        if isinstance(control, Rejected):
            yield control
            continue
        number = len(control.text.split())
        reason = None
        if is_refusal(control.text):
            reason = "the control is a refusal"
        elif not fewest <= number <= most:
            reason = f"the control has {number} words ({fewest} to {most} are allowed)"
        elif (first := copies.first(control.text, control.id)) is not None:
            reason = f"the control nearly repeats another: {first}"
        yield Rejected("controls", control.id, reason, control.text) if reason else control


@dataclass(frozen=True)
class Corpus:
    """What answers are compared with.

    Attributes:
        texts: of sampled controls, by label.
        bundles: words of their controls and answers, in the same order.
        counts: in how many sampled controls or their answers a word occurs.
        asked: in the questions on how many sampled controls a word occurs.
    """

    texts: tuple[tuple[str, str], ...]
    bundles: tuple[frozenset[str], ...]
    counts: Counter[str]
    asked: Counter[str]

    def weight(self, word: str) -> float:
        """How much a word says: more the rarer it is."""
        return math.log((len(self.texts) + 1) / (self.counts[word] + 1)) + 0.1

    def is_rare(self, word: str) -> bool:
        """Whether a word is one control's own rather than common to many."""
        return self.counts[word] <= self._few

    def names(self, word: str) -> bool:
        """Whether a word in a question points to one control: rare, and no word that many questions have."""
        return self.is_rare(word) and self.asked[word] <= self._few

    @property
    def _few(self) -> float:
        return max(RARE * len(self.texts), 2)


def sample_corpus(rows: Iterable[Paired], seed: int) -> Corpus:
    """A sample of the controls, one a label (Vitter's reservoir: every label is as likely)."""
    chooser = random.Random(f"{seed}:corpus")
    labels = Seen()
    kept: list[Paired] = []
    for row in rows:
        if labels.first(row.draft.control.label) is not None:
            continue
        if len(kept) < SAMPLE:
            kept.append(row)
        elif (place := chooser.randrange(len(labels))) < SAMPLE:
            kept[place] = row
    bundles = tuple(frozenset(_bundle(row)) for row in kept)
    texts = tuple((row.draft.control.label, row.draft.control.text) for row in kept)
    asked = [frozenset[str]().union(*(words(pair.question, IGNORED) for pair in row.pairs)) for row in kept]
    return Corpus(texts, bundles, _spread(bundles), _spread(asked))


class Checker:
    """Checks the pairs of each dialog.

    Args:
        settings: what is rejected.
        corpus: other controls.
        fits: measure of how well an answer fits a control, for the settings `embedding` and `text_given`.
    """

    def __init__(self, settings: CheckSettings, corpus: Corpus, fits: Fits | None = None) -> None:
        self._settings = settings
        self._corpus = corpus
        self._fits = fits
        self._dialogs = Seen()
        self._pairs = Seen()

    def check(self, row: Paired) -> tuple[Paired | None, list[Rejected]]:
        """The dialog with its good pairs, or None if nothing of it is left; and what is rejected."""
        draft = row.draft
        rejected: list[Rejected] = []
        reason = self._dialog_problem(draft)
        if reason:
            return None, [Rejected("checks", draft.id, reason, [dict(turn) for turn in draft.messages])]
        stimulus = words(draft.dialog[-1]["content"], IGNORED) if len(draft.dialog) > 1 else frozenset()
        about = _About(draft.control, words(draft.control.text, IGNORED), stimulus, _bundle(row))
        kept = []
        for pair in row.pairs:
            reason = self._pair_problem(pair, about)
            if reason:
                told = {"question": pair.question, "answer": pair.answer, "kind": pair.kind}
                rejected.append(Rejected("checks", draft.id, reason, told))
            else:
                kept.append(pair)
        if not kept:
            return None, rejected
        good = row if len(kept) == len(row.pairs) else Paired(draft, tuple(kept), row.origin)
        return good, rejected

    def _dialog_problem(self, draft: Draft) -> str | None:
        texts = [turn["content"] for turn in draft.messages]
        if any(is_refusal(turn["content"]) for turn in draft.dialog if turn["role"] == "assistant"):
            return "the reply to the control is a refusal"
        if self._settings.language == "en":
            for text in texts[: len(draft.dialog)]:
                if not is_english(text):
                    return f"the dialog is not in English: {text[:60]!r}"
        if len(draft.dialog) > 1:
            control = words(draft.control.text, IGNORED)
            shared = [
                w for w in control & words(texts[len(draft.dialog) - 1], IGNORED) if self._corpus.is_rare(w)
            ]
            if len(shared) > 1:
                return f"the stimulus gives the control away: {', '.join(sorted(shared))}"
        if self._dialogs.first("\0".join(texts)) is not None:
            return "the dialog repeats another"
        return None

    def _pair_problem(self, pair: QA, about: _About) -> str | None:
        fewest, most = self._settings.words
        number = len(pair.answer.split())
        if not fewest <= number <= most:
            return f"the answer has {number} words ({fewest} to {most} are allowed)"
        if is_refusal(pair.answer):
            return "the answer is a refusal"
        if not _LETTER.search(pair.answer):
            return "the answer has no word"
        if self._settings.language == "en" and not (is_english(pair.answer) and is_english(pair.question)):
            return "the pair is not in English"
        if self._pairs.first(f"{about.control.label}\0{pair.question}\0{pair.answer}") is not None:
            return "the pair repeats another of its label"
        return self._leak(pair, about) or self._generic(pair, about)

    def _leak(self, pair: QA, about: _About) -> str | None:
        answer = words(pair.answer, IGNORED)
        question = words(pair.question, IGNORED)
        if pair.kind in ("extractive", "future"):
            return "the question holds the answer" if answer and answer <= question else None
        named = [word for word in question & about.words if self._corpus.names(word)]
        if len(named) > (pair.kind == "reasoning"):
            return f"the question names the control: {', '.join(sorted(named))}"
        given = answer & (question | about.stimulus)
        if answer and len(given) / len(answer) > self._settings.leak:
            return f"question and stimulus hold the answer: {', '.join(sorted(given))}"
        return None

    def _generic(self, pair: QA, about: _About) -> str | None:
        if self._settings.generic == "none" or pair.kind not in ("description", "reasoning"):
            return None
        others = self._others(about.control, f"{pair.question}\0{pair.answer}")
        if not others:
            return None
        if self._fits is not None:
            texts = [about.control.text, *(self._corpus.texts[other][1] for other in others)]
            own, *foreign = self._fits([pair.answer], [texts])[0]
        else:
            answer = words(pair.answer, IGNORED)
            if not answer:
                return "the answer is generic: it says nothing of its own"
            own = self._overlap(answer, about.bundle_without(pair))
            foreign = [self._overlap(answer, self._corpus.bundles[other]) for other in others]
            if not own and not any(map(self._corpus.is_rare, answer)):
                return "the answer is generic: all its words are said of many"
        better = sum(value > own for value in foreign)
        if better <= BETTER * len(others):
            return None
        return f"the answer is generic: it fits {better} of {len(others)} other controls better"

    def _overlap(self, answer: frozenset[str], bundle: frozenset[str]) -> float:
        return sum(self._corpus.weight(word) for word in answer & bundle)

    def _others(self, control: Control, salt: str) -> list[int]:
        """Numbers of sampled controls of other labels, drawn by the pair alone."""
        count = len(self._corpus.texts)
        start = random.Random(salt).randrange(count) if count else 0
        step = next((one for one in (101, 103, 107) if count % one), 1)
        found: list[int] = []
        for turn in range(min(count, 4 * self._settings.others)):
            number = (start + turn * step) % count
            if len(found) < self._settings.others and self._corpus.texts[number][0] != control.label:
                found.append(number)
        return found


@dataclass(frozen=True)
class _About:
    """Words of a dialog: of its control, its stimulus, and all that is said of it."""

    control: Control
    words: frozenset[str]
    stimulus: frozenset[str]
    bundle: Counter[str]

    def bundle_without(self, pair: QA) -> frozenset[str]:
        """Words of the control and of the other answers."""
        left = self.bundle - Counter(words(pair.answer, IGNORED))
        return frozenset(left) | self.words


def is_english(text: str) -> bool:
    """Whether a text looks English: plain letters, and some of the commonest words where it is long enough.

    Example:
        >>> is_english("It will speak as an old pirate who longs for the sea.")
        True
        >>> is_english("Er wird wie ein alter Pirat sprechen, der Sehnsucht nach dem Meer hat.")
        False
    """
    letters = len(_LETTER.findall(text))
    if letters and len(_PLAIN.findall(text)) / letters < LATIN:
        return False
    told = text.lower().split()
    if len(told) < 8:
        return True
    return sum(word.strip(".,;:!?'\"") in COMMON_ENGLISH for word in told) / len(told) >= ENGLISH


def _bundle(row: Paired) -> Counter[str]:
    """How often each word occurs in what is said of a dialog: its control and its answers, once each."""
    bundle = Counter(words(row.draft.control.text, IGNORED))
    for pair in row.pairs:
        bundle.update(words(pair.answer, IGNORED))
    return bundle


def _spread(sets: Iterable[frozenset[str]]) -> Counter[str]:
    """In how many sets each word is."""
    return Counter(word for one in sets for word in one)
