"""A baseline's training that was stopped: weights, the optimiser's moments, and where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

UNFINISHED_FILE = "unfinished.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_unfinished(
    folder: Path,
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.AdamW,
    best: Sequence[Tensor],
    about: Mapping[str, Any],
) -> None:
    """Write a training's state into a folder, whole or not at all.

    Args:
        folder: made if it is not there.
        parameters: that are trained.
        optimizer: of these parameters, after at least one step.
        best: the weights that are best so far; empty if none were judged.
        about: JSON values that say whose it is and where it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"best/{number}": value for number, value in enumerate(best)}
    for number, parameter in enumerate(parameters):
        state = optimizer.state[parameter]
        tensors[f"weight/{number}"] = parameter.detach()
        tensors |= {f"{name}/{number}": state[name] for name in MOMENTS}
    temporary = folder / f"{UNFINISHED_FILE}.tmp"
    kept = {name: value.cpu().contiguous() for name, value in tensors.items()}
    save_file(kept, temporary, {"about": json.dumps(dict(about))})
    temporary.replace(folder / UNFINISHED_FILE)


def load_unfinished(
    folder: Path,
    parameters: Sequence[torch.nn.Parameter],
    optimizer: torch.optim.AdamW,
    whose: Mapping[str, Any],
) -> tuple[dict[str, Any], list[Tensor]] | None:
    """Put weights and moments back as they were saved.

    Args:
        folder: that may hold a state.
        parameters: as when it was saved.
        optimizer: of these parameters.
        whose: what `about` must say; another training's state is left alone.

    Returns:
        `about` and the best weights; None where there is no such state, or a damaged one.
    """
    try:
        with safe_open(folder / UNFINISHED_FILE, "pt") as file:
            about = json.loads((file.metadata() or {}).get("about", "{}"))
            if any(about.get(name) != value for name, value in whose.items()):
                return None
            held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, json.JSONDecodeError):
        return None
    with torch.no_grad():
        for number, parameter in enumerate(parameters):
            parameter.copy_(held[f"weight/{number}"])
            moments = {name: held[f"{name}/{number}"] for name in MOMENTS}
            optimizer.state[parameter] = {
                name: value if name == "step" else value.to(parameter.device)
                for name, value in moments.items()
            }
    count = sum(name.startswith("best/") for name in held)
    return about, [held[f"best/{number}"].to(parameters[number].device) for number in range(count)]
