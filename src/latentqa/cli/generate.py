"""`latentqa generate`: a target's replies to a file of dialogs, prompts or texts, steered or not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.inputs import NamedDialog, check_place, dialog_from_turns, read_dialogs
from latentqa.cli.progress import note, progress
from latentqa.cli.replies import ReplyFile, ReplyKey
from latentqa.types import Dialog

if TYPE_CHECKING:
    from latentqa.decoder import Target
    from latentqa.steering import Steering


@dataclass(frozen=True)
class Wanted:
    """One reply that is generated.

    Attributes:
        key: what it is filed under.
        given: the dialog, or the text that is continued.
    """

    key: ReplyKey
    given: Dialog | str


def generate(
    dialogs: Annotated[
        str | None,
        typer.Option(
            "--dialogs", help="JSONL file, one dialog a line; - for standard input.", metavar="FILE"
        ),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option("--prompts", help="Text file, one user turn a line.", metavar="FILE")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Text file; each line is continued as it stands.", metavar="FILE"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write JSONL replies here; those already there are kept.", metavar="FILE"),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="System prompt of --prompts.")] = None,
    steer: options.SteerFolders = None,
    strength: options.Strengths = None,
    max_new_tokens: options.NewTokens = 64,
    temperature: options.Temperature = 0.0,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Replies drawn to each.")] = 1,
    seed: options.DrawSeed = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Replies generated at once.")] = 32,
    target: options.ChatTarget = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quantization: options.QuantizationOption = None,
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Let a model reply to every dialog of a file, steered or not.

    With --out an interrupted run goes on where it was.
    """
    if sum(source is not None for source in (dialogs, prompts, texts)) != 1:
        raise typer.BadParameter("give the input once: --dialogs, --prompts or --texts.")
    if samples > 1 and temperature == 0:
        raise typer.BadParameter(f"{samples} greedy replies are all the same. Pass --temperature above 0.")
    if strength and not steer:
        raise typer.BadParameter("--strength needs a steering. Pass --steer DIR.")
    if system is not None and prompts is None:
        raise typer.BadParameter("--system goes with --prompts; a dialog brings its own.")
    if out is not None:
        check_place(out)
    given = _given(dialogs, prompts, texts, system)
    loaded, steerings, strengths = options.load_steered(
        steer or [],
        strength or [],
        target=target,
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=quantization,
        trust_remote_code=trust_remote_code,
    )
    run = GenerateRun(
        loaded,
        steerings,
        strengths,
        {"max_new_tokens": max_new_tokens, "temperature": temperature, "batch_size": batch_size},
        seed,
    )
    wanted = [Wanted(ReplyKey(name, sample), one) for sample in range(samples) for name, one in given.items()]
    if out is None:
        run.print_all(wanted, as_json)
    else:
        run.write_all(wanted, out)


@dataclass(frozen=True)
class GenerateRun:
    """How the replies of one command are made.

    Attributes:
        target: who replies.
        steerings: under which it does.
        strengths: of each.
        options: of `Target.generate`.
        seed: of the first sample; the next ones count on.
    """

    target: Target
    steerings: list[Steering]
    strengths: list[float]
    options: dict[str, Any]
    seed: int

    def print_all(self, wanted: Sequence[Wanted], as_json: bool) -> None:
        """Print the replies in the order they were asked for."""
        replies: dict[ReplyKey, str] = {}
        self._make(wanted, replies.__setitem__)
        for one in wanted:
            if as_json:
                row = self._row(one.key, replies[one.key])
                typer.echo(json.dumps(row, ensure_ascii=False))
            else:
                typer.secho(_asked(one.given), dim=True)
                typer.echo(f"  {replies[one.key]}")

    def write_all(self, wanted: Sequence[Wanted], out: Path) -> None:
        """Append replies to a file, leaving out those that it holds already."""
        with ReplyFile(out, self._facts()) as file:
            missing = [one for one in wanted if one.key not in file.done]
            self._make(missing, lambda key, reply: file.write(self._row(key, reply)))
        note(f"{out}: {len(missing)} replies written, {len(wanted) - len(missing)} were there already.")

    def _make(self, wanted: Sequence[Wanted], came: Any) -> None:
        from latentqa.steering import steered

        done = 0
        with (
            progress("generating") as advance,
            steered(self.target, *self.steerings, strength=self.strengths),
        ):
            for sample in sorted({one.key.sample for one in wanted}):
                part = [one for one in wanted if one.key.sample == sample]

                def on_reply(index: int, reply: str, part: Sequence[Wanted] = part) -> None:
                    nonlocal done
                    done += 1
                    came(part[index].key, reply)
                    advance(done, len(wanted))

                self.target.generate(
                    [one.given for one in part], seed=self.seed + sample, on_reply=on_reply, **self.options
                )

    def _facts(self) -> dict[str, Any]:
        """What all replies of a file share."""
        return {
            "target": self.target.name,
            "steer": [steering.name for steering in self.steerings],
            "strength": self.strengths,
            "max_new_tokens": self.options["max_new_tokens"],
            "temperature": self.options["temperature"],
        }

    def _row(self, key: ReplyKey, reply: str) -> dict[str, Any]:
        sample = {"sample": key.sample} if key.sample else {}
        return {"dialog": key.dialog, "reply": reply, **self._facts(), **sample}


def _given(
    dialogs: str | None, prompts: Path | None, texts: Path | None, system: str | None
) -> dict[str, Dialog | str]:
    """What is replied to, by the name that its reply is filed under."""
    from latentqa.steering import load_stimuli

    if texts is not None:
        return {text: text for text in load_stimuli(texts)}
    if prompts is not None:
        made = [dialog_from_turns(system, prompt, None) for prompt in load_stimuli(prompts)]
    else:
        assert dialogs is not None
        made = read_dialogs(dialogs)
    return {named.name: named.dialog for named in _checked(made)}


def _checked(dialogs: Sequence[NamedDialog]) -> Sequence[NamedDialog]:
    """Refuse dialogs that the assistant has ended already."""
    from latentqa.errors import DataError

    for named in dialogs:
        if named.dialog[-1]["role"] != "user":
            raise DataError(
                f"Dialog {named.name} ends with a turn of the {named.dialog[-1]['role']}, so there is "
                "nothing to reply to. End it with the user's turn."
            )
    return dialogs


def _asked(given: Dialog | str) -> str:
    return given if isinstance(given, str) else "\n".join(f"{m['role']}: {m['content']}" for m in given)
