"""`latentqa bench`: the paper's reading and steering experiments with every baseline, and the report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.bench_run import BUDGET, Call
from latentqa.cli.progress import note
from latentqa.errors import ConfigError

if TYPE_CHECKING:
    from latentqa.benchmarks.registry import Entry

OUT = Path("runs/bench")
"""Where runs are kept unless --out says otherwise."""
SLOW = ("text-finetuned",)
"""Readers that take part only if they are named: they are trained first."""
EXAMPLES = """\b
Examples:
  latentqa bench list
  latentqa bench run relations --readers lit,linear-probe,patchscopes --limit 200
  latentqa bench run hidden-prompts --seed 1 --json
  latentqa bench run yes-no --seed 0 --seed 1 --seed 2
  latentqa bench run relations 'files=[all]' folds=5
  latentqa bench run relations layers=half --readers lit,patchscopes,linear-probe
  latentqa bench run yes-no --target my-finetune    # a folder with an adapter: read with its base
  latentqa bench run layer-map 'question=Who is speaking?' 'answer=A pirate.'
  latentqa bench run topic --methods vector,prompting,no-control 'aims=[golden-gate-bridge]'
  latentqa bench run debias --json
  latentqa bench run audit organisms=runs/organisms 'kinds=[secret-word]'
  latentqa bench all --out runs/bench/draft
  latentqa bench report runs/bench/relations-seed0 runs/bench/hidden-prompts-seed0
"""

DataRoot = Annotated[
    Path | None, typer.Option("--data", help="Data root. Left out: $LATENTQA_DATA.", metavar="DIR")
]
Share = Annotated[
    Path | None,
    typer.Option(
        "--share",
        help="Folder of answers and scores that runs on the same models share, so that another seed asks "
        "nothing twice. Left out: .said beside the run's folder.",
        metavar="DIR",
    ),
]

bench = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@bench.callback()
def verbs() -> None:
    """Measure readers on the reading experiments, and methods of steering on the steering experiments."""


@bench.command("list")
def list_all(as_json: options.AsJson = False) -> None:
    """Show the experiments, the readers and the methods of steering."""
    from latentqa.baselines import READERS
    from latentqa.baselines.steering import METHODS
    from latentqa.benchmarks import EXPERIMENTS

    if as_json:
        experiments = [
            {"name": entry.name, "doc": entry.doc, "settings": list(entry.settings.model_fields)}
            for entry in EXPERIMENTS.values()
        ]
        readers = [asdict(spec) for spec in READERS.values()]
        methods = [asdict(spec) for spec in METHODS.values()]
        listed = {"experiments": experiments, "readers": readers, "methods": methods}
        typer.echo(json.dumps(listed, ensure_ascii=False))
        return
    lines = ["experiments"]
    for entry in EXPERIMENTS.values():
        settings = ", ".join(entry.settings.model_fields)
        lines += [f"  {entry.name:<16}{entry.doc}", f"{'':18}settings: {settings}"]
    for title, specs in (("readers", READERS), ("methods", METHODS)):
        lines += ["", title]
        for spec in specs.values():
            lines += [f"  {spec.name:<21} from: {spec.source}", f"{'':24}needs: {spec.needs}"]
            lines += [f"{'':24}cannot: {spec.cannot}"]
    typer.echo("\n".join(lines))


@bench.command("run", epilog=EXAMPLES)
def run_one(
    name: Annotated[
        str, typer.Argument(help="Experiment, as `latentqa bench list` names it.", metavar="NAME")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of the experiment, such as folds=5.", metavar="KEY=VALUE"),
    ] = None,
    data: DataRoot = None,
    readers: Annotated[
        str | None,
        typer.Option(
            "--readers",
            "--methods",
            help="Readers, or in a steering experiment methods, separated by commas. Left out: all that the "
            "experiment can have but text-finetuned, which is trained first.",
            metavar="A,B",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", min=1, help="Draw this many items, evenly over the groups. The table says so."
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            "--seed", help="Of every draw; given several times, one run each.", show_default="0", metavar="N"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of the run; one that was begun goes on. Several seeds have folders in it. Left out: "
            "a folder under runs/bench.",
            metavar="DIR",
        ),
    ] = None,
    share: Share = None,
    decoder: options.DecoderName = "builtin",
    target: options.TargetName = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="YAML file with the experiment's settings.", metavar="FILE"),
    ] = None,
    controls: Annotated[
        Path | None,
        typer.Option(
            "--controls",
            help='JSONL of controls for the experiment topic, {"control", "keywords"} a line. Left out: the '
            "20 that ship.",
            metavar="FILE",
        ),
    ] = None,
    budget: Annotated[
        int, typer.Option("--budget", min=1, help="Settings that each baseline may try, the same for all.")
    ] = BUDGET,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Base address of an OpenAI-compatible server that judges free answers; its key, if it wants "
            "one, is read from LATENTQA_JUDGE_KEY.",
            metavar="URL",
        ),
    ] = None,
    judge_model: Annotated[
        str, typer.Option("--judge-model", help="Name of the judging model there.", metavar="NAME")
    ] = "default",
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Run one experiment with any number of readers or methods.

    One row per item and contender is written as it goes: a run that was stopped goes on where it was. Several
    seeds share models, readers and all that those said; with --json each is a line.
    """
    from latentqa.benchmarks import check_names, find_experiment
    from latentqa.cli.settings import load_settings

    entry = find_experiment(name)
    settings = load_settings(entry.settings, config, [*(overrides or []), *_controls(entry, controls)])
    known = _known(entry)
    named = [one.strip() for one in readers.split(",") if one.strip()] if readers is not None else None
    if named is not None:
        check_names(named, known, "method" if entry.kind in ("steering", "audit") else "reader")
    chosen = named or _readers(entry)
    root = _root(entry, data)
    organism = "-organism" if getattr(settings, "organism", False) else ""
    drawn = list(dict.fromkeys(seeds or [0]))
    models: dict[bool, Any] = {}
    made: dict[Any, Any] = {}
    for seed in drawn:
        folder = OUT / f"{name}{organism}{f'-limit{limit}' if limit else ''}-seed{seed}"
        if out is not None:
            folder = out if len(drawn) == 1 else out / f"seed{seed}"
        call = Call(
            entry=entry,
            settings=settings,
            root=root,
            readers=chosen,
            named=named is not None,
            limit=limit,
            seed=seed,
            folder=folder,
            share=share,
            decoder=decoder,
            target=target,
            budget=budget,
            judge_url=judge,
            judge_model=judge_model,
            dtype=dtype,
            device=device,
            models=models if entry.kind == "items" else {},
            made=made,
        )
        result, lines = call.run()
        note(f"kept in {call.folder}")
        typer.echo(json.dumps(result, ensure_ascii=False) if as_json else "\n".join(lines))


