"""Answers on their way out: JSON lines, text for people, and the file that a batch resumes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import typer

from latentqa.cli.inputs import NamedDialog
from latentqa.cli.progress import note
from latentqa.errors import DataError
from latentqa.types import Answer

REQUIRED_KEYS = {"dialog", "question", "span", "decoder", "read_layers"}


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


class AnswerFile:
    """A JSONL file of answers that grows row by row and says which are there already.

    A last line without its line break is an interrupted write: it is cut off and that answer is asked again.
    Any other unreadable row is an error, and the file stays as it is.

    Args:
        path: the file; made if it does not exist.
        expected: row keys and the values that this run will write, such as `span`; every row must share them.

    Raises:
        DataError: a row is damaged, or was written with another decoder or span.
    """

    def __init__(self, path: Path, expected: dict[str, Any]) -> None:
        self.path = path
        self.done: set[AnswerKey] = set()
        if path.exists():
            self._read(expected)
        self._file: TextIO | None = None

    def __enter__(self) -> AnswerFile:
        self._file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *raised: object) -> None:
        assert self._file is not None
        self._file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append one row, at once."""
        assert self._file is not None
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()

    def _read(self, expected: dict[str, Any]) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            row = self._parse(line, number)
            for key, value in expected.items():
                if row[key] != value:
                    raise DataError(
                        f"{self.path}, row {number} was answered with {key} {row[key]!r}, and this run uses "
                        f"{value!r}. Choose another --out, or ask with {row[key]!r} again."
                    )
            self.done.add(AnswerKey(row["dialog"], row["question"], row.get("sample", 0)))
        if len(whole) < len(content):
            note(f"{self.path}: the last row was cut short by an interruption; its answer is asked again.")
            with self.path.open("r+b") as file:
                file.truncate(len(whole))

    def _parse(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except ValueError as error:
            where = f"{self.path}, row {number}"
            raise DataError(
                f"{where}: not JSON ({error}). Mend or move the file; it is left as it is."
            ) from None
        if not isinstance(row, dict) or REQUIRED_KEYS - row.keys():
            raise DataError(
                f"{self.path}, row {number} is no answer of `latentqa ask`. Choose another --out."
            )
        return row


def _optional(**values: float | None) -> dict[str, Any]:
    """The values that are there."""
    return {name: _rounded(value) for name, value in values.items() if value is not None}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
