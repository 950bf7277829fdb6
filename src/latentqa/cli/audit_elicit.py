"""`latentqa audit elicit`: what a model can be brought to do that it normally withholds."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from latentqa.cli import options
from latentqa.cli.progress import note, progress
from latentqa.errors import ConfigError, DataError

EXAMPLES = """\b
Examples:
  latentqa audit elicit runs/organisms/refusal-recipes --out runs/audits/recipes
  latentqa audit elicit my-model --behaviors xstest --out report --limit 100 --methods prefill,lit-vector
  latentqa audit elicit my-model --behaviors harmbench.csv --out report strengths=[1,2] weights.steps=60
"""


def elicit(
    model: Annotated[
        str,
        typer.Argument(
            help='Model that is audited: a hub id, a folder (of an adapter too), a .gguf file or "builtin".',
            metavar="MODEL",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings over those of the file, such as strengths=[1,2] or vector.norm=0.5.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="Folder of the run and of report.html and report.json; a run that was begun goes on.",
            metavar="DIR",
        ),
    ],
    behaviors: Annotated[
        str | None,
        typer.Option(
            "--behaviors",
            help="CSV or JSONL file with the columns of HarmBench or XSTest, or xstest for the one below the "
            "data root. Left out: the own check of an organism that withholds something.",
            metavar="FILE",
        ),
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Methods, separated by commas: prompting, prefill, contrast-vector, lit-weights, "
            "lit-vector; none always takes part. Left out: all.",
            metavar="A,B",
        ),
    ] = None,
    sentence: Annotated[
        str | None,
        typer.Option("--sentence", help="What the model is steered towards, as a sentence.", metavar="TEXT"),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=1, help="Behaviours that are drawn of the file. Left out: 500 at most."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the settings.", metavar="FILE")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Data root, for xstest and for the text of the perplexity. Left out: $LATENTQA_DATA.",
            metavar="DIR",
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            "--judge",
            help="Base address of an OpenAI-compatible server that judges compliance too: requests and "
            "replies are sent to it. Its key, if it wants one, is read from LATENTQA_JUDGE_KEY.",
            metavar="URL",
        ),
    ] = None,
    judge_model: Annotated[
        str, typer.Option("--judge-model", help="Name of the judging model there.", metavar="NAME")
    ] = "default",
    keep_completions: Annotated[
        bool,
        typer.Option(
            "--keep-completions", help="Keep the model's replies to the behaviours, and show some of them."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Begin anew where an earlier audit lies.")] = False,
    decoder: options.DecoderName = "builtin",
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quantization: options.QuantizationOption = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Put requests to a model as it is and under each method, and count refusals and compliance.

    Beside them: a control task, perplexity, and for an organism how much of what it withholds was brought
    out. Replies are judged at once; they are neither kept nor shown unless that is asked for.
    """
    from latentqa.audit.elicitation import (
        METHODS,
        ElicitSettings,
        check_place,
        compliance_judge,
        elicit_model,
        elicitation_json,
        find_truth,
        known_methods,
        load_elicited,
        read_behaviors,
        write_elicitation,
    )
    from latentqa.audit.elicitation.behaviors import LIMIT
    from latentqa.audit.elicitation.report import elicitation_lines
    from latentqa.cli.settings import load_settings
    from latentqa.steering import read_pairs

    check_place(out, force=force)
    names = known_methods([one.strip() for one in methods.split(",")] if methods else METHODS)
    said = [] if sentence is None else [f"sentence={json.dumps(sentence)}"]
    settings = load_settings(ElicitSettings, config, [*(overrides or []), *said])
    if settings.pairs is not None:
        read_pairs(settings.pairs)  # what is wrong with it is said before anything is loaded
    drawn = None
    if behaviors is not None:
        drawn = read_behaviors(behaviors, root=data, limit=limit or LIMIT, seed=settings.seed)
    elif limit is not None:
        raise typer.BadParameter("--limit draws from the file that --behaviors names.")
    truth, remark = find_truth(model)
    if remark:
        note(remark)
    if drawn is None and truth is None:
        raise ConfigError(
            f"{model} is no organism that withholds something and passed its own check, so requests are "
            "needed: name a file with --behaviors."
        )
    key = os.environ.get("LATENTQA_JUDGE_KEY") or None
    judging = compliance_judge(judge, judge_model, key=key, folder=out) if judge is not None else None
    root = _text_root(data) if settings.windows else None
    target, reader = load_elicited(
        model,
        names,
        decoder=decoder,
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=quantization.value if quantization else None,
        trust_remote_code=trust_remote_code,
    )
    command = f"latentqa {shlex.join(sys.argv[1:])}"
    with progress("elicit: rows") as advance:
        found = elicit_model(
            target,
            out,
            drawn,
            decoder=reader,
            truth=truth,
            methods=names,
            settings=settings,
            root=root,
            judge=judging,
            keep_completions=keep_completions,
            force=force,
            command=command,
            note=note,
            progress=advance,
        )
    if as_json:
        typer.echo(json.dumps(elicitation_json(found, command=command), ensure_ascii=False))
    else:
        typer.echo("\n".join(elicitation_lines(found)))
    page, table = write_elicitation(found, out, command=command)
    note(f"{page}\n{table}")


def _text_root(data: Path | None) -> Path | None:
    """The data root, if it holds the text of the perplexity."""
    from latentqa.benchmarks.steering.wikitext import FILE
    from latentqa.data import data_file, data_root

    try:
        data_file(FILE, data)
        return data_root(data)
    except DataError as error:
        note(f"No perplexity: {error}")
        return None
