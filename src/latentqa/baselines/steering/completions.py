"""What the target itself writes on the stimuli: under a control, and under none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from latentqa.baselines.steering.likelihood import Scored
from latentqa.baselines.steering.treatment import Treated
from latentqa.decoder import Target
from latentqa.dialogs import render
from latentqa.types import Dialog, Message

COMPLETION_TOKENS = 48
Progress = Callable[[int, int], None]


@dataclass(eq=False)
class Completions:
    """Greedy completions of the target, each written once for all methods and aims.

    Attributes:
        target: unsteered.
        tokens: longest completion.
    """

    target: Target
    tokens: int = COMPLETION_TOKENS
    _known: dict[tuple[str | None, str], str] = field(default_factory=dict)

    def under(
        self, control: str | None, stimuli: Sequence[str], progress: Progress | None = None
    ) -> list[str]:
        """One completion per stimulus, with the control as system prompt or with none."""
        missing = [text for text in dict.fromkeys(stimuli) if (control, text) not in self._known]
        treated = Treated(self.target, control)
        dialogs = [treated.dialog(user_turn(text)) for text in missing]
        written = self.target.complete(dialogs, max_new_tokens=self.tokens, progress=progress)
        self._known.update({(control, text): said for text, said in zip(missing, written, strict=True)})
        return [self._known[control, text] for text in stimuli]


def user_turn(text: str) -> list[Message]:
    """A dialog of one user turn."""
    return [Message(role="user", content=text)]


def completion_tokens(target: Target, dialog: Dialog, completion: str) -> Scored:
    """A dialog with a completion, of which the completion and its end of turn are scored."""
    asked = render(target.tokenizer, dialog, generation_prompt=True).token_ids
    whole = render(target.tokenizer, [*dialog, Message(role="assistant", content=completion)])
    message = whole.messages[-1]
    # A header may be written otherwise in a finished dialog (thinking models); then the rendered turn counts.
    first = len(asked) if whole.token_ids[: len(asked)] == asked else message.content_start
    # Of what the template puts after the turn only its first token, the end of turn, is the model's to write.
    last = min(message.end, message.content_end + 1)
    return Scored(whole.token_ids[: max(last, first + 1)], max(1, first))
