"""`latentqa calibrate`: fit again what verdicts are judged by, and p(correct)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from latentqa.cli import options
from latentqa.cli.inputs import read_dialogs
from latentqa.cli.progress import progress
from latentqa.errors import DataError

if TYPE_CHECKING:
    from latentqa.benchmarks.confidence import Judged
    from latentqa.decoder import Decoder


def calibrate(
    decoder: Annotated[
        Path, typer.Argument(help="Folder of a decoder; its card is rewritten.", metavar="DIR")
    ],
    dialogs: Annotated[
        Path | None,
        typer.Option(
            "--dialogs",
            help="JSONL file of ordinary dialogs that the decoder was not trained on. Left out: our own.",
            metavar="FILE",
        ),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=20, help="Dialogs that are asked.")] = 200,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", min=0, max=100, help="Percentile among them from which an answer is supported."
        ),
    ] = 95.0,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Data that the decoder was trained on (folder of item files, or JSONL): p(correct) is "
            "fitted on the labels that training held out.",
            metavar="PATH",
        ),
    ] = None,
    all_labels: Annotated[
        bool,
        typer.Option("--all-labels", help="Fit on all of --labels: none of them trained the decoder."),
    ] = False,
    questions: Annotated[
        int, typer.Option("--questions", min=40, help="Questions on --labels that are asked.")
    ] = 400,
    samples: Annotated[
        int, typer.Option("--samples", min=0, help="Answers drawn to each, so that agreement counts too.")
    ] = 0,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            min=0.0,
            help="Weight with which answers are guided by the mean activation from now on. Left out: the "
            "card's.",
        ),
    ] = None,
    target: options.TargetName = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
) -> None:
    """Ask a decoder about ordinary dialogs and keep the supports of its answers in its card.

    With --labels also fit p(correct) of its answers, from their support, log-probability and percentile.
    """
    if not decoder.is_dir():
        raise DataError(f"{decoder} is no folder. Name the one whose decoder and card are to be calibrated.")
    _, reader = options.load_reader(
        str(decoder),
        target=target,
        revision=None,
        dtype=dtype,
        device=device,
        quantization=None,
        trust_remote_code=False,
    )
    from latentqa.decoder import calibrate as fit

    if guidance is not None:
        reader.card = reader.card.model_copy(update={"guidance": guidance})
    given = None if dialogs is None else [item.dialog for item in read_dialogs(str(dialogs))]
    with progress("calibrating") as advance:
        fit(reader, count, dialogs=given, threshold=threshold, progress=advance)
    judged = None if labels is None else _confidence(reader, labels, all_labels, questions, samples)
    reader.references.save(decoder)
    reader.card.save(decoder)
    found = reader.card.calibration
    assert found is not None
    middle = found.supports[len(found.supports) // 2]
    count = len(found.supports)
    typer.echo(f"{count} answers on ordinary dialogs; their median support is {middle:+.2f} nats a token")
    if judged is not None:
        correct = sum(one.correct for one in judged)
        typer.echo(
            f"{len(judged)} questions on held-out labels; {correct} answers correct by "
            f"{reader.card.confidence[0].embedding}; p(correct) is in the card"
        )


def _confidence(
    decoder: Decoder, labels: Path, all_labels: bool, questions: int, samples: int
) -> tuple[Judged, ...]:
    from latentqa.benchmarks.confidence import fit_confidence, held_out_examples
    from latentqa.data import load_published, read_examples

    if not labels.exists():
        raise DataError(f"{labels} does not exist. Name the data that the decoder was trained on.")
    if labels.is_dir():
        examples = load_published(labels, ("system",)).require_clean()
    else:
        examples = read_examples(labels)
    fitting = list(examples) if all_labels else held_out_examples(decoder, examples)
    with progress("fitting p(correct)") as advance:
        return fit_confidence(decoder, fitting, limit=questions, samples=samples, progress=advance)
