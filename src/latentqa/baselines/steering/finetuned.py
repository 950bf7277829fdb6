"""SFT and DPO on completions that the target itself writes under the control.

Both are losses of a few lines on the same adapter. DPO is written out rather than taken from TRL: TRL follows
one release of transformers at a time and brings `datasets` with it, while the adapter switched off is already
the reference model that it would keep.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentqa.baselines.steering.completions import completion_tokens, user_turn
from latentqa.baselines.steering.context import MethodContext
from latentqa.baselines.steering.likelihood import Scored, batch_logprobs, sequence_logprobs
from latentqa.baselines.steering.lora import Loss, trained_adapter
from latentqa.baselines.steering.treatment import Treatment
from latentqa.decoder import Target
from latentqa.errors import TrainingError

STRENGTHS = (1.0, 0.75, 0.5, 1.25, 1.5, 2.0)
"""Multiples of the adapter's update."""
BETA = 0.1
"""How strongly DPO holds on to the reference model; the original's value for dialogs."""


def make_sft(context: MethodContext) -> Treatment:
    """Finetune on the completions under the control, the control left out."""
    chosen = own_completions(context, context.aim.control)
    return _trained(context, "sft", sft_loss(chosen), len(chosen))


def make_dpo(context: MethodContext) -> Treatment:
    """Prefer the completions under the control to those without it, or under the opposite control."""
    chosen = own_completions(context, context.aim.control)
    rejected = own_completions(context, context.aim.opposite)
    pairs = [(good, bad) for good, bad in zip(chosen, rejected, strict=True) if good != bad]
    if not pairs:
        raise TrainingError(
            f"On none of {len(chosen)} stimuli does the target write another completion under the control "
            f"{context.aim.control!r}, so DPO has nothing to prefer. Give more stimuli, or leave dpo out."
        )
    loss = dpo_loss(context.target, pairs)
    made = _trained(context, "dpo", loss, len(pairs))
    return made.chosen(pairs=len(pairs))


def own_completions(context: MethodContext, control: str | None) -> list[Scored]:
    """What the target writes under a control on each stimulus, as tokens after the bare stimulus."""
    written = context.completions.under(control, context.stimuli)
    return [
        completion_tokens(context.target, user_turn(text), said)
        for text, said in zip(context.stimuli, written, strict=True)
    ]


def sft_loss(sequences: Sequence[Scored]) -> Loss:
    """Mean cross-entropy of the scored tokens, in nats a token."""

    def loss(live: Target, numbers: Sequence[int]) -> Tensor:
        values, _ = batch_logprobs(live, [sequences[number] for number in numbers])
        return -values.mean()

    return loss


def dpo_loss(reference: Target, pairs: Sequence[tuple[Scored, Scored]], beta: float = BETA) -> Loss:
    """Negative log-probability that the first of each pair is preferred to the second.

    −log σ(β((log π(w) − log π₀(w)) − (log π(l) − log π₀(l)))), where π₀ is the target before training.

    Args:
        reference: the target without the adapter.
        pairs: (wanted, unwanted) sequences.
        beta: how strongly π is held to π₀.

    Source: Direct Preference Optimization (Rafailov et al. 2023), equation 7.
    """
    wanted = _totals(reference, [good for good, _ in pairs])
    unwanted = _totals(reference, [bad for _, bad in pairs])
    margins = [good - bad for good, bad in zip(wanted, unwanted, strict=True)]

    def loss(live: Target, numbers: Sequence[int]) -> Tensor:
        batch = [side for number in numbers for side in pairs[number]]
        values, rows = batch_logprobs(live, batch)
        totals = values.new_zeros(len(batch)).index_add(0, rows, values).reshape(-1, 2)
        before = torch.tensor([margins[number] for number in numbers], device=totals.device)
        return -torch.nn.functional.logsigmoid(beta * (totals[:, 0] - totals[:, 1] - before)).mean()

    return loss


def _totals(target: Target, sequences: Sequence[Scored]) -> list[float]:
    return [float(values.sum()) for values in sequence_logprobs(target, sequences)]


def _trained(context: MethodContext, method: str, loss: Loss, count: int) -> Treatment:
    from latentqa.steering import Steering

    def report(done: int, total: int) -> None:
        if done == total:
            context.note(f"{method}: {total} steps on {count} completions")

    trained = trained_adapter(
        context.target, loss, count, context.lora, name=method, seed=context.seed, progress=report
    )
    with trained as adapter:
        steering = Steering.from_adapter(context.target, adapter, method=method, control=context.aim.control)
    return context.search(
        lambda settings: Treatment(method, steering, strength=float(settings["strength"])),
        {"strength": STRENGTHS},
    ).chosen(steps=context.lora.steps)
