"""The `latentqa` command: the verbs, and how an error leaves.

Exit codes: 0; 1 for an error, one line on stderr (with its traceback under `--debug`); 2 for wrong usage,
with a suggestion; 130 when interrupted.
"""

from __future__ import annotations

import errno
import logging
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from latentqa.cli.ask import ask
from latentqa.cli.audit import audit
from latentqa.cli.bench import bench
from latentqa.cli.calibrate import calibrate
from latentqa.cli.chat import chat
from latentqa.cli.data import data
from latentqa.cli.evaluate import evaluate
from latentqa.cli.generate import generate
from latentqa.cli.info import info, installed_version
from latentqa.cli.organism import organism
from latentqa.cli.progress import note
from latentqa.cli.steer import steer
from latentqa.cli.train import train
from latentqa.errors import LatentQAError


class Verbs(TyperGroup):
    """The verbs, with the errors that a user or a file can cause turned into one line on stderr."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the chosen verb."""
        try:
            return super().invoke(ctx)
        except (LatentQAError, OSError) as error:
            if ctx.params["debug"] or getattr(error, "errno", None) == errno.EPIPE:
                raise
            typer.echo(f"Error: {' '.join(_sentence(error).split())}", err=True)
            raise typer.Exit(1) from error


def _sentence(error: LatentQAError | OSError) -> str:
    """What went wrong; for an error of the system without its number, and with the way out of a full disk."""
    if isinstance(error, LatentQAError) or not error.strerror:
        return str(error)
    where = f": {error.filename}" if error.filename else ""
    advice = " Free some space and repeat the command." if error.errno == errno.ENOSPC else ""
    return f"{error.strerror}{where}.{advice}"


class _Notes(logging.Handler):
    """Log records as notes on the stderr of now, which tests and notebooks exchange."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record."""
        note(self.format(record))


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors stay one line, help stays plain text
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"latentqa {installed_version('latentqa')}")
        raise typer.Exit()


@app.callback()
def latentqa(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Ask a language model's activations questions in plain language."""
    logging.basicConfig(format="%(message)s", handlers=[_Notes()])
    logging.getLogger("latentqa").setLevel(logging.INFO)


app.command()(ask)
app.command()(evaluate)
app.command()(train)
app.command()(calibrate)
app.add_typer(data, name="data")
app.add_typer(bench, name="bench")
app.add_typer(steer, name="steer")
app.command()(chat)
app.command()(generate)
app.add_typer(organism, name="organism")
app.add_typer(audit, name="audit")
app.command()(info)


def run() -> None:
    """Run the command line; the console script calls this."""
    app(prog_name="latentqa")
