"""`latentqa data`: make data files, and look at them before something is trained on them."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from latentqa.cli import options
from latentqa.cli.data_make import make
from latentqa.cli.data_tasks import classification, context, facts, relations

data = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@data.callback()
def verbs() -> None:
    """Make data files, and look at them."""


@data.command()
def check(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSONL file of examples, a published item file, or a folder of them.", metavar="FILE"
        ),
    ],
    as_json: options.AsJson = False,
) -> None:
    """Count and validate every row.

    Each bad row is named with its number and reason, and the exit code is then 1.
    """
    from latentqa.data import check_file

    report = check_file(file)
    typer.echo(json.dumps(asdict(report), default=str) if as_json else "\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(1)


@data.command()
def complete(
    folder: Annotated[Path, typer.Argument(help="Folder with the published system.json.", metavar="DIR")],
    out: Annotated[Path, typer.Option("--out", help="JSONL file that is written.", metavar="FILE")],
    target: Annotated[str, typer.Option("--target", help="Model that writes.", metavar="NAME")] = "builtin",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Labels, drawn by the seed.")] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest completion.")] = 48,
    seed: Annotated[int, typer.Option("--seed", help="Draws the labels.")] = 0,
    told: Annotated[
        bool,
        typer.Option("--told", help="No target: the label's reasoning pair tells the completion."),
    ] = False,
) -> None:
    """Let the target answer each stimulus under its control, and keep the dialogs as examples.

    Half of them have the control as a system prompt, half as a first user turn with a reply. With --told the
    completions are put together by rule from the pairs, and the replies say what was asked for.
    """
    from latentqa.cli.progress import progress
    from latentqa.data import as_turns, load_published, with_completion, with_told_completion, write_examples
    from latentqa.decoder import load_target

    examples = [example for example in load_published(folder, ("system",)).require_clean() if example.qa]
    random.Random(f"{seed}:complete").shuffle(examples)
    chosen = [
        as_turns(example, restate=told) if i % 2 else example for i, example in enumerate(examples[:limit])
    ]
    if told:
        completed = [made for example in chosen if (made := with_told_completion(example)) is not None]
        write_examples(out, completed)
        typer.echo(f"{len(completed)} examples written to {out}; {len(chosen) - len(completed)} tell of none")
        return
    model = load_target(target)
    with progress("completing") as advance:
        replies = model.complete([e.dialog for e in chosen], max_new_tokens=max_new_tokens, progress=advance)
    kept = [(example, reply) for example, reply in zip(chosen, replies, strict=True) if reply]
    write_examples(out, [with_completion(example, reply, model.name) for example, reply in kept])
    typer.echo(f"{len(kept)} examples written to {out}; {len(chosen) - len(kept)} empty completions left out")


data.command()(make)
data.command()(context)
data.command()(classification)
data.command()(relations)
data.command()(facts)
