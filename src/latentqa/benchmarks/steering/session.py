"""One steering experiment from its models to its rows: what `latentqa bench run` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentqa.baselines.steering.completions import Completions
from latentqa.benchmarks.runner import Run, Subject, run
from latentqa.benchmarks.steering.experiment import SteeringExperiment, SteeringSettings, SteeringTools
from latentqa.benchmarks.steering.lineup import Treatments, line_up_methods
from latentqa.benchmarks.steering.measures import Measure, measures
from latentqa.benchmarks.steering.unsteered import Unsteered
from latentqa.errors import ConfigError
from latentqa.steering import load_stimuli

Build = Callable[[Path, Any, Any], Any]
"""Makes a `SteeringExperiment` of (data root, settings, `SteeringTools`), as the registry has it."""


@dataclass(frozen=True, eq=False)
class Session:
    """A run of methods.

    Attributes:
        build: makes the experiment.
        root: the data root.
        settings: of the experiment.
        tools: the models, seed and limit.
        methods: names of those that take part.
        folder: of the run; treatments are kept in it too.
        budget: most settings that each method may try.
        note: told what is being done.
    """

    build: Build
    root: Path
    settings: SteeringSettings
    tools: SteeringTools
    methods: Sequence[str]
    folder: Path
    budget: int = 12
    note: Callable[[str], None] = lambda text: None

    def run(
        self,
        subject: Subject,
        *,
        data: str = "",
        command: str = "",
        progress: Callable[[int, int], None] | None = None,
    ) -> Run:
        """Make what is missing, and measure all methods on all items that have no row yet.

        Args:
            subject: which model and decoder.
            data: the data root as the user named it, for the record.
            command: that was run, for the record.
            progress: called with (rows done, rows in all).
        """
        tools = self.tools
        experiment = self.build(self.root, self.settings, tools)
        assert isinstance(experiment, SteeringExperiment)
        stimuli = load_stimuli()
        if self.settings.stimuli > len(stimuli):
            raise ConfigError(
                f"stimuli={self.settings.stimuli} were asked for, and {len(stimuli)} ship. Take at most "
                "those."
            )
        unsteered = Unsteered(tools.target, Completions(tools.target))
        treatments = Treatments(
            tools.target,
            experiment,
            unsteered,
            self.folder,
            stimuli[: self.settings.stimuli],
            decoder=tools.decoder,
            seed=tools.seed,
            budget=self.budget,
            note=self.note,
        )
        contenders = line_up_methods(
            self.methods,
            treatments,
            self._measures(experiment, unsteered, stimuli),
            strengths=self.settings.strengths,
            flattened=experiment.flattened,
        )
        return run(
            experiment.experiment,
            contenders,
            self.folder,
            subject,
            seed=tools.seed,
            limit=tools.limit,
            settings=self.settings.model_dump(mode="json") | {"budget": self.budget},
            data=data,
            command=command,
            progress=progress,
        )

    def _measures(
        self, experiment: SteeringExperiment, unsteered: Unsteered, stimuli: Sequence[str]
    ) -> Mapping[str, Measure]:
        items = experiment.experiment.items
        if not any(item.meta["measure"] == "reading" for item in items):
            return measures(unsteered, experiment.text_values)
        from latentqa.benchmarks.steering.rereading import Rereading

        rereading = Rereading(
            self.tools.target,
            experiment.aims,
            experiment.question,
            decoder=self.tools.decoder,
            second=self.tools.second,
            stimuli=stimuli,
            seed=self.tools.seed,
        )
        return measures(unsteered, experiment.text_values, rereading)
