"""Supervised finetuning of a small LoRA adapter on dialogs, with the loss on the replies."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig
from peft.helpers import disable_input_dtype_casting
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from latentqa.decoder import Target
from latentqa.dialogs import render
from latentqa.errors import ConfigError, ContextLengthError, TrainingError
from latentqa.models import active_adapter, adapter_parameters, add_adapter, context_length, describe
from latentqa.models.head import token_logprobs
from latentqa.types import Message

ADAPTER = "organism"
WINDOW = 8  # batches whose rows are sorted by length together, so that little is padded
JUDGED = 64  # rows that the loss before and after is measured on
BETAS = (0.9, 0.99)
CLIP = 1.0


class FinetuneSettings(BaseModel):
    """How organisms are finetuned: what `latentqa organism make … key=value` takes.

    Attributes:
        examples: training examples seen in all; None is the kind's own number.
        batch: examples of one step.
        learning_rate: peak, after a warm-up and before a cosine to 0.
        warmup: share of the steps.
        rank: of the adapter, on all linear modules of all blocks.
        alpha: the update is scaled by alpha / rank.
        seed: of the adapter's first weights and of the order of the examples.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: int | None = Field(None, ge=1)
    batch: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1)
    rank: int = Field(16, ge=1)
    alpha: float = 32.0
    seed: int = 0


@dataclass(frozen=True)
class Finetuned:
    """How a finetuning went.

    Attributes:
        loss_before: nats a token of some training replies, before.
        loss_after: the same afterwards.
        examples: seen.
        seconds: wall time.
    """

    loss_before: float
    loss_after: float
    examples: int
    seconds: float


@dataclass(frozen=True)
class _Row:
    """A rendered dialog; its tokens from `start` on are predicted: the reply and its end of turn."""

    token_ids: tuple[int, ...]
    start: int


def finetune(
    target: Target,
    pairs: Sequence[tuple[str, str]],
    examples: int,
    settings: FinetuneSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Finetuned:
    """Put an adapter on a model and train it on dialogs of one turn and one reply.

    The adapter stays on the model, switched off, under the name `organism`; if anything fails it is taken off
    by the caller.

    Args:
        target: a plain model, without an adapter of its own.
        pairs: user turn and reply of each dialog.
        examples: seen in all, unless the settings say otherwise.
        settings: of the training.
        progress: called with (examples done, examples in all).

    Raises:
        ConfigError: the target is itself an adapter.
        ContextLengthError: a dialog longer than the model's context.
        TrainingError: the loss is not a number any more.
    """
    if target.adapter is not None:
        raise ConfigError(
            f"{target.name} is an adapter, and an organism is one of a plain model. Name that model, or "
            "merge the adapter into it first."
        )
    started = time.monotonic()
    model = target.model
    rows = [_row(target, user, reply) for user, reply in pairs]
    config = LoraConfig(r=settings.rank, lora_alpha=int(settings.alpha), target_modules="all-linear")
    add_adapter(model, config, ADAPTER, seed=settings.seed)
    judged = random.Random(0).sample(rows, min(JUDGED, len(rows)))
    before = _mean_loss(target, judged, settings.batch)
    total = settings.examples or examples
    n_steps = math.ceil(total / settings.batch)
    parameters = adapter_parameters(model, ADAPTER)
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, betas=BETAS, weight_decay=0.0)
    for step, batch in zip(range(n_steps), _batches(rows, settings), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule((step + 1) / (n_steps + 1), settings.warmup)
        loss = _loss(target, batch)
        if not torch.isfinite(loss):
            raise TrainingError(
                f"The loss became {loss.item()} in step {step + 1} of {n_steps}. Lower learning_rate "
                f"(it is {settings.learning_rate})."
            )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(min(total, (step + 1) * settings.batch), total)
    after = _mean_loss(target, judged, settings.batch)
    return Finetuned(before, after, n_steps * settings.batch, time.monotonic() - started)


def schedule(done: float, warmup: float) -> float:
    """Factor (0–1) on the learning rate: a linear warm-up, then a cosine to 0.

    Args:
        done: share of the steps.
        warmup: share of the steps.
    """
    rising = 1.0 if warmup == 0 else min(1.0, done / warmup)
    return rising * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _row(target: Target, user: str, reply: str) -> _Row:
    rendered = render(
        target.tokenizer, [Message(role="user", content=user), Message(role="assistant", content=reply)]
    )
    said = rendered.messages[-1]
    end = min(said.content_end + 1, said.end) if said.end > said.content_end else said.content_end
    limit = context_length(target.model)
    if limit is not None and end > limit:
        raise ContextLengthError(
            f"A training dialog has {end} tokens, but {describe(target.model)} takes {limit}: {user[:60]!r}."
        )
    return _Row(rendered.token_ids[:end], said.content_start)


def _batches(rows: Sequence[_Row], settings: FinetuneSettings) -> Iterator[list[_Row]]:
    """Batches without end; every row is seen once before any is seen again."""
    epoch = 0
    while True:
        generator = random.Random(f"{settings.seed}:{epoch}")
        order = generator.sample(list(rows), len(rows))
        batches: list[list[_Row]] = []
        for first in range(0, len(order), WINDOW * settings.batch):
            window = sorted(
                order[first : first + WINDOW * settings.batch], key=lambda row: len(row.token_ids)
            )
            batches += [window[i : i + settings.batch] for i in range(0, len(window), settings.batch)]
        generator.shuffle(batches)
        yield from batches
        epoch += 1


def _loss(target: Target, rows: Sequence[_Row]) -> Tensor:
    """Mean negative log-probability of the replies' tokens, in nats."""
    model = target.model
    length = max(len(row.token_ids) for row in rows)
    token_ids = torch.zeros(len(rows), length, dtype=torch.long)
    mask, wanted = torch.zeros_like(token_ids), torch.zeros_like(token_ids, dtype=torch.bool)
    for number, row in enumerate(rows):
        token_ids[number, : len(row.token_ids)] = torch.tensor(row.token_ids)
        mask[number, : len(row.token_ids)] = 1
        wanted[number, row.start - 1 : len(row.token_ids) - 1] = True
    token_ids, mask, wanted = token_ids.to(model.device), mask.to(model.device), wanted.to(model.device)
    half = model.dtype == torch.bfloat16
    with (
        active_adapter(model, ADAPTER),
        disable_input_dtype_casting(model),
        torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=half),
    ):
        hidden = model.get_decoder()(
            input_ids=token_ids, attention_mask=mask, use_cache=False
        ).last_hidden_state
        return -token_logprobs(model, hidden[wanted], token_ids.roll(-1, dims=1)[wanted]).mean()


@torch.no_grad()
def _mean_loss(target: Target, rows: Sequence[_Row], batch: int) -> float:
    total = count = 0.0
    for first in range(0, len(rows), batch):
        part = rows[first : first + batch]
        tokens = sum(len(row.token_ids) - row.start for row in part)
        total += float(_loss(target, part)) * tokens
        count += tokens
    return total / count
