"""The values that the rooms hand to one another: frozen, without behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    import torch


class Message(TypedDict):
    """One turn of a dialog."""

    role: str
    content: str


Dialog = Sequence[Message | Mapping[str, str]]
Verdict = Literal["supported", "not sure"]


@dataclass(frozen=True)
class Span:
    """A set of tokens of a rendered dialog.

    Attributes:
        name: as the user wrote it, e.g. `"stimulus"` or `"last:8"`.
        indices: positions in the rendered dialog, ascending.
    """

    name: str
    indices: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Activation:
    """Residual-stream vectors of a span at one or more read layers.

    Attributes:
        vectors: `[L, T, D]`, the output of each read layer's block at each token of the span.
        token_ids: the `T` tokens that the vectors belong to.
        positions: where those tokens stand in the rendered dialog.
        layers: the `L` read layers, 0-based, ascending.
        span: name of the span.
        model_id: name of the target model.
        model_hash: hash of the target's weights.
    """

    vectors: torch.Tensor
    token_ids: tuple[int, ...]
    positions: tuple[int, ...]
    layers: tuple[int, ...]
    span: str
    model_id: str
    model_hash: str


@dataclass(frozen=True)
class Score:
    """How well one given answer fits an activation.

    Attributes:
        answer: the candidate.
        logprob: mean log-probability per token (end of turn included), in nats.
        support: `logprob` minus the same on the reference activations, in nats.
        n_tokens: tokens of the answer, end of turn included.
    """

    answer: str
    logprob: float
    support: float
    n_tokens: int


@dataclass(frozen=True)
class Answer:
    """What a reader says about an activation.

    Attributes:
        text: the answer.
        question: the question it answers.
        token_logprobs: log-probability of each answer token (end of turn included if reached), in nats.
        support: mean log-probability minus the same on the reference activations, in nats.
        percentile: share (0–100) of answers on ordinary dialogs whose support is lower; None if uncalibrated.
        verdict: `"supported"` or `"not sure"`.
        read_layers: layers that were read.
        span: name of the span that was read.
        decoder: name of the reader.
        n_tokens: tokens of the answer.
        p_correct: calibrated probability (0–1) that the answer is right; None if the card has no confidence.
        agreement: share (0–1) of drawn samples that say the same; None if none were drawn.
        specificity: share (0–1) of other dialogs whose activations fit the answer less well than these do;
            None if it was not asked for.
    """

    text: str
    question: str
    token_logprobs: tuple[float, ...]
    support: float | None
    percentile: float | None
    verdict: Verdict
    read_layers: tuple[int, ...]
    span: str
    decoder: str
    n_tokens: int
    p_correct: float | None = None
    agreement: float | None = None
    specificity: float | None = None

    @property
    def logprob(self) -> float:
        """Mean log-probability per token, in nats."""
        return sum(self.token_logprobs) / max(1, len(self.token_logprobs))


@dataclass(frozen=True, eq=False)
class Query:
    """One question to a reader.

    Attributes:
        dialog: the messages.
        span: what of the rendered dialog is read.
        question: what is asked.
        activation: the span's activation, if it was captured already.
    """

    dialog: Dialog
    span: str
    question: str
    activation: Activation | None = None
