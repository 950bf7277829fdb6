"""`latentqa data make`: a training set from nothing, by rules, a model on this machine, or an endpoint."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentqa.cli import options
from latentqa.cli.progress import SECONDS_BETWEEN_LINES, note

if TYPE_CHECKING:
    from latentqa.data.generate import Fits, Report, Status
    from latentqa.data.providers import Generate


class WriterName(StrEnum):
    """Who writes."""

    RULES = "rules"
    LOCAL = "local"
    ENDPOINT = "endpoint"
    REPLAY = "replay"


def make(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings over those of the file, such as writer.model=NAME.", metavar="KEY=VALUE"
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the settings.", metavar="FILE")
    ] = None,
    writer: Annotated[WriterName | None, typer.Option("--writer", help="Who writes.")] = None,
    controls: Annotated[
        int | None, typer.Option("--controls", min=1, help="About how many controls.", metavar="N")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the run.", metavar="DIR")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Price the run in tokens, money and minutes; send nothing.")
    ] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Make stages again whose settings have changed.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a training set: seeds, controls, dialogs, question-answer pairs, checks and a card.

    A run that was interrupted goes on where it was; what a model has answered is not sent again.
    """
    from latentqa.cli.settings import load_settings
    from latentqa.data.generate import DataConfig, Models, estimate
    from latentqa.data.generate import make as run

    given = {"writer.kind": writer, "controls.count": controls, "output": out}
    named = [f"{key}={value}" for key, value in given.items() if value is not None]
    if config is None and not named and not overrides:
        raise typer.BadParameter("no settings. Pass --config data.yaml, or --writer, --controls and --out.")
    settings = load_settings(DataConfig, config, [*(overrides or []), *named])
    if dry_run:
        price = estimate(settings)
        typer.echo(price.to_json() if as_json else str(price))
        return
    with shown() as report:
        result = run(settings, models=Models(generate=_generate, fits=_fits), report=report, redo=redo)
    typer.echo(result.to_json() if as_json else str(result))


def _generate(name: str) -> Generate:
    from latentqa.data.providers import Reply
    from latentqa.decoder import load_target

    target = load_target(name)

    def generate(dialogs: object, max_new_tokens: int) -> list[Reply]:
        texts = target.complete(dialogs, max_new_tokens=max_new_tokens)  # pyright: ignore[reportArgumentType]
        lengths = [len(ids) for ids in target.tokenizer(texts, add_special_tokens=False)["input_ids"]]  # pyright: ignore
        return [Reply(text, 0, length) for text, length in zip(texts, lengths, strict=True)]

    return generate


def _fits(how: str, controls: list[str]) -> Fits:
    from latentqa.benchmarks.fits import by_embedding, by_text_given

    return by_embedding(controls) if how == "embedding" else by_text_given()


@contextmanager
def shown(*, clock: Callable[[], float] = time.monotonic) -> Iterator[Report]:
    """Show each status on stderr: in place on a terminal, else as a line every ten seconds and at each end.

    Args:
        clock: seconds; for tests.
    """
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
        with bar:
            task = bar.add_task("", total=None)
            yield lambda now: bar.update(task, description=str(now), completed=now.done, total=now.total)
        return
    last = clock()

    def tell(now: Status) -> None:
        nonlocal last
        if clock() - last >= SECONDS_BETWEEN_LINES or now.done == now.total:
            last = clock()
            note(str(now))

    yield tell
