"""What experiments need of a target besides its activations: greedy continuations, and where a text lies."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from latentqa.benchmarks.experiment import Continue, Locate
from latentqa.errors import SpanError
from latentqa.types import Dialog

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from latentqa.decoder import Target

TEXTS_PER_BATCH = 32


def continuation(target: Target) -> Continue:
    """A function that continues raw texts greedily with a target: no chat template, its own adapter on."""

    def continue_text(texts: Sequence[str], max_new_tokens: int) -> list[str]:
        import torch

        from latentqa.models import active_adapter

        token_ids = [target.tokenizer(text)["input_ids"] for text in texts]
        order = sorted(range(len(texts)), key=lambda number: len(token_ids[number]))
        written = [""] * len(texts)
        padding = target.tokenizer.pad_token_id or target.tokenizer.eos_token_id or 0
        for first in range(0, len(order), TEXTS_PER_BATCH):
            batch = order[first : first + TEXTS_PER_BATCH]
            length = len(token_ids[batch[-1]])
            rows = [[padding] * (length - len(token_ids[n])) + token_ids[n] for n in batch]
            mask = [[0] * (length - len(token_ids[n])) + [1] * len(token_ids[n]) for n in batch]
            device = target.model.device
            with torch.no_grad(), active_adapter(target.model, target.adapter):
                out = target.model.generate(  # pyright: ignore[reportCallIssue]
                    torch.tensor(rows, device=device),
                    attention_mask=torch.tensor(mask, device=device),
                    max_new_tokens=max_new_tokens,
                    pad_token_id=padding,
                    do_sample=False,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                )
            new = target.tokenizer.batch_decode(out[:, length:], skip_special_tokens=True)
            for number, text in zip(batch, new, strict=True):
                written[number] = str(text)
        return written

    return continue_text


def text_span(tokenizer: PreTrainedTokenizerBase) -> Locate:
    """A function that finds a text in the last message of a dialog, and not in what the template adds.

    It gives the tokens that overlap the text's first occurrence as a whole word, or its first at all.
    """

    def locate(dialog: Dialog, text: str) -> str:
        from latentqa.dialogs import render

        rendered = render(tokenizer, dialog)
        last = rendered.messages[-1]
        start = rendered.offsets[last.content_start][0] if last.content_start < last.content_end else 0
        end = rendered.offsets[last.content_end - 1][1] if last.content_start < last.content_end else 0
        content = rendered.text[start:end]
        whole = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", content)
        begin = whole.start() if whole else content.find(text)
        if begin < 0 or not text:
            raise SpanError(f"The text {text!r} does not occur in the message {content[:200]!r}.")
        begin += start
        return json.dumps(
            [n for n, (a, b) in enumerate(rendered.offsets) if a < begin + len(text) and b > begin]
        )

    return locate
