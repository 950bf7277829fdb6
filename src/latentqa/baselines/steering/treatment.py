"""What a method does to the target: a steering, a system prompt, or nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentqa.baselines.steering.likelihood import Scored
from latentqa.decoder import Target
from latentqa.errors import DataError
from latentqa.types import Dialog, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from latentqa.steering import Steering

FILE = "treatment.json"
STEERING = "steering"
END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True, eq=False)
class Treated:
    """A target under a treatment; what it is asked must be put to it through `dialog` and `text`.

    Attributes:
        target: with its steering on.
        prompt: what goes before a dialog as a system message and before a raw text as a prefix; None is
            nothing.
        temperature: that logits are divided by; 1 for all but the flattened target.
    """

    target: Target
    prompt: str | None = None
    temperature: float = 1.0

    def dialog(self, dialog: Dialog) -> list[Message]:
        """The dialog with the prompt as its system message, before one that it has already."""
        messages = [Message(role=message["role"], content=message["content"]) for message in dialog]
        if self.prompt is None:
            return messages
        if messages and messages[0]["role"] == "system":
            prompt = f"{self.prompt}\n\n{messages[0]['content']}"
            return [Message(role="system", content=prompt), *messages[1:]]
        return [Message(role="system", content=self.prompt), *messages]

    def text(self, text: str) -> Scored:
        """A raw text after the model's start token; the prompt stands before it and is not scored."""
        before = start_tokens(self.target.tokenizer) + self._prefix()
        return Scored(before + tokens_of(self.target.tokenizer, text), max(1, len(before)))

    def window(self, token_ids: tuple[int, ...]) -> Scored:
        """Tokens from the middle of a text, without a start token: all but the first are scored."""
        before = self._prefix()
        return Scored(before + token_ids, len(before) + 1)

    def _prefix(self) -> tuple[int, ...]:
        return () if self.prompt is None else tokens_of(self.target.tokenizer, f"{self.prompt}\n\n")


@dataclass(frozen=True, eq=False)
class Treatment:
    """What a method made of an aim.

    Attributes:
        method: its name.
        steering: put on at `strength`; None for prompting and for no control.
        prompt: the system prompt of prompting.
        strength: that the search chose.
        temperature: that logits are divided by.
        choices: what was chosen, and how many settings were tried, for the table.
        seconds: that making it took, search included.
    """

    method: str
    steering: Steering | None = None
    prompt: str | None = None
    strength: float = 1.0
    temperature: float = 1.0
    choices: Mapping[str, object] = field(default_factory=dict)
    seconds: float = 0.0

    @contextmanager
    def on(self, target: Target, factor: float = 1.0) -> Iterator[Treated]:
        """Within the context the target is treated, at a multiple of the chosen strength."""
        if self.steering is None:
            yield Treated(target, self.prompt, self.temperature)
            return
        from latentqa.steering import steered

        with steered(target, self.steering, strength=self.strength * factor) as live:
            yield Treated(live, self.prompt, self.temperature)

    def chosen(self, **choices: object) -> Treatment:
        """The same with more choices."""
        return replace(self, choices={**self.choices, **choices})

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it; the file that says it is whole comes last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.steering is not None:
            self.steering.save(folder / STEERING)
        kept = {
            "method": self.method,
            "steering": self.steering is not None,
            "prompt": self.prompt,
            "strength": self.strength,
            "temperature": self.temperature,
            "choices": dict(self.choices),
            "seconds": round(self.seconds, 2),
        }
        temporary = folder / f"{FILE}.tmp"
        text = json.dumps(kept, ensure_ascii=False, indent=1, default=str) + "\n"
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, folder / FILE)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Treatment | None:
        """Read one; None where there is none, or making it was interrupted.

        Raises:
            DataError: the file is damaged.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            has_steering = kept.pop("steering")
            made = cls(**kept)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path} is no treatment that this version wrote ({error}). Delete its folder; it is "
                "made again."
            ) from None
        if not has_steering:
            return made
        from latentqa.steering import Steering

        return replace(made, steering=Steering.load(Path(folder) / STEERING))


def start_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """What a raw text follows: `<|endoftext|>` where the vocabulary has it, else the start or end token."""
    known = tokenizer.get_vocab().get(END_OF_TEXT)
    own = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    first = own if known is None else known
    return () if first is None else (int(first),)  # pyright: ignore[reportArgumentType]


def tokens_of(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of a text alone, nothing added."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore[reportArgumentType]
