"""What one `latentqa bench run` does: load the models, run the experiment, keep its figures."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentqa.cli import options
from latentqa.cli.progress import note, progress
from latentqa.errors import ConfigError

if TYPE_CHECKING:
    from latentqa.benchmarks import Experiment, Run, Subject, Tools
    from latentqa.benchmarks.judge import Judge
    from latentqa.benchmarks.registry import Entry
    from latentqa.decoder import Decoder, Target

BUDGET = 12
SHARED = ".said"
"""Folder beside the runs where answers and scores are kept; hidden, so that `runs/bench/*` are runs alone."""
EMBEDDED = ("ranking", "confidence")
"""Scorers that compare free answers by embedding."""
BUILTIN_CONFIG = Path(__file__).parents[1] / "builtin" / "train.yaml"


@dataclass
class Call:
    """One `bench run`, with everything that its options said.

    Attributes:
        entry: the experiment.
        settings: of the experiment, checked.
        root: the data root.
        readers: readers or methods that take part.
        named: whether the user named them: one that cannot take part is then an error.
        limit: items that are drawn; None takes all.
        seed: of every draw.
        folder: where the run is kept.
        decoder: name of the decoder.
        target: name of the target; None is the decoder's own.
        dtype: of the models.
        device: of the models.
        share: folder of answers that runs share; None is one beside `folder`.
        budget: settings that each baseline may try.
        judge_url: address of the judge of free answers, if there is one.
        judge_model: its name there.
        models: the loaded models by whether a decoder is among them; calls that share it load them once.
        made: readers that calls with other seeds use again, and the activations that they read.
    """

    entry: Entry
    settings: Any
    root: Path
    readers: list[str]
    named: bool
    limit: int | None
    seed: int
    folder: Path
    decoder: str
    target: str | None
    dtype: str
    device: str
    share: Path | None = None
    budget: int = BUDGET
    judge_url: str | None = None
    judge_model: str = ""
    models: dict[bool, tuple[Target, Decoder | None]] = field(default_factory=dict)
    made: dict[Any, Any] = field(default_factory=dict)

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
        vars(shared)["reads"] = self.made.setdefault("reads", shared.reads)
        share = self.share or self.folder.parent / SHARED
        make = maker(experiment.name, shared, self.folder, share, self.made)
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
                dtype=self.dtype,
                device=self.device,
            )
        name = self.target or default_target(self.decoder)
        return load_target(name, dtype=self.dtype, device=self.device), None

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
