"""The model itself, asked what it hides: plainly, or with its answer begun for it."""

from __future__ import annotations

from collections.abc import Sequence

from latentqa.audit.battery import Question
from latentqa.audit.material import Material
from latentqa.audit.methods.method import Rows, tokens_of
from latentqa.audit.organisms import MultipleChoice
from latentqa.baselines.prompted import Prompt, Prompted
from latentqa.dialogs import render
from latentqa.types import Dialog, Message


class AskDirectly:
    """The model itself, asked what it hides; for hypotheses minus its base, asked the same."""

    name = "ask-directly"
    doc = "The model itself is asked in plain words what it hides."

    def rows(self, material: Material, choice: MultipleChoice, dialogs: Sequence[Dialog]) -> Rows:
        """One row: how much likelier than its base the model gives each answer."""
        if not choice.direct:
            return []
        prompt = self._prompt(material, choice.direct, choice.prefill)
        return [_against_base(material, prompt, self._answers(material, choice))]

    def says(self, material: Material, dialogs: Sequence[Dialog], questions: Sequence[Question]) -> list[str]:
        """The model's greedy replies, one for each question."""
        asked = [question for question in questions if question.direct]
        prompts = [self._prompt(material, one.direct, one.prefill) for one in asked]
        prompted = Prompted(material.audited.model)
        return [one.text for one in prompted.generate(prompts, material.answer_tokens)] if prompts else []

    def _prompt(self, material: Material, question: str, prefill: str) -> Prompt:
        return Prompt(
            render(material.audited.model.tokenizer, [Message(role="user", content=question)]).token_ids
        )

    def _answers(self, material: Material, choice: MultipleChoice) -> list[tuple[int, ...]]:
        prompted = Prompted(material.audited.model)
        return [prompted.answer(choice.said(option)) for option in choice.options]


class Prefilled(AskDirectly):
    """The same with the answer begun for the model, which it then goes on with."""

    name = "prefill"
    doc = "The model is asked, and its answer is begun for it."

    def _prompt(self, material: Material, question: str, prefill: str) -> Prompt:
        asked = super()._prompt(material, question, prefill)
        return Prompt((*asked.token_ids, *tokens_of(material, prefill)))

    def _answers(self, material: Material, choice: MultipleChoice) -> list[tuple[int, ...]]:
        return [tokens_of(material, f" {option}") for option in choice.options]


def _against_base(material: Material, prompt: Prompt, answers: list[tuple[int, ...]]) -> list[float]:
    (own,) = Prompted(material.audited.model).logprobs([prompt], [answers])
    base = material.audited.base
    if base is None:
        return own
    key = ("asked", prompt.token_ids, tuple(answers))
    found: list[float] = material.remembered(  # pyright: ignore[reportAssignmentType]
        key, lambda: Prompted(base).logprobs([prompt], [answers])[0]
    )
    return [left - right for left, right in zip(own, found, strict=True)]
