"""A method as a contender of the runner: the target under its treatments, item by item."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latentqa.baselines.steering.treatment import Treatment
from latentqa.benchmarks.experiment import Item
from latentqa.benchmarks.runner import Response
from latentqa.benchmarks.steering.measures import Measure
from latentqa.decoder import Target


@dataclass(frozen=True)
class _Part:
    """Items of one aim and one measure, with their places in the batch."""

    aim: str
    measure: str
    places: tuple[int, ...]


class SteeredTarget:
    """Responds to items as the target does under a method's treatment of each item's aim.

    The treatment is on while the target runs, and off while what it made is compared or shown to readers.

    Args:
        target: unsteered.
        treatment: makes or hands over the treatment of an aim.
        aims: that will be asked for; all are made at once, so that an interruption costs one at most.
        measures: what is done with a treated target.
        factor: of the chosen strength.
    """

    def __init__(
        self,
        target: Target,
        treatment: Callable[[str], Treatment],
        aims: Sequence[str],
        measures: Mapping[str, Measure],
        factor: float = 1.0,
    ) -> None:
        self._target = target
        self._treatment = treatment
        self._measures = measures
        self._factor = factor
        seconds, choices = 0.0, {}
        for aim in aims:
            made = treatment(aim)
            seconds += made.seconds
            if made.choices:
                choices[aim] = dict(made.choices)
        self.fit_seconds = seconds if factor == 1.0 else 0.0
        self.choices: Mapping[str, object] = choices if len(aims) > 1 else choices.get(aims[0], {})

    def respond(self, items: Sequence[Item], /) -> list[Response]:
        """One response per item, in order."""
        responses: list[Response] = [Response({})] * len(items)
        for aim in dict.fromkeys(str(item.meta["aim"]) for item in items):
            parts = [part for part in _parts(items) if part.aim == aim]
            for part in parts:
                self._measures[part.measure].prepare([items[place] for place in part.places])
            found: list[list[Any]] = []
            with self._treatment(aim).on(self._target, self._factor) as treated:
                for part in parts:
                    chosen = [items[place] for place in part.places]
                    found.append(self._measures[part.measure].inside(treated, chosen))
            for part, seen in zip(parts, found, strict=True):
                chosen = [items[place] for place in part.places]
                made = self._measures[part.measure].outside(chosen, seen)
                for place, response in zip(part.places, made, strict=True):
                    responses[place] = response
        return responses


def _parts(items: Sequence[Item]) -> list[_Part]:
    places: dict[tuple[str, str], list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault((str(item.meta["aim"]), str(item.meta["measure"])), []).append(place)
    return [_Part(aim, measure, tuple(found)) for (aim, measure), found in places.items()]
