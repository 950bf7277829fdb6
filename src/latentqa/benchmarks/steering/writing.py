"""What a treated target writes: replies to dialogs, and continuations of raw texts with a seed each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor

from latentqa.baselines.steering.treatment import Treated, start_tokens
from latentqa.types import Dialog

ROWS_PER_PASS = 32


def reply(treated: Treated, dialogs: Sequence[Dialog], max_new_tokens: int) -> list[str]:
    """Greedy replies to dialogs, each ending with the user's turn."""
    return treated.target.generate(
        [treated.dialog(dialog) for dialog in dialogs],
        max_new_tokens=max_new_tokens,
        batch_size=ROWS_PER_PASS,
    )


def continue_texts(
    treated: Treated,
    texts: Sequence[str],
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    seeds: Sequence[str] = (),
) -> list[str]:
    """Continuations of raw texts, as they follow them: a leading space is kept.

    Args:
        treated: what writes.
        texts: beginnings.
        max_new_tokens: longest continuation.
        temperature: of the sampling.
        seeds: one for each text; what is written depends on the text and its seed, and not on the texts
            beside it. None at all is greedy.
    """
    prompts = [_raw(treated, text) for text in texts]
    lengths = [len(treated.target.tokenizer(prompt)["input_ids"]) for prompt in prompts]  # pyright: ignore
    order = sorted(range(len(texts)), key=lambda number: lengths[number])
    written = [""] * len(texts)
    for first in range(0, len(order), ROWS_PER_PASS):
        batch = order[first : first + ROWS_PER_PASS]  # in one pass of `generate`, which keeps their order
        noise = [SeededNoise([seeds[number] for number in batch], temperature)] if seeds else []
        new = treated.target.generate(
            [prompts[number] for number in batch],
            max_new_tokens=max_new_tokens,
            batch_size=ROWS_PER_PASS,
            logits_processor=noise,
        )
        for number, text in zip(batch, new, strict=True):
            written[number] = text
    return written


def _raw(treated: Treated, text: str) -> str:
    """A text as the target continues it: after its start token, which some tokenizers put there."""
    tokenizer = treated.target.tokenizer
    whole = text if treated.prompt is None else f"{treated.prompt}\n\n{text}"
    start = start_tokens(tokenizer)
    if not start or tokenizer(whole)["input_ids"][0] == start[0]:  # pyright: ignore[reportIndexIssue]
        return whole
    return f"{tokenizer.decode(list(start))}{whole}"


class SeededNoise(LogitsProcessor):
    """Turns a greedy choice into a sample: logits / temperature plus Gumbel noise from each row's own seed.

    So what a row samples does not depend on the rows beside it, and a run that goes on samples what it would
    have.

    Args:
        seeds: one a row.
        temperature: above 0.

    Source: the Gumbel-max trick (Gumbel 1954; Maddison et al. 2014).
    """

    def __init__(self, seeds: Sequence[str], temperature: float) -> None:
        self._generators = [torch.Generator().manual_seed(_number(seed)) for seed in seeds]
        self._temperature = temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Noised logits `[B, V]`, float32."""
        del input_ids
        uniform = torch.stack(
            [torch.rand(scores.shape[1], generator=generator) for generator in self._generators]
        )
        waiting = (-torch.log(uniform.clamp(min=1e-20))).clamp(min=1e-20)
        gumbel = -torch.log(waiting)
        return scores.float() / self._temperature + gumbel.to(scores.device)


def _number(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7])
