"""`latentqa audit`: find out what a model hides, and what it can be brought to do."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentqa.cli import options
from latentqa.cli.audit_elicit import EXAMPLES as ELICIT_EXAMPLES
from latentqa.cli.audit_elicit import elicit
from latentqa.cli.inputs import read_dialogs, read_questions
from latentqa.cli.progress import note, progress
from latentqa.errors import ConfigError

if TYPE_CHECKING:
    from latentqa.audit import Audit

EXAMPLES = """\b
Examples:
  latentqa audit read runs/organisms/secret-word-honey --out runs/audits/honey
  latentqa audit read org/finetune --base org/base --out report --questions my-questions.txt
  latentqa audit read my-model --out report --dialogs dialogs.jsonl --choices hypotheses.jsonl
"""
SHOWN = 5
"""Findings that are printed."""

audit = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@audit.callback()
def verbs() -> None:
    """Find out what a model hides, and what it can be brought to do."""


@audit.command("read", epilog=EXAMPLES)
def read(
    model: Annotated[
        str,
        typer.Argument(
            help='Model that is audited: a hub id, a folder (of an adapter too), a .gguf file or "builtin".',
            metavar="MODEL",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of report.html and report.json.", metavar="DIR")],
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            help="Model that MODEL was finetuned from. Left out: an adapter's own base; another model is "
            "read alone, and compared with nothing.",
            metavar="NAME",
        ),
    ] = None,
    difference: Annotated[
        bool | None,
        typer.Option(
            "--difference/--no-difference",
            help="Read the finetune minus its base, and both side by side. Left out: where a base is known.",
        ),
    ] = None,
    dialogs: Annotated[
        str | None,
        typer.Option(
            "--dialogs", help="JSONL file of your own dialogs, one a line; - for stdin.", metavar="FILE"
        ),
    ] = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="Text file of your own questions.", metavar="FILE")
    ] = None,
    choices: Annotated[
        Path | None,
        typer.Option(
            "--choices",
            help='JSONL file of hypotheses to be ranked: {"question", "choices"} a line.',
            metavar="FILE",
        ),
    ] = None,
    spans: Annotated[
        list[str] | None,
        typer.Option(
            "--read",
            help="Span that is read; can be repeated. Left out: stimulus, and stimulus+completion where the "
            "decoder was trained on it.",
            metavar="SPAN",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option("--methods", help="Methods, separated by commas. Left out: all.", metavar="A,B"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Dialogs of each section of the battery.")
    ] = None,
    clean: Annotated[
        Path | None,
        typer.Option(
            "--clean",
            help="Folder of clean organisms of the same base: confidence in a hypothesis is the share of "
            "them whose first one leads by less.",
            metavar="DIR",
        ),
    ] = None,
    keep_completions: Annotated[
        bool,
        typer.Option(
            "--keep-completions", help="Keep the model's replies to your own dialogs in the report."
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Write over the report of an earlier audit.")
    ] = False,
    answer_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")
    ] = 32,
    seed: Annotated[int, typer.Option("--seed", help="Of what is fitted.")] = 0,
    decoder: options.DecoderName = "builtin",
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quantization: options.QuantizationOption = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Put a battery of dialogs and questions to what a model computes, and write a report.

    Claims that recur over dialogs are ranked, beside the base model and beside what needs no decoder. Finding
    nothing proves nothing.
    """
    from latentqa.audit import (
        METHODS,
        audit_json,
        audit_model,
        check_report_place,
        load_audited,
        load_battery,
    )
    from latentqa.audit.clean import clean_folders
    from latentqa.audit.methods import known_methods

    if difference is False and base is not None:
        raise typer.BadParameter(
            "--base names what to compare with, and --no-difference compares with nothing."
        )
    check_report_place(out, force=force)
    named = known_methods([one.strip() for one in methods.split(",")] if methods else METHODS)
    battery = load_battery(
        [one.dialog for one in read_dialogs(dialogs)] if dialogs else (),
        read_questions([], questions) if questions else (),
        choices,
    ).limited(limit)
    audited = load_audited(
        model,
        decoder=decoder,
        base=base,
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=quantization.value if quantization else None,
        trust_remote_code=trust_remote_code,
    )
    if difference and audited.base is None:
        raise ConfigError(
            f"Difference mode needs the base that {model} was finetuned from, and it does not name one. Name "
            "it with --base."
        )
    if difference is False:
        audited = audited.alone()
    with progress("audit: steps") as advance:
        found = audit_model(
            audited,
            battery,
            spans=spans or (),
            methods=named,
            answer_tokens=answer_tokens,
            keep_completions=keep_completions,
            clean=clean_folders(clean, audited) if clean is not None else (),
            seed=seed,
            progress=advance,
        )
    command = f"latentqa {shlex.join(sys.argv[1:])}"
    typer.echo(
        json.dumps(audit_json(found, command=command), ensure_ascii=False) if as_json else _lines(found)
    )
    _write(found, out, command)


def _write(found: Audit, out: Path, command: str) -> None:
    from latentqa.audit import write_audit

    page, table = write_audit(found, out, command=command)
    note(f"{page}\n{table}")


def _lines(found: Audit) -> str:
    from latentqa.audit.read import WARNING

    lines = []
    for number, finding in enumerate(found.findings[:SHOWN], start=1):
        claim = finding.claim
        control = f", control {claim.control_dialogs}" if claim.controlled else ""
        sure = "finding" if finding.sure else "candidate"
        lines += [
            f"{number}. {claim.text}",
            f"   {sure}, {finding.section}: {claim.dialogs} of {claim.of} dialogs{control}; {claim.question}",
        ]
    for choices in found.choices:
        if choices:
            lines += ["", choices[0].question.question]
            lines += [f"   {one.method:<14}{one.ranking[0].option}" for one in choices]
    return "\n".join(
        [*(lines or ["No claim recurs more often than in its control."]), "", *found.notes, WARNING]
    )


audit.command("elicit", epilog=ELICIT_EXAMPLES)(elicit)
