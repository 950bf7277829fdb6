"""Which texts came before: an open-addressing table of 64-bit hashes, for files that do not fit in memory."""

from __future__ import annotations

from array import array
from hashlib import blake2b

SMALLEST = 1024
FULLEST = 0.6  # share of the places that are taken before the table grows


def text_key(text: str) -> int:
    """A text as a number from 1 to 2⁶⁴ - 1; two of ten million texts share one with probability 3e-6."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") or 1


class Seen:
    """Texts that came before and the row of each: 27 to 53 bytes a text, however long it is."""

    def __init__(self) -> None:
        self._keys = array("Q", bytes(8 * SMALLEST))
        self._rows = array("Q", bytes(8 * SMALLEST))
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def first(self, text: str, row: int = 0) -> int | None:
        """The row at which a text was first met; None if that is now."""
        key = text_key(text)
        place = self._place(key)
        if self._keys[place]:
            return self._rows[place]
        self._keys[place], self._rows[place] = key, row
        self._count += 1
        if self._count > FULLEST * len(self._keys):
            self._grow()
        return None

    def _place(self, key: int) -> int:
        """Where the key is, or would go."""
        keys, mask = self._keys, len(self._keys) - 1
        place = key & mask
        while keys[place] and keys[place] != key:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        keys, rows = self._keys, self._rows
        self._keys = array("Q", bytes(16 * len(keys)))
        self._rows = array("Q", bytes(16 * len(keys)))
        for key, row in zip(keys, rows, strict=True):
            if key:
                place = self._place(key)
                self._keys[place], self._rows[place] = key, row
