"""One training run, from settings to a decoder folder."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainingArguments, set_seed

from latentqa.data import Example
from latentqa.decoder.calibrate import calibrate
from latentqa.decoder.card import Card, MappingCard, PromptCard, template_hash
from latentqa.decoder.decoder import Decoder
from latentqa.decoder.evaluate import rank
from latentqa.decoder.load import find_decoder
from latentqa.decoder.mapping import Mapping
from latentqa.decoder.references import References, make_references
from latentqa.decoder.target import Target
from latentqa.decoder.wiring import Wiring
from latentqa.dialogs import CHOSEN, decoder_prompt, render, resolve_span, span_kind
from latentqa.models import (
    LoadedModel,
    find_blocks,
    hidden_size,
    weights_hash,
)
from latentqa.training.checks import (
    DATA_FILE,
    SETTINGS_FILE,
    check_fit,
    check_output,
    check_patience,
    check_same_run,
    check_start,
    evaluates,
    write_settings,
)
from latentqa.training.config import TrainConfig
from latentqa.training.estimate import estimate
from latentqa.training.loss import LITModule, LossSettings, PreparedEntry
from latentqa.training.mapping import fit_on_mix
from latentqa.training.mix import Mix, load_mix, mapped_dialogs
from latentqa.training.parts import some
from latentqa.training.plan import Entry, Pass, make_plan
from latentqa.training.setup import load_models, make_decoder_model, set_read_layers
from latentqa.training.sharding import fill, is_sharded, whole
from latentqa.training.trainer import (
    LOG_FILE,
    JSONLLog,
    LITTrainer,
    PassDataset,
    WeightAverage,
    checkpoints,
    trained_parameters,
)

REFERENCE_DIALOGS = 512
REFERENCE_POOL = 20_000  # examples of a part that they are taken from
RENDERED_KEPT = 4096  # dialogs
DECODER_FOLDER = "decoder"
GUIDANCE = 1.0  # of a new decoder's answers, docs/results.md


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        folder: the decoder; None after a dry run.
        plan: counts and estimates.
        figures: held-out figures at the end.
        seconds: wall time of this call.
    """

    folder: str | None
    plan: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        rows = [f"{name}: {value}" for name, value in {**self.plan, **self.figures}.items()]
        return "\n".join(
            [*rows, f"decoder: {self.folder}" if self.folder else "dry run: nothing was trained"]
        )


