"""A JSONL file as a sequence of examples that stay on disk: 16 bytes a row are held in memory."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from latentqa.data.jsonl import bad_rows_message, parse_row, stream_lines, stream_rows
from latentqa.data.schema import Example
from latentqa.data.seen import text_key
from latentqa.data.split import is_held_out
from latentqa.dialogs import span_kind
from latentqa.errors import DataError

if TYPE_CHECKING:
    import numpy as np

SHOWN = 5  # bad rows that an error names


class RowFile(Sequence[Example]):
    """Examples of a JSONL file, read when they are asked for.

    Args:
        path: the file.
        places: `[N]`, where each row begins, in bytes.
        keys: `[N]`, a hash of each row's id.
        change: applied to each example as it is read.
    """

    def __init__(
        self,
        path: Path,
        places: array[int],
        keys: array[int],
        change: Callable[[Example], Example] | None = None,
    ) -> None:
        self.path = path
        self._places = places
        self._keys = keys
        self._change = change

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Read one row.

        Raises:
            DataError: the file was changed since it was indexed.
        """
        place = self._places[number]
        with self.path.open("rb") as stream:
            stream.seek(place)
            row = parse_row(1 if place == 0 else 2, stream.readline())
        if row.example is None or text_key(row.example.id) != self._keys[number]:
            raise DataError(f"{self.path} was changed while it was in use. Start again with files that stay.")
        return row.example if self._change is None else self._change(row.example)

    def drawn(self, share: float, seed: int, epoch: int) -> Iterator[int]:
        """Numbers of the rows that an epoch sees, ascending: each by seed, epoch and its own id alone.

        Args:
            share: probability of a row, from 0 to 1.
            seed: of the run.
            epoch: the draw.
        """
        if share >= 1:
            yield from range(len(self))
            return
        import numpy as np

        mixed = _mix(np.asarray(self._keys) ^ np.uint64(text_key(f"{seed}:{epoch}")))
        yield from np.flatnonzero(mixed < np.uint64(int(share * 2**64))).tolist()


@dataclass(frozen=True)
class RowIndex:
    """Where the rows of a file are.

    Attributes:
        train: rows whose label is not held out.
        held_out: the others.
        spans: kinds of the spans that rows read.
        with_pairs: training rows that have question-answer pairs.
    """

    train: RowFile
    held_out: RowFile
    spans: frozenset[str]
    with_pairs: int


def index_rows(
    path: str | os.PathLike[str],
    *,
    fraction: float = 0.0,
    seed: int = 0,
    change: Callable[[Example], Example] | None = None,
) -> RowIndex:
    """Go through a file once: validate every row, and note where it is and on which side of the split.

    Args:
        path: JSONL of examples.
        fraction: share of labels that are held out.
        seed: of the split.
        change: applied to each example, here and when it is read again.

    Raises:
        DataError: the file cannot be opened, has bad rows, or an id twice.
    """
    path = Path(path)
    sides = ([array("Q"), array("Q")], [array("Q"), array("Q")])
    spans: set[str] = set()
    bad: list[str] = []
    n_bad = with_pairs = 0
    for number, place, line in stream_lines(path):
        row = parse_row(number, line)
        if row.example is None:
            n_bad += 1
            bad += [f"row {number}: {row.reason}"] * (n_bad <= SHOWN)
            continue
        example = row.example if change is None else change(row.example)
        held = is_held_out(example.label, fraction, seed)
        spans.add(span_kind(example.read))
        with_pairs += bool(example.qa) and not held
        sides[held][0].append(place)
        sides[held][1].append(text_key(row.example.id))
    if bad:
        raise DataError(bad_rows_message(path, bad, n_bad))
    train, held_out = (RowFile(path, places, keys, change) for places, keys in sides)
    _refuse_twins(path, sides[0][1], sides[1][1])
    return RowIndex(train, held_out, frozenset(spans), with_pairs)


def _refuse_twins(path: Path, *sides: array[int]) -> None:
    import numpy as np

    keys = np.sort(np.concatenate([np.asarray(side) for side in sides]))
    if (keys[1:] == keys[:-1]).any():
        bad = [f"row {row.number}: {row.reason}" for row in stream_rows(path) if row.example is None]
        raise DataError(bad_rows_message(path, bad))


def _mix(values: np.ndarray) -> np.ndarray:
    """Scatter 64-bit numbers (the finaliser of splitmix64, Steele et al. 2014)."""
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
