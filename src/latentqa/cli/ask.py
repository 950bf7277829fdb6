"""`latentqa ask`: questions about what a target model computes on a dialog."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.answers import (
    AnswerFile,
    AnswerKey,
    answer_row,
    print_answer,
    print_controls,
    print_dialog,
)
from latentqa.cli.inputs import NamedDialog, check_place, dialog_from_turns, read_dialogs, read_questions
from latentqa.cli.progress import note, progress
from latentqa.errors import LatentQAError
from latentqa.types import Query

if TYPE_CHECKING:
    from latentqa.decoder import Decoder, Target
    from latentqa.types import Answer

CONTROLS = ("no-activation", "shuffled", "text-given")
"""Readers that `--explain` puts beside an answer."""
QUERIES_AT_ONCE = 128
"""Queries handed to the decoder together; it makes its own batches of them."""


@dataclass(frozen=True)
class Asked:
    """One question on one dialog, and which of its samples is drawn."""

    named: NamedDialog
    question: str
    sample: int


def ask(
    questions: Annotated[
        list[str] | None, typer.Argument(help="Questions in plain language.", metavar="QUESTION")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="System prompt of the dialog.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="User turn of the dialog.")] = None,
    assistant: Annotated[
        str | None, typer.Option("--assistant", help="Assistant turn that ends the dialog.")
    ] = None,
    dialogs: Annotated[
        str | None,
        typer.Option(
            "--dialogs", help="JSONL file, one dialog a line; - for standard input.", metavar="FILE"
        ),
    ] = None,
    questions_file: Annotated[
        Path | None, typer.Option("--questions", help="Text file, one question a line.", metavar="FILE")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write JSONL answers here; those already there are kept.", metavar="FILE"),
    ] = None,
    read: options.ReadSpan = None,
    read_layer: options.ReadLayers = None,
    decoder: options.DecoderName = "builtin",
    preset: options.PresetName = None,
    target: options.TargetName = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quantization: options.QuantizationOption = None,
    trust_remote_code: options.TrustRemoteCode = False,
    reference: options.ReferenceOption = options.Reference.MEAN,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")
    ] = 40,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy.")] = 0.0,
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            min=0.0,
            help="How much of what is likely on a mean activation is taken off while an answer is written; 0 "
            "is off. Left out: what the decoder's verdicts were calibrated with.",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            min=1,
            help="Answers drawn per question. With --temperature 0 one greedy answer is shown, beside the "
            "share of them that says the same.",
        ),
    ] = None,
    specificity: Annotated[
        bool,
        typer.Option(
            "--specificity", help="Say how many other dialogs an answer fits less well than this one."
        ),
    ] = False,
    max_error: Annotated[
        float | None,
        typer.Option(
            "--max-error",
            min=0.0,
            max=1.0,
            help="Mark answers not sure whose p(correct) went with a larger share of errors on held-out "
            "labels.",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Put each question to no activation, another dialog and the text too."
        ),
    ] = False,
    batch_size: options.BatchSize = 8,
    as_json: options.AsJson = False,
) -> None:
    """Ask questions about a dialog's activations.

    The activations of one span are read, the rest of the dialog stays hidden from the decoder. Each answer
    comes with its verdict: supported, or not sure; and with p(correct), if the decoder's card has been fitted
    for it (`latentqa calibrate --labels`).
    """
    shown = samples if samples and temperature > 0 else 1
    wanted = _wanted(questions, questions_file, dialogs, (system, user, assistant), shown)
    if out is not None:
        check_place(out)
    read_target, reader = options.load_reader(
        decoder,
        target=target,
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=quantization,
        trust_remote_code=trust_remote_code,
        preset=preset,
        read_layers=read_layer or (),
    )
    settings = {
        "max_new_tokens": max_new_tokens,
        "temperature": temperature,
        "reference": reference.value,
        "batch_size": batch_size,
        "samples": samples or 0 if temperature == 0 else 0,
        "specificity": specificity,
        "max_error": max_error,
        "guidance": guidance,
    }
    run = AskRun(read_target, reader, reader.card.span if read is None else read, settings, explain)
    if out is None:
        _print_all(run, wanted, as_json)
    else:
        _write_all(run, wanted, out)


@dataclass(frozen=True)
class AskRun:
    """How the questions of one command are asked.

    Attributes:
        target: the model that is read.
        decoder: the decoder that answers.
        span: what is read of every dialog.
        settings: options of `Decoder.ask`.
        explain: put each question to the control readers too.
    """

    target: Target
    decoder: Decoder
    span: str
    settings: dict[str, Any]
    explain: bool = False

    def answer(self, wanted: Sequence[Asked], on_answer: Callable[[int, Answer], None]) -> None:
        """Ask everything, calling `on_answer(index, answer)` for each answer as it comes."""
        self._check_spans(wanted)
        done = 0
        with progress("asking") as advance:
            for indices in _batches(wanted):

                def came(place: int, answer: Answer, indices: Sequence[int] = indices) -> None:
                    nonlocal done
                    done += 1
                    on_answer(indices[place], answer)
                    advance(done, len(wanted))

                asked = [wanted[index] for index in indices]
                queries = [Query(one.named.dialog, self.span, one.question) for one in asked]
                self.decoder.ask(queries, seed=wanted[indices[0]].sample, on_answer=came, **self.settings)

    def controls(self, wanted: Sequence[Asked]) -> list[dict[str, str]]:
        """What the control readers say to each question: reader → answer; nothing unless `explain`."""
        if not self.explain:
            return [{} for _ in wanted]
        from latentqa.baselines import ReaderContext, make_reader

        context = ReaderContext(self.target, self.decoder, answer_tokens=self.settings["max_new_tokens"])
        queries = [Query(one.named.dialog, self.span, one.question) for one in wanted]
        said: list[dict[str, str]] = [{} for _ in wanted]
        for name in CONTROLS:
            for texts, answer in zip(said, make_reader(name, context).ask(queries), strict=True):
                texts[name] = answer.text
        return said

    def _check_spans(self, wanted: Sequence[Asked]) -> None:
        """Find the span in every dialog before the first question is asked, so that none fails half-way."""
        dialogs = {asked.named.name: asked.named for asked in wanted}
        for named in dialogs.values():
            try:
                self.target.reading(named.dialog, self.span)
            except LatentQAError as error:
                if len(dialogs) == 1:
                    raise
                raise type(error)(f"Dialog {named.name}: {error}") from error


def _wanted(
    questions: list[str] | None,
    questions_file: Path | None,
    dialogs: str | None,
    turns: tuple[str | None, str | None, str | None],
    samples: int,
) -> list[Asked]:
    if not questions and questions_file is None:
        raise typer.BadParameter(
            'no question. Add one, such as "What type of persona will the assistant adopt?"'
        )
    if (dialogs is None) == all(turn is None for turn in turns):
        raise typer.BadParameter(
            "give the dialog once: by --system, --user and --assistant, or by --dialogs FILE."
        )
    texts = read_questions(questions or [], questions_file)
    named = [dialog_from_turns(*turns)] if dialogs is None else read_dialogs(dialogs)
    return [Asked(one, text, sample) for one in named for text in texts for sample in range(samples)]


def _batches(wanted: Sequence[Asked]) -> Iterator[list[int]]:
    """Cut indices into parts that the decoder is asked at once: each of one sample, which is its seed."""
    for start in range(0, len(wanted), QUERIES_AT_ONCE):
        part = range(start, min(start + QUERIES_AT_ONCE, len(wanted)))
        for sample in sorted({wanted[index].sample for index in part}):
            yield [index for index in part if wanted[index].sample == sample]


def _print_all(run: AskRun, wanted: Sequence[Asked], as_json: bool) -> None:
    """Print answers in the order they were asked for, each as soon as those before it are there."""
    came: dict[int, Answer] = {}
    controls = run.controls(wanted)
    printed = 0

    def on_answer(index: int, answer: Answer) -> None:
        nonlocal printed
        came[index] = answer
        while printed in came:
            named = wanted[printed].named
            if as_json:
                row = _row(wanted[printed], came.pop(printed), controls[printed])
                typer.echo(json.dumps(row, ensure_ascii=False))
            else:
                if printed == 0 or wanted[printed - 1].named != named:
                    print_dialog(named)
                print_answer(came.pop(printed))
                if controls[printed]:
                    print_controls(controls[printed])
            printed += 1

    run.answer(wanted, on_answer)


def _write_all(run: AskRun, wanted: Sequence[Asked], out: Path) -> None:
    """Append answers to a file, leaving out those that it holds already."""
    expected = {
        "decoder": run.decoder.name,
        "span": run.span,
        "read_layers": list(run.decoder.read_layers),
    }
    with AnswerFile(out, expected) as file:
        missing = [asked for asked in wanted if _key(asked) not in file.done]
        controls = run.controls(missing)
        run.answer(missing, lambda index, answer: file.write(_row(missing[index], answer, controls[index])))
    note(f"{out}: {len(missing)} answers written, {len(wanted) - len(missing)} were there already.")


def _key(asked: Asked) -> AnswerKey:
    return AnswerKey(asked.named.name, asked.question, asked.sample)


def _row(asked: Asked, answer: Answer, controls: dict[str, str]) -> dict[str, Any]:
    return answer_row(_key(asked), answer) | ({"controls": controls} if controls else {})
