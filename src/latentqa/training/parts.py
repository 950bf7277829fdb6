"""The parts of a training mix, and all their examples as one sequence that need not be in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from latentqa.data import Example, RowFile
from latentqa.training.config import DataSource

EPOCH = 100_000  # entries; of a larger mix an epoch is a sample, in the same proportions


@dataclass(frozen=True)
class Part:
    """Training examples of one source.

    Attributes:
        source: its settings.
        examples: a list, or the rows of a file that stay on disk.
        spans: kinds of the spans that the examples name themselves.
        ordinary: whether these are ordinary dialogs, which go into the groups of others.
    """

    source: DataSource
    examples: Sequence[Example]
    spans: frozenset[str] = frozenset()
    ordinary: bool = False

    @property
    def size(self) -> float:
        """Entries that an epoch holds of it if no epoch is too long."""
        return len(self.examples) * self.source.weight

    def drawn(self, scale: float, seed: int, epoch: int) -> Iterator[tuple[int, float]]:
        """Rows that an epoch may see, and how often each is seen on average.

        Args:
            scale: factor on the weight.
            seed: of the run.
            epoch: which; a row of a file is drawn by seed, epoch and its own id alone.
        """
        weight = self.source.weight * scale
        if weight < 1 and isinstance(self.examples, RowFile):
            yield from ((row, 1.0) for row in self.examples.drawn(weight, seed, epoch))
        else:
            yield from ((row, weight) for row in range(len(self.examples)))


class Examples(Sequence[Example]):
    """The examples of all parts, one part after the other.

    Args:
        parts: of the mix.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self.starts = [0, *accumulate(len(part.examples) for part in self.parts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, number: int) -> Example:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not 0 <= number < len(self):
            raise IndexError(number)
        part = self.part_of(number)
        return self.parts[part].examples[number - self.starts[part]]

    def part_of(self, number: int) -> int:
        """Which part an example is in."""
        return bisect_right(self.starts, number) - 1


def epoch_scale(parts: Sequence[Part]) -> float:
    """Factor on all weights that keeps an epoch to about `EPOCH` entries: 1 unless the mix is larger."""
    size = sum(part.size for part in parts if not part.ordinary)
    return min(1.0, EPOCH / size) if size else 1.0


def some(examples: Sequence[Example], count: int) -> list[Example]:
    """At most `count` of the examples, evenly spaced; all if there are no more."""
    count = min(count, len(examples))
    return [examples[number * len(examples) // count] for number in range(count)]
