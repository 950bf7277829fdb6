"""Values that several rows have together: distinct n-grams of the samples on one opening, and shifts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from latentqa.benchmarks.runner import Row

NO_CONTROL = "no-control"


def with_diversity(rows: Sequence[Row]) -> list[Row]:
    """Rows with `distinct_1` to `distinct_3` of all samples of one method on one opening, and `shift`.

    `shift` is the sentiment in the asked direction minus that of the row without any control.

    Source: distinct n-grams are those of Li et al. 2016, over the samples on one prompt as in DExperts (Liu
    et al. 2021).
    """
    samples: dict[tuple[str, str, str], list[str]] = {}
    plain: dict[str, float] = {}
    for row in rows:
        if row.answer is not None:
            samples.setdefault((row.reader, row.group, row.unit), []).append(row.answer)
        if row.reader == NO_CONTROL and "toward" in row.values:
            plain[row.item] = row.values["toward"]
    shares = {key: distinct(texts) for key, texts in samples.items()}
    made = []
    for row in rows:
        values = dict(row.values)
        if row.answer is not None:
            values |= shares[row.reader, row.group, row.unit]
        if "toward" in values and row.item in plain:
            values["shift"] = values["toward"] - plain[row.item]
        made.append(replace(row, values=values))
    return made


def distinct(texts: Sequence[str]) -> dict[str, float]:
    """Share of different n-grams of words among all, for n from 1 to 3; left out where there is none.

    Example:
        >>> distinct(["a b a b"])
        {'distinct_1': 0.5, 'distinct_2': 0.6666666666666666, 'distinct_3': 1.0}
    """
    found = {}
    for n in (1, 2, 3):
        grams = [gram for text in texts for gram in ngrams(text.lower().split(), n)]
        if grams:
            found[f"distinct_{n}"] = len(set(grams)) / len(grams)
    return found


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words."""
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
