"""Untrained readers: activations patched into a prompt of the target itself (Patchscopes, SelfIE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from latentqa.activations import WriteSite
from latentqa.baselines.prompted import Prompt, Prompted
from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.reads import depth, grid
from latentqa.baselines.search import Searched, Settings
from latentqa.dialogs import DecoderPrompt, decoder_prompt
from latentqa.types import Answer, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

SAME = "read layer"
EARLY = "early"
EARLY_DEPTH = 0.1
REPEATS = 5

PATCHSCOPES = {
    "identity": "cat -> cat; 1135 -> 1135; hello -> hello; {placeholders}\n{question}",
    "description": "Syria: a country in the Middle East; Leonardo DiCaprio: an American actor; Samsung: a "
    "South Korean maker of electronics; {placeholders}\n{question}",
    "question first": "{question}\n{placeholders}",
}
SELFIE = {
    "message": "{placeholders}\n{question}",
    "named": "The message is: {placeholders}\nAbout this message: {question}",
    "question first": "{question} The message is: {placeholders}",
}


class _Patching(Searched):
    """What the two have in common: a prompt with placeholders, and where vectors come from and go to.

    Settings: `layer`, the block whose output is read; `prompt`; `tokens`, which of the span's vectors are
    written; `write`, the block whose output is written: the read layer itself or an early one.
    """

    name: str

    def __init__(
        self, context: ReaderContext, templates: dict[str, str], tokens: Sequence[str], writes: Sequence[str]
    ) -> None:
        self._reads = context.reads
        self._target = context.target
        self._prompted = Prompted(context.target)
        self._answer_tokens = context.answer_tokens
        self._signals = context.signals
        self._wordings: dict[str, DecoderPrompt] = {
            name: decoder_prompt(context.target.tokenizer, template=template)
            for name, template in templates.items()
        }
        axes: dict[str, Sequence[Any]] = {
            "layer": grid(context.target, context.layers),
            "prompt": tuple(templates),
            "tokens": tuple(tokens),
            "write": tuple(writes),
        }
        super().__init__(axes, context.budget)

    def at_layer(self, layer: int) -> Self:
        """The same reader with vectors of another layer; prompt, tokens and write site stay as chosen."""
        return self._with(layer=layer)

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """Greedy answers of the patched prompt."""
        check_queries(self.name, queries)
        settings = self._found.settings
        prompts, site = self._prompts(queries, settings), self._site(settings)
        said = self._prompted.generate(prompts, self._answer_tokens, site)
        bare = [prompt.bare() for prompt in prompts]
        supports = self._prompted.gains(said, bare) if self._signals else [None] * len(said)
        layers = (settings["layer"],)
        return [
            plain_answer(self.name, query, one.text, layers, logprobs=one.logprobs, support=support)
            for query, one, support in zip(queries, said, supports, strict=True)
        ]

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by log p(answer | patched) − log p(answer | nothing patched)."""
        check_queries(self.name, queries, candidates)
        return self._score(queries, candidates, self._found.settings)

    def _score(
        self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], settings: Settings
    ) -> list[list[Score]]:
        prompts = self._prompts(queries, settings)
        answers = [[self._prompted.answer(text) for text in texts] for texts in candidates]
        bare = [prompt.bare() for prompt in prompts]
        fits = self._prompted.supports(prompts, bare, answers, self._site(settings))
        return [
            rank(
                [
                    Score(text, logprob, support, len(tokens))
                    for text, tokens, (logprob, support) in zip(texts, group, values, strict=True)
                ]
            )
            for texts, group, values in zip(candidates, answers, fits, strict=True)
        ]

    def _prompts(self, queries: Sequence[Query], settings: Settings) -> list[Prompt]:
        wording = self._wordings[settings["prompt"]]
        read = self._reads.map(queries, (settings["layer"],), lambda vectors: vectors[0])
        prompts = []
        for query, vectors in zip(queries, read, strict=True):
            chosen = _chosen(vectors, settings["tokens"])
            full = wording.full(len(chosen), query.question)
            marked = tuple(place for place, mark in enumerate(full.placeholder_mask) if mark)
            prompts.append(Prompt(full.token_ids, marked, chosen))
        return prompts

    def _site(self, settings: Settings) -> WriteSite:
        early = min(depth(self._target, EARLY_DEPTH), settings["layer"])
        return WriteSite("block", settings["layer"] if settings["write"] == SAME else early)


class Patchscopes(_Patching):
    """One activation patched into an untrained prompt of the target at one position.

    A few-shot identity or description prompt ends in a placeholder token, whose state at the output of a
    block is replaced by the activation; then the question is asked. Layer, prompt, token of the span and
    write site are searched on the validation items.

    Source: Patchscopes (Ghandeharioun et al. 2024).
    Needs: the target alone, and validation items for its search.
    Cannot: use more than one vector of the span; it is not trained for any question.
    """

    name = "patchscopes"

    def __init__(self, context: ReaderContext) -> None:
        super().__init__(context, PATCHSCOPES, ("last", "mean", "first", "middle"), (SAME, EARLY))


class SelfIE(_Patching):
    """The span's activations patched into placeholders of the model's own question prompt.

    Each placeholder's state at the output of an early block is replaced. Layer, prompt, vectors and write
    site are searched on the validation items.

    Source: SelfIE (Chen, Vondrick and Mao 2024).
    Needs: the target alone, and validation items for its search.
    Cannot: do more than the model does untrained when it meets a deep layer's states in its prompt.
    """

    name = "selfie"

    def __init__(self, context: ReaderContext) -> None:
        super().__init__(context, SELFIE, ("all", "last repeated", "mean repeated"), (EARLY, SAME))


def _chosen(vectors: Tensor, tokens: str) -> Tensor:
    """The vectors `[N, D]` that are written, of the span's `[T, D]`."""
    if tokens == "all":
        return vectors
    mean = vectors.float().mean(0, keepdim=True).to(vectors.dtype)
    one = {
        "last": vectors[-1:],
        "first": vectors[:1],
        "middle": vectors[len(vectors) // 2, None],
        "mean": mean,
    }[tokens.removesuffix(" repeated")]
    return torch.cat([one] * REPEATS) if tokens.endswith("repeated") else one
