"""Steps with measurements on the way: the best version is kept, and a course that gets no better ends."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from latentqa.errors import SteeringError
from latentqa.steering.settings import CourseSettings
from latentqa.steering.task import Batch

logger = logging.getLogger(__name__)
Version = TypeVar("Version")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Course(Generic[Version]):
    """How it went.

    Attributes:
        best: the version with the lowest objective on the held-out stimuli.
        steps: after how many steps that was.
        objective: of that version, in nats a token.
        history: (step, objective on the held-out stimuli) of each measurement.
    """

    best: Version
    steps: int
    objective: float
    history: tuple[tuple[int, float], ...]


def run_course(
    settings: CourseSettings,
    batches: Iterator[Batch],
    *,
    step: Callable[[int, Batch], float],
    measure: Callable[[], float],
    keep: Callable[[], Version],
    progress: Progress | None = None,
) -> Course[Version]:
    """Take steps until they are used up or the held-out objective stops falling.

    Args:
        settings: number of steps, how often to measure, patience.
        batches: one is taken for each step.
        step: takes a step, given its number and batch; returns the objective on the batch.
        measure: the objective on the held-out stimuli.
        keep: a copy of the version as it is now.
        progress: called with (steps done, steps at most).

    Raises:
        SteeringError: an objective that is not finite.
    """
    start = measure()
    history = [(0, round(start, 4))]
    best: tuple[Version, int, float] | None = None
    for number in range(1, settings.steps + 1):
        _check_finite(step(number - 1, next(batches)), number)
        if progress is not None:
            progress(number, settings.steps)
        if number % settings.evaluate_every and number < settings.steps:
            continue
        found = measure()
        _check_finite(found, number)
        history.append((number, round(found, 4)))
        if best is None or found < best[2]:
            best = keep(), number, found
        since = sum(1 for step_number, _ in history if step_number > best[1])
        if settings.patience and since >= settings.patience:
            break
    assert best is not None, "the last step is measured"
    if best[2] >= start:
        logger.warning(
            "The decoder's loss did not fall on held-out stimuli (%.2f before, %.2f after): look at what "
            "this steering does before you use it, or try more steps, other layers or other pairs.",
            start,
            best[2],
        )
    if progress is not None:
        progress(settings.steps, settings.steps)
    return Course(*best, tuple(history))


def _check_finite(objective: float, number: int) -> None:
    if not math.isfinite(objective):
        raise SteeringError(
            f"The decoder's loss is not finite at step {number}. Use a lower learning_rate (or norm), or "
            "load the model in bfloat16 or float32."
        )
