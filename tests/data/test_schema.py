"""The schema takes what fits and names what does not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from latentqa.data import DEFAULT_READ, EXAMPLE_KINDS, QA, Example
from latentqa.data.schema import reasons

DIALOGS = {
    "control": ("user",),
    "stimulus": ("user", "assistant", "user"),
    "stimulus_completion": ("user", "assistant", "user", "assistant"),
    "system": ("system", "user"),
    "plain": ("user",),
    "task": ("user", "assistant", "user"),
}


def dialog(*roles: str) -> list[dict[str, str]]:
    return [{"role": role, "content": f"turn {index}"} for index, role in enumerate(roles)]


def build(**changes: Any) -> Example:
    values = {
        "id": "1",
        "label": "goal-x-y",
        "kind": "system",
        "dialog": dialog("system", "user"),
        "source": "us",
    }
    return Example.model_validate(values | changes)


def why(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        build(**changes)
    return reasons(caught.value)


@pytest.mark.parametrize("kind", EXAMPLE_KINDS)
def test_each_kind_takes_its_own_dialog_and_reads_its_own_span(kind: str) -> None:
    made = build(kind=kind, dialog=dialog(*DIALOGS[kind]))
    assert made.read == DEFAULT_READ[made.kind]
    assert made.group == "goal"


@pytest.mark.parametrize(
    ("kind", "roles"),
    [
        ("control", ("user", "assistant")),
        ("control", ("system", "user")),
        ("system", ("user",)),
        ("system", ("system", "user", "assistant")),
        ("system", ("system",)),
        ("stimulus", ("user",)),
        ("stimulus", ("user", "assistant", "user", "assistant")),
        ("stimulus_completion", ("user", "assistant")),
        ("stimulus_completion", ("system", "user")),
        ("plain", ("assistant",)),
        ("plain", ("user", "user")),
        ("plain", ("user", "system", "user")),
        ("plain", ()),
        ("task", ("assistant", "user")),
    ],
)
def test_turns_that_do_not_fit_the_kind_are_refused(kind: str, roles: tuple[str, ...]) -> None:
    assert "found" in why(kind=kind, dialog=dialog(*roles))


@pytest.mark.parametrize("kind", ["stimulus", "stimulus_completion"])
def test_a_system_prompt_may_be_the_control_of_any_stimulus(kind: str) -> None:
    roles = ("system", "user", "assistant")[: 3 if kind == "stimulus_completion" else 2]
    assert build(kind=kind, dialog=dialog(*roles)).kind == kind


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"label": None}, "label has the wrong type"),
        ({"id": 7}, "found int"),
        ({"source": "  "}, "source is empty"),
        ({"colour": "red"}, "colour is not a known field"),
        ({"kind": "sistem"}, "kind"),
        ({"group": "persona"}, "group is the first part of the label"),
        ({"dialog": [{"role": "user"}]}, "exactly role and content"),
        ({"dialog": [{"role": "robot", "content": "x"}]}, "found 'robot'"),
        ({"dialog": [{"role": "user", "content": 3}]}, "content is text, found int"),
        ({"dialog": ["hello"]}, "object with role and content"),
        ({"dialog": [{"role": "user", "content": "half \ud800"}]}, "lone surrogate"),
        ({"qa": [{"question": "Q?", "answer": ""}]}, "qa.0.answer is empty"),
        ({"qa": [{"question": "Q?"}]}, "qa.0.answer is missing"),
        ({"qa": [{"question": "Q?", "answer": "A.", "kind": "guess"}]}, "qa.0.kind"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    assert said in why(**changes)


def test_a_raw_text_stands_alone_and_names_its_span() -> None:
    made = build(kind="task", dialog=dialog("text"), read="chars:0-4")
    assert made.dialog[0]["role"] == "text"
    assert "stands alone" in why(kind="task", dialog=dialog("text", "user"), read="all")
    assert "stands alone" in why(kind="plain", dialog=dialog("text"), read="all")
    assert "a raw text has no span stimulus: read all" in why(kind="task", dialog=dialog("text"))


def test_missing_fields_are_all_named() -> None:
    with pytest.raises(ValidationError) as caught:
        Example.model_validate({"id": "1"})
    assert reasons(caught.value) == "label is missing; kind is missing; dialog is missing; source is missing"


def test_examples_and_pairs_are_frozen() -> None:
    pair = QA(question="Q?", answer="A.")
    with pytest.raises(ValidationError):
        pair.answer = "B."  # type: ignore[misc]
    with pytest.raises(ValidationError):
        build().label = "other"  # type: ignore[misc]
