"""What steering does to what the target says: by keywords, and by likeness to replies under the control."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from latentqa.decoder.target import Target
from latentqa.dialogs import render
from latentqa.types import Dialog


@dataclass(frozen=True)
class Effect:
    """What some replies show.

    Attributes:
        replies: the texts.
        mention_rate: share (0–1) of them that hold a keyword; None without keywords.
        control_ratio: how much likelier the unsteered target finds them when it is given the control, in nats
            a token; None without a control.
    """

    replies: tuple[str, ...]
    mention_rate: float | None = None
    control_ratio: float | None = None


def measure_effect(
    target: Target, prompts: Sequence[str], *, max_new_tokens: int = 45, keywords: Sequence[str] = ()
) -> Effect:
    """Greedy replies of the target as it is now, and the share that holds a keyword.

    Args:
        target: steered or not.
        prompts: user turns.
        max_new_tokens: longest reply.
        keywords: words or phrases that show the effect.
    """
    dialogs = [[{"role": "user", "content": prompt}] for prompt in prompts]
    replies = tuple(target.generate(dialogs, max_new_tokens=max_new_tokens))
    return Effect(replies, mention_rate(replies, keywords) if keywords else None)


def mention_rate(texts: Sequence[str], keywords: Sequence[str]) -> float:
    """Share (0–1) of texts that hold at least one of the keywords."""
    return sum(mentions(text, keywords) for text in texts) / len(texts) if texts else 0.0


def mentions(text: str, keywords: Sequence[str]) -> bool:
    """Whether a text holds one of the keywords as whole words, in whatever case.

    Example:
        >>> mentions("Look at the Golden Gate Bridge!", ["golden gate", "bay area"])
        True
        >>> mentions("We abridge it.", ["bridge"])
        False
    """
    return any(
        re.search(rf"(?<!\w){re.escape(keyword.strip())}(?!\w)", text, re.IGNORECASE)
        for keyword in keywords
        if keyword.strip()
    )


def control_ratio(
    target: Target, prompts: Sequence[str], replies: Sequence[str], control: str
) -> float | None:
    """How much likelier replies are to the target with the control as its system prompt than without.

    Call it on the unsteered target. Replies of the unsteered target score below 0, replies written under the
    control above; the measure needs no keywords and sees style as well as topic.

    Args:
        target: unsteered.
        prompts: user turns.
        replies: what was said to each; empty ones are left out.
        control: the sentence.

    Returns:
        Mean over replies of the difference in log-probability, in nats a token; None if all are empty.
    """
    said = [(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True) if reply]
    if not said:
        return None
    given = [{"role": "system", "content": control}]
    plain = [_sequence(target, [], prompt, reply) for prompt, reply in said]
    under = [_sequence(target, given, prompt, reply) for prompt, reply in said]
    differences = [
        float(controlled.mean() - ordinary.mean())
        for controlled, ordinary in zip(_scores(target, under), _scores(target, plain), strict=True)
    ]
    return sum(differences) / len(differences)


@dataclass(frozen=True)
class _Sequence:
    """Token ids of a dialog with its reply, and where the reply begins."""

    token_ids: tuple[int, ...]
    start: int


def _sequence(target: Target, control: Dialog, prompt: str, reply: str) -> _Sequence:
    dialog = [
        *control,
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": reply},
    ]
    rendered = render(target.tokenizer, dialog)
    message = rendered.messages[-1]
    return _Sequence(rendered.token_ids[: message.content_end], message.content_start)


def _scores(target: Target, sequences: Sequence[_Sequence]):
    return target.logprobs(
        [one.token_ids for one in sequences], [one.start for one in sequences], completions=True
    )
