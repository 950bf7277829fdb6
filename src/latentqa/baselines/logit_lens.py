"""The logit lens: the words that the target's own output head finds in an activation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from latentqa.activations import WriteSite, inject
from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.reads import grid
from latentqa.baselines.search import Searched, Settings
from latentqa.data import plain_dialogs
from latentqa.models import active_adapter, find_blocks
from latentqa.models.head import logits
from latentqa.types import Answer, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

ORDINARY = 32  # dialogs that the prior is taken from
NAMED = 5  # words of a free answer
STATES_PER_PASS = 256  # 50 MB of logits in the builtin model


class LogitLens(Searched):
    """Words by the output head on activations, of all tokens of the span together.

    An answer's score is the mean over its tokens of the lens's log-probability; support subtracts the same
    on ordinary dialogs without any control. A free answer is the five tokens that gained most over them.

    Source: the logit lens (nostalgebraist 2020), with the target's final norm.
    Needs: the target alone, and validation items for its search.
    Cannot: take the question into account, or say anything but single tokens.
    """

    name = "logit-lens"

    def __init__(self, context: ReaderContext) -> None:
        self._reads = context.reads
        self._target = context.target
        axes = {
            "layer": grid(context.target, context.layers),
            "pool": ("mean log-probability", "mean probability", "last token"),
            "prior": ("ordinary dialogs", "no prior"),
            "answer": ("all tokens", "first token"),
        }
        super().__init__(axes, context.budget)
        self._priors: dict[tuple[int, str], Tensor] = {}

    def at_layer(self, layer: int) -> Self:
        """The lens at another layer; how tokens are pooled, and the prior, stay as chosen."""
        return self._with(layer=layer)

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """The five tokens that gained most, as one text."""
        check_queries(self.name, queries)
        settings = self._found.settings
        prior = self._prior(settings)
        answers = []
        for query, words in zip(queries, self._words(queries, settings), strict=True):
            top = (words - prior).topk(min(NAMED, len(words)))
            named = [str(self._target.tokenizer.decode([token])).strip() for token in top.indices.tolist()]
            text = ", ".join(dict.fromkeys(word for word in named if word)) or "?"
            logprobs = words[top.indices].tolist()
            support = float(top.values.mean())
            layers = (settings["layer"],)
            answers.append(plain_answer(self.name, query, text, layers, logprobs=logprobs, support=support))
        return answers

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by support."""
        check_queries(self.name, queries, candidates)
        return self._score(queries, candidates, self._found.settings)

    def _score(
        self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], settings: Settings
    ) -> list[list[Score]]:
        prior = self._prior(settings)
        ranked = []
        for texts, words in zip(candidates, self._words(queries, settings), strict=True):
            scores = []
            for text in texts:
                tokens = self._tokens(text)[: 1 if settings["answer"] == "first token" else None]
                logprob = float(words[tokens].mean())
                support = logprob
                if settings["prior"] == "ordinary dialogs":
                    support = logprob - float(prior[tokens].mean())
                scores.append(Score(text, logprob, support, len(tokens)))
            ranked.append(rank(scores))
        return ranked

    def _tokens(self, text: str) -> list[int]:
        """Tokens of an answer as it would follow another word."""
        return self._target.tokenizer(" " + text.strip(), add_special_tokens=False)["input_ids"]

    def _words(self, queries: Sequence[Query], settings: Settings) -> Iterator[Tensor]:
        """For each query the pooled log-probability of each token, `[V]` float32 on the CPU."""
        pool = settings["pool"]
        kept = slice(-1, None) if pool == "last token" else slice(None)
        read = self._reads.map(queries, (settings["layer"],), lambda vectors: vectors[0, kept])
        for spans in _together(read):
            yield from self._lens(spans, pool)

    def _prior(self, settings: Settings) -> Tensor:
        """The same, mean over ordinary dialogs."""
        key = settings["layer"], settings["pool"]
        if key not in self._priors:
            queries = [Query(dialog, "stimulus", "?") for dialog in plain_dialogs()[:ORDINARY]]
            self._priors[key] = torch.stack(list(self._words(queries, settings))).mean(0)
        return self._priors[key]

    @torch.no_grad()
    def _lens(self, spans: Sequence[Tensor], pool: str) -> list[Tensor]:
        """Pooled log-probabilities `[V]` of the states `[T, D]` of each span.

        The states are written at the last block's output, so that what follows it in any architecture (the
        final norm, a projection) is the model's own.
        """
        vectors = torch.cat(list(spans))
        model = self._target.model
        blocks = find_blocks(model)
        token_ids = torch.zeros(len(vectors), 1, dtype=torch.long, device=model.device)
        mask = torch.ones_like(token_ids, dtype=torch.bool)
        site = WriteSite("block", len(blocks) - 1)
        with active_adapter(model, self._target.adapter), inject(model, site, vectors, mask=mask):
            hidden = model.get_decoder()(input_ids=token_ids, use_cache=False).last_hidden_state[:, 0]
            words = logits(model, hidden).float().log_softmax(-1)
        parts = words.split([len(span) for span in spans])
        if pool == "mean probability":
            return [(part.logsumexp(0) - math.log(len(part))).cpu() for part in parts]
        return [part.mean(0).cpu() for part in parts]


def _together(spans: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Spans in groups of at most `STATES_PER_PASS` states, or one that has more."""
    group: list[Tensor] = []
    for span in spans:
        if group and sum(map(len, group)) + len(span) > STATES_PER_PASS:
            yield group
            group = []
        group.append(span)
    if group:
        yield group
