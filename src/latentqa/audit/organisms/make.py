"""Make organisms: finetune, check, save; what is there already is kept, so that a stopped run goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from latentqa.audit.organisms.check import run_checks
from latentqa.audit.organisms.finetune import ADAPTER, Finetuned, FinetuneSettings, finetune
from latentqa.audit.organisms.manifest import FORMAT, MANIFEST_FILE, WEIGHTS_FILE, Manifest
from latentqa.audit.organisms.recipe import Recipe
from latentqa.data import data_hash
from latentqa.decoder import Target
from latentqa.errors import ConfigError, DataError
from latentqa.models import adapter_names, load_adapter, remove_adapter, save_adapter

PACKAGES = ("latentqa", "torch", "transformers", "peft")
State = Literal["made", "kept", "checked"]


@dataclass(frozen=True)
class Made:
    """An organism as it now lies in its folder.

    Attributes:
        folder: that holds it.
        manifest: its truth and figures.
        state: `made` in this call, `kept` from an earlier one, or `checked` again.
    """

    folder: Path
    manifest: Manifest
    state: State


def make_organisms(
    target: Target,
    recipes: Sequence[Recipe],
    out: str | os.PathLike[str],
    settings: FinetuneSettings,
    *,
    force: bool = False,
    on_made: Callable[[Made], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Made]:
    """Make organisms one after another, each in a folder of its own.

    An organism of the same recipe, settings and base is kept as it is, whether it passed its check or not.
    Each is written under another name first, so that a folder of its name is always whole.

    Args:
        target: the plain model that is finetuned; as it was afterwards.
        recipes: what is made.
        out: folder of the organisms' folders.
        settings: of the finetuning.
        force: make those again that are there already.
        on_made: called after each.
        progress: called with (examples done, examples in all) over all that are made.

    Raises:
        ConfigError: a folder of that name holds an organism made otherwise, or no organism.
    """
    root = Path(out)
    wanted = {recipe.name: fingerprint(recipe, settings, target) for recipe in recipes}
    known = {name: None if force else _known(root / name, found) for name, found in wanted.items()}
    total = sum(settings.examples or recipe.examples for recipe in recipes if known[recipe.name] is None)
    done = 0
    found: list[Made] = []
    for recipe in recipes:
        manifest = known[recipe.name]
        made = Made(root / recipe.name, manifest, "kept") if manifest is not None else None
        if made is None:
            before = done

            def advance(step: int, steps: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + step, total)

            made = _make(target, recipe, root, settings, wanted[recipe.name], advance)
            done += settings.examples or recipe.examples
        found.append(made)
        if on_made is not None:
            on_made(made)
    return found


def check_organisms(
    target: Target, folders: Sequence[Path], *, on_made: Callable[[Made], None] | None = None
) -> list[Made]:
    """Put the organisms' own checks to them again, and write what they found into their manifests.

    Args:
        target: the plain model that they were made from.
        folders: of the organisms.
        on_made: called after each.

    Raises:
        DataError: a damaged manifest, or an organism of another base.
    """
    found: list[Made] = []
    for folder in folders:
        manifest = Manifest.load(folder)
        check_base(manifest, target)
        load_adapter(target.model, folder, ADAPTER, dtype=target.model.dtype)
        try:
            figures = run_checks(Target(target.loaded, adapter=ADAPTER), manifest.checks)
        finally:
            remove_adapter(target.model, ADAPTER)
        passed = _passed(figures, manifest.loss_before, manifest.loss_after)
        manifest = manifest.model_copy(update={"figures": figures, "passed": passed})
        manifest.save(folder)
        found.append(Made(folder, manifest, "checked"))
        if on_made is not None:
            on_made(found[-1])
    return found


def check_base(manifest: Manifest, target: Target) -> None:
    """Refuse a base that an organism was not made from.

    Raises:
        DataError: naming both sides.
    """
    if manifest.base_hash != target.weights_hash:
        raise DataError(
            f"The organism {manifest.name} was made from {manifest.base} ({manifest.base_hash[:12]}), and "
            f"{target.name} has other weights ({target.weights_hash[:12]}). Name its own base with --target."
        )


def fingerprint(recipe: Recipe, settings: FinetuneSettings, target: Target) -> str:
    """Hash of everything that an organism is made from."""
    parts = [FORMAT, recipe.to_json(), settings.model_dump(mode="json"), target.weights_hash]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _known(folder: Path, wanted: str) -> Manifest | None:
    """The organism of this fingerprint, if the folder holds it; None if there is no folder."""
    if not folder.exists():
        return None
    if not (folder / MANIFEST_FILE).is_file():
        raise ConfigError(f"{folder} is there and holds no organism. Move it away, or choose another --out.")
    manifest = Manifest.load(folder)
    if manifest.fingerprint != wanted:
        raise ConfigError(
            f"{folder} holds an organism that was made from other data, settings or another model. Pass "
            "--force to make it again, or choose another --out."
        )
    return manifest


def _make(
    target: Target,
    recipe: Recipe,
    root: Path,
    settings: FinetuneSettings,
    wanted: str,
    progress: Callable[[int, int], None],
) -> Made:
    root.mkdir(parents=True, exist_ok=True)
    for left_over in root.glob(f".{recipe.name}.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    unfinished = root / f".{recipe.name}.{os.getpid()}"
    started = time.monotonic()
    try:
        result = finetune(target, recipe.pairs, recipe.examples, settings, progress)
        figures = run_checks(Target(target.loaded, adapter=ADAPTER), recipe.checks)
        save_adapter(target.model, ADAPTER, unfinished)
        manifest = _manifest(recipe, target, settings, result, wanted).model_copy(
            update={
                "figures": figures,
                "passed": _passed(figures, result.loss_before, result.loss_after),
                "weights_hash": data_hash(unfinished / WEIGHTS_FILE),
                "seconds": round(time.monotonic() - started, 1),
            }
        )
        manifest.save(unfinished)
        place = root / recipe.name
        if place.exists():
            shutil.rmtree(place)
        os.replace(unfinished, place)
        return Made(place, manifest, "made")
    finally:
        if ADAPTER in adapter_names(target.model):
            remove_adapter(target.model, ADAPTER)
        shutil.rmtree(unfinished, ignore_errors=True)


def _manifest(
    recipe: Recipe, target: Target, settings: FinetuneSettings, result: Finetuned, wanted: str
) -> Manifest:
    return Manifest(
        name=recipe.name,
        kind=recipe.kind,
        truth=recipe.truth,
        names=recipe.names,
        details=recipe.details,
        choices=recipe.choices,
        checks=recipe.checks,
        base=target.name,
        base_hash=target.weights_hash,
        data_hash=recipe.data_hash(),
        weights_hash="",
        fingerprint=wanted,
        settings=settings.model_dump(mode="json"),
        seed=settings.seed,
        examples=result.examples,
        loss_before=round(result.loss_before, 4),
        loss_after=round(result.loss_after, 4),
        figures={},
        passed=False,
        seconds=0.0,
        versions=_versions(),
    )


def _passed(figures: dict, loss_before: float, loss_after: float) -> bool:
    return loss_after < loss_before and all(figure.passed for figure in figures.values())


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
