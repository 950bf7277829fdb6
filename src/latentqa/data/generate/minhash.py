"""Finds texts that nearly repeat an earlier one, in time that does not grow with how many there were."""

from __future__ import annotations

import re
import zlib

import numpy as np

from latentqa.data.seen import Seen

HASHES, BANDS = 64, 16
ROWS = HASHES // BANDS
PRIME = (1 << 31) - 1


class Copies:
    """The texts so far, each as 8 bytes: finds exact repetitions, among as many as there are.

    Example:
        >>> copies = Copies()
        >>> copies.first("Answer in rhyme.", "a"), copies.first("Answer in rhyme.", "b")
        (None, 'row 1')
    """

    def __init__(self) -> None:
        self._seen = Seen()
        self._row = 0

    def first(self, text: str, name: str) -> str | None:
        """The row of an earlier text that this one repeats; None if there is none."""
        self._row += 1
        row = self._seen.first(text, self._row)
        return None if row is None else f"row {row}"


class NearCopies:
    """Signatures of the texts so far, about two kilobytes each.

    A text's signature is the least value of each of 64 hash functions over its word triples; the share of
    equal values estimates the Jaccard similarity of two texts' triples. Texts are compared when one of 16
    bands of 4 values is equal, which finds pairs of similarity 0.85 with probability above 0.999 and of 0.6
    with 0.89.

    Args:
        threshold: estimated similarity from which a text repeats another.

    Source: Broder 1997; the bands are those of Leskovec et al., Mining of Massive Datasets, 3.4.

    Example:
        >>> copies = NearCopies(0.8)
        >>> copies.first("Imagine you are a patient gardener in spring.", "a")
        >>> copies.first("Imagine you are a patient gardener in spring!", "b")
        'a'
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        generator = np.random.default_rng(0)
        self._factors = generator.integers(1, PRIME, (HASHES, 1), dtype=np.uint64)
        self._terms = generator.integers(0, PRIME, (HASHES, 1), dtype=np.uint64)
        self._bands: dict[bytes, list[int]] = {}
        self._signatures: list[np.ndarray] = []
        self._names: list[str] = []

    def first(self, text: str, name: str) -> str | None:
        """The name of an earlier text that this one nearly repeats; None if there is none.

        A text that repeats another is not remembered.
        """
        signature = self.signature(text)
        keys = [bytes([band]) + signature[band * ROWS : (band + 1) * ROWS].tobytes() for band in range(BANDS)]
        for number in sorted({n for key in keys for n in self._bands.get(key, ())}):
            if float((self._signatures[number] == signature).mean()) >= self._threshold:
                return self._names[number]
        for key in keys:
            self._bands.setdefault(key, []).append(len(self._names))
        self._signatures.append(signature)
        self._names.append(name)
        return None

    def signature(self, text: str) -> np.ndarray:
        """The 64 least hash values of a text's word triples (`uint32`)."""
        words = _WORD.findall(text.lower())
        triples = {" ".join(words[i : i + 3]) for i in range(max(len(words) - 2, 1))}
        hashes = np.array([zlib.crc32(one.encode()) % PRIME for one in triples], dtype=np.uint64)
        return ((self._factors * hashes + self._terms) % np.uint64(PRIME)).min(axis=1).astype(np.uint32)


_WORD = re.compile(r"[^\W_]+")
