"""Settings of a training run: what `latentqa train --config run.yaml key=value` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from latentqa.data import QAKind
from latentqa.decoder.card import SCALE


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True)


class DataSource(_Settings):
    """One part of the training mix.

    Attributes:
        path: a folder of published LatentQA files, a JSONL file of ours, or `builtin`; relative paths count
            from the data root if they are not found as they are.
        weight: how often each example is seen in an epoch; 0.5 is every other epoch on average, 2 is twice.
            Of a mix with more than 100,000 entries an epoch is a sample, in the same proportions.
        kinds: of a published folder.
        pairs: `given` uses examples that have question-answer pairs; `rules` derives pairs from the control's
            text for the others too; `derived` uses derived pairs for all, whatever pairs they have.
        pair_kinds: kinds of pairs that are asked; empty is all. A file can be named once per kind, each with
            its weight.
        reasoning: weight of `reasoning` pairs (how a reply would go) against 1 for all others.
        spans: span → weight; one is drawn per example and epoch. Empty: the example's own span.
        held_out: share of its labels that is held out, if it is not the run's.
        mapping: whether the mapping is fitted on it too.
    """

    path: str
    weight: float = Field(1.0, gt=0)
    kinds: tuple[Literal["system", "control", "stimulus", "stimulus_completion"], ...] = ("system",)
    pairs: Literal["given", "rules", "derived"] = "given"
    pair_kinds: tuple[QAKind, ...] = ()
    reasoning: float = Field(1.0, ge=0)
    spans: dict[str, float] = {}
    held_out: float | None = Field(None, ge=0, le=1)
    mapping: bool = True


class LoRASettings(_Settings):
    """The decoder's adapter.

    Attributes:
        rank: of each update.
        alpha: the update is scaled by alpha / rank.
        targets: names of linear modules, or `all-linear`.
        head: train an update of the output head too.
        first_block: blocks below it get none; None starts after the write site. What lies below does not see
            the activations, and leaving it frozen saves its backward pass.
    """

    rank: int = Field(32, ge=1)
    alpha: float = 64.0
    targets: tuple[str, ...] | Literal["all-linear"] = "all-linear"
    head: bool = False
    first_block: int | None = None


class MappingSettings(_Settings):
    """The closed-form map of activations to states of the decoder (`latentqa.decoder.mapping`).

    Attributes:
        ridge: penalty of the regression, as a share of each input's variance.
        gain: factor on the predicted difference from the mean state.
        raw: write the token's own vector of the last read layer after each mapped one. Needs a target of the
            decoder's width; a decoder that was trained without may go on (`start`) with it.
    """

    ridge: float = Field(0.01, gt=0)
    gain: float = 4.0
    raw: bool = False


class ContrastSettings(_Settings):
    """The ranking term: each answer must fit its own activation better than the others of its group.

    Attributes:
        group: activations per group; each of their answers is scored on each of them (`group`² rows). Answers
            in a group differ, so that one of yes-no questions has two. 1 turns it off.
        foreign: weight of "this answer belongs to which activation?".
        ranking: weight of "this activation has which answer?", by support.
        sharpness: factor on mean log-probabilities (nats a token) before the softmax.
        same_question: share of groups in which all answers are put to one question.
        near: share of the examples that are grouped with those whose answers have most words in common, which
            are harder to tell apart than any others.
        reference: what the support in `ranking` compares with: the `group`'s other activations, or the `mean`
            activation, as ranking by support does later; every answer is then scored on that too.
        prior: with `reference: mean`, weight of the answers' cross-entropy on the mean activation, so that it
            gives an answer its frequency; the mean is then none of the activations of `foreign`.
    """

    group: int = Field(4, ge=1)
    foreign: float = 1.0
    ranking: float = 1.0
    sharpness: float = 8.0
    same_question: float = Field(0.5, ge=0, le=1)
    near: float = Field(0.0, ge=0, le=1)
    reference: Literal["group", "mean"] = "group"
    prior: float = Field(0.0, ge=0)


class TrainConfig(_Settings):
    """One training run.

    Attributes:
        output: folder of the run: checkpoints, log, and the decoder at the end.
        name: what the decoder is called.
        model: base of the decoder: `builtin`, hub id, folder.
        target: the model that is read; None is the decoder's base itself, with one set of weights.
        kind: `lora`, or `full` to finetune a second copy.
        data: the mix.
        data_root: where relative paths of `data` are looked up; None is `$LATENTQA_DATA`.
        plain: share of ordinary dialogs among the entries, whose right answer is that nothing special
            is asked; tasks (pairs of a pool of their own) do without.
        read_layers: layers that are read; empty is half depth.
        sample_layer: read one of `read_layers` per example instead of all.
        write_site: `embed`, `block:k`, or `read`: the last read layer, where a target's own state would be.
        injection: `replace`, `add` or `norm_add`.
        scale: none, a number, `placeholder`, or a norm (`norm:150`).
        mapping: map activations to states of the decoder before they are written, all read layers of a token
            to one vector; null writes them as they are. A target of another width than the decoder needs it.
        shift_positions: placeholders take the read tokens' positions.
        template: the decoder's user turn.
        examples: how many examples are seen in all.
        examples_per_step: about how many make one optimizer step.
        tokens_per_pass: padded tokens of one forward and backward; more are accumulated.
        questions_per_dialog: pairs asked on each activation; they share its target pass and prefix.
        learning_rate: peak.
        warmup: share of the steps.
        weight_decay: of the optimizer.
        max_grad_norm: gradients are clipped to it.
        answer: weight of the answer's cross-entropy.
        contrast: the ranking term.
        lora: the adapter.
        start: a decoder to go on from, `builtin` or a folder: its adapter (with its rank) and its mapping.
        first_epoch: where counting begins. A stage that goes on from another with the same data and seed
            takes 1 or more, so that it sees other groups and other pairs of each dialog.
        ema: decay of the averaged weights that are kept at the end; 0 is off.
        held_out: share of labels kept out of training.
        evaluate_every: steps; 0 only at the end.
        evaluate_labels: held-out labels per group that are ranked.
        patience: evaluations without a better result after which training stops; 0 is off.
        save_every: steps between checkpoints.
        calibrate: ordinary dialogs on which the verdict is calibrated at the end; 0 leaves the card without.
        checkpointing: recompute blocks in the backward to save memory.
        attention: attention implementation; None is the model's own.
        dtype: of the weights.
        device: where.
        seed: of everything random.
        log_to: `tensorboard`, `wandb` or `trackio`, beside the JSONL log.
        trust_remote_code: run code that comes with the model.
    """

    output: Path
    name: str = "decoder"
    model: str = "builtin"
    target: str | None = None
    kind: Literal["lora", "full"] = "lora"
    data: tuple[DataSource, ...] = Field(min_length=1)
    data_root: Path | None = None
    plain: float = Field(0.15, ge=0, lt=1)
    read_layers: tuple[int, ...] = ()
    sample_layer: bool = False
    write_site: str = "read"
    injection: Literal["replace", "add", "norm_add"] = "replace"
    scale: float | Annotated[str, Field(pattern=SCALE)] | None = None
    mapping: MappingSettings | None = None
    shift_positions: bool = False
    template: str = "{placeholders}\n{question}"
    examples: int = Field(10_000, ge=1)
    examples_per_step: int = Field(16, ge=1)
    tokens_per_pass: int = Field(1536, ge=64)
    questions_per_dialog: int = Field(1, ge=1)
    learning_rate: float = Field(5e-4, gt=0)
    warmup: float = Field(0.03, ge=0, lt=1)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    answer: float = 1.0
    contrast: ContrastSettings = ContrastSettings()  # pyright: ignore[reportCallIssue]
    lora: LoRASettings = LoRASettings()  # pyright: ignore[reportCallIssue]
    start: str | None = None
    first_epoch: int = Field(0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1)
    held_out: float = Field(0.1, ge=0, lt=1)
    evaluate_every: int = Field(0, ge=0)
    evaluate_labels: int = Field(50, ge=0)
    patience: int = Field(0, ge=0)
    save_every: int = Field(50, ge=1)
    calibrate: int = Field(200, ge=0)
    checkpointing: bool = False
    attention: str | None = None
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0
    log_to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    trust_remote_code: bool = False
