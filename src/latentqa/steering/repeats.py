"""How much a text repeats itself."""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"\w+|[^\w\s]")
N = 4


def repetition(texts: Sequence[str], n: int = N) -> float:
    """Mean share (0–1) of a text's n-grams of words and marks that stood earlier in the same text.

    Texts shorter than `n` count as 0. About 0 in ordinary prose of a few sentences, near 1 in a loop.

    Example:
        >>> repetition(["the cat sat on the mat", "no no no no no no no no"])
        0.4

    Source: seq-rep-n of Welleck et al. 2020 (neural text degeneration with unlikelihood training).
    """
    return sum(_share(text, n) for text in texts) / len(texts) if texts else 0.0


def _share(text: str, n: int) -> float:
    words = WORD.findall(text.lower())
    grams = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
