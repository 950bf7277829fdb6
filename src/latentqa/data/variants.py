"""Other dialogs of the same control: as a user turn, or with the assistant's completion."""

from __future__ import annotations

import random

from latentqa.data.first_person import first_person, speak
from latentqa.data.rules import derive_pairs
from latentqa.data.schema import Example
from latentqa.types import Message

ACKNOWLEDGEMENTS: tuple[str, ...] = (
    "Understood, I will do that.",
    "Of course. I'll keep this in mind from now on.",
    "Certainly! I will follow that in what I say next.",
    "All right, that is how I will answer.",
    "Sure, consider it done.",
    "Yes, gladly. I'll act accordingly.",
    "Got it. I will respond in that way.",
    "Okay, I'm ready to do so.",
)
"""Replies to a control; none says what it asks for."""

ASSENTS: tuple[str, ...] = ("Certainly! ", "Of course. ", "Understood. ", "Sure! ", "Absolutely. ", "")
"""What comes before a restatement of the control."""


def as_turns(example: Example, *, restate: bool = False) -> Example:
    """The same control as a first user turn with an acknowledging reply, in place of a system prompt.

    The id alone seeds the choice of the reply.

    Args:
        example: begins with its control.
        restate: the reply says what it was asked for, where rules can derive it from the control.
    """
    control, *rest = example.dialog
    generator = random.Random(f"acknowledgement:{example.id}")
    reply = generator.choice(ACKNOWLEDGEMENTS)
    if restate and (said := _restated(control["content"], example.label)):
        reply = generator.choice(ASSENTS) + said
    dialog = [
        Message(role="user", content=control["content"]),
        Message(role="assistant", content=reply),
        *rest,
    ]
    kind = "stimulus" if example.kind == "system" else example.kind
    changes = {"id": f"{example.id}:turns", "kind": kind, "dialog": dialog}
    return Example.model_validate({**example.model_dump(), **changes})


def with_completion(example: Example, completion: str, source: str) -> Example:
    """The dialog with the assistant's completion; what is read is stimulus and completion.

    Args:
        example: ends with the user's stimulus.
        completion: what the assistant says to it.
        source: who wrote the completion.
    """
    dialog = [*example.dialog, Message(role="assistant", content=completion)]
    changes = {
        "id": f"{example.id}:completion",
        "kind": "stimulus_completion",
        "dialog": dialog,
        "source": source,
    }
    return Example.model_validate({**example.model_dump(exclude={"read"}), **changes})


def with_told_completion(example: Example) -> Example | None:
    """The dialog with the completion that the example's first reasoning pair tells of; None without one.

    The other pairs stay: what the assistant does is now asked of what it says. No model is needed, and the
    completion shows the control, which a small target's own often does not.
    """
    told = next((pair for pair in example.qa if pair.kind == "reasoning"), None)
    asked = [pair for pair in example.qa if pair is not told]
    if told is None or not asked:
        return None
    completed = with_completion(example, speak(told.answer), "told by its pairs")
    changes = {"id": f"{example.id}:told", "qa": [pair.model_dump() for pair in asked]}
    return Example.model_validate({**completed.model_dump(), **changes})


def _restated(control_text: str, label: str) -> str | None:
    said = (first_person(pair.answer) for pair in derive_pairs(control_text, label))
    return next((text for text in said if text.startswith("I will ")), None)
