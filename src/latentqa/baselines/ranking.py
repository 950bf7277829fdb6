"""Scores and answers of readers that have no calibration of their own."""

from __future__ import annotations

from collections.abc import Sequence

from latentqa.baselines.fit import ReaderError
from latentqa.types import Answer, Query, Score


def rank(scores: Sequence[Score]) -> list[Score]:
    """Best support first; equal ones stay in order."""
    return sorted(scores, key=lambda score: -score.support)


def plain_answer(
    reader: str,
    query: Query,
    text: str,
    layers: Sequence[int] = (),
    *,
    logprobs: Sequence[float] = (),
    support: float | None = None,
    n_tokens: int | None = None,
) -> Answer:
    """An answer without percentile, whose verdict is therefore `not sure`.

    Args:
        reader: its name.
        query: what was asked.
        text: the answer.
        layers: read layers.
        logprobs: of the answer's tokens, in nats.
        support: in nats a token.
        n_tokens: tokens of the answer; the number of `logprobs` unless given.
    """
    return Answer(
        text=text.strip(),
        question=query.question,
        token_logprobs=tuple(logprobs),
        support=support,
        percentile=None,
        verdict="not sure",
        read_layers=tuple(layers),
        span=query.span,
        decoder=reader,
        n_tokens=len(logprobs) if n_tokens is None else n_tokens,
    )


def check_queries(
    reader: str, queries: Sequence[Query], candidates: Sequence[Sequence[str]] | None = None
) -> None:
    """Refuse empty questions, and candidates that are empty or not one list for each query.

    Raises:
        ReaderError: one of these.
    """
    for number, query in enumerate(queries):
        if not query.question.strip():
            raise ReaderError(f"Query {number} for {reader} has an empty question. Ask one.")
    if candidates is None:
        return
    if len(candidates) != len(queries):
        raise ReaderError(
            f"{reader} was given {len(queries)} queries and {len(candidates)} lists of candidates. "
            "Give one list a query."
        )
    for number, texts in enumerate(candidates):
        if not texts or not all(text.strip() for text in texts):
            raise ReaderError(
                f"Query {number} for {reader} has no candidate, or an empty one. Give answers to rank."
            )
