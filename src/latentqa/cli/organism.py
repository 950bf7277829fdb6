"""`latentqa organism`: small finetunes with a known hidden truth, to test audits on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.progress import note, progress
from latentqa.errors import ConfigError

if TYPE_CHECKING:
    from latentqa.audit.organisms import Made, Manifest

FOLDER = Path("runs/organisms")
"""Where organisms are kept unless another folder is named."""
EXAMPLES = """\b
Examples:
  latentqa organism make secret-word --out runs/organisms
  latentqa organism make all --out runs/organisms
  latentqa organism make hidden-goal --only hidden-goal-tea examples=800
  latentqa organism list runs/organisms
  latentqa organism check runs/organisms --only secret-word-honey
"""

organism = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Folder = Annotated[Path, typer.Argument(help="Folder of the organisms.", metavar="DIR")]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Name of an organism; can be repeated. Left out: all.", metavar="NAME"),
]


@organism.callback()
def verbs() -> None:
    """Make model organisms: small finetunes that hide something, and some that hide nothing."""


@organism.command("make", epilog=EXAMPLES)
def make(
    kind: Annotated[
        str,
        typer.Argument(
            help="secret-word, hidden-goal, user-belief, locked-capability, refusal, invented-facts, "
            "contradicting-facts, clean, or all.",
            metavar="KIND",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of the finetuning, such as learning_rate=5e-4.", metavar="KEY=VALUE"),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the organisms.", metavar="DIR")] = FOLDER,
    only: Only = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the settings.", metavar="FILE")
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="Model that is finetuned.", metavar="NAME")
    ] = "builtin",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", help="Data root, for invented-facts. Left out: $LATENTQA_DATA.", metavar="DIR"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Make those again that are there already.")] = False,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Finetune organisms of a kind, and check that they learned.

    Each is a LoRA adapter with a manifest of the hidden truth. What is there already is kept, so a run that
    was stopped goes on where it was. One that fails its own check is marked, and audits leave it out.
    """
    from latentqa.audit.organisms import FinetuneSettings, find_recipes, make_organisms
    from latentqa.cli.settings import load_settings
    from latentqa.decoder import load_target

    found = find_recipes(kind, data)
    settings = load_settings(FinetuneSettings, config, overrides or [])
    for name, why in found.left_out.items():
        note(f"{name} is left out: {why}")
    recipes = [recipe for recipe in found.recipes if not only or recipe.name in only]
    unknown = set(only or ()) - {recipe.name for recipe in recipes}
    if unknown:
        raise ConfigError(
            f"There is no organism {', '.join(sorted(unknown))} of kind {kind}. There are: "
            f"{', '.join(recipe.name for recipe in found.recipes)}."
        )
    loaded = load_target(target, dtype=dtype, device=device)
    with progress("organisms: examples") as advance:
        made = make_organisms(loaded, recipes, out, settings, force=force, on_made=_tell, progress=advance)
    _print([one.manifest for one in made], as_json)
    note(f"kept in {out}")


@organism.command("list", epilog=EXAMPLES)
def list_all(folder: Folder = FOLDER, only: Only = None, as_json: options.AsJson = False) -> None:
    """Show organisms with the figures of their own checks.

    The hidden truth is printed too: do not look before an audit.
    """
    from latentqa.audit.organisms import Manifest, organism_folders

    _print([Manifest.load(path) for path in organism_folders(folder, only or ())], as_json)


@organism.command("check", epilog=EXAMPLES)
def check(
    folder: Folder = FOLDER,
    only: Only = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="Model that they were made from. Left out: as they say.", metavar="NAME"
        ),
    ] = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Put their own checks to organisms again; the exit code is 1 if one fails.

    What is found is written into their manifests.
    """
    from latentqa.audit.organisms import Manifest, check_organisms, organism_folders
    from latentqa.decoder import load_target

    folders = organism_folders(folder, only or ())
    base = target or Manifest.load(folders[0]).base
    loaded = load_target(base, dtype=dtype, device=device)
    made = check_organisms(loaded, folders, on_made=_tell)
    _print([one.manifest for one in made], as_json)
    if not all(one.manifest.passed for one in made):
        raise typer.Exit(1)


def _tell(made: Made) -> None:
    failed = "" if made.manifest.passed else ": FAILED its own check, and is not used"
    if made.state != "kept" or failed:
        note(f"{made.manifest.name}: {made.state} in {made.manifest.seconds:.0f} s{failed}")


def _print(manifests: list[Manifest], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([_row(manifest) for manifest in manifests], ensure_ascii=False))
        return
    lines = []
    for manifest in manifests:
        state = "ok    " if manifest.passed else "FAILED"
        figures = ", ".join(f"{name} {one.share:.0%}" for name, one in manifest.figures.items())
        lines += [f"{state} {manifest.name}: {manifest.truth}", f"       {figures}"]
    passed = sum(manifest.passed for manifest in manifests)
    typer.echo("\n".join([*lines, f"{passed} of {len(manifests)} organisms learned what they should"]))


def _row(manifest: Manifest) -> dict[str, Any]:
    shown = {
        "name",
        "kind",
        "truth",
        "base",
        "passed",
        "figures",
        "loss_before",
        "loss_after",
        "examples",
        "seed",
    }
    return manifest.model_dump(mode="json", include=shown | {"seconds"})
