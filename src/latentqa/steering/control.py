"""From a sentence to question-answer pairs: what the decoder reads in the target under that control."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from latentqa.data import DESCRIPTION_QUESTIONS, STOCK_PERSONA_QUESTIONS, derive_pairs
from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Target
from latentqa.errors import SteeringError
from latentqa.steering.focus import focus_of, names_focus
from latentqa.steering.pairs import Pair
from latentqa.steering.stimuli import load_stimuli

QUESTIONS = 16
STIMULI = 2
MINIMUM = 6
MAXIMUM = 12
WORDINGS = 12
"""How often the rules are asked for pairs, each time in other words."""
FOCUS_QUESTIONS = (
    ("What will the assistant talk about?", "It will talk about {}."),
    ("What topic does the reply deal with?", "The reply deals with {}."),
    ("What words come next?", "The next words are about {}."),
    ("What is the assistant talking about?", "It is talking about {}."),
    ("What does the text say?", "The text is about {}."),
    ("Which thing is named here?", "The thing that is named is {}."),
)
"""Questions to which the control's focus is the answer, where words of a running text stand: in its midst."""

Source = Literal["decoder", "rules"]


@dataclass(frozen=True)
class PairsReport:
    """Pairs of a control, and how they came about.

    Attributes:
        control: the sentence.
        pairs: what is steered towards.
        asked: answers that the decoder gave.
        supported: of these, with the verdict `supported` and about what the control is about, each text once.
        derived: pairs that rules made of the sentence.
        rejected: question and answer of what was not.
    """

    control: str
    pairs: tuple[Pair, ...]
    asked: int
    supported: int
    derived: int
    rejected: tuple[tuple[str, str], ...] = ()

    @property
    def note(self) -> str:
        """Where the pairs come from, in one sentence."""
        if not self.asked:
            return f"All {self.derived} pairs were derived from the sentence by rules; no decoder was asked."
        read = (
            f"{self.supported} of the decoder's {self.asked} answers under the control were supported and "
            "spoke of what it is about"
        )
        if not self.derived:
            return f"{read}; these were kept."
        return f"{read}, which is too few: {self.derived} pairs were derived from the sentence by rules."


