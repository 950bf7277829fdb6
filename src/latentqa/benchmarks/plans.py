"""Plans: training runs that differ in one thing, run one after another, a row each."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentqa.benchmarks.runner import FORMAT, HEADER_FILE, Subject, check_same_subject
from latentqa.errors import ConfigError, DataError

PLAN_FILE = "plan.jsonl"


@dataclass(frozen=True)
class PlannedRun:
    """One training run of a plan.

    Attributes:
        name: in the table.
        group: what is varied: `examples`, `read layer`, …
        overrides: settings of the training that differ from the base, `key=value` as `latentqa train` takes.
        x: where it stands on the axis, such as its number of examples; None without one.
        note: what a reader of the table must know.
    """

    name: str
    group: str
    overrides: tuple[str, ...] = ()
    x: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a training run gave.

    Attributes:
        figures: held-out figures, such as `top1` and `persona_loss_true` (nats a token).
        seconds: of the training.
        adapter_bytes: size of what was trained, on disk.
    """

    figures: Mapping[str, float]
    seconds: float
    adapter_bytes: int = 0


@dataclass(frozen=True)
class PlanRow:
    """A finished run of a plan.

    Attributes:
        run: what was planned.
        outcome: what it gave.
    """

    run: PlannedRun
    outcome: Outcome

    @property
    def loss(self) -> float:
        """Mean answer loss over the groups, in nats a token."""
        return _mean_of(self.outcome.figures, "_loss_true")

    @property
    def top1(self) -> float:
        """Mean ranking accuracy (0–1) over the groups."""
        return self.outcome.figures.get("top1", _mean_of(self.outcome.figures, "_top1"))


Train = Callable[[PlannedRun], Outcome]
"""Trains what is planned and measures it."""


@dataclass(frozen=True)
class PlanResult:
    """A plan as far as it was run.

    Attributes:
        name: of the experiment.
        rows: finished runs, in the order of the plan.
        extra: what the experiment made of them, such as a fitted law.
        seed: of the training.
        data: the data root as it was named.
    """

    name: str
    rows: tuple[PlanRow, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    data: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `latentqa bench run --json` prints it; each run is a group, a single measurement each."""
        rows = []
        for row in self.rows:
            for metric, value in (("loss", row.loss), ("top1", row.top1), ("seconds", row.outcome.seconds)):
                rows.append(
                    {
                        "reader": "lit",
                        "group": row.run.name,
                        "metric": metric,
                        "mean": value,
                        "low": None,
                        "high": None,
                        "n": 1,
                    }
                )
        return {
            "experiment": self.name,
            "data": self.data,
            "seed": self.seed,
            "rows": rows,
            "tests": [],
            "filtered": {},
            **({"extra": dict(self.extra)} if self.extra else {}),
        }


def run_plan(
    name: str,
    runs: Sequence[PlannedRun],
    train: Train,
    folder: str | os.PathLike[str],
    subject: Subject,
    *,
    seed: int = 0,
    data: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> PlanResult:
    """Train every run that has no row yet, appending a row as each ends.

    Args:
        name: of the experiment.
        runs: the plan.
        train: trains one; `latentqa.training.train` behind a function, or a fake.
        folder: of the plan.
        subject: versions and model.
        seed: of the training.
        data: the data root as it was named.
        progress: called with (runs done, runs in all).

    Raises:
        ConfigError: two runs of one name, or a folder with a plan of another version or model.
    """
    if len({run.name for run in runs}) < len(runs):
        raise ConfigError(f"Two runs of the plan {name} have one name. Give each its own.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _check_header(name, folder, subject, seed, data)
    known = {row.run.name: row for row in read_plan(folder / PLAN_FILE)}
    for number, planned in enumerate(runs, start=1):
        done = known.get(planned.name)
        if done is None or done.run.overrides != planned.overrides:
            started = time.monotonic()
            outcome = train(planned)
            seconds = outcome.seconds or time.monotonic() - started
            row = PlanRow(planned, Outcome(outcome.figures, round(seconds, 1), outcome.adapter_bytes))
            known[planned.name] = row
            with (folder / PLAN_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps({"run": vars(planned), "outcome": vars(row.outcome)}) + "\n")
        if progress is not None:
            progress(number, len(runs))
    return PlanResult(name, tuple(known[run.name] for run in runs), seed=seed, data=data)


def read_plan(path: Path) -> list[PlanRow]:
    """Finished runs; of two with one name the later; a torn last line does not count.

    Raises:
        DataError: a damaged line before the last.
    """
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows: dict[str, PlanRow] = {}
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            row = json.loads(line)
            planned = PlannedRun(**{**row["run"], "overrides": tuple(row["run"]["overrides"])})
            rows[planned.name] = PlanRow(planned, Outcome(**row["outcome"]))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path}, line {number}: not a row of a plan ({error}). Delete the line; it is trained again."
            ) from None
    return list(rows.values())


def plan_lines(result: PlanResult) -> list[str]:
    """The rows for a terminal, with what each cost."""
    from latentqa.benchmarks.table import columns

    rows = [["varied", "run", "loss (nats)", "top-1 (%)", "seconds", "MB", ""]]
    for row in result.rows:
        rows.append(
            [
                row.run.group,
                row.run.name,
                f"{row.loss:.3f}",
                f"{100 * row.top1:.1f}",
                f"{row.outcome.seconds:.0f}",
                f"{row.outcome.adapter_bytes / 1e6:.1f}",
                row.run.note,
            ]
        )
    return [*columns(rows), *(f"{name}: {value}" for name, value in result.extra.items())]


def _check_header(name: str, folder: Path, subject: Subject, seed: int, data: str) -> None:
    header: dict[str, Any] = {
        "format": FORMAT,
        "experiment": name,
        "kind": "plan",
        "seed": seed,
        "data": data,
        "subject": json.loads(json.dumps(vars(subject), default=dict)),
    }
    path = folder / HEADER_FILE
    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        check_same_subject(known, header, str(folder), "this command")
        if (known["experiment"], known["seed"]) != (name, seed):
            raise ConfigError(
                f"{folder} holds a plan of {known['experiment']} with seed {known['seed']}, and {name} "
                "with seed "
                f"{seed} is asked for. Name another folder with --out."
            )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(header, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _mean_of(figures: Mapping[str, float], ending: str) -> float:
    values = [value for name, value in figures.items() if name.endswith(ending)]
    return sum(values) / len(values) if values else float("nan")
