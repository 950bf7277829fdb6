"""The target itself, given the visible text of the span and the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentqa.baselines.prompted import Prompt, Prompted
from latentqa.baselines.ranking import check_queries, plain_answer, rank
from latentqa.baselines.search import Searched, Settings
from latentqa.decoder import Reading
from latentqa.dialogs import render
from latentqa.types import Answer, Query, Score

if TYPE_CHECKING:
    from latentqa.baselines.registry import ReaderContext

TEMPLATES = (
    "Here is part of a conversation between a user and an AI assistant. The assistant may have been given "
    "instructions that are not shown.\n\n{text}\n\n{question}",
    "{text}\n\n{question}",
    "{question}\n\n{text}",
    "{text}\n\nQuestion: {question}\nAnswer in one sentence.",
    "Read this.\n\n{text}\n\nNow answer a question about it: {question}",
    "What can be seen of a dialog:\n\n{text}\n\nWhat cannot be seen has to be guessed from it. {question}",
)
SYSTEMS = (None, "You answer questions about the text that you are shown. You answer in one short sentence.")
PRIORS = ("text left out", "no prior")


def visible_text(reading: Reading) -> str:
    """What a person could read of a span: the covered part of each message under its role.

    The template's own tokens are left out. A span of such tokens alone has no visible text: "".

    Example:
        >>> from latentqa.dialogs import render, resolve_span
        >>> from latentqa.models import tiny_tokenizer
        >>> rendered = render(tiny_tokenizer(), [{"role": "user", "content": "Where is the harbour?"}])
        >>> visible_text(Reading(rendered, resolve_span(rendered, "stimulus")))
        'User: Where is the harbour?'
    """
    rendered, inside = reading.rendered, set(reading.span.indices)
    parts = []
    for message in rendered.messages:
        covered = [i for i in range(message.content_start, message.content_end) if i in inside]
        if covered:
            begin, end = rendered.offsets[covered[0]][0], rendered.offsets[covered[-1]][1]
            parts.append(f"{message.role.capitalize()}: {rendered.text[begin:end].strip()}")
    return "\n".join(parts)


class TextGiven(Searched):
    """The target prompted with the visible text of the span and the question, as a chat.

    Support is log-probability minus the same with the text left out of the prompt; the search may choose to
    rank by plain log-probability instead.

    Source: the text control of Li et al. (2025) for readers of activations.
    Needs: a target that follows instructions.
    Cannot: use anything that the model computed and the text does not say.
    """

    name = "text-given"

    def __init__(self, context: ReaderContext) -> None:
        self._reads = context.reads
        self._prompted = Prompted(context.target)
        self._tokenizer = context.target.tokenizer
        self._answer_tokens = context.answer_tokens
        self._signals = context.signals
        axes = {"prompt": tuple(range(len(TEMPLATES))), "system": SYSTEMS, "prior": PRIORS}
        super().__init__(axes, context.budget)

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """The target's greedy answers."""
        check_queries(self.name, queries)
        prompts, priors = self._prompts(queries, self._found.settings)
        said = self._prompted.generate(prompts, self._answer_tokens)
        supports = self._prompted.gains(said, priors) if self._signals else [None] * len(said)
        return [
            plain_answer(self.name, query, one.text, logprobs=one.logprobs, support=support)
            for query, one, support in zip(queries, said, supports, strict=True)
        ]

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """Candidates by support."""
        check_queries(self.name, queries, candidates)
        return self._score(queries, candidates, self._found.settings)

    def _score(
        self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], settings: Settings
    ) -> list[list[Score]]:
        prompts, priors = self._prompts(queries, settings)
        answers = [[self._prompted.answer(text) for text in texts] for texts in candidates]
        fits = self._prompted.supports(prompts, priors, answers)
        raw = settings["prior"] == "no prior"
        return [
            rank(
                [
                    Score(text, logprob, logprob if raw else support, len(tokens))
                    for text, tokens, (logprob, support) in zip(texts, group, values, strict=True)
                ]
            )
            for texts, group, values in zip(candidates, answers, fits, strict=True)
        ]

    def _prompts(self, queries: Sequence[Query], settings: Settings) -> tuple[list[Prompt], list[Prompt]]:
        """For each query the prompt with the visible text, and the one without."""
        texts = [visible_text(self._reads.reading(query)) for query in queries]
        with_text = [
            self._prompt(text, query.question, settings) for text, query in zip(texts, queries, strict=True)
        ]
        return with_text, [self._prompt("", query.question, settings) for query in queries]

    def _prompt(self, text: str, question: str, settings: Settings) -> Prompt:
        before, _, after = TEMPLATES[settings["prompt"]].partition("{text}")
        content = before.replace("{question}", question) + text + after.replace("{question}", question)
        dialog = [{"role": "user", "content": content.strip()}]
        if settings["system"] is not None:
            dialog.insert(0, {"role": "system", "content": settings["system"]})
        return Prompt(render(self._tokenizer, dialog).token_ids)