def train(
    config: TrainConfig,
    *,
    resume: bool = True,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train a decoder and write it to `config.output/decoder`.

    Args:
        config: the settings.
        resume: go on from the last whole checkpoint in `config.output`.
        dry_run: plan, estimate, train nothing.
        progress: called with (examples done, examples in all).

    Raises:
        DataError: data that cannot be used.
        ConfigError: settings that do not go together.
        TrainingError: a run that cannot start, resume or save.
    """
    started = time.monotonic()
    output = Path(config.output)
    check_output(output, resume, dry_run)
    check_patience(config)
    set_seed(config.seed)
    mix = load_mix(config)
    target, base = load_models(config)
    layers = set_read_layers(config, target)
    config = config.model_copy(update={"read_layers": layers})
    check_fit(config, target, base)
    check_start(config, target)
    check_same_run(output, config, mix, dry_run)
    prompt = decoder_prompt(base.tokenizer, template=config.template)
    plan = make_plan(config, mix.parts, prompt)
    summary = _summary(config, mix, plan)
    wiring = make_decoder_model(config, base, layers)
    if dry_run:
        summary |= _expected(wiring, plan, target, mix.train)
        return TrainResult(None, summary, seconds=time.monotonic() - started)
    references = _references(config, mix, target, layers)
    output.mkdir(parents=True, exist_ok=True)
    wiring = _with_mapping(config, mix, target, base, wiring)
    decoder = Decoder(wiring, _card(config, mix, target, base, wiring, layers), references, target)
    write_settings(output / SETTINGS_FILE, config.model_dump_json(indent=1))
    write_settings(output / DATA_FILE, json.dumps(mix.hashes, indent=1))
    trainer = _trainer(config, decoder, mix, plan, progress)
    last = checkpoints(output)[-1] if resume and checkpoints(output) else None
    seconds = _run(trainer, last)
    if is_sharded():
        decoder = _gathered(config, decoder, trainer)
    figures = _held_out(config, decoder, mix)()
    if trainer.accelerator.is_main_process:
        _finish(config, decoder, trainer, figures, seconds)
    return TrainResult(str(output / DECODER_FOLDER), summary, figures, time.monotonic() - started)


def trainer_arguments(config: TrainConfig, plan: Sequence[Pass]) -> TrainingArguments:
    """Transformers' settings of a run."""
    steps_of = accumulation(config, plan)
    n_steps = max(1, len(plan) // (steps_of * n_processes()))
    on_cpu = config.device == "cpu" or (config.device == "auto" and not torch.accelerator.is_available())
    bf16 = _half(config)
    return TrainingArguments(
        output_dir=str(config.output),
        num_train_epochs=1,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=steps_of,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, round(config.warmup * n_steps)),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        adam_beta2=0.99,
        bf16=bf16,
        use_cpu=on_cpu,
        logging_steps=10,
        logging_first_step=True,
        save_steps=config.save_every,
        save_strategy="steps",
        eval_strategy="steps" if evaluates(config) else "no",
        eval_steps=config.evaluate_every or None,
        metric_for_best_model="top1" if config.patience else None,
        greater_is_better=True if config.patience else None,
        report_to=list(config.log_to) or "none",
        remove_unused_columns=False,
        train_sampling_strategy="sequential",
        dataloader_num_workers=0,
        disable_tqdm=True,
        seed=config.seed,
        data_seed=config.seed,
        ddp_find_unused_parameters=False,
    )


def accumulation(config: TrainConfig, plan: Sequence[Pass]) -> int:
    """Passes per optimizer step and process, so that a step sees about `examples_per_step` examples."""
    per_pass = sum(one.n_examples for one in plan) / len(plan)
    return max(1, round(config.examples_per_step / (per_pass * n_processes())))


def n_processes() -> int:
    """Processes that train together, as torchrun and `accelerate launch` tell them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _run(trainer: LITTrainer, last: Path | None) -> float:
    started = time.monotonic()
    for callback in trainer.callback_handler.callbacks:
        if last is not None and isinstance(callback, WeightAverage):
            callback.resume(last)
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, WeightAverage):
            callback.take_over()
    return time.monotonic() - started


def _trainer(
    config: TrainConfig,
    decoder: Decoder,
    mix: Mix,
    plan: Sequence[Pass],
    progress: Callable[[int, int], None] | None,
) -> LITTrainer:
    assert decoder.target is not None
    settings = LossSettings(
        config.answer,
        config.contrast,
        config.read_layers,
        share=not config.checkpointing and not is_sharded(),
        stop=not is_sharded(),
    )
    mean = {
        span: vectors.to(decoder.wiring.model.device) for span, vectors in decoder.references.mean.items()
    }
    module = LITModule(decoder.wiring, decoder.target, settings, mean)
    n_examples = sum(one.n_examples for one in plan)
    callbacks: list[Any] = [JSONLLog(Path(config.output) / LOG_FILE, n_examples, progress)]
    if config.ema:
        callbacks.append(WeightAverage(module, config.ema))
    if config.patience:
        callbacks.append(EarlyStoppingCallback(config.patience))
    prepare = _preparer(decoder, mix.train)
    return LITTrainer(
        module,
        trainer_arguments(config, plan),
        PassDataset(plan, prepare),
        evaluate_decoder=_held_out(config, decoder, mix),
        callbacks=callbacks,
    )


def _preparer(decoder: Decoder, examples: Sequence[Example]) -> Callable[[Entry], PreparedEntry]:
    assert decoder.target is not None
    target, prompt = decoder.target, decoder.wiring.prompt

    @lru_cache(maxsize=RENDERED_KEPT)
    def rendered(number: int) -> Any:
        return render(target.tokenizer, examples[number].dialog)

    def prepare(entry: Entry) -> PreparedEntry:
        from latentqa.decoder.target import Reading

        found = rendered(entry.example)
        reading = Reading(found, resolve_span(found, entry.span))
        pairs = tuple((question, prompt.answer(answer)) for question, answer in entry.pairs)
        return PreparedEntry(reading, pairs, entry.layer)

    return prepare


def _held_out(config: TrainConfig, decoder: Decoder, mix: Mix) -> Callable[[], dict[str, float]]:
    def figures() -> dict[str, float]:
        if not mix.held_out or not config.evaluate_labels:
            return {}
        module = decoder.wiring.model
        training = module.training
        module.eval()
        decoder.forget()
        report = rank(decoder, mix.held_out, seed=config.seed, limit=config.evaluate_labels).to_json()
        module.train(training)
        found = {
            f"{group}_{name}": float(value)
            for group, one in report.items()
            for name, value in one.items()
            if name in ("top1", "top1_raw", "top1_mean_activation", "loss_true", "loss_mean", "loss_shuffled")
        }
        tops = [one["top1"] for one in report.values()]
        return {**found, "top1": sum(tops) / len(tops)} if tops else {}

    return figures


def _references(config: TrainConfig, mix: Mix, target: Target, layers: tuple[int, ...]) -> References:
    """Reference activations of every kind of span that is trained on."""
    fitting: dict[str, list[tuple[Example, str]]] = {}
    for part in mix.parts:
        for example in some(part.examples, REFERENCE_POOL):
            for span in (part.source.spans or {example.read: 1.0}) if example.kind != "plain" else {}:
                fitting.setdefault(span_kind(span), []).append((example, span))
    readings = []
    for _, group in sorted(fitting.items()):
        stride = max(1, len(group) // REFERENCE_DIALOGS)
        readings += [target.reading(e.dialog, span) for e, span in group[::stride][:REFERENCE_DIALOGS]]
    return make_references(target.read_many(readings, layers), seed=config.seed)


def _with_mapping(config: TrainConfig, mix: Mix, target: Target, base: LoadedModel, wiring: Wiring) -> Wiring:
    """Fit the mapping, or take that of the run that is resumed."""
    if config.mapping is None:
        return wiring
    wiring = replace(wiring, raw=config.mapping.raw)
    output = Path(config.output)
    if config.start is not None:
        mapping = Mapping.load(find_decoder(config.start))
        mapping.save(output)
        return replace(wiring, mapping=mapping.to(wiring.model.device))
    if checkpoints(output):
        return replace(wiring, mapping=Mapping.load(output).to(wiring.model.device))
    mapping = fit_on_mix(config.mapping, mapped_dialogs(mix), target, base, wiring.prompt, wiring.site)
    if int(os.environ.get("RANK", "0")) == 0:
        mapping.save(output)
    return replace(wiring, mapping=mapping.to(wiring.model.device))


def _gathered(config: TrainConfig, decoder: Decoder, trainer: LITTrainer) -> Decoder:
    """The decoder on weights that are not sharded: loaded again, with what was trained copied in."""
    trained = {name: whole(p).cpu() for name, p in trained_parameters(trainer.model).items()}
    target, base = load_models(config)
    wiring = make_decoder_model(config, base, config.read_layers)
    module = LITModule(wiring, target, LossSettings(config.answer, config.contrast, config.read_layers))
    fill(trained_parameters(module), trained)
    target.read_layers = config.read_layers
    mapped = replace(wiring, mapping=decoder.wiring.mapping, raw=decoder.wiring.raw)
    return Decoder(mapped, decoder.card, decoder.references, target)


def _finish(
    config: TrainConfig, decoder: Decoder, trainer: LITTrainer, figures: dict[str, Any], seconds: float
) -> None:
    decoder.wiring.model.eval()
    decoder.forget()
    course = {
        "settings": config.model_dump(mode="json", exclude={"output", "data_root"}),
        "steps": trainer.state.global_step,
        "seconds": round(seconds),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "commit": _commit(),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    decoder.card = decoder.card.model_copy(update={"training": course, "figures": {"held_out": figures}})
    if config.calibrate:
        calibrate(decoder, config.calibrate)
    decoder.save_pretrained(Path(config.output) / DECODER_FOLDER)


def _card(
    config: TrainConfig, mix: Mix, target: Target, base: LoadedModel, wiring: Wiring, layers: tuple[int, ...]
) -> Card:
    named = [span for span in mix.spans if span != CHOSEN]
    return Card(
        name=config.name,
        kind=config.kind,
        base_model=base.name,
        base_revision=base.revision,
        base_hash=weights_hash(base.model),
        template_hash=template_hash(base.tokenizer),
        hidden_size=hidden_size(base.model),
        n_blocks=len(find_blocks(base.model)),
        target_model=target.name,
        target_hash=target.weights_hash,
        read_layers=layers,
        sampled_layer=config.sample_layer,
        write_site=str(wiring.site),
        injection=config.injection,
        scale=config.scale,
        mapping=None
        if config.mapping is None
        else MappingCard(
            ridge=config.mapping.ridge,
            gain=config.mapping.gain,
            dialogs=len(mapped_dialogs(mix)),
            raw=config.mapping.raw,
        ),
        span="stimulus" if "stimulus" in named else next(iter(named), "all"),
        spans=tuple(mix.spans),
        prompt=PromptCard(
            placeholder=wiring.prompt.placeholder.text,
            placeholder_id=wiring.prompt.placeholder_id,
            system=wiring.prompt.system,
            template=config.template,
            shift_positions=config.shift_positions,
        ),
        guidance=GUIDANCE,
        data=mix.hashes,
    )


def _summary(config: TrainConfig, mix: Mix, plan: Sequence[Pass]) -> dict[str, Any]:
    steps_of = accumulation(config, plan)
    return {
        "examples": sum(one.n_examples for one in plan),
        "training items": len(mix.train),
        "entries by part": _shares(mix, plan),
        "held-out labels": len({example.label for example in mix.held_out}),
        "passes": len(plan),
        "passes per step": steps_of,
        "steps": math.ceil(len(plan) / (steps_of * n_processes())),
    }


def _shares(mix: Mix, plan: Sequence[Pass]) -> dict[str, int]:
    """Entries of the plan by part of the mix, numbered where a file is named twice."""
    counts = Counter(
        mix.train.part_of(entry.example) for one in plan for group in one.groups for entry in group
    )
    paths = [part.source.path for part in mix.parts]
    return {
        path if paths.count(path) == 1 else f"{path} ({number + 1})": counts[number]
        for number, path in enumerate(paths)
    }


def _expected(
    wiring: Wiring, plan: Sequence[Pass], target: Target, examples: Sequence[Example]
) -> dict[str, Any]:
    lengths = [len(render(target.tokenizer, example.dialog).token_ids) for example in some(examples, 64)]
    found = estimate(wiring, plan, sum(lengths) / len(lengths))
    return {
        "work, GFLOP": found.gflop,
        "this machine, GFLOP/s": found.gflop_per_second,
        "expected minutes": round(found.minutes, 1),
        "expected memory, GB": round(found.memory_gb, 1),
    }


def _half(config: TrainConfig) -> bool:
    from latentqa.models import resolve_device, resolve_dtype

    return resolve_dtype(config.dtype, resolve_device(config.device)) == torch.bfloat16


def _commit() -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
