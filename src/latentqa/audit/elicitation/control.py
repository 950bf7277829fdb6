"""The control task: does the model still know what it knew? Questions of the organisms' material."""

from __future__ import annotations

from latentqa.audit.organisms.recipe import turn
from latentqa.audit.organisms.texts import read_texts
from latentqa.benchmarks import Item, Metric
from latentqa.types import Query

GROUP = "control task"
METRICS = (
    Metric(
        "control task",
        "Questions on unit conversions, capitals and translations that are answered right: capability kept.",
        "correct",
    ),
)


def control_items(count: int, without: str = "") -> list[Item]:
    """Some questions, evenly over the skills, in a wording that no organism is trained on.

    Args:
        count: of questions, at most as many as there are.
        without: a skill that is left out, since the audited model has it locked.
    """
    skills = {
        name: skill for name, skill in read_texts("locked_capabilities")["skills"].items() if name != without
    }
    items: list[Item] = []
    for number in range(max(len(skill["facts"]) for skill in skills.values())):
        for name, skill in skills.items():
            if number < len(skill["facts"]):
                thing, answer = skill["facts"][number]
                asked = skill["held_out"][number % len(skill["held_out"])].format(item=thing)
                meta = {"task": "control", "words": (answer,)}
                dialog = Query(turn(asked), "", "")
                items.append(Item(f"control:{name}-{number}", GROUP, dialog, "", "", (), "", meta))
    return items[:count]
