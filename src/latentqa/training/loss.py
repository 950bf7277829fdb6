"""The loss of Latent Interpretation Tuning: answers to questions on activations, and whose they are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from peft.helpers import disable_input_dtype_casting
from torch import Tensor, nn

from latentqa.decoder.forward import Row, answer_logprobs, mean_per_row
from latentqa.decoder.target import Reading, Target, read_vectors
from latentqa.decoder.wiring import Slot, Wiring
from latentqa.dialogs import span_kind
from latentqa.training.config import ContrastSettings


@dataclass(frozen=True)
class LossSettings:
    """Weights of the terms.

    Attributes:
        answer: of the answers' cross-entropy.
        contrast: of the ranking terms.
        layers: read layers.
        share: rows on one activation share its prefix; off under gradient checkpointing, which drops the
            cache, and under FSDP, which misses gradients that reach a block through its keys and values.
        stop: leave the target pass after the last read layer; off under FSDP.
    """

    answer: float
    contrast: ContrastSettings
    layers: tuple[int, ...]
    share: bool = True
    stop: bool = True


@dataclass(frozen=True)
class PreparedEntry:
    """An entry with its dialog rendered and its span found.

    Attributes:
        reading: what of the dialog is read.
        pairs: question and answer token ids; the first is contrasted.
        layer: the sampled read layer; None for all.
    """

    reading: Reading
    pairs: tuple[tuple[str, tuple[int, ...]], ...]
    layer: int | None = None


class Losses(dict[str, Tensor]):
    """Sums over the examples of a pass: `loss`, `answer`, `foreign`, `ranking`, `gap`, and their `count`."""


class LITModule(nn.Module):
    """Target pass, decoder pass and loss of one training pass, as one module that DDP or FSDP can wrap.

    Args:
        wiring: the decoder.
        target: the model that is read; frozen.
        settings: weights of the terms.
        mean: span → mean activation `[L, D]`, for `contrast.reference: mean`.
    """

    def __init__(
        self,
        wiring: Wiring,
        target: Target,
        settings: LossSettings,
        mean: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.model = wiring.model
        self._no_split_modules = wiring.model._no_split_modules  # the blocks, which FSDP shards one by one
        self._wiring = wiring
        self._target = (target,)  # in a tuple, so that a separate target is no submodule and is not wrapped
        self._settings = settings
        self._mean = mean or {}

    def forward(self, groups: Sequence[Sequence[PreparedEntry]]) -> Losses:
        """Sums of the loss terms over all entries of the groups."""
        slots = self._read([entry for group in groups for entry in group])
        rows, layout = _rows(groups, self._settings.contrast)
        if layout.priors:
            slots += [self._mean_slot(group[0]) for group in groups]
        with self._wiring.active(), disable_input_dtype_casting(self.model):
            values, row_index = answer_logprobs(self._wiring, slots, rows, share=self._settings.share)
        return lit_loss(mean_per_row(values, row_index, len(rows)), layout, self._settings)

    @torch.no_grad()
    def _read(self, entries: Sequence[PreparedEntry]) -> list[Slot]:
        """One target pass; a dialog that occurs twice is run once."""
        (target,) = self._target
        by_dialog: dict[tuple[int, ...], list[int]] = {}
        for number, entry in enumerate(entries):
            by_dialog.setdefault(entry.reading.rendered.token_ids, []).append(number)
        spans = [[entries[number].reading.span for number in numbers] for numbers in by_dialog.values()]
        with _without_dropout(target.model):
            read = read_vectors(
                target.model,
                list(by_dialog),
                spans,
                self._settings.layers,
                adapter=target.adapter,
                stop=self._settings.stop,
            )
        slots: dict[int, Slot] = {}
        for numbers, vectors in zip(by_dialog.values(), read, strict=True):
            for number, part in zip(numbers, vectors, strict=True):
                slots[number] = self._slot(entries[number], part)
        return [slots[number] for number in range(len(entries))]

    def _mean_slot(self, entry: PreparedEntry) -> Slot:
        """The mean activation in place of an entry's own."""
        span = entry.reading.span
        mean = self._mean.get(span_kind(span.name), next(iter(self._mean.values())))
        return self._slot(entry, mean[:, None].expand(-1, len(span.indices), -1))

    def _slot(self, entry: PreparedEntry, vectors: Tensor) -> Slot:
        if entry.layer is not None:
            vectors = vectors[[self._settings.layers.index(entry.layer)]]
        return self._wiring.slot(vectors, entry.reading.span.indices)


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Eval mode: a target that shares its weights with a decoder in training is still read as it is."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


