"""The base model, shown the text that is read: what can be known without looking inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from latentqa.audit.battery import Question
from latentqa.audit.material import Material, dialog_key
from latentqa.audit.methods.method import Peers, Rows, by_dialog
from latentqa.audit.organisms import MultipleChoice
from latentqa.baselines import ReaderContext
from latentqa.baselines.text import TextGiven
from latentqa.types import Dialog, Query


class TextAlone:
    """The base, shown the text that is read: what can be known without looking inside.

    Args:
        peers: with the base.
    """

    name = "text-given"
    doc = "The base model is shown the text of what is read, and asked the same questions."

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def rows(self, material: Material, choice: MultipleChoice, dialogs: Sequence[Dialog]) -> Rows:
        """Support of each hypothesis given the text."""
        places = material.places(dialogs)
        options = [choice.said(option) for option in choice.options]
        queries = [Query(place.dialog, place.span, choice.question) for place in places]
        key = ("text", *map(_query_key, queries), *options)

        def compute() -> object:
            found = self._reader(material).score(queries, [options] * len(queries))
            by_text = [{score.answer: score.support for score in scores} for scores in found]
            return [[one[option] for option in options] for one in by_text]

        values: list[list[float] | None] = material.remembered(key, compute)  # pyright: ignore
        return by_dialog(places, values)

    def says(self, material: Material, dialogs: Sequence[Dialog], questions: Sequence[Question]) -> list[str]:
        """Its answers, the commonest first."""
        queries = [
            Query(place.dialog, place.span, question.ask)
            for place in material.places(dialogs)
            for question in questions
        ]
        key = ("text says", material.answer_tokens, *map(_query_key, queries))
        texts: list[str] = material.remembered(  # pyright: ignore[reportAssignmentType]
            key, lambda: [answer.text for answer in self._reader(material).ask(queries)]
        )
        return [text for text, _ in Counter(texts).most_common() if text]

    def _reader(self, material: Material) -> TextGiven:
        return TextGiven(ReaderContext(self._peers.base, answer_tokens=material.answer_tokens))


def _query_key(query: Query) -> tuple[str, str, str]:
    return dialog_key(query.dialog), query.span, query.question
