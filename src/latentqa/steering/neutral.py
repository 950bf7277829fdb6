"""How far a steered target is from the unsteered one where nothing was asked of it: KL on neutral prompts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from latentqa.activations.checks import check_finite
from latentqa.decoder.target import Target, last_hidden
from latentqa.dialogs import render
from latentqa.errors import DataError
from latentqa.models import active_adapter
from latentqa.models.head import logits
from latentqa.steering.reads import half_precision
from latentqa.steering.settings import CourseSettings
from latentqa.steering.stimuli import neutral_prompts

PASS = 8
"""Dialogs of one pass; their logits are in memory together."""


@dataclass(frozen=True, eq=False)
class NeutralReplies:
    """The unsteered target's replies to neutral prompts, and what it thought of each of their tokens.

    Attributes:
        sequences: token ids of prompt and reply.
        starts: index of the first token of each reply.
        expected: log-probabilities `[N, V]` float32 at each reply's tokens.
    """

    sequences: tuple[tuple[int, ...], ...]
    starts: tuple[int, ...]
    expected: tuple[Tensor, ...]

    @classmethod
    @torch.no_grad()
    def make(
        cls, target: Target, prompts: Sequence[str], *, tokens: int = 16, bare: bool = False
    ) -> NeutralReplies:
        """Let the target reply greedily, and keep its distribution at each token.

        Args:
            target: as it is now, which is the reference.
            prompts: user turns.
            tokens: longest reply.
            bare: the replies without the dialogs that they belong to, as text like any other.

        Raises:
            DataError: no prompt was answered with anything.
        """
        dialogs = [[{"role": "user", "content": prompt}] for prompt in prompts]
        replies = target.generate(dialogs, max_new_tokens=tokens) if dialogs else []
        sequences, starts = [], []
        for dialog, reply in zip(dialogs, replies, strict=True):
            if not reply:
                continue
            if bare:
                sequences.append(tuple(cast(list[int], target.tokenizer(reply)["input_ids"])))
                starts.append(1)  # the first token has nothing before it
                continue
            whole = render(target.tokenizer, [*dialog, {"role": "assistant", "content": reply}])
            message = whole.messages[-1]
            sequences.append(whole.token_ids[: message.content_end])
            starts.append(message.content_start)
        if not sequences:
            raise DataError(
                f"None of the {len(prompts)} neutral prompts was answered with anything, so no KL can be "
                "taken. Give other prompts."
            )
        made = cls(tuple(sequences), tuple(starts), ())
        expected = [
            part
            for first in range(0, len(sequences), PASS)
            for part in made._logprobs(target, range(first, min(first + PASS, len(sequences))), ())
        ]
        return cls(tuple(sequences), tuple(starts), tuple(expected))

    def kl(
        self, target: Target, numbers: Sequence[int] | None = None, *, adapters: tuple[str, ...] = ()
    ) -> Tensor:
        """Mean KL divergence of the target as it is now from the reference, differentiable.

        Args:
            target: the same model, steered or not.
            numbers: which of the replies; all by default.
            adapters: that are on beside the target's own.

        Returns:
            A scalar, in nats a token: of the reference's distribution to the target's.
        """
        chosen = range(len(self.sequences)) if numbers is None else numbers
        total, count = [], 0
        for first in range(0, len(chosen), PASS):
            part = chosen[first : first + PASS]
            for number, found in zip(part, self._logprobs(target, part, adapters), strict=True):
                expected = self.expected[number]
                total.append((expected.exp() * (expected - found)).sum())
                count += len(found)
        return torch.stack(total).sum() / count

    @torch.no_grad()
    def measure(self, target: Target) -> float:
        """`kl` of all replies as a number.

        Raises:
            ActivationError: values that are not finite.
        """
        value = self.kl(target)
        check_finite(value[None, None], "The target's KL divergence")
        return float(value)

    def _logprobs(self, target: Target, numbers: Sequence[int], adapters: tuple[str, ...]) -> list[Tensor]:
        """Log-probabilities `[N, V]`, float32, at the reply tokens of one pass."""
        starts = [self.starts[number] for number in numbers]
        sequences = [self.sequences[number] for number in numbers]
        with target.completing(starts), active_adapter(target.model, (*target.adapter_names, *adapters)):
            hidden = last_hidden(target.model, sequences)
        found = []
        for row, (start, sequence) in enumerate(zip(starts, sequences, strict=True)):
            values = logits(target.model, hidden[row, start - 1 : len(sequence) - 1])
            found.append(torch.log_softmax(values.float(), dim=-1))
        return found


class PullBack:
    """The KL term of a course: some of the unsteered target's neutral replies at each step.

    Args:
        kinds: replies of the unsteered target, as such or bare; each step takes as many of each.
        settings: the term's weight, and how many replies a step takes.
    """

    def __init__(self, kinds: Sequence[NeutralReplies], settings: CourseSettings) -> None:
        self._kinds, self._settings = kinds, settings
        self._order = random.Random(f"neutral:{settings.seed}")

    @classmethod
    def of(cls, target: Target, settings: CourseSettings) -> PullBack | None:
        """The term of a target that nothing steers yet; None where its weight is 0."""
        if not settings.kl:
            return None
        prompts = neutral_prompts()[: settings.kl_prompts]
        bare = {"reply": (False,), "text": (True,), "both": (False, True)}[settings.kl_on]
        kinds = [NeutralReplies.make(target, prompts, tokens=settings.kl_tokens, bare=one) for one in bare]
        return cls(kinds, settings)

    def __call__(self, target: Target, *, adapters: tuple[str, ...] = ()) -> float:
        """The term as the target is now, its gradients added to what requires them.

        Args:
            target: steered by what is being made.
            adapters: as for `NeutralReplies.kl`.
        """
        total = 0.0
        for replies in self._kinds:
            count = min(-(-self._settings.kl_batch // len(self._kinds)), len(replies.sequences))
            chosen = self._order.sample(range(len(replies.sequences)), count)
            with half_precision(target):
                part = replies.kl(target, chosen, adapters=adapters) * self._settings.kl / len(self._kinds)
            part.backward()
            total += float(part.detach())
        return total
