"""Answers token by token: greedy or sampled, guided or not, on the cache that the prompts left behind."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentqa.decoder.forward import Encoded, Row, encode, run_hidden, without_gaps
from latentqa.decoder.wiring import Slot, Wiring
from latentqa.models import context_length
from latentqa.models.head import logits

PLAUSIBLE = 0.1
"""Share of the likeliest token's probability below which guidance chooses no token (Li et al. 2023)."""


@dataclass(frozen=True)
class Sampling:
    """How answers are generated.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        temperature: 0 is greedy.
        stop: texts that end an answer; they are cut off.
        seed: of the sampling.
        guidance: `w` of classifier-free guidance: tokens are chosen by (1 + w) times their log-probability on
            the activations, less w times that on reference activations, so that what is likely whatever the
            activations say counts less. 0 chooses by the first alone.
    """

    max_new_tokens: int = 40
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0
    guidance: float = 0.0


@dataclass
class Generated:
    """One answer as it grows.

    Attributes:
        token_ids: what was generated, without the end of turn.
        logprobs: log-probability of each token, in nats; the end of turn's last if it was reached. Neither
            temperature nor guidance is in them.
        reference_logprobs: the same on the reference that guided it; empty without guidance.
        done: whether the answer has ended.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reference_logprobs: list[float] = field(default_factory=list)
    done: bool = False


@torch.no_grad()
def generate(
    wiring: Wiring,
    slots: Sequence[Slot],
    rows: Sequence[Row],
    sampling: Sampling,
    references: Sequence[int] = (),
) -> list[Generated]:
    """Generate an answer for each row; call inside `wiring.active()`. Arguments as of `stream`."""
    answers: list[Generated] = []
    for grown in stream(wiring, slots, rows, sampling, references):
        answers = grown
    return answers


@torch.no_grad()
def stream(
    wiring: Wiring,
    slots: Sequence[Slot],
    rows: Sequence[Row],
    sampling: Sampling,
    references: Sequence[int] = (),
) -> Iterator[list[Generated]]:
    """Like `generate`, yielding all answers so far after each token.

    Args:
        wiring: the decoder; call inside `wiring.active()`.
        slots: activations of the batch, references among them.
        rows: questions without an answer.
        sampling: how tokens are chosen.
        references: for guidance, the slot of each row's reference activations.
    """
    answers = [Generated() for _ in rows]
    guided = bool(references) and sampling.guidance != 0
    fed = list(rows)
    if guided:
        fed += [Row(slot, row.question) for slot, row in zip(references, rows, strict=True)]
    choose = _Chooser(sampling)
    encoded = without_gaps(encode(wiring, slots, fed, share=True))
    hidden = encoded.hidden[torch.arange(len(fed)), encoded.starts]
    n_tokens = min(sampling.max_new_tokens, _room(wiring, encoded))
    for step in range(n_tokens):
        token_ids, logprobs, reference_logprobs = choose(logits(wiring.model, hidden).float(), guided=guided)
        for answer, logprob in zip(answers, reference_logprobs, strict=guided):
            answer.reference_logprobs += [] if answer.done else [logprob]
        _extend(wiring, answers, token_ids.tolist(), logprobs, sampling)
        yield answers
        if all(answer.done for answer in answers) or step == n_tokens - 1:
            return
        copies = 2 if guided else 1
        hidden, encoded = _step(wiring, slots, fed, answers * copies, encoded, token_ids.repeat(copies))


def _room(wiring: Wiring, encoded: Encoded) -> int:
    """How many tokens can be generated before the longest row is at the end of the context."""
    limit = context_length(wiring.model)
    return sys.maxsize if limit is None else limit - int(encoded.next_positions.max()) + 1


class _Chooser:
    """Picks the next token of each row."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._guidance = sampling.guidance
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, values: Tensor, *, guided: bool) -> tuple[Tensor, list[float], list[float]]:
        """Token ids `[S]`, their log-probabilities, and those on the reference, untempered.

        Args:
            values: logits `[S, V]`; guided, `[2 S, V]`, the rows on their references second.
            guided: whether there are references.
        """
        if not guided:
            chosen = self._choose(values)
            return chosen, _of(values, chosen), []
        own, reference = values.log_softmax(dim=-1).chunk(2)
        scores = own + self._guidance * (own - reference)
        least = own.amax(dim=-1, keepdim=True) + math.log(PLAUSIBLE)
        chosen = self._choose(scores.masked_fill(own < least, -math.inf))
        return chosen, _of(own, chosen), _of(reference, chosen)

    def _choose(self, values: Tensor) -> Tensor:
        if self._temperature == 0:
            return values.argmax(dim=-1)
        chances = torch.softmax(values / self._temperature, dim=-1).cpu()
        return torch.multinomial(chances, 1, generator=self._generator)[:, 0].to(values.device)


def _of(values: Tensor, token_ids: Tensor) -> list[float]:
    """Log-probabilities of tokens `[S]` under logits `[S, V]`."""
    chosen = values.gather(1, token_ids[:, None])[:, 0]
    return (chosen - values.logsumexp(dim=-1)).tolist()


def _extend(
    wiring: Wiring, answers: list[Generated], token_ids: list[int], logprobs: list[float], sampling: Sampling
) -> None:
    end_of_turn = wiring.prompt.end_of_turn[0]
    for answer, token_id, logprob in zip(answers, token_ids, logprobs, strict=True):
        if answer.done:
            continue
        answer.logprobs.append(logprob)
        if token_id == end_of_turn or token_id == wiring.prompt.tokenizer.eos_token_id:
            answer.done = True
            continue
        answer.token_ids.append(token_id)
        if (
            sampling.stop
            and cut_at_stop(str(wiring.prompt.tokenizer.decode(answer.token_ids)), sampling.stop)[1]
        ):
            answer.done = True


def cut_at_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop text, and whether there was one."""
    found = [index for phrase in stop if phrase and (index := text.find(phrase)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


def _step(
    wiring: Wiring,
    slots: Sequence[Slot],
    rows: Sequence[Row],
    answers: list[Generated],
    encoded: Encoded,
    token_ids: Tensor,
) -> tuple[Tensor, Encoded]:
    """Hidden states `[S, D]` after one more token, and the grown cache."""
    if encoded.cache is None:  # the question comes first in the prompt: each token is a whole pass
        fed = [(*answer.token_ids, 0) for answer in answers]  # an answer's last token is predicted, not fed
        grown = [Row(row.slot, row.question, answer) for row, answer in zip(rows, fed, strict=True)]
        again = encode(wiring, slots, grown, share=False)
        last = again.starts + torch.tensor([len(row.answer) - 1 for row in grown], device=again.starts.device)
        return again.hidden[torch.arange(len(rows)), last], again
    mask = torch.cat([encoded.mask, encoded.mask.new_ones(len(rows), 1)], dim=1)
    positions = encoded.next_positions[:, None]
    hidden = run_hidden(wiring, token_ids[:, None], mask, positions, encoded.cache)
    return hidden[:, -1], Encoded(hidden, encoded.starts, encoded.cache, mask, encoded.next_positions + 1)