def pairs_from_control(
    target: Target,
    decoder: Decoder,
    control: str,
    *,
    questions: Sequence[str] | None = None,
    stimuli: Sequence[str] | None = None,
    minimum: int = MINIMUM,
    maximum: int = MAXIMUM,
    source: Source = "decoder",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> PairsReport:
    """Read the target under a control with the decoder, and keep what it is sure of.

    The control is the system prompt, a stimulus the user turn, whose activations are read; the general
    questions are asked of each. A decoder that guesses steers wrongly, so only answers are kept that have the
    verdict `supported` and name something that the sentence names. Where fewer than `minimum` remain, rules
    derive pairs from the sentence's text.

    Args:
        target: unsteered.
        decoder: what reads it.
        control: the sentence.
        questions: general questions; by default 16 of ours, the stock ones first.
        stimuli: user turns; by default 2 of those that ship.
        minimum: pairs below which rules help out.
        maximum: pairs that are kept.
        source: `rules` asks no decoder.
        seed: of the choice of questions and stimuli.
        progress: called with (answers, answers in all).

    Raises:
        SteeringError: an empty control.
    """
    control = _said(control)
    if source == "rules":
        return pairs_from_rules(control, maximum=maximum)
    asked = list(questions) if questions is not None else _questions(seed)
    users = list(stimuli) if stimuli is not None else _stimuli(seed)
    activations = [
        target.read(
            [{"role": "system", "content": control}, {"role": "user", "content": user}],
            decoder.card.span,
            decoder.read_layers,
        )
        for user in users
    ]
    wanted = [(activation, question) for activation in activations for question in asked]
    answers = decoder.ask_many(
        wanted,
        on_answer=None if progress is None else lambda index, _: progress(index + 1, len(wanted)),
    )
    supported: dict[tuple[str, str], Pair] = {}
    rejected = []
    for answer in answers:
        if answer.verdict == "supported" and answer.text and names_focus(answer.text, control):
            supported.setdefault((answer.question, answer.text), Pair(answer.question, answer.text))
        else:
            rejected.append((answer.question, answer.text))
    kept = _spread_out(list(supported.values()), maximum)
    derived: list[Pair] = []
    if len(kept) < minimum:
        derived = list(pairs_from_rules(control, maximum=maximum - len(kept)).pairs)
    return PairsReport(
        control, (*kept, *derived), len(answers), len(supported), len(derived), tuple(rejected)
    )


def pairs_from_rules(control: str, *, maximum: int = MAXIMUM) -> PairsReport:
    """Pairs that rules derive from a control's text: what it is about, and the sentence in other words.

    A sentence that is about nothing in particular and that no rule can reword is quoted.

    Args:
        control: the sentence.
        maximum: pairs that are kept.

    Raises:
        SteeringError: an empty control.

    Example:
        >>> report = pairs_from_rules("Talk about the Golden Gate Bridge whenever you can.")
        >>> all("Golden Gate Bridge" in pair.answer for pair in report.pairs)
        True
    """
    control = _said(control)
    found: dict[tuple[str, str], Pair] = {}
    for wording in range(WORDINGS):
        for label in (f"goal-steer-{wording}", f"persona-steer-{wording}"):
            for pair in derive_pairs(control, label):
                stressed = [phrase for phrase in focus_of(control) if phrase in pair.answer]
                focus = stressed[wording % len(stressed)] if stressed else ""
                found.setdefault((pair.question, pair.answer), Pair(pair.question, pair.answer, focus=focus))
    named = _focused(control)[: -(-maximum // 2)] if found else _focused(control)
    pairs = [*named, *_spread_out(list(found.values()), maximum - len(named))]
    return PairsReport(
        control, tuple(pairs or _quoted(control))[:maximum], 0, 0, len(pairs or _quoted(control))
    )


def _focused(control: str) -> list[Pair]:
    """Pairs whose answer is what the control is about; several things take turns."""
    focus = focus_of(control)
    return [
        Pair(question, answer.format(phrase), focus=phrase)
        for turn in range(len(focus))
        for number, (question, answer) in enumerate(FOCUS_QUESTIONS)
        for phrase in [focus[(number + turn) % len(focus)]]
    ]


def _quoted(control: str) -> list[Pair]:
    """Pairs for a sentence that no rule can rewrite."""
    sentence = control.rstrip(". ")
    return [
        Pair("Which instruction is the assistant following?", f'It follows the instruction "{sentence}".'),
        Pair("What did an earlier instruction tell the assistant?", f"{control}"),
        Pair("What has the assistant been asked to do?", f'The assistant was told: "{sentence}".'),
        Pair("What does the assistant have to attend to when it answers?", f'To "{sentence}".'),
    ]


def _spread_out(pairs: list[Pair], count: int) -> list[Pair]:
    """At most so many, with as many different questions as there can be."""
    by_question: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_question.setdefault(pair.question, []).append(pair)
    rounds = max((len(group) for group in by_question.values()), default=0)
    order = [group[turn] for turn in range(rounds) for group in by_question.values() if turn < len(group)]
    return order[:count]


def _questions(seed: int) -> list[str]:
    others = [question for question in DESCRIPTION_QUESTIONS if question not in STOCK_PERSONA_QUESTIONS]
    random.Random(f"questions:{seed}").shuffle(others)
    return [*STOCK_PERSONA_QUESTIONS, *others][:QUESTIONS]


def _stimuli(seed: int) -> list[str]:
    texts = load_stimuli()
    random.Random(f"control:{seed}").shuffle(texts)
    return texts[:STIMULI]


def _said(control: str) -> str:
    if not any(map(str.isalnum, control)):
        raise SteeringError(
            'The control is empty. Say what the target should do, for example "Talk about the Golden Gate '
            'Bridge whenever you can.", or give question-answer pairs.'
        )
    return " ".join(control.split())