@bench.command("all", epilog=EXAMPLES)
def run_all(
    data: DataRoot = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 0,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the runs and of the report.", metavar="DIR")
    ] = OUT / "all",
    whole: Annotated[
        bool, typer.Option("--whole", help="Use whole files: hours on a small machine, and the only tables.")
    ] = False,
    share: Share = None,
    decoder: options.DecoderName = "builtin",
    target: options.TargetName = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Run every reading experiment that trains no decoder, with all readers, and write the report.

    A part of the items is drawn, so that it is all there within the hour on a small machine; the tables say
    so. What was stopped goes on where it was. Experiments whose data is not there are left out, and named.
    """
    from latentqa.benchmarks import EXPERIMENTS, build_report, write_report
    from latentqa.cli.settings import load_settings
    from latentqa.errors import DataError

    models: dict[bool, Any] = {}
    folders: list[Path] = []
    for entry in [one for one in EXPERIMENTS.values() if one.draft]:
        try:
            root = _root(entry, data)
        except DataError as error:
            note(f"{entry.name} is left out: {error}")
            continue
        limit = None if whole or entry.kind != "items" else entry.draft
        call = Call(
            entry=entry,
            settings=load_settings(entry.settings, None, [] if whole else list(entry.draft_settings)),
            root=root,
            readers=_readers(entry),
            named=False,
            limit=limit,
            seed=seed,
            folder=out / f"{entry.name}{f'-limit{limit}' if limit else ''}-seed{seed}",
            share=share,
            decoder=decoder,
            target=target,
            dtype=dtype,
            device=device,
            models=models,
        )
        call.run()
        folders.append(call.folder)
    if as_json:
        typer.echo(json.dumps(build_report(folders).figures, ensure_ascii=False))
        return
    page, table = write_report(folders, out)
    typer.echo(f"{page}\n{table}")


@bench.command("report", epilog=EXAMPLES)
def report_runs(
    runs: Annotated[
        list[Path], typer.Argument(help="Folders that `latentqa bench run` wrote.", metavar="RUNS…")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder of report.html and report.md. Left out: the first run's.", metavar="DIR"
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Write one page with tables and plots, and the same tables as Markdown.

    Runs of one experiment with several seeds are shown as mean and range too. Runs of different versions,
    targets or decoders are refused.
    """
    from latentqa.benchmarks import build_report, write_report

    if as_json:
        typer.echo(json.dumps(build_report(runs).figures, ensure_ascii=False))
        return
    page, table = write_report(runs, out or runs[0])
    typer.echo(f"{page}\n{table}")


def _known(entry: Entry) -> list[str]:
    """What may take part: readers, or in experiments that put no question to activations alone, methods."""
    if entry.kind == "audit":
        from latentqa.audit import METHODS as AUDIT_METHODS

        return list(AUDIT_METHODS)
    from latentqa.baselines import READERS
    from latentqa.baselines.steering import METHODS

    return list(METHODS if entry.kind == "steering" else READERS)


def _readers(entry: Entry) -> list[str]:
    """What takes part unless others are named."""
    return list(entry.readers) or [one for one in _known(entry) if one not in SLOW]


def _root(entry: Entry, data: Path | None) -> Path:
    """The data root, once all that an experiment needs has been found there."""
    from latentqa.data import data_file, data_root

    root = data_root(data) if entry.needs else Path()
    for needed in entry.needs:
        data_file(needed, root)
    return root


def _controls(entry: Entry, path: Path | None) -> list[str]:
    """What `--controls FILE` sets, which only some experiments have."""
    if path is None:
        return []
    if "controls" not in entry.settings.model_fields:
        raise ConfigError(f"{entry.name} takes no controls. Use --controls with the experiment topic.")
    return [f"controls={json.dumps(str(path))}"]