@dataclass(frozen=True)
class _Layout:
    """Where the rows of a group lie: a square (answer j on activation i at i·G + j), then further pairs.

    With `contrast.reference: mean` the group's answers on the mean activation follow, from `priors` on.
    """

    squares: tuple[tuple[int, int], ...]
    further: tuple[int, ...]
    priors: tuple[int, ...] = ()


def _rows(groups: Sequence[Sequence[PreparedEntry]], contrast: ContrastSettings) -> tuple[list[Row], _Layout]:
    rows: list[Row] = []
    squares: list[tuple[int, int]] = []
    further: list[int] = []
    slot = 0
    for group in groups:
        blocks = (
            [range(slot, slot + len(group))]
            if contrast.group > 1
            else [[slot + i] for i in range(len(group))]
        )
        for block in blocks:
            squares.append((len(rows), len(block)))
            chosen = [group[number - slot].pairs[0] for number in block]
            rows += [Row(number, question, answer) for number in block for question, answer in chosen]
        for i, entry in enumerate(group):
            further += range(len(rows), len(rows) + len(entry.pairs) - 1)
            rows += [Row(slot + i, question, answer) for question, answer in entry.pairs[1:]]
        slot += len(group)
    priors: list[int] = []
    if contrast.reference == "mean" and contrast.group > 1:
        for number, group in enumerate(groups):
            priors.append(len(rows))
            rows += [Row(slot + number, *entry.pairs[0]) for entry in group]
    return rows, _Layout(tuple(squares), tuple(further), tuple(priors))


def lit_loss(scores: Tensor, layout: _Layout, settings: LossSettings) -> Losses:
    """The loss from mean log-probabilities of rows.

    Three terms, each a sum over examples: the answer's cross-entropy; `foreign`, a softmax over the
    activations of the group for one answer; `ranking`, a softmax over the answers of the group for one
    activation, of their support against the group (log-probability minus the log of its mean over
    activations, which is the `shuffled` reference; or against the mean activation, which then also stands
    among the activations of `foreign`, unless a fourth term, `prior`, has it learn the answers' frequency).

    Args:
        scores: `[S]`, mean log-probability per answer token of each row, in nats.
        layout: where each group's rows are.
        settings: weights.

    Source: the cross-entropy is LatentQA's; the other two are the symmetric loss of CLIP (Radford et al.
    2021) with the decoder's log-probability as similarity.
    """
    contrast = settings.contrast
    names = ("answer", "foreign", "ranking", "gap", *(("prior",) if contrast.prior else ()))
    sums = {name: scores.new_zeros(()) for name in names}
    count = 0
    for number, (start, size) in enumerate(layout.squares):
        square = scores[start : start + size * size].view(size, size)
        own = square.diagonal()
        sums["answer"] = sums["answer"] - own.sum()
        count += size
        if size == 1:
            continue
        places = torch.arange(size, device=scores.device)
        sharp, choices = contrast.sharpness, square.T
        if layout.priors:
            expected = scores[layout.priors[number] : layout.priors[number] + size]
            if contrast.prior:
                sums["prior"] = sums["prior"] - expected.sum()
            else:
                choices = torch.cat([choices, expected[:, None]], dim=1)
        else:
            expected = torch.logsumexp(square, dim=0) - math.log(size)
        sums["foreign"] = sums["foreign"] + nn.functional.cross_entropy(
            sharp * choices, places, reduction="sum"
        )
        support = sharp * (square - expected)
        sums["ranking"] = sums["ranking"] + nn.functional.cross_entropy(support, places, reduction="sum")
        others = (square.sum(0) - own) / (size - 1)
        sums["gap"] = sums["gap"] + (own - others).sum().detach()
    further = scores[list(layout.further)]
    total = settings.answer * (sums["answer"] - further.sum())
    total = total + contrast.foreign * sums["foreign"] + contrast.ranking * sums["ranking"]
    if contrast.prior:
        total = total + contrast.prior * sums["prior"]
    return Losses(
        loss=total, count=scores.new_tensor(count), **{name: value.detach() for name, value in sums.items()}
    )
