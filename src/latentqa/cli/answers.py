"""Answers on their way out: JSON lines, text for people, and the file that a batch resumes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import typer

from latentqa.cli.growing import GrowingFile
from latentqa.cli.inputs import NamedDialog
from latentqa.types import Answer


class AnswerKey(NamedTuple):
    """What an answer is filed under: dialog, question, and which of several samples it is."""

    dialog: str
    question: str
    sample: int = 0


def answer_row(key: AnswerKey, answer: Answer) -> dict[str, Any]:
    """Give the object that `--json` prints for one answer; log-probabilities and support in nats.

    The key `sample` is there from the second sample of a question on; `p_correct`, `agreement` and
    `specificity` where they were computed.
    """
    return {
        "dialog": key.dialog,
        "question": key.question,
        "answer": answer.text,
        "verdict": answer.verdict,
        "support": _rounded(answer.support),
        "percentile": _rounded(answer.percentile),
        "logprob": _rounded(answer.logprob),
        "read_layers": list(answer.read_layers),
        "span": answer.span,
        "decoder": answer.decoder,
        "n_tokens": answer.n_tokens,
    } | _optional(
        sample=key.sample or None,
        p_correct=answer.p_correct,
        agreement=answer.agreement,
        specificity=answer.specificity,
    )


def print_dialog(named: NamedDialog) -> None:
    """Print the heading that a dialog's answers stand under."""
    typer.secho("\n".join(f"{turn['role']}: {turn['content']}" for turn in named.dialog), dim=True)


def print_answer(answer: Answer) -> None:
    """Print one answer for people: question, answer, and how far the activations carry it."""
    figures = [typer.style(answer.verdict, fg="green" if answer.verdict == "supported" else "yellow")]
    if answer.support is not None:
        figures.append(f"support {answer.support:+.2f} nats a token")
    if answer.percentile is not None:
        figures.append(f"percentile {answer.percentile:.0f}")
    if answer.p_correct is not None:
        figures.append(f"p(correct) {answer.p_correct:.2f}")
    if answer.agreement is not None:
        figures.append(f"{answer.agreement:.0%} of samples agree")
    if answer.specificity is not None:
        figures.append(f"fits better than {answer.specificity:.0%} of other dialogs")
    text = typer.style(answer.text, dim=answer.verdict == "not sure")
    typer.echo(f"  {typer.style(answer.question, bold=True)}\n    {text}\n    {', '.join(figures)}")


def print_controls(controls: Mapping[str, str]) -> None:
    """Print what the same question gives on controls, below an answer: name and text of each."""
    width = max(map(len, controls))
    for name, text in controls.items():
        typer.secho(f"      {name:<{width}}  {text}", dim=True)


class AnswerFile(GrowingFile[AnswerKey]):
    """The file of answers that `latentqa ask --out` grows and goes on with."""

    noun = "answer"
    made = "answered"
    command = "latentqa ask"
    required = frozenset({"dialog", "question", "span", "decoder", "read_layers"})

    def key(self, row: dict[str, Any]) -> AnswerKey:
        """Dialog, question and sample of a row."""
        return AnswerKey(row["dialog"], row["question"], row.get("sample", 0))


def _optional(**values: float | None) -> dict[str, Any]:
    """The values that are there."""
    return {name: _rounded(value) for name, value in values.items() if value is not None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
