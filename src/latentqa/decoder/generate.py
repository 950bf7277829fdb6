"""Answers token by token: greedy or sampled, on the cache that the prompts left behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentqa.decoder.forward import Encoded, Row, encode, run_hidden, without_gaps
from latentqa.decoder.wiring import Slot, Wiring
from latentqa.models import context_length
from latentqa.models.head import logits


@dataclass(frozen=True)
class Sampling:
    """How answers are generated.

    Attributes:
        max_new_tokens: longest answer, in tokens.
        temperature: 0 is greedy.
        stop: texts that end an answer; they are cut off.
        seed: of the sampling.
    """

    max_new_tokens: int = 40
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass
class Generated:
    """One answer as it grows.

    Attributes:
        token_ids: what was generated, without the end of turn.
        logprobs: log-probability of each token, in nats; the end of turn's last if it was reached.
        done: whether the answer has ended.
    """

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    done: bool = False


@torch.no_grad()
def generate(
    wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row], sampling: Sampling
) -> list[Generated]:
    """Generate an answer for each row; call inside `wiring.active()`."""
    answers: list[Generated] = []
    for grown in stream(wiring, slots, rows, sampling):
        answers = grown
    return answers


@torch.no_grad()
def stream(
    wiring: Wiring, slots: Sequence[Slot], rows: Sequence[Row], sampling: Sampling
) -> Iterator[list[Generated]]:
    """Like `generate`, yielding all answers so far after each token."""
    answers = [Generated() for _ in rows]
    choose = _Chooser(sampling)
    encoded = without_gaps(encode(wiring, slots, rows, share=True))
    hidden = encoded.hidden[torch.arange(len(rows)), encoded.starts]
    n_tokens = min(sampling.max_new_tokens, _room(wiring, encoded))
    for step in range(n_tokens):
        token_ids, logprobs = choose(logits(wiring.model, hidden).float())
        _extend(wiring, answers, token_ids.tolist(), logprobs.tolist(), sampling)
        yield answers
        if all(answer.done for answer in answers) or step == n_tokens - 1:
            return
        hidden, encoded = _step(wiring, slots, rows, answers, encoded, token_ids)


def _room(wiring: Wiring, encoded: Encoded) -> int:
    """How many tokens can be generated before the longest row is at the end of the context."""
    limit = context_length(wiring.model)
    return sys.maxsize if limit is None else limit - int(encoded.next_positions.max()) + 1


class _Chooser:
    """Picks the next token of each row."""

    def __init__(self, sampling: Sampling) -> None:
        self._temperature = sampling.temperature
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids `[S]` and their log-probabilities `[S]` (untempered) from logits `[S, V]`."""
        if self._temperature > 0:
            chances = torch.softmax(values / self._temperature, dim=-1).cpu()
            chosen = torch.multinomial(chances, 1, generator=self._generator).to(values.device)
        else:
            chosen = values.argmax(dim=-1, keepdim=True)
        logprobs = values.gather(1, chosen) - values.logsumexp(dim=-1, keepdim=True)
        return chosen[:, 0], logprobs[:, 0]


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
