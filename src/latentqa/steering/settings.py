"""Settings of each way to make a steering: what `latentqa steer make --config FILE key=value` takes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Positions = Literal["all", "completion"]
"""Where a vector is added: at every token, or from the last token of the prompt on, where the completion's
tokens are decided."""


class MakeSettings(BaseModel):
    """What all ways share.

    Attributes:
        layers: blocks that are changed, 0-based; empty is the way's own choice.
        samples: stimuli that the loss is taken on.
        held_out: further stimuli on which the loss is measured, before, on the way and after.
        batch: stimuli per step; they are drawn anew from `samples` each time these are used up.
        pairs_per_sample: question-answer pairs asked on each of them; all pairs get their turn.
        completion_tokens: let the target write so many tokens of a reply first, and read those. 0 reads the
            stimulus alone, and so does a decoder that was trained on no replies.
        span: what is read; None is the `completion`, or without one the decoder's own.
        decoder_strength: share of the decoder's adapter that is on while the steering is sought. A decoder at
            full strength hears directions that the target hardly uses; nearer to its base it reads as the
            target reads itself, and what is written for it reaches the target's words.
        margin: nats a token by which the loss of an unwanted answer is raised at most.
        answered: loss, in nats a token, from which on an answer counts as given already.
        tokens_per_pass: padded tokens of one decoder pass; more are accumulated.
        seed: of the choice and order of stimuli and pairs, and of fresh weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    layers: tuple[int, ...] = ()
    samples: int = Field(default=40, ge=1)
    held_out: int = Field(default=8, ge=1)
    batch: int = Field(default=8, ge=1)
    pairs_per_sample: int = Field(default=2, ge=1)
    completion_tokens: int = Field(default=16, ge=0)
    span: str | None = None
    decoder_strength: float = Field(default=0.5, gt=0, le=1)
    margin: float = Field(default=2.0, gt=0)
    answered: float = Field(default=0.3, ge=0)
    tokens_per_pass: int = Field(default=1536, ge=64)
    seed: int = 0


class CourseSettings(MakeSettings):
    """What the two ways share that take steps.

    Attributes:
        steps: at most so many.
        evaluate_every: steps between two measurements on the held-out stimuli; the best is kept.
        patience: measurements without a better one after which it stops; 0 is off.
        read: `last` reads the target as the decoder was trained to; `every` gives each changed block its own
            loss and optimiser: the block's output stands in for the read layers above it, its input is
            detached. It costs a decoder pass per block.
        kl: weight of the KL term to the unsteered target on neutral prompts, in nats a token; 0 is off.
        kl_prompts: neutral prompts of that term.
        kl_batch: of these in each step.
        kl_tokens: tokens of the unsteered target's own replies on which it is taken.
        kl_on: the replies as such; their bare text (replies may then change, other text may not); or `both`,
            half of each.
    """

    steps: int = Field(default=24, ge=1)
    evaluate_every: int = Field(default=6, ge=1)
    patience: int = Field(default=3, ge=0)
    read: Literal["last", "every"] = "last"
    kl: float = Field(default=0.0, ge=0)
    kl_prompts: int = Field(default=24, ge=1)
    kl_batch: int = Field(default=4, ge=1)
    kl_tokens: int = Field(default=16, ge=1)
    kl_on: Literal["reply", "text", "both"] = "both"


class WeightsSettings(CourseSettings):
    """A LoRA on chosen blocks of the target; by default on each up to the last read layer.

    Attributes:
        rank: of each update.
        alpha: the update is scaled by alpha / rank.
        targets: names of linear modules, or `all-linear`.
        learning_rate: peak of AdamW.
        warmup: share of the steps in which it rises; it then falls as a cosine.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to it, those of each optimiser apart.
    """

    steps: int = Field(default=40, ge=1)
    evaluate_every: int = Field(default=8, ge=1)
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    learning_rate: float = Field(default=1e-3, gt=0)
    kl: float = Field(default=0.5, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)


class DirectionSettings(BaseModel):
    """How long an added vector is, and in which geometry it is sought.

    Attributes:
        norm: length of each vector at most, as a share of the spread of its block's states (their root mean
            square distance from their mean over the stimuli, token 0 left out).
        metric: `states` takes the step that lowers the loss most among those of equal likelihood under the
            states' own covariance, so that directions in which the target hardly moves do not win;
            `euclidean` takes the bare gradient.
        positions: where the vector is added when it is applied. While it is made it is added everywhere.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    norm: float = Field(default=0.5, gt=0)
    metric: Literal["states", "euclidean"] = "euclidean"
    positions: Positions = "all"


class VectorSettings(CourseSettings, DirectionSettings):
    """One added vector per chosen block; by default at the first and the last read layer and half-way.

    Attributes:
        learning_rate: length of a step, as a share of the longest vector; it falls to a tenth as a cosine.
        momentum: of the steps' directions.
    """

    samples: int = Field(default=24, ge=1)
    steps: int = Field(default=16, ge=1)
    evaluate_every: int = Field(default=4, ge=1)
    learning_rate: float = Field(default=0.2, gt=0)
    momentum: float = Field(default=0.8, ge=0, lt=1)


class ClosedFormSettings(MakeSettings, DirectionSettings):
    """The averaged gradient as the direction: `samples` stimuli are gone through once, without steps."""
