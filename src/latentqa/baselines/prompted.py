"""Put prompts to the target itself, with vectors written at some of their tokens or without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from latentqa.activations import WriteSite, inject
from latentqa.decoder import Target
from latentqa.dialogs import DecoderPrompt, decoder_prompt
from latentqa.errors import ContextLengthError
from latentqa.models import active_adapter, context_length, describe
from latentqa.models.head import logits, token_logprobs

TOKENS_PER_PASS = 6144  # of the keys and values of all rows; 140 MB in the builtin model
ROWS_OF_GENERATION = 32
MEMORY = 200_000  # scores of unpatched prompts that are kept


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt and what is written into it.

    Attributes:
        token_ids: of the whole prompt, generation prompt included.
        marked: positions that are written, ascending.
        vectors: `[N, D]`, one per marked position; None writes nothing.
    """

    token_ids: tuple[int, ...]
    marked: tuple[int, ...] = ()
    vectors: Tensor | None = None

    def bare(self) -> Prompt:
        """The same prompt with nothing written."""
        return Prompt(self.token_ids)


@dataclass(frozen=True)
class Said:
    """A generated answer.

    Attributes:
        text: of the answer.
        token_ids: as they were generated, end of turn included if it was reached.
        logprobs: of each of them, in nats.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class Prompted:
    """The target, prompted; a prompt is run once for all answers that are scored on it.

    Args:
        target: the model; its own adapter, if it has one, stays on.
        adapter: another adapter on the same weights, instead of the target's.
    """

    def __init__(self, target: Target, adapter: str | None = None) -> None:
        self.target = target
        self.answers: DecoderPrompt = decoder_prompt(target.tokenizer)
        self._adapter = adapter or target.adapter
        self._memory: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
        self._said: dict[tuple[tuple[int, ...], int], Said] = {}

    def answer(self, text: str) -> tuple[int, ...]:
        """Token ids of an answer, end of turn included."""
        return self.answers.answer(text)

    def supports(
        self,
        prompts: Sequence[Prompt],
        priors: Sequence[Prompt],
        answers: Sequence[Sequence[tuple[int, ...]]],
        site: WriteSite | None = None,
    ) -> list[list[tuple[float, float]]]:
        """Log-probability of each answer on its prompt, and that minus the same on the prior prompt.

        Args:
            prompts: what the answers are scored on.
            priors: for each prompt what is compared with; nothing is written there.
            answers: token ids of each prompt's answers.
            site: where vectors are written.

        Returns:
            For each prompt (log-probability, support) of each answer, in nats a token.
        """
        if any(prompt.vectors is not None for prompt in prompts):
            own = self.logprobs(prompts, answers, site)
        else:
            own = self._remembered(prompts, answers)
        expected = self._remembered(priors, answers)
        return [
            [(value, value - prior) for value, prior in zip(values, others, strict=True)]
            for values, others in zip(own, expected, strict=True)
        ]

    def gains(self, said: Sequence[Said], priors: Sequence[Prompt]) -> list[float]:
        """Support of generated answers: what they were generated with, minus the same on the prior prompt."""
        expected = self._remembered(priors, [[one.token_ids] for one in said])
        return [
            sum(one.logprobs) / max(1, len(one.logprobs)) - prior
            for one, [prior] in zip(said, expected, strict=True)
        ]

    @torch.no_grad()
    def logprobs(
        self,
        prompts: Sequence[Prompt],
        answers: Sequence[Sequence[tuple[int, ...]]],
        site: WriteSite | None = None,
    ) -> list[list[float]]:
        """Mean log-probability per token of each prompt's answers, teacher-forced, in nats."""
        found: list[list[float]] = [[0.0] * len(group) for group in answers]
        with active_adapter(self.target.model, self._adapter):
            for rows in self._passes(prompts, answers):
                numbers = list(dict.fromkeys(number for number, _ in rows))
                values = self._score(
                    [prompts[number] for number in numbers],
                    [numbers.index(number) for number, _ in rows],
                    [answers[number][place] for number, place in rows],
                    site,
                )
                for (number, place), value in zip(rows, values, strict=True):
                    found[number][place] = value
        return found

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int, site: WriteSite | None = None
    ) -> list[Said]:
        """Greedy answers; a prompt in which nothing is written is answered once."""
        if len(self._said) > MEMORY:
            self._said.clear()
        bare = {prompt.token_ids: prompt for prompt in prompts if prompt.vectors is None}
        fresh = [prompt for key, prompt in bare.items() if (key, max_new_tokens) not in self._said]
        for prompt, one in zip(fresh, self._generate(fresh, max_new_tokens, None), strict=True):
            self._said[prompt.token_ids, max_new_tokens] = one
        written = [prompt for prompt in prompts if prompt.vectors is not None]
        patched = iter(self._generate(written, max_new_tokens, site))
        return [
            self._said[prompt.token_ids, max_new_tokens] if prompt.vectors is None else next(patched)
            for prompt in prompts
        ]

    def _generate(self, prompts: Sequence[Prompt], max_new_tokens: int, site: WriteSite | None) -> list[Said]:
        said: list[Said | None] = [None] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number].token_ids))
        with active_adapter(self.target.model, self._adapter):
            for first in range(0, len(order), ROWS_OF_GENERATION):
                batch = order[first : first + ROWS_OF_GENERATION]
                answers = self._greedy([prompts[number] for number in batch], max_new_tokens, site)
                for number, answer in zip(batch, answers, strict=True):
                    said[number] = answer
        return [answer for answer in said if answer is not None]

    def _remembered(
        self, priors: Sequence[Prompt], answers: Sequence[Sequence[tuple[int, ...]]]
    ) -> list[list[float]]:
        """Scores on unpatched prompts, each computed once."""
        if len(self._memory) > MEMORY:
            self._memory.clear()
        wanted: dict[tuple[int, ...], dict[tuple[int, ...], None]] = {}
        for prior, group in zip(priors, answers, strict=True):
            for answer in group:
                if (prior.token_ids, answer) not in self._memory:
                    wanted.setdefault(prior.token_ids, {})[answer] = None
        prompts = [Prompt(token_ids) for token_ids in wanted]
        groups = [list(group) for group in wanted.values()]
        for prompt, group, values in zip(prompts, groups, self.logprobs(prompts, groups), strict=True):
            for answer, value in zip(group, values, strict=True):
                self._memory[prompt.token_ids, answer] = value
        return [
            [self._memory[prior.token_ids, answer] for answer in group]
            for prior, group in zip(priors, answers, strict=True)
        ]

    def _passes(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[tuple[int, ...]]]
    ) -> Iterator[list[tuple[int, int]]]:
        """Cut (prompt, answer) pairs into passes; prompts of like length together."""
        batch: list[tuple[int, int]] = []
        longest = 0
        for number in sorted(range(len(prompts)), key=lambda n: len(prompts[n].token_ids)):
            for place, answer in enumerate(answers[number]):
                length = len(prompts[number].token_ids) + len(answer)
                if batch and (len(batch) + 1) * max(longest, length) > TOKENS_PER_PASS:
                    yield batch
                    batch, longest = [], 0
                batch.append((number, place))
                longest = max(longest, length)
        if batch:
            yield batch

    def _score(
        self,
        prompts: Sequence[Prompt],
        rows: Sequence[int],
        answers: Sequence[tuple[int, ...]],
        site: WriteSite | None,
    ) -> list[float]:
        """Scores of answer i on prompt `rows[i]`."""
        self._check_context(prompts, max(map(len, answers)))
        cache, mask, last = self._prefill(prompts, site)
        model, device = self.target.model, mask.device
        index = torch.tensor(rows, device=device)
        longest = max(map(len, answers))
        token_ids = torch.zeros(len(answers), longest, dtype=torch.long)
        real = torch.zeros(len(answers), longest, dtype=torch.bool)
        for number, answer in enumerate(answers):
            token_ids[number, : len(answer)] = torch.tensor(answer)
            real[number, : len(answer)] = True
        token_ids, real = token_ids.to(device), real.to(device)
        hidden = last[index, None]
        if longest > 1:
            lengths = mask.sum(1)[index, None]
            more = model.get_decoder()(
                input_ids=token_ids[:, :-1],
                attention_mask=torch.cat([mask[index], real[:, :-1].long()], dim=1),
                position_ids=lengths + torch.arange(longest - 1, device=device),
                past_key_values=_rows_of(cache, index),
                use_cache=True,
            ).last_hidden_state
            hidden = torch.cat([hidden, more], dim=1)
        values = torch.zeros(real.shape, device=device)
        values[real] = token_logprobs(model, hidden[real], token_ids[real])
        return (values.sum(1) / real.sum(1)).tolist()

    def _greedy(self, prompts: Sequence[Prompt], max_new_tokens: int, site: WriteSite | None) -> list[Said]:
        self._check_context(prompts, 1)
        cache, mask, hidden = self._prefill(prompts, site)
        model, tokenizer = self.target.model, self.target.tokenizer
        ends = (self.answers.end_of_turn[0], tokenizer.eos_token_id)
        tokens: list[list[int]] = [[] for _ in prompts]
        logprobs: list[list[float]] = [[] for _ in prompts]
        limit = context_length(model)
        longest = max(len(prompt.token_ids) for prompt in prompts)
        room = max_new_tokens if limit is None else min(max_new_tokens, limit - longest + 1)
        done = [False] * len(prompts)
        for step in range(room):
            values = logits(model, hidden).float().log_softmax(-1)
            best = values.max(-1)
            for row, (token, value) in enumerate(
                zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ):
                if not done[row]:
                    tokens[row].append(token)
                    logprobs[row].append(value)
                    done[row] = token in ends
            if all(done) or step == room - 1:
                break
            positions = mask.sum(1, keepdim=True)
            mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
            hidden = model.get_decoder()(
                input_ids=best.indices[:, None],
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        return [
            Said(str(tokenizer.decode(ids, skip_special_tokens=True)).strip(), tuple(ids), tuple(values))
            for ids, values in zip(tokens, logprobs, strict=True)
        ]

    def _prefill(
        self, prompts: Sequence[Prompt], site: WriteSite | None
    ) -> tuple[DynamicCache, Tensor, Tensor]:
        """Cache, mask `[B, T]` and last hidden states `[B, D]`; padded on the left."""
        length = max(len(prompt.token_ids) for prompt in prompts)
        token_ids = torch.zeros(len(prompts), length, dtype=torch.long)
        mask, written = torch.zeros_like(token_ids), torch.zeros_like(token_ids, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            start = length - len(prompt.token_ids)
            token_ids[row, start:] = torch.tensor(prompt.token_ids)
            mask[row, start:] = 1
            if prompt.vectors is not None:
                written[row, [start + place for place in prompt.marked]] = True
        device = self.target.model.device
        token_ids, mask = token_ids.to(device), mask.to(device)
        cache = (
            DynamicCache()
        )  # made without the config it keeps every token; windows are the mask's business
        with self._writing(prompts, written.to(device), site):
            hidden = self.target.model.get_decoder()(
                input_ids=token_ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
        return cache, mask, hidden

    def _writing(
        self, prompts: Sequence[Prompt], written: Tensor, site: WriteSite | None
    ) -> AbstractContextManager[None]:
        vectors = [prompt.vectors for prompt in prompts if prompt.vectors is not None]
        if not vectors or site is None:
            return nullcontext()
        return inject(self.target.model, site, torch.cat(vectors), mask=written)

    def _check_context(self, prompts: Sequence[Prompt], more: int) -> None:
        limit = context_length(self.target.model)
        longest = max(len(prompt.token_ids) for prompt in prompts) + more - 1
        if limit is not None and longest > limit:
            raise ContextLengthError(
                f"A prompt with its answer has {longest} tokens, but {describe(self.target.model)} takes "
                f"{limit}. Read a shorter span."
            )


def _rows_of(cache: DynamicCache, index: Tensor) -> DynamicCache:
    """A new cache whose row i is row `index[i]`."""
    chosen = DynamicCache()
    for number, layer in enumerate(cache.layers):
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        chosen.update(layer.keys[index], layer.values[index], number)
    return chosen
