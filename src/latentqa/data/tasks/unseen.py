"""What of the relation benchmark must stay unseen: its six relations, and every pair of theirs."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from latentqa.data.tasks.tables import Table, read_tables
from latentqa.errors import DataError

FOLDER = "relations"
TEST_RELATIONS: tuple[str, ...] = (
    "country_currency",
    "food_from_country",
    "person_plays_position_in_sport",
    "person_plays_pro_sport",
    "product_by_company",
    "star_constellation",
)
"""The relations that the benchmark tests, by the names of its files."""
ALIASES = ("food_country", "athlete_position", "athlete_sport", "product_company")


@dataclass(frozen=True)
class Unseen:
    """Pairs and relations that no training example may hold.

    Attributes:
        pairs: subject and object, either way round, in lower case.
        known: whether the benchmark's files were there to read the pairs from.
    """

    pairs: frozenset[tuple[str, str]]
    known: bool

    def why(self, table: Table, subject: str, found: str) -> str | None:
        """Why a pair is left out; None if it may be trained on."""
        if table.name.casefold() in (*TEST_RELATIONS, *ALIASES):
            return "a row of a relation that the benchmark tests"
        if (subject.casefold(), found.casefold()) in self.pairs:
            return "a pair that the benchmark tests"
        return None


def benchmark_unseen(root: str | os.PathLike[str] | None) -> Unseen:
    """Reads the pairs of the six relations below a data root; without a root, names alone are kept unseen.

    Raises:
        DataError: the root has no relations, or one of the six is missing.
    """
    if root is None:
        return Unseen(frozenset(), False)
    folder = Path(root) / FOLDER
    paths = {name: sorted(folder.rglob(f"{name}.tsv")) for name in TEST_RELATIONS}
    missing = [name for name, found in paths.items() if not found]
    if missing:
        raise DataError(
            f"{folder} lacks {missing[0]}.tsv, a relation that the benchmark tests: its pairs cannot be kept "
            "out of training. Fetch the whole folder."
        )
    pairs: set[tuple[str, str]] = set()
    for table in read_tables(str(found[0]) for found in paths.values()):
        for row in table.read(Counter()):
            one, other = row.subject.casefold(), row.object.casefold()
            pairs |= {(one, other), (other, one)}
    return Unseen(frozenset(pairs), True)
