"""`steered`: the target under steerings, for the time of a with-block."""

from __future__ import annotations

import copy
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from latentqa.activations import CallPosition, call_position, inject
from latentqa.decoder.target import Target
from latentqa.errors import SteeringError
from latentqa.models import active_adapter, active_names, adapter_names, attach_adapter, remove_adapter
from latentqa.steering.steering import PREFIX, Steering


@contextmanager
def steered(
    target: Target, *steerings: Steering, strength: float | Sequence[float] = 1.0
) -> Iterator[Target]:
    """Steer the target within the block; afterwards, also after an exception, it is as before, bit for bit.

    Everything that runs the target's model is steered: `target.chat`, `generate`, `read`, `logprobs`, and
    bare calls of `target.model`. A decoder on the same weights is not: its own adapter is on while it runs.
    Several steerings add up, in one block or in nested ones. Vectors of `positions="completion"` know where
    the completion begins in the target's own methods; in a bare call every position counts as completion.

    Args:
        target: the model.
        steerings: what is applied.
        strength: of all, or one for each; 0 leaves one out, negative values turn it round.

    Raises:
        SteeringError: a steering that was made for another model, or a strength that is not finite or makes
            values that are not.

    Example:
        ```python
        with steered(target, gate, cheerful, strength=(0.8, 0.5)):
            print(target.chat(dialog))
        ```
    """
    before = target.adapter
    with ExitStack() as stack:
        position = stack.enter_context(call_position(target.model))
        names: list[str] = []
        for steering, factor in zip(steerings, _strengths(strength, len(steerings)), strict=True):
            steering.check(target)
            if factor == 0:
                continue
            if steering.vectors is None:
                names.append(_put_adapter(stack, target, steering, factor))
            else:
                _hook_vectors(stack, target, steering, factor, position)
        target.adapter = (*target.adapter_names, *names) or None
        stack.enter_context(active_adapter(target.model, target.adapter))
        try:
            yield target
        finally:
            target.adapter = before


def _strengths(strength: float | Sequence[float], count: int) -> list[float]:
    """A strength for each steering."""
    given = [float(strength)] * count if isinstance(strength, int | float) else list(map(float, strength))
    if len(given) != count:
        raise SteeringError(
            f"{count} steerings were given with {len(given)} strengths. Give one strength, or one for each."
        )
    for value in given:
        if not math.isfinite(value):
            raise SteeringError(f"Strength {value} is not a finite number. Use one such as 0.8.")
    return given


def _put_adapter(stack: ExitStack, target: Target, steering: Steering, factor: float) -> str:
    """The LoRA on the model, its update multiplied, until the stack closes; its name there."""
    assert steering.adapter is not None and steering.lora is not None
    dtype = target.model.dtype
    tensors = {
        key: tensor * factor if "lora_B" in key or "lora_embedding_B" in key else tensor
        for key, tensor in steering.adapter.items()
    }
    for tensor in tensors.values():
        _check_fits(tensor, dtype, steering, factor)
    config = copy.deepcopy(steering.lora)
    config.inference_mode = True
    name = f"{PREFIX}{uuid.uuid4().hex[:8]}"
    attach_adapter(target.model, name, config, tensors, source=f"of steering {steering.name}", dtype=dtype)
    stack.callback(_remove, target, name)
    return name


def _remove(target: Target, name: str) -> None:
    if name in adapter_names(target.model):
        remove_adapter(target.model, name)


def _hook_vectors(
    stack: ExitStack, target: Target, steering: Steering, factor: float, position: CallPosition
) -> None:
    """A hook on each block that adds its vector, until the stack closes."""
    assert steering.vectors is not None
    vectors = steering.vectors * factor
    _check_fits(vectors, target.model.dtype, steering, factor)
    wanted = _where(target, steering.card.positions == "completion", position)
    for layer, vector in zip(steering.card.layers, vectors.to(target.model.device), strict=True):
        site = f"block:{layer}"
        stack.enter_context(inject(target.model, site, vector, mask=wanted, mode="add", when="always"))


def _where(target: Target, completion: bool, position: CallPosition) -> Callable[[int], Tensor | bool]:
    """Which tokens of a call are steered: none while another adapter than the target's is on."""

    def wanted(n_tokens: int) -> Tensor | bool:
        if active_names(target.model) != target.adapter_names:
            return False  # a decoder runs on the target's weights
        starts = target.completion_starts
        if not completion or starts is None:
            return True
        columns = torch.arange(position.cached, position.cached + n_tokens)
        return columns[None] >= torch.tensor(starts)[:, None] - 1  # the prompt's last token decides the first

    return wanted


def _check_fits(values: Tensor, dtype: torch.dtype, steering: Steering, factor: float) -> None:
    """Refuse what is not finite in the model's dtype."""
    if not torch.isfinite(values.to(dtype)).all():
        raise SteeringError(
            f"Strength {factor:g} makes values of steering {steering.name} that are not finite in {dtype}. "
            "Use a lower one; 1 is as it was made."
        )
