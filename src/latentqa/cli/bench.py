"""`latentqa bench`: the paper's reading and steering experiments with every baseline, and the report."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.progress import note, progress
from latentqa.errors import ConfigError

if TYPE_CHECKING:
    from latentqa.benchmarks import Experiment, Run, Subject, Tools
    from latentqa.benchmarks.judge import Judge
    from latentqa.benchmarks.registry import Entry
    from latentqa.decoder import Decoder, Target

OUT = Path("runs/bench")
"""Where runs are kept unless --out says otherwise."""
SLOW = ("text-finetuned",)
"""Readers that take part only if they are named: they are trained first."""
EXAMPLES = """\b
Examples:
  latentqa bench list
  latentqa bench run relations --readers lit,linear-probe,patchscopes --limit 200
  latentqa bench run hidden-prompts --seed 1 --json
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

BUDGET = 12
SHARED = ".said"
"""Folder beside the runs where answers and scores are kept; hidden, so that `runs/bench/*` are runs alone."""
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
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder of the run; one that was begun goes on. Left out: a folder under runs/bench.",
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

    One row per item and contender is written as it goes: a run that was stopped goes on where it was.
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
    call = _Call(
        entry=entry,
        settings=settings,
        root=root,
        readers=chosen,
        named=named is not None,
        limit=limit,
        seed=seed,
        folder=out or OUT / f"{name}{organism}{f'-limit{limit}' if limit else ''}-seed{seed}",
        share=share,
        decoder=decoder,
        target=target,
        budget=budget,
        judge=judge,
        judge_model=judge_model,
        dtype=dtype,
        device=device,
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
        call = _Call(
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


class _Call:
    """One `bench run`, with everything that its options said."""

    def __init__(self, **given: Any) -> None:
        self.entry: Entry = given["entry"]
        self.settings: Any = given["settings"]
        self.root: Path = given["root"]
        self.readers: list[str] = given["readers"]
        self.named: bool = given["named"]
        self.limit: int | None = given["limit"]
        self.seed: int = given["seed"]
        self.folder: Path = given["folder"]
        self.share: Path = given["share"] or self.folder.parent / SHARED
        self.decoder: str = given["decoder"]
        self.target: str | None = given["target"]
        self.budget: int = given.get("budget", BUDGET)
        self.judge_url: str | None = given.get("judge")
        self.judge_model: str = given.get("judge_model", "")
        self.load_options: dict[str, Any] = {"dtype": given["dtype"], "device": given["device"]}
        self.models: dict[bool, tuple[Target, Decoder | None]] = given.get("models", {})

    def run(self) -> tuple[dict[str, Any], list[str]]:
        """Run it, and give its figures as JSON has them and as lines."""
        kinds = {
            "items": self.run_items,
            "map": self.run_map,
            "plan": self.run_plan,
            "steering": self.run_steering,
            "audit": self.run_audit,
        }
        return kinds[self.entry.kind]()

    def run_items(self) -> tuple[dict[str, Any], list[str]]:
        """Readers on items."""
        from latentqa.baselines import READERS, ReaderContext
        from latentqa.benchmarks import Experiment, line_up, load_embedding, run
        from latentqa.benchmarks.calibration import lend_others
        from latentqa.benchmarks.makers import maker, preparing
        from latentqa.benchmarks.subjects import subject_of

        target, decoder = self.load(any(READERS[name].needs_decoder for name in self.readers))
        tools = self.tools(target, decoder)
        assert self.entry.build is not None
        experiment = self.entry.build(self.root, self.settings, tools)
        assert isinstance(experiment, Experiment)
        embeds = any(item.scorer in EMBEDDED for item in experiment.items)
        embedding = load_embedding(_answers(experiment)) if embeds else None
        special = any(item.meta.get("specificity") for item in experiment.items)
        if special and decoder is not None and lend_others(decoder, experiment.items):
            note(f"{decoder.name} keeps no other dialogs: specificity is against held-out training labels")
        shared = ReaderContext(
            target,
            decoder,
            seed=self.seed,
            answer_tokens=experiment.answer_tokens,
            budget=self.budget,
            moved=experiment.layers,
            signals=experiment.signals,
        )
        make = maker(experiment.name, shared, self.folder, self.share)
        lineup = line_up(experiment, self.readers, dict(READERS), make)
        for reader, why in lineup.refused.items():
            if self.named:
                raise ConfigError(f"{why}: reader {reader} cannot take part. Leave it out of --readers.")
            note(f"{reader} takes no part: {why}")
        with progress(f"{experiment.name}: rows") as advance:
            finished = run(
                experiment,
                lineup.contenders,
                self.folder,
                self.subject(subject_of(target, decoder)),
                seed=self.seed,
                limit=self.limit,
                settings=self.settings.model_dump(mode="json")
                | {"budget": self.budget}
                | ({"embedding": embedding.name} if embedding else {}),
                prepare=preparing(shared),
                embed=embedding.embed if embedding else None,
                judge=self.judge(),
                data=str(self.root),
                command=f"latentqa {shlex.join(sys.argv[1:])}",
                progress=advance,
            )
        return self.conclude(finished)

    def run_steering(self) -> tuple[dict[str, Any], list[str]]:
        """Methods on the target."""
        from latentqa.baselines.steering import METHODS
        from latentqa.benchmarks.steering import SteeringTools
        from latentqa.benchmarks.steering.session import Session
        from latentqa.benchmarks.subjects import subject_of

        if self.judge_url is not None:
            raise ConfigError(f"{self.entry.name} has no free answers to judge. Leave --judge out.")
        target, decoder = self.load(any(METHODS[name].needs_decoder for name in self.readers))
        target, second = self.steering_models(target, decoder)
        assert self.entry.build is not None
        session = Session(
            build=self.entry.build,
            root=self.root,
            settings=self.settings,
            tools=SteeringTools(target, decoder, second, seed=self.seed, limit=self.limit),
            methods=self.readers,
            folder=self.folder,
            budget=self.budget,
            note=note,
        )
        with progress(f"{self.entry.name}: rows") as advance:
            finished = session.run(
                self.subject(subject_of(target, decoder)),
                data=str(self.root),
                command=f"latentqa {shlex.join(sys.argv[1:])}",
                progress=advance,
            )
        return self.conclude(finished)

    def run_audit(self) -> tuple[dict[str, Any], list[str]]:
        """Methods of auditing on model organisms."""
        from latentqa.audit.bench import (
            OrganismPool,
            audit_contenders,
            audit_experiment,
            elicit_contenders,
        )
        from latentqa.benchmarks import run
        from latentqa.benchmarks.subjects import subject_of

        if self.judge_url is not None:
            raise ConfigError("Findings are judged by the organisms' manifests. Leave --judge out.")
        target, decoder = self.load()
        assert decoder is not None
        experiment = audit_experiment(self.settings, target, seed=self.seed, limit=self.limit)
        pool = OrganismPool(target, decoder, self.settings)
        try:
            with progress("audit: rows") as advance:
                finished = run(
                    experiment,
                    [
                        *audit_contenders(pool, self.readers, self.seed),
                        *elicit_contenders(pool, self.folder / "treatments"),
                    ],
                    self.folder,
                    self.subject(subject_of(target, decoder)),
                    seed=self.seed,
                    limit=self.limit,
                    settings=self.settings.model_dump(mode="json"),
                    command=f"latentqa {shlex.join(sys.argv[1:])}",
                    progress=advance,
                )
        finally:
            pool.close()
        return self.conclude(finished)

    def steering_models(self, target: Target, decoder: Decoder | None) -> tuple[Target, Decoder | None]:
        """The target, or the organism made of it, and the second decoder if one is named."""
        from latentqa.decoder import load_decoder

        second = None
        if self.settings.second_decoder is not None:
            second = load_decoder(self.settings.second_decoder, target=target)
        if getattr(self.settings, "organism", False):
            from latentqa.benchmarks.steering.organism import stereotyped

            with progress("organism: steps") as advance:
                target = stereotyped(target, self.folder / "organism", seed=self.seed, progress=advance)
            for one in (decoder, second):
                if one is not None:
                    one.target = target
        return target, second

    def conclude(self, finished: Run) -> tuple[dict[str, Any], list[str]]:
        """The figures of a run, kept beside its rows."""
        from latentqa.benchmarks import summarize
        from latentqa.benchmarks.table import lines, markdown

        summary = summarize(finished)
        _write(self.folder / "summary.json", json.dumps(summary.to_full_json(), ensure_ascii=False, indent=1))
        _write(self.folder / "table.md", markdown(finished, summary))
        return summary.to_json(), lines(finished, summary)

    def run_map(self) -> tuple[dict[str, Any], list[str]]:
        """One dialog, every token and layer."""
        from latentqa.benchmarks.layer_map import layer_map, map_dialog, map_json, save_layer_map
        from latentqa.benchmarks.subjects import subject_of
        from latentqa.models import find_blocks

        if self.readers != ["lit"]:
            raise ConfigError("A layer map takes the reader lit alone. Leave --readers out.")
        target, decoder = self.load()
        assert decoder is not None
        dialog = map_dialog(self.settings)
        layers = self.settings.layers or tuple(range(len(find_blocks(target.model))))
        tokenizer = target.tokenizer
        with progress("layer-map: states") as advance:
            found = layer_map(
                decoder,
                dialog,
                self.settings.question,
                self.settings.answer,
                capture=lambda messages, span, wanted: target.read(messages, span, wanted),
                layers=layers,
                trained_layers=decoder.card.read_layers,
                decode=lambda token_id: str(tokenizer.decode([token_id])),
                span=self.settings.span,
                sampled=decoder.card.sampled_layer,
                progress=advance,
            )
        files = save_layer_map(
            found, self.folder, asdict(self.subject(subject_of(target, decoder))), seed=self.seed
        )
        return map_json(found, seed=self.seed), [*found.notes, *map(str, files)]

    def run_plan(self) -> tuple[dict[str, Any], list[str]]:
        """Training runs, one after another."""
        from latentqa.benchmarks.ablations import ablation_plan
        from latentqa.benchmarks.plans import plan_lines, run_plan
        from latentqa.benchmarks.scaling import scaling_laws, scaling_plan
        from latentqa.benchmarks.subjects import versions
        from latentqa.cli.settings import load_settings
        from latentqa.training import TrainConfig

        if self.readers != ["lit"]:
            raise ConfigError(f"{self.entry.name} trains decoders: its reader is lit. Leave --readers out.")
        config = self.settings.config or BUILTIN_CONFIG
        base = load_settings(TrainConfig, config, [])
        if self.entry.name == "scaling":
            runs = scaling_plan(self.settings, seed=self.seed)
        else:
            blocks = _count_blocks(base.target or base.model)
            runs = ablation_plan(self.settings, base.model_dump(mode="json"), blocks, seed=self.seed)
        from latentqa.benchmarks import Subject

        with progress(f"{self.entry.name}: decoders") as advance:
            result = run_plan(
                self.entry.name,
                runs,
                _trainer(config, self.folder, self.root),
                self.folder,
                Subject(base.target or base.model, "", versions=versions()),
                seed=self.seed,
                data=str(self.root),
                progress=advance,
            )
        if self.entry.name == "scaling":
            laws = {f"law of {name}": str(law) for name, law in scaling_laws(result.rows).items()}
            result = replace(result, extra=laws)
        return result.to_json(), plan_lines(result)

    def judge(self) -> Judge | None:
        """The judge of free answers, its verdicts kept beside the run."""
        from latentqa.benchmarks.judge import Judge, endpoint

        if self.judge_url is None:
            return None
        key = os.environ.get("LATENTQA_JUDGE_KEY") or None
        return Judge(endpoint(self.judge_url, self.judge_model, key=key), self.folder / "judge.jsonl")

    def load(self, with_decoder: bool = True) -> tuple[Target, Decoder | None]:
        """The target, and the decoder if anything needs one."""
        if True in self.models or with_decoder in self.models:
            return self.models.get(True) or self.models[with_decoder]
        self.models[with_decoder] = self._load(with_decoder)
        return self.models[with_decoder]

    def _load(self, with_decoder: bool) -> tuple[Target, Decoder | None]:
        from latentqa.decoder import default_target, load_target

        if with_decoder:
            return options.load_reader(
                self.decoder,
                target=self.target,
                revision=None,
                quantization=None,
                trust_remote_code=False,
                **self.load_options,
            )
        return load_target(self.target or default_target(self.decoder), **self.load_options), None

    def tools(self, target: Target, decoder: Decoder | None) -> Tools:
        """What experiments are handed."""
        from latentqa.benchmarks import Tools
        from latentqa.benchmarks.texts import continuation, text_span
        from latentqa.models import find_blocks

        return Tools(
            seed=self.seed,
            limit=self.limit,
            continue_text=continuation(target),
            locate=text_span(target.tokenizer),
            blocks=len(find_blocks(target.model)),
            read_layers=decoder.card.read_layers if decoder else (),
            sampled_layer=decoder.card.sampled_layer if decoder else False,
        )

    def subject(self, found: Subject) -> Subject:
        """The models of the run under the names that the user gave."""
        return replace(found, target=self.target or found.target)


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


EMBEDDED = ("ranking", "confidence")
"""Scorers that compare free answers by embedding."""
BUILTIN_CONFIG = Path(__file__).parents[1] / "builtin" / "train.yaml"


def _trainer(config: Path, folder: Path, root: Path) -> Callable[[Any], Any]:
    """Trains what is planned, in a folder of its own, and reads off its held-out figures."""
    from contextlib import redirect_stdout

    from latentqa.benchmarks.plans import Outcome, PlannedRun
    from latentqa.cli.settings import load_settings
    from latentqa.training import TrainConfig, train

    def train_one(planned: PlannedRun) -> Outcome:
        place = folder / planned.name.replace(" ", "-").replace("/", "_")
        given = [*planned.overrides, f"output={json.dumps(str(place))}", f"data_root={json.dumps(str(root))}"]
        settings = load_settings(TrainConfig, config, given)
        with redirect_stdout(sys.stderr):
            result = train(settings)
        made = Path(result.folder or place)
        size = sum(file.stat().st_size for file in made.glob("*.safetensors"))
        return Outcome(result.figures, result.seconds, size)

    return train_one


def _count_blocks(model: str) -> int:
    from latentqa.models import find_blocks, load_model

    return len(find_blocks(load_model(model).model))


def _answers(experiment: Experiment) -> list[str]:
    texts = {text: None for item in experiment.items for text in (item.gold, *item.candidates)}
    return list(texts)


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)
