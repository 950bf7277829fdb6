"""From names of methods to contenders: at the chosen strength, at others, and beside a flattened twin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentqa.baselines.steering import METHODS, Aim, make_treatment
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.lora import LoraSettings
from latentqa.baselines.steering.treatment import Treatment
from latentqa.benchmarks.runner import Contender
from latentqa.benchmarks.steering.experiment import SteeringExperiment
from latentqa.benchmarks.steering.measures import Measure
from latentqa.benchmarks.steering.steered import SteeredTarget
from latentqa.benchmarks.steering.unsteered import Unsteered, window_nll
from latentqa.decoder import Decoder, Target
from latentqa.errors import SteeringError, TrainingError

FLAT = "flat-"
NO_CONTROL = "no-control"


@dataclass(eq=False)
class Treatments:
    """All treatments of a run: made once, kept in the run's folder, and found there by a run that goes on.

    Attributes:
        target: unsteered.
        experiment: with its aims and how treatments are judged.
        unsteered: what is measured of the target itself.
        folder: of the run.
        stimuli: user turns that methods learn on.
        decoder: for the methods that steer by one.
        seed: of everything random.
        budget: most settings that a method may try.
        note: told what is being done.
    """

    target: Target
    experiment: SteeringExperiment
    unsteered: Unsteered
    folder: Path
    stimuli: Sequence[str]
    decoder: Decoder | None = None
    seed: int = 0
    budget: int = 12
    note: Callable[[str], None] = lambda text: None
    _contexts: dict[str, MethodContext] = field(default_factory=dict)
    _last: dict[str, tuple[str, Treatment]] = field(default_factory=dict)

    def of(self, method: str, aim: str) -> Treatment:
        """A method's treatment of an aim; only the last one of each method stays in memory."""
        if method in self._last and self._last[method][0] == aim:
            return self._last[method][1]
        place = self.folder / "treatments" / method / aim
        made = Treatment.load(place)
        if made is None:
            made = self._make(method, aim)
            made.save(place)
            self.note(f"{method}, {aim}: made in {made.seconds:.0f} s")
        self._last[method] = aim, made
        return made

    def flattened(self, method: str, aim: str) -> Treatment:
        """The unsteered target at the temperature that gives a method's perplexity on the tested windows."""
        name = FLAT + method
        place = self.folder / "treatments" / name / aim
        made = Treatment.load(place)
        if made is None:
            windows = [
                item.meta["tokens"]
                for item in self.experiment.experiment.items
                if item.meta["measure"] == "window" and item.meta["aim"] == aim
            ]
            with self.of(method, aim).on(self.target) as treated:
                values = window_nll(treated, windows)
            temperature = self.unsteered.temperature_of(sum(values) / len(values), windows)
            made = Treatment(name, temperature=temperature).chosen(temperature=round(temperature, 4))
            made.save(place)
        return made

    def _make(self, method: str, aim: str) -> Treatment:
        """A method that finds nothing to do for an aim leaves the target as it is, and the table says why."""
        try:
            return make_treatment(method, self._context(aim))
        except (SteeringError, TrainingError) as error:
            self.note(f"{method}, {aim}: {error} The target stays as it is.")
            return Treatment(method).chosen(not_made=str(error))

    def _context(self, aim: str) -> MethodContext:
        if aim not in self._contexts:
            wanted = self.experiment.aims[aim]
            layers = None if self.decoder is None else range(max(self.decoder.read_layers) + 1)
            self._contexts[aim] = MethodContext(
                self.target,
                wanted,
                self.stimuli,
                self.unsteered.completions,
                judge=self.experiment.judge(self.unsteered, wanted),
                decoder=self.decoder,
                lora=LoraSettings.like_weights(None if layers is None else tuple(layers)),
                seed=self.seed,
                budget=self.budget,
                others=lambda method: self.of(method, aim),
                note=self.note,
            )
        return self._contexts[aim]


def line_up_methods(
    names: Sequence[str],
    treatments: Treatments,
    measures: Mapping[str, Measure],
    *,
    strengths: Sequence[float] = (),
    flattened: bool = False,
) -> list[Contender]:
    """Contenders of a steering experiment.

    A method is tested against no control and its flattened twin, those that steer by a decoder also against
    every baseline; a method at another strength is not tested.

    Args:
        names: of methods, each in `METHODS`.
        treatments: of the run.
        measures: what is done with a treated target.
        strengths: further strengths, as multiples of the chosen one; a contender `NAME@0.5` for each.
        flattened: whether each method has a twin `flat-NAME`.
    """
    aims = tuple(dict.fromkeys(str(item.meta["aim"]) for item in treatments.experiment.experiment.items))
    target = treatments.target
    contenders: list[Contender] = []

    def add(name: str, treatment: Callable[[str], Treatment], factor: float, against: Sequence[str]) -> None:
        contenders.append(
            Contender(
                name,
                lambda: SteeredTarget(target, treatment, aims, measures, factor),
                tested=factor == 1.0,
                against=tuple(against),
            )
        )

    baselines = [name for name in names if not METHODS[name].needs_decoder]
    for name in dict.fromkeys(names):
        spec = METHODS[name]
        against = [NO_CONTROL, FLAT + name]
        if spec.needs_decoder:
            against += [other for other in baselines if other != NO_CONTROL]
        add(name, lambda aim, name=name: treatments.of(name, aim), 1.0, against)
        if spec.has_strength:
            for factor in strengths:
                add(f"{name}@{factor:g}", lambda aim, name=name: treatments.of(name, aim), factor, ())
        if flattened and name != NO_CONTROL:
            add(FLAT + name, lambda aim, name=name: treatments.flattened(name, aim), 1.0, ())
    return contenders


def used_aims(experiment: SteeringExperiment) -> dict[str, Aim]:
    """The aims that some item has."""
    names = {str(item.meta["aim"]) for item in experiment.experiment.items}
    return {name: aim for name, aim in experiment.aims.items() if name in names}
