"""What a hook must know of the model call it is in: where its tokens stand, and where gradients end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from latentqa.models.blocks import find_blocks, unwrap


@dataclass
class CallPosition:
    """Where the tokens of the model's current call stand.

    Attributes:
        cached: tokens that the KV cache held before the call, so the column of the call's first token.
    """

    cached: int = 0


@contextmanager
def call_position(model: nn.Module) -> Iterator[CallPosition]:
    """Keep track of how many tokens came before those of each model call in the with-block.

    With a KV cache a call holds only the newest tokens; without one it holds them all again.

    Example:
        >>> import torch
        >>> from latentqa.models.tiny import tiny_model
        >>> model, token_ids = tiny_model("llama"), torch.tensor([[5, 6, 7]])
        >>> with torch.no_grad(), call_position(model) as position:
        ...     cache = model(token_ids, use_cache=True).past_key_values
        ...     _ = model(token_ids[:, :1], past_key_values=cache)
        >>> position.cached
        3
    """
    position = CallPosition()

    def begin(module: nn.Module, arguments: Any, keywords: dict[str, Any]) -> None:
        cache = keywords.get("past_key_values")
        position.cached = 0 if cache is None else int(cache.get_seq_length())

    handle = unwrap(model).get_decoder().register_forward_pre_hook(begin, with_kwargs=True)
    try:
        yield position
    finally:
        handle.remove()


@contextmanager
def detached_inputs(model: nn.Module, layers: Sequence[int], *, path: str | None = None) -> Iterator[None]:
    """Cut the graph in front of these blocks: a loss on a block's output reaches that block and no earlier.

    Args:
        model: a decoder-only model, PEFT-wrapped or not.
        layers: blocks whose input is cut, 0-based.
        path: module path of the blocks, where the rule of `find_blocks` does not hold.
    """
    blocks = find_blocks(model, path)
    handles = []
    try:
        for layer in layers:
            handles.append(blocks[layer].register_forward_pre_hook(_detach, with_kwargs=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _detach(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The block's arguments with its hidden states, first or by name, out of the graph."""
    if arguments and isinstance(arguments[0], Tensor):
        return (arguments[0].detach(), *arguments[1:]), keywords
    hidden = keywords["hidden_states"]
    return arguments, {**keywords, "hidden_states": hidden.detach()}
