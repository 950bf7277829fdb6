"""What is refused before a run starts, and the files that say what a run was started with."""

from __future__ import annotations

import json
import os
from pathlib import Path

from latentqa.decoder.card import Card
from latentqa.decoder.load import find_decoder
from latentqa.decoder.target import Target
from latentqa.errors import ConfigError, TrainingError
from latentqa.models import LoadedModel, hidden_size
from latentqa.training.config import TrainConfig
from latentqa.training.mix import Mix
from latentqa.training.setup import write_site
from latentqa.training.trainer import checkpoints

SETTINGS_FILE = "settings.json"
DATA_FILE = "data.json"  # hashes of the training data


def check_output(output: Path, resume: bool, dry_run: bool) -> None:
    """Refuse to write over a run or where no folder can be, before anything is loaded."""
    place = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    if not place.is_dir():
        raise TrainingError(f"output {output} cannot be made: {place} is a file. Name a folder.")
    if not dry_run and not resume and checkpoints(output):
        raise TrainingError(f"{output} holds a run already. Give another output, or resume it.")


def check_fit(config: TrainConfig, target: Target, base: LoadedModel) -> None:
    """Refuse a write site that the decoder does not have, and vectors that do not fit it."""
    write_site(config).module(base.model)
    if config.mapping is not None:
        if config.sample_layer:
            raise ConfigError(
                "A mapping takes all read layers together. Set sample_layer: false or mapping: null."
            )
        if not config.mapping.raw:
            return
    if hidden_size(target.model) != hidden_size(base.model):
        raise ConfigError(
            f"Target {target.name} has vectors of {hidden_size(target.model)} dimensions, but the decoder's "
            f"base {base.name} takes {hidden_size(base.model)}. Choose a base of the target's width, or set "
            "a mapping without raw: its regression takes one width to the other."
        )


def check_start(config: TrainConfig, target: Target) -> None:
    """Refuse to go on from a decoder that is wired in another way.

    Raises:
        ConfigError: naming what differs.
    """
    if config.start is None:
        return
    card = Card.load(find_decoder(config.start))
    mapping = None if config.mapping is None else (config.mapping.ridge, config.mapping.gain)
    theirs = None if card.mapping is None else (card.mapping.ridge, card.mapping.gain)
    raw = card.mapping is not None and card.mapping.raw
    sides = {
        "kind": (card.kind, config.kind),
        "read layers": (card.read_layers, config.read_layers),
        "write site": (card.write_site, str(write_site(config))),
        "injection": (card.injection, config.injection),
        "scale": (card.scale, config.scale),
        "mapping (ridge, gain)": (theirs, mapping),
        # Raw vectors may be added to a decoder that had none, and not taken away.
        "mapping (raw)": (raw, raw and config.mapping is not None and config.mapping.raw),
        "prompt template": (card.prompt.template, config.template),
        "target": (card.target_hash, target.weights_hash),
    }
    for what, (found, asked) in sides.items():
        if found != asked:
            raise ConfigError(
                f"start: {config.start} was trained with {what} {found}, and this run asks for {asked}. Give "
                "its settings, or leave start out."
            )


def check_patience(config: TrainConfig) -> None:
    """Refuse early stopping where nothing is evaluated on the way."""
    if config.patience and not evaluates(config):
        raise ConfigError(
            "patience stops a run that gets no better, but nothing is evaluated on the way. "
            "Set evaluate_every, evaluate_labels and held_out above 0, or patience: 0."
        )


def check_same_run(output: Path, config: TrainConfig, mix: Mix, dry_run: bool) -> None:
    """Refuse to resume a run with other settings or other data than it was started with."""
    if dry_run or not checkpoints(output):
        return
    try:
        before = TrainConfig.model_validate_json((output / SETTINGS_FILE).read_text(encoding="utf-8"))
        hashes = json.loads(_read_if_there(output / DATA_FILE) or json.dumps(mix.hashes))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{output} holds checkpoints, but its {SETTINGS_FILE} cannot be read "
            f"({type(error).__name__}), so they cannot be resumed. Give another output."
        ) from error
    ignored = {"output", "data_root", "save_every", "log_to"}
    old, new = before.model_dump(exclude=ignored), config.model_dump(exclude=ignored)
    changed = [name for name in new if new[name] != old[name]]
    changed += [f"contents of {path}" for path, found in mix.hashes.items() if hashes.get(path) != found]
    if changed:
        raise TrainingError(
            f"{output} holds a run with other settings ({', '.join(changed)}). "
            "Resume with the same, or give another output."
        )


def evaluates(config: TrainConfig) -> bool:
    """Whether held-out labels are ranked during the run."""
    return config.evaluate_every > 0 and config.evaluate_labels > 0 and config.held_out > 0


def write_settings(path: Path, text: str) -> None:
    """Write a text file at once, also when several processes do it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)


def _read_if_there(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
