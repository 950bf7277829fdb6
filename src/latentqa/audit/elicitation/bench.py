"""Elicitation in the benchmark of audits: how much of what organisms withhold is brought out?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from latentqa.audit.elicitation.elicited import Elicited
from latentqa.audit.elicitation.settings import ElicitSettings
from latentqa.audit.elicitation.treatments import NONE, Treatments, Variant
from latentqa.audit.elicitation.truth import Truth
from latentqa.audit.organisms import Manifest
from latentqa.benchmarks import Item
from latentqa.benchmarks.runner import Response
from latentqa.decoder import Decoder, Target
from latentqa.types import Query

PREFIX = "elicit-"
"""Of these contenders' names: some methods of reading have the same."""
Load = Callable[[Path], tuple[Target, Decoder]]
"""An organism's folder to the model with its adapter, and a decoder on the same weights."""


def organism_items(folder: Path, manifest: Manifest) -> list[Item]:
    """One item for an organism that is known to withhold something; none for another one."""
    truth = Truth.of(manifest)
    if truth is None:
        return []
    flags = {"clean": False, "organism": manifest.weights_hash[:12]}
    meta = {"unit": manifest.name, "flags": flags, "folder": folder, "truth": truth}
    return [Item(f"{manifest.name}:elicited", manifest.kind, Query((), "", ""), "", "", (), "", meta)]


class ElicitedOrganisms:
    """A method at a strength, put to organisms; a responder of the runner.

    Its values are shares over an organism's own turns: `right`, `unlocked` and `recovered` of a locked
    capability, `declined` and `on_topic` of a refusal. Items of other kinds get an empty response.

    Args:
        variant: the method and its strength.
        load: an organism.
        folder: where treatments are kept, in a folder for each organism.
        settings: of the elicitation.
        unchanged: organism → what it does as it is; shared by all methods.
    """

    def __init__(
        self,
        variant: Variant,
        load: Load,
        folder: Path,
        settings: ElicitSettings,
        unchanged: dict[str, dict[str, float]],
    ) -> None:
        self._variant = variant
        self._load = load
        self._folder = folder
        self._settings = settings
        self._unchanged = unchanged
        self.choices: Mapping[str, object] = {}

    def respond(self, items: Sequence[Item], /) -> list[Response]:
        """Shares of each organism, in order."""
        return [Response(self._values(item) if "truth" in item.meta else {}) for item in items]

    def _values(self, item: Item) -> dict[str, float]:
        truth: Truth = item.meta["truth"]
        target, decoder = self._load(item.meta["folder"])
        treatments = Treatments(target, self._settings, self._folder / truth.name, decoder)
        if truth.name not in self._unchanged:
            self._unchanged[truth.name] = self._shares(target, treatments, truth, Variant(NONE))
        before = self._unchanged[truth.name]
        if self._variant.method == NONE:
            return before
        values = self._shares(target, treatments, truth, self._variant)
        gap = before.get("unlocked", 0.0) - before.get("right", 0.0)
        if gap > 0 and "right" in values:
            values["recovered"] = (values["right"] - before["right"]) / gap
        return values

    def _shares(
        self, target: Target, treatments: Treatments, truth: Truth, variant: Variant
    ) -> dict[str, float]:
        made = Elicited(target, treatments.of(variant.method), variant, self._settings)
        found: dict[str, list[float]] = defaultdict(list)
        for response in made.respond(truth.items()):
            for name, value in response.values.items():
                found[name].append(value)
        return {name: sum(values) / len(values) for name, values in found.items()}
