"""Fit the mapping of a decoder on the training mix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from latentqa.activations import WriteSite
from latentqa.data import Example
from latentqa.decoder.mapping import Mapping, fit_mapping
from latentqa.decoder.target import Target, read_vectors
from latentqa.dialogs import DecoderPrompt
from latentqa.errors import ConfigError
from latentqa.models import LoadedModel, resolve_layer
from latentqa.training.config import MappingSettings
from latentqa.types import Span

CHUNK = 256  # dialogs whose activations are held at a time
PAIRS = 2  # answers of a dialog whose states are averaged
QUESTION = "Describe the assistant."  # the same for all, so that states tell answers apart and nothing else
TOKENS_PER_PASS = 4096


def fit_on_mix(
    settings: MappingSettings,
    examples: Sequence[tuple[Example, str]],
    target: Target,
    base: LoadedModel,
    prompt: DecoderPrompt,
    site: WriteSite,
) -> Mapping:
    """Regress the states of answers on the activations that are asked about.

    Args:
        settings: penalty and gain.
        examples: dialogs with pairs, and the span that is read of each.
        target: the model that is read, at its read layers.
        base: the decoder's model; its own states, without any adapter, are the regression's output.
        prompt: the decoder prompt in which answers are put.
        site: where the decoder will be written to.

    Raises:
        ConfigError: a write site that is no block, which has no states of its own.
    """
    if site.block is None:
        raise ConfigError(
            f"A mapping needs a block as write site, not {site}. Set write_site, or mapping: null."
        )
    chunks = [examples[first : first + CHUNK] for first in range(0, len(examples), CHUNK)]

    def activations() -> Iterator[torch.Tensor]:
        for chunk in chunks:
            readings = [target.reading(example.dialog, span) for example, span in chunk]
            yield from (activation.vectors for activation in target.read_many(readings))

    def states() -> Iterator[torch.Tensor]:
        for chunk in chunks:
            texts = [[pair.answer for pair in example.qa[:PAIRS]] for example, _ in chunk]
            found = _states(sorted({text for group in texts for text in group}), base, prompt, site)
            yield from (torch.stack([found[text] for text in group]).mean(0) for group in texts)

    return fit_mapping(activations(), states(), ridge=settings.ridge, gain=settings.gain)


@torch.no_grad()
def _states(
    texts: Sequence[str], base: LoadedModel, prompt: DecoderPrompt, site: WriteSite
) -> dict[str, torch.Tensor]:
    """Mean state `[E]` of each text's tokens at the write site."""
    assert site.block is not None
    before = prompt.tail(QUESTION)
    end = len(prompt.end_of_turn)
    encoded = {text: before + prompt.answer(text)[:-end] for text in texts}
    order = sorted(texts, key=lambda text: len(encoded[text]))
    found: dict[str, torch.Tensor] = {}
    while order:
        size = max(1, TOKENS_PER_PASS // len(encoded[order[-1]]))
        order, batch = order[:-size], order[-size:]
        dialogs = [encoded[text] for text in batch]
        spans = [[Span("answer", tuple(range(len(before), len(token_ids))))] for token_ids in dialogs]
        read = read_vectors(base.model, dialogs, spans, (resolve_layer(base.model, site.block),))
        found |= {text: vectors.float().mean((0, 1)) for text, (vectors,) in zip(batch, read, strict=True)}
    return found
