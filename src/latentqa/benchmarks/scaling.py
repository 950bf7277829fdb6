"""Scaling: answer loss and ranking accuracy against training examples, and a power law through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from latentqa.benchmarks.experiment import ExperimentSettings
from latentqa.benchmarks.plans import PlannedRun, PlanRow
from latentqa.benchmarks.statistics import need
from latentqa.errors import ConfigError

SMALLEST_SIZES = 4
SMALLEST_SPAN = 100.0
"""Largest over smallest size that a law should rest on: two decades."""


class ScalingSettings(ExperimentSettings):
    """What `bench run scaling key=value` takes.

    Attributes:
        config: settings of the training (YAML of `latentqa train`); the builtin decoder's without one.
        examples: training examples of each run.
        models: bases and targets, each scaled by itself.
    """

    config: Path | None = None
    examples: tuple[int, ...] = Field((60, 200, 600, 2000, 6000), min_length=1)
    models: tuple[str, ...] = ("builtin",)


@dataclass(frozen=True)
class PowerLaw:
    """loss = scale · examples^(−exponent), fitted in logarithms.

    Attributes:
        scale: loss at one example, in nats.
        exponent: how fast it falls.
        low: lower end of the exponent's 95 % interval.
        high: its upper end.
        n: sizes that it was fitted on.
        r2: share (0–1) of the variance of log loss that it explains.
    """

    scale: float
    exponent: float
    low: float
    high: float
    n: int
    r2: float

    def __str__(self) -> str:
        return (
            f"loss = {self.scale:.3f} · n^(−{self.exponent:.3f}), exponent 95 % {self.low:.3f} to "
            f"{self.high:.3f}, {self.n} sizes, R² {self.r2:.2f}"
        )


def scaling_plan(settings: ScalingSettings, *, seed: int = 0) -> list[PlannedRun]:
    """One run per model and size.

    Raises:
        ConfigError: fewer than four sizes, or sizes over less than two decades.
    """
    sizes = sorted(set(settings.examples))
    if len(sizes) < SMALLEST_SIZES or sizes[-1] < SMALLEST_SPAN * sizes[0]:
        raise ConfigError(
            f"A scaling law needs at least {SMALLEST_SIZES} sizes over two decades; "
            f"examples={list(sizes)} was "
            "given. Write for example examples=[60,200,600,2000,6000]."
        )
    return [
        PlannedRun(
            name=f"{model} {size}",
            group=model,
            overrides=(f"model={model}", f"examples={size}", f"seed={seed}"),
            x=float(size),
        )
        for model in settings.models
        for size in sizes
    ]


def fit_power_law(sizes: Sequence[float], losses: Sequence[float]) -> PowerLaw:
    """A straight line through log loss against log size, with Student's interval of its slope.

    Raises:
        ConfigError: fewer than three sizes, or a loss that is not above 0.

    Example:
        >>> round(fit_power_law([10, 100, 1000], [4.0, 2.0, 1.0]).exponent, 3)
        0.301
    """
    x, y = np.asarray(sizes, dtype=float), np.asarray(losses, dtype=float)
    if len(x) < 3 or len(set(x.tolist())) < 3 or not (np.isfinite(y).all() and (y > 0).all()):
        raise ConfigError(
            f"A power law needs three sizes with losses above 0; got {x.tolist()}: {y.tolist()}."
        )
    stats = need("scipy.stats")
    line = stats.linregress(np.log(x), np.log(y))
    half = float(stats.t.ppf(0.975, len(x) - 2) * line.stderr)
    exponent = -float(line.slope)
    return PowerLaw(
        scale=float(np.exp(line.intercept)),
        exponent=exponent,
        low=exponent - half,
        high=exponent + half,
        n=len(x),
        r2=float(line.rvalue**2),
    )


def scaling_laws(rows: Sequence[PlanRow]) -> dict[str, PowerLaw]:
    """The law of each model that has three sizes."""
    laws = {}
    for group in dict.fromkeys(row.run.group for row in rows):
        of = [row for row in rows if row.run.group == group and row.run.x is not None]
        if len(of) >= 3:
            laws[group] = fit_power_law([float(row.run.x or 0) for row in of], [row.loss for row in of])
    return laws
