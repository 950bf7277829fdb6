"""The trade-off of a steering: what it does at several strengths, and what that costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from latentqa.decoder.decoder import Decoder
from latentqa.decoder.target import Target
from latentqa.errors import ActivationError, SteeringError
from latentqa.steering.apply import steered
from latentqa.steering.effect import control_ratio, measure_effect
from latentqa.steering.fluency import TOKENS, perplexity
from latentqa.steering.neutral import NeutralReplies
from latentqa.steering.objective import decoder_loss
from latentqa.steering.repeats import repetition
from latentqa.steering.steering import Steering
from latentqa.steering.stimuli import load_stimuli, neutral_prompts

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
N_PROMPTS = 24
N_STIMULI = 8


@dataclass(frozen=True)
class SweepRow:
    """One strength.

    Attributes:
        strength: what the change was multiplied by; 0 is the unsteered target.
        decoder_loss: on the card's pairs, in nats a token; None without decoder or pairs.
        mention_rate: share (0–1) of replies with a keyword; None without keywords.
        control_ratio: likeness of the replies to such under the control, in nats a token; None without one.
        perplexity: on the text; None without one.
        perplexity_ratio: that over the unsteered one.
        kl: of the unsteered target's replies to neutral prompts, in nats a token.
        repetition: mean share (0–1) of repeated 4-grams in the replies.
        example: the reply to the first prompt.
        problem: why nothing could be measured, such as values that are not finite.
    """

    strength: float
    decoder_loss: float | None = None
    mention_rate: float | None = None
    control_ratio: float | None = None
    perplexity: float | None = None
    perplexity_ratio: float | None = None
    kl: float | None = None
    repetition: float | None = None
    example: str = ""
    problem: str | None = None


@dataclass(frozen=True)
class SweepReport:
    """A steering's trade-off.

    Attributes:
        steering: its name.
        rows: one for each strength, ascending; the unsteered target is one of them.
        prompts: how many replies each row rests on.
        tokens: of the text; 0 without one.
        keywords: what `mention_rate` counts.
    """

    steering: str
    rows: tuple[SweepRow, ...]
    prompts: int
    tokens: int
    keywords: tuple[str, ...]

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False)

    def __str__(self) -> str:
        """A table for people; columns that nothing was measured for are left out."""
        columns = [column for column in _COLUMNS if any(column.of(row) is not None for row in self.rows)]
        table = [["strength", *(column.title for column in columns)]]
        for row in self.rows:
            table.append([f"{row.strength:g}", *(column.cell(row) for column in columns)])
        widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) for cells in table
        ]
        lines += [f"strength {row.strength:g}: {row.problem}" for row in self.rows if row.problem]
        return "\n".join(lines)


@dataclass(frozen=True)
class _Column:
    title: str
    name: str
    form: str

    def of(self, row: SweepRow) -> Any:
        return getattr(row, self.name)

    def cell(self, row: SweepRow) -> str:
        value = self.of(row)
        return "–" if value is None else format(value, self.form)


_COLUMNS = (
    _Column("mentions", "mention_rate", ".0%"),
    _Column("control ratio", "control_ratio", "+.2f"),
    _Column("decoder loss", "decoder_loss", ".2f"),
    _Column("perplexity", "perplexity", ".2f"),
    _Column("× unsteered", "perplexity_ratio", ".2f"),
    _Column("KL", "kl", ".3f"),
    _Column("repetition", "repetition", ".0%"),
)


def sweep(
    target: Target,
    steering: Steering,
    strengths: Sequence[float] = STRENGTHS,
    *,
    decoder: Decoder | None = None,
    text: str | None = None,
    tokens: int = TOKENS,
    prompts: Sequence[str] | None = None,
    keywords: Sequence[str] = (),
    max_new_tokens: int = 45,
    progress: Callable[[int, int], None] | None = None,
) -> SweepReport:
    """Measure effect, perplexity, KL and repetition of a steering at several strengths.

    Args:
        target: the model; unsteered unless that is what is to be swept upon.
        steering: what is applied.
        strengths: the unsteered target (0) is added if it is not among them.
        decoder: whose loss on the card's pairs is shown; None leaves it out.
        text: for the perplexity; None leaves it out.
        tokens: of the text, at most.
        prompts: user turns that are replied to; by default 24 neutral ones. The KL is taken on them too.
        keywords: what a reply must hold to count as a mention.
        max_new_tokens: longest reply.
        progress: called with (strengths done, strengths in all).

    Raises:
        SteeringError: no strength, or a steering made for another model.
    """
    if not strengths:
        raise SteeringError("No strength was given to sweep over. Give some, such as 0,0.5,1.")
    steering.check(target)
    asked = list(prompts) if prompts is not None else neutral_prompts()[:N_PROMPTS]
    neutral = NeutralReplies.make(target, asked)
    order = sorted({0.0, *strengths})
    pairs = steering.card.given_pairs() if decoder is not None else []
    found: list[SweepRow] = []
    unsteered: float | None = None
    # The unsteered target first, since the others are compared with it.
    for done, strength in enumerate(sorted(order, key=lambda value: value != 0), start=1):
        try:
            with steered(target, steering, strength=strength):
                effect = measure_effect(target, asked, max_new_tokens=max_new_tokens, keywords=keywords)
                measured: dict[str, Any] = {
                    "mention_rate": effect.mention_rate,
                    "kl": neutral.measure(target),
                    "repetition": repetition(effect.replies),
                    "example": effect.replies[0],
                }
                if decoder is not None and pairs:
                    measured["decoder_loss"] = decoder_loss(
                        target, decoder, pairs, load_stimuli()[:N_STIMULI]
                    )
                if text is not None:
                    measured["perplexity"] = perplexity(target, text, tokens=tokens).value
            if steering.card.control:
                measured["control_ratio"] = control_ratio(
                    target, asked, effect.replies, steering.card.control
                )
            if strength == 0:
                unsteered = measured.get("perplexity")
            if unsteered:
                measured["perplexity_ratio"] = measured["perplexity"] / unsteered
            found.append(SweepRow(strength, **{name: _rounded(value) for name, value in measured.items()}))
        except (ActivationError, SteeringError) as error:
            if strength == 0:
                raise
            found.append(SweepRow(strength, problem=str(error)))
        if progress is not None:
            progress(done, len(order))
    rows = tuple(sorted(found, key=lambda row: row.strength))
    return SweepReport(steering.name, rows, len(asked), tokens if text is not None else 0, tuple(keywords))


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
