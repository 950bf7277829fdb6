"""Figures of the LatentQA paper, to stand beside ours: they are another model's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What a paper reports.

    Attributes:
        source: where it is from, with model and conditions.
        groups: of the columns.
        rows: reader → per cent in each group.
        figures: name the groups as figures of our own, which then stand beside them; they have no mean.
        comparable: our figure that is made as theirs are; the first of the run stands in where it is not
            there, and the report says so.
    """

    source: str
    groups: tuple[str, ...]
    rows: Mapping[str, tuple[float, ...]]
    figures: bool = False
    comparable: str = ""

    @property
    def means(self) -> dict[str, float]:
        """Reader → mean over the groups, per cent."""
        return {reader: sum(values) / len(values) for reader, values in self.rows.items()}


PUBLISHED: dict[str, Published] = {
    "relations": Published(
        source="Pan et al. 2024 (LatentQA), Llama-3-8B-Instruct, mean over 15 read layers: another model's "
        "figures",
        groups=(
            "country_currency",
            "food_from_country",
            "athlete_position",
            "athlete_sport",
            "product_company",
            "star_constellation",
        ),
        rows={
            "linear-probe": (17.7, 5.1, 75.9, 53.8, 58.9, 17.5),
            "patchscopes": (24.3, 36.2, 51.0, 28.9, 28.0, 24.6),
            "lit": (86.9, 68.9, 65.2, 90.4, 71.5, 39.2),
        },
        comparable="substring, first half",
    ),
    "debias": Published(
        source="Pan et al. 2024 (LatentQA), Llama-3-8B-Instruct on CrowS-Pairs; contrast is their RepE, "
        "weights "
        "their LIT: another model's figures",
        groups=("difference", "stereotype share"),
        rows={
            "no-control": (4.05, 64.3),
            "prompting": (3.95, 67.9),
            "contrast": (4.38, 61.5),
            "sft": (4.61, 64.5),
            "dpo": (3.82, 61.7),
            "weights": (3.70, 60.9),
        },
        figures=True,
    ),
}
"""By experiment."""
