"""How well an answer fits one control or another, for the check that rejects generic answers of made data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentqa.benchmarks.embedding import load_embedding
from latentqa.types import Query

if TYPE_CHECKING:
    from latentqa.data.generate import Fits
    from latentqa.reader import Reader

QUESTION = "Who is the assistant told to be, or what is it told to do?"


def by_embedding(corpus: Sequence[str]) -> Fits:
    """Cosine of answer and control: of MiniLM where it is installed, else of TF-IDF on the corpus.

    Args:
        corpus: controls, whose words TF-IDF is fitted on.
    """
    embed = load_embedding(corpus).embed

    def fits(answers: Sequence[str], controls: Sequence[Sequence[str]]) -> list[list[float]]:
        return [
            [float(one) for one in embed(list(texts)) @ embed([answer])[0]]
            for answer, texts in zip(answers, controls, strict=True)
        ]

    return fits


def by_text_given(reader: Reader | None = None) -> Fits:
    """Support of an answer by the target that reads the control's text.

    Args:
        reader: the baseline `text-given`; None makes it on the builtin model.
    """
    if reader is None:
        from latentqa.baselines.registry import ReaderContext
        from latentqa.baselines.text import TextGiven
        from latentqa.decoder import load_target

        reader = TextGiven(ReaderContext(load_target("builtin")))
    found: Reader = reader

    def fits(answers: Sequence[str], controls: Sequence[Sequence[str]]) -> list[list[float]]:
        return [
            [_support(found, answer, text) for text in texts]
            for answer, texts in zip(answers, controls, strict=True)
        ]

    return fits


def _support(reader: Reader, answer: str, control: str) -> float:
    query = Query([{"role": "user", "content": control}], "stimulus", QUESTION)
    return reader.score([query], [[answer]])[0][0].support
