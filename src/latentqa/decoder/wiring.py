"""How a decoder takes activations: all that its forward needs besides the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from latentqa.activations import WriteSite
from latentqa.decoder.mapping import Mapping
from latentqa.dialogs import DecoderPrompt
from latentqa.errors import ActivationError
from latentqa.models import active_adapter, hidden_size


@dataclass(frozen=True)
class Slot:
    """What stands in the placeholders of one decoder prompt.

    Attributes:
        vectors: `[N, E]`, one per placeholder; None writes nothing.
        n: number of placeholders.
        positions: `[N]`, where the read tokens stood in the dialog (used when positions are shifted).
    """

    vectors: Tensor | None
    n: int
    positions: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Wiring:
    """A decoder model with its prompt and its injection.

    Attributes:
        model: the decoder's weights; with an adapter they are the base's, which may serve the target too.
        prompt: pieces of the decoder prompt, as token ids.
        site: where vectors are written.
        mode: how, `replace`, `add` or `norm_add`.
        scale: None, a number, `placeholder` or `norm:150`.
        adapter: name of the decoder's adapter on `model`; None for a finetuned copy.
        shift_positions: placeholders take the positions of the read tokens.
        blocks_path: module path of the blocks where the rule does not find them.
        mapping: what activations pass through before they are written; None writes them as they are.
        raw: after each mapped vector the token's own one of the last read layer is written, too: a mapping
            keeps what answers are made of, and little of which word it was.
    """

    model: PreTrainedModel
    prompt: DecoderPrompt
    site: WriteSite
    mode: Literal["replace", "add", "norm_add"] = "replace"
    scale: float | str | None = None
    adapter: str | None = None
    shift_positions: bool = False
    blocks_path: str | None = None
    mapping: Mapping | None = None
    raw: bool = False

    @property
    def width(self) -> int:
        """Dimensions `D` of the activations that are taken."""
        return hidden_size(self.model) if self.mapping is None else self.mapping.center.shape[1]

    def slot(self, vectors: Tensor, positions: Sequence[int] | None = None) -> Slot:
        """What stands in the placeholders for an activation, mapped if there is a mapping.

        Vectors are laid token-major: all layers of token 1 before those of token 2.

        Args:
            vectors: `[L, T, D]`.
            positions: `T` positions in the dialog.

        Raises:
            ActivationError: vectors of another shape, or none.
        """
        if vectors.dim() != 3 or not vectors.shape[1]:
            raise ActivationError(
                f"An activation is [L, T, D] with at least one token; got {list(vectors.shape)}."
            )
        if self.mapping is not None:
            mapped = self.mapping(vectors)
            vectors = torch.cat([mapped, vectors[-1:].to(mapped)]) if self.raw else mapped
        n_layers, n_tokens, size = vectors.shape
        flat = vectors.transpose(0, 1).reshape(n_layers * n_tokens, size)
        repeated = None if positions is None else tuple(p for p in positions for _ in range(n_layers))
        return Slot(flat, n_layers * n_tokens, repeated)

    def empty_slot(self, n_layers: int, n_tokens: int) -> Slot:
        """Placeholders of an activation `[L, T, D]` in which nothing is written."""
        return Slot(None, n_tokens * (n_layers if self.mapping is None else 1 + self.raw))

    @contextmanager
    def active(self) -> Iterator[None]:
        """Run the model as the decoder: its adapter on, every other one off."""
        with active_adapter(self.model, self.adapter):
            yield
