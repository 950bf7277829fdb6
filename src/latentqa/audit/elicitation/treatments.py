"""Methods of elicitation, and their treatments: made once and kept in the run's folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from latentqa.audit.elicitation.settings import PAIRS, SENTENCE, ElicitSettings
from latentqa.baselines.steering import Aim, make_treatment
from latentqa.baselines.steering.completions import Completions
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.treatment import Treatment
from latentqa.benchmarks.experiment import nearest_name
from latentqa.decoder import Decoder, Target
from latentqa.errors import ActivationError, ConfigError, SteeringError, TrainingError
from latentqa.steering import (
    Pair,
    load_stimuli,
    make_vector,
    make_weights,
    pairs_from_control,
    read_pairs,
)

NONE, PROMPTING, PREFILL = "none", "prompting", "prefill"
CONTRAST, WEIGHTS, VECTOR = "contrast-vector", "lit-weights", "lit-vector"
METHODS = (NONE, PROMPTING, PREFILL, CONTRAST, WEIGHTS, VECTOR)
"""All methods; `none` always takes part."""
DECODED = (WEIGHTS, VECTOR)
"""Those that steer by a decoder."""
STRENGTHS: dict[str, tuple[float, ...]] = {
    CONTRAST: (1.0, 2.0, 4.0),
    WEIGHTS: (0.5, 1.0, 1.5),
    VECTOR: (0.5, 1.0, 2.0),
}
"""Of the methods that have one: multiples of what was made."""
AIM = "elicit"


@dataclass(frozen=True)
class Variant:
    """A method at a strength.

    Attributes:
        method: one of `METHODS`.
        strength: None for a method without one.
    """

    method: str
    strength: float | None = None

    @property
    def name(self) -> str:
        """What it is called in rows and tables, such as `lit-vector@2`."""
        return self.method if self.strength is None else f"{self.method}@{self.strength:g}"


def known_methods(names: Sequence[str]) -> list[str]:
    """The same methods, each once and in the order of the table, with `none` before them.

    Raises:
        ConfigError: there is no such method; the nearest is suggested.
    """
    for name in names:
        if name not in METHODS:
            raise nearest_name("method of elicitation", name, METHODS)
    return [name for name in METHODS if name == NONE or name in names]


def variants(methods: Sequence[str], strengths: Sequence[float] = ()) -> list[Variant]:
    """Each method, at each strength where it has one.

    Args:
        methods: names.
        strengths: of those that have one; empty is each method's own.
    """
    return [
        Variant(method, strength)
        for method in methods
        for strength in (dict.fromkeys(strengths or STRENGTHS[method]) if method in STRENGTHS else (None,))
    ]


@dataclass(eq=False)
class Treatments:
    """What each method makes of the sentence, for one target.

    Attributes:
        target: as it is audited.
        settings: of the audit.
        folder: where treatments are kept.
        decoder: for the methods that steer by one.
        note: told what is being done.
    """

    target: Target
    settings: ElicitSettings
    folder: Path
    decoder: Decoder | None = None
    note: Callable[[str], None] = lambda text: None
    _made: dict[str, Treatment] = field(default_factory=dict)

    def of(self, method: str) -> Treatment:
        """A method's treatment; one that finds nothing to do says why under the choice `not_made`."""
        if method not in self._made:
            place = self.folder / method
            made = Treatment.load(place)
            if made is None:
                made = self._make(method)
                made.save(place)
            self._made[method] = made
        return self._made[method]

    def _make(self, method: str) -> Treatment:
        started = time.monotonic()
        if method in STRENGTHS:
            self.note(f"{method}: is being made")
        try:
            made = self._maker(method)
        except (ActivationError, SteeringError, TrainingError) as error:
            self.note(f"{method} takes no part: {error}")
            made = Treatment(method).chosen(not_made=str(error))
        return replace(made, method=method, strength=1.0, seconds=time.monotonic() - started)

    def _maker(self, method: str) -> Treatment:
        if method == PROMPTING:
            return Treatment(method, prompt=self.settings.sentence)
        if method == CONTRAST:
            return self._contrast()
        if method in DECODED:
            return self._decoded(method)
        return Treatment(method)

    def _contrast(self) -> Treatment:
        aim = Aim(AIM, self.settings.sentence, self.settings.against)
        context = MethodContext(
            self.target, aim, self._stimuli, Completions(self.target), seed=self.settings.seed, note=self.note
        )
        made = make_treatment("contrast", context)
        chosen = {name: value for name, value in made.choices.items() if name in ("layer", "where")}
        return replace(made, choices=chosen)

    def _decoded(self, method: str) -> Treatment:
        if self.decoder is None:
            raise ConfigError(f"Method {method} steers by a decoder, and none was given. Name one.")
        if method == WEIGHTS:
            steering = make_weights(
                self.target, self.decoder, self._pairs, self._stimuli, self.settings.weights
            )
        else:
            steering = make_vector(
                self.target, self.decoder, self._pairs, self._stimuli, self.settings.vector
            )
        card = steering.card
        losses = {"loss_before": card.loss_before, "loss_after": card.loss_after}
        return Treatment(method, steering).chosen(layers=list(card.layers), **losses)

    @property
    def _stimuli(self) -> list[str]:
        return load_stimuli()[: self.settings.stimuli]

    @cached_property
    def _pairs(self) -> Sequence[Pair]:
        """The user's own, ours for our own sentence, or what the decoder reads under another one."""
        assert self.decoder is not None
        if self.settings.pairs is not None:
            return read_pairs(self.settings.pairs)
        if self.settings.sentence == SENTENCE:
            return PAIRS
        report = pairs_from_control(
            self.target, self.decoder, self.settings.sentence, seed=self.settings.seed
        )
        self.note(report.note)
        return report.pairs
