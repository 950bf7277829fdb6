"""`latentqa chat`: talk to a target, steered or not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.progress import note
from latentqa.errors import ContextLengthError, LatentQAError
from latentqa.types import Message

if TYPE_CHECKING:
    from latentqa.decoder import Target
    from latentqa.steering import Steering

COMMANDS = "/new starts over, /strength 0.5 changes the strength, /quit or Ctrl-D ends"


def chat(
    user: Annotated[
        str | None, typer.Option("--user", help="Say this, print the reply and leave.", metavar="TEXT")
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="System prompt.")] = None,
    steer: options.SteerFolders = None,
    strength: options.Strengths = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Print the unsteered reply as well, before the steered one.")
    ] = False,
    max_new_tokens: options.NewTokens = 128,
    temperature: options.Temperature = 0.0,
    seed: options.DrawSeed = 0,
    target: options.ChatTarget = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    quantization: options.QuantizationOption = None,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Talk to a model, steered or not; one line is one turn.

    While you talk, /new starts over, /strength 0.5 changes the strength, /quit or Ctrl-D ends.
    """
    if compare and not steer:
        raise typer.BadParameter("--compare needs a steering to compare with. Pass --steer DIR.")
    if strength and not steer:
        raise typer.BadParameter("--strength needs a steering. Pass --steer DIR.")
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
    sampling = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    talk = Talk(loaded, steerings, strengths, sampling, system, compare)
    if user is not None:
        talk.say(user)
        return
    if sys.stdin.isatty():
        note(COMMANDS)
    for line in _lines():
        if not talk.turn(line):
            return


@dataclass
class Talk:
    """A conversation with a target.

    Attributes:
        target: who replies.
        steerings: under which it does.
        strengths: of each.
        sampling: options of `Target.chat`.
        system: system prompt.
        compare: print the unsteered reply as well.
        messages: what was said so far.
    """

    target: Target
    steerings: list[Steering]
    strengths: list[float]
    sampling: dict[str, Any]
    system: str | None = None
    compare: bool = False
    messages: list[Message] = field(default_factory=list)

    def turn(self, line: str) -> bool:
        """Take one line of the user; whether the talk goes on."""
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return False
        if command == "/new":
            self.messages.clear()
        elif command == "/strength":
            self._set_strength(rest)
        elif command.startswith("/"):
            note(f"There is no command {command}: {COMMANDS}.")
        elif line.strip():
            try:
                self.say(line.strip())
            except ContextLengthError as error:
                note(f"{error} /new starts over.")
        return True

    def say(self, text: str) -> None:
        """Say something, and print the reply."""
        from latentqa.steering import steered

        opening = [] if self.system is None else [Message(role="system", content=self.system)]
        dialog = [*opening, *self.messages, Message(role="user", content=text)]
        if self.compare:
            typer.secho("unsteered", dim=True)
            typer.echo(self.target.chat(dialog, **self.sampling))
            typer.secho("steered", dim=True)
        with steered(self.target, *self.steerings, strength=self.strengths):
            reply = self.target.chat(dialog, **self.sampling)
        typer.echo(reply)
        self.messages += [Message(role="user", content=text), Message(role="assistant", content=reply)]

    def _set_strength(self, text: str) -> None:
        try:
            value = float(text)
        except ValueError:
            note(f"/strength takes a number, such as /strength 0.5; {text!r} is none.")
            return
        before, self.strengths = self.strengths, [value] * len(self.steerings)
        try:
            self._check_strength()
        except LatentQAError as error:
            self.strengths = before
            note(str(error))

    def _check_strength(self) -> None:
        from latentqa.steering import steered

        with steered(self.target, *self.steerings, strength=self.strengths):
            pass


def _lines() -> Iterator[str]:
    """Lines of the user: from the terminal, or from whatever stands in for it."""
    while True:
        if sys.stdin.isatty():
            typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        yield line
