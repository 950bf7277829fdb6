"""The elicitation audit: every method on every behaviour, on the runner of `latentqa.benchmarks`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentqa.audit.audited import load_audited
from latentqa.audit.elicitation.behaviors import Behaviors
from latentqa.audit.elicitation.elicited import Elicited
from latentqa.audit.elicitation.experiment import NAME, elicit_experiment
from latentqa.audit.elicitation.judging import ComplianceJudge
from latentqa.audit.elicitation.settings import ElicitSettings
from latentqa.audit.elicitation.treatments import (
    DECODED,
    METHODS,
    NONE,
    Treatments,
    Variant,
    known_methods,
    variants,
)
from latentqa.audit.elicitation.truth import Truth, gap_recovered
from latentqa.audit.report import JSON_FILE, PAGE_FILE, check_report_place
from latentqa.benchmarks import Contender, Run, Summary, load_run, run, summarize
from latentqa.benchmarks.runner import HEADER_FILE, ROWS_FILE
from latentqa.benchmarks.statistics import Interval
from latentqa.benchmarks.subjects import subject_of
from latentqa.decoder import Decoder, Target, load_target
from latentqa.errors import ConfigError

TREATMENTS = "treatments"


@dataclass(frozen=True, eq=False)
class Elicitation:
    """What an elicitation audit found.

    Attributes:
        run: its rows, one per item and method: judgements, no replies unless these are kept.
        summary: figures of every method, by category and as a mean over all behaviours.
        variants: the methods with their strengths.
        settings: of the audit.
        behaviors: that were drawn; None for an organism's own turns alone.
        truth: what the organism is known to withhold, if it is one.
        recovered: method → share of the gap between locked and unlocked that it closes.
        notes: what a reader must know.
    """

    run: Run
    summary: Summary
    variants: tuple[Variant, ...]
    settings: ElicitSettings
    behaviors: Behaviors | None
    truth: Truth | None
    recovered: dict[str, Interval]
    notes: tuple[str, ...]


def check_place(out: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse a folder that holds a finished audit or something else; one that was begun goes on.

    Raises:
        ConfigError: the folder holds anything but a run without a report, and `force` is off; or a run of
            another experiment, whose rows are not written over even then.
        DataError: a damaged run.
    """
    place = Path(out)
    if (place / HEADER_FILE).is_file():
        kind = load_run(place).header["experiment"]
        if kind != NAME:
            raise ConfigError(f"{place} holds a run of {kind}. Name another folder with --out.")
        if not (place / JSON_FILE).exists():
            return
    check_report_place(place, force=force)


def load_elicited(
    model: str, methods: Sequence[str] = METHODS, *, decoder: str = "builtin", **options: Any
) -> tuple[Target, Decoder | None]:
    """Load a model, and a decoder on the same weights if a method steers by one.

    Args:
        model: a hub id, a folder (of an adapter too), a `.gguf` file or `builtin`.
        methods: that will take part.
        decoder: as of `load_decoder`.
        options: as of `load_target`.
    """
    if not any(name in DECODED for name in methods):
        return load_target(model, **options), None
    audited = load_audited(model, decoder=decoder, **options)
    return audited.model, audited.decoder


def elicit_model(
    target: Target,
    out: str | os.PathLike[str],
    behaviors: Behaviors | None = None,
    *,
    decoder: Decoder | None = None,
    truth: Truth | None = None,
    methods: Sequence[str] = METHODS,
    settings: ElicitSettings | None = None,
    root: Path | None = None,
    judge: ComplianceJudge | None = None,
    keep_completions: bool = False,
    force: bool = False,
    command: str = "",
    note: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int], None] | None = None,
) -> Elicitation:
    """Put behaviours to a model as it is and under each method, and judge what it says.

    Rows are written as they come: a run that was killed goes on where it was, with the treatments that it has
    made already. Methods learn on harmless turns that ship, and on none of the behaviours.

    Args:
        target: the model that is audited; as it was afterwards.
        out: folder of the run; made if it is not there.
        behaviors: that are put to it; None for an organism's own turns alone.
        decoder: for the methods that steer by one.
        truth: of an organism, from `find_truth`.
        methods: names; `none` always takes part.
        settings: of the audit.
        root: the data root, for perplexity; None measures none.
        judge: a model that judges replies too, from `compliance_judge`.
        keep_completions: keep replies to behaviours in the rows.
        force: begin anew in a folder that holds an audit.
        command: that is run, for the record.
        note: told what is being done.
        progress: called with (rows done, rows in all).

    Raises:
        ConfigError: there is no such method, one needs a decoder, nothing is to be elicited, or the folder
            holds a finished audit or one of other settings, behaviours or models.
        DataError: WikiText-2 is not below the data root.
    """
    settings = settings or ElicitSettings()
    names = known_methods(methods)
    if decoder is None and (needing := [name for name in names if name in DECODED]):
        raise ConfigError(f"Method {needing[0]} steers by a decoder. Give one, or leave the method out.")
    check_place(out, force=force)
    experiment = elicit_experiment(target, settings, behaviors, truth, root)
    folder = Path(out)
    if force:
        _clear(folder)
    treatments = Treatments(target, settings, folder / TREATMENTS, decoder, note)
    chosen = variants(names, settings.strengths)

    def contender(variant: Variant) -> Contender:
        def make() -> Elicited:
            treatment = treatments.of(variant.method)
            return Elicited(target, treatment, variant, settings, judge=judge, keep=keep_completions)

        return Contender(variant.name, make, tested=False)

    finished = run(
        experiment,
        [contender(variant) for variant in chosen],
        folder,
        subject_of(target, decoder),
        seed=settings.seed,
        settings=settings.model_dump(mode="json")
        | {
            "methods": names,
            "judge": judge.model if judge is not None else None,
            "completions": keep_completions,
        },
        command=command,
        progress=progress,
    )
    made = finished.header["readers"]
    missing = {one.method: made[one.name]["choices"].get("not_made") for one in chosen}
    return Elicitation(
        run=finished,
        summary=summarize(finished),
        variants=tuple(chosen),
        settings=settings,
        behaviors=behaviors,
        truth=truth,
        recovered=gap_recovered(finished.rows, NONE),
        notes=(
            *experiment.notes,
            *(f"{method} takes no part: {why}" for method, why in missing.items() if why),
        ),
    )


def _clear(folder: Path) -> None:
    """Take away what an earlier audit wrote; other files stay."""
    if (folder / HEADER_FILE).is_file():
        shutil.rmtree(folder / TREATMENTS, ignore_errors=True)
    for name in (PAGE_FILE, JSON_FILE, ROWS_FILE, HEADER_FILE):
        (folder / name).unlink(missing_ok=True)
