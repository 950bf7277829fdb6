"""All readers by name, and what each is made from."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from latentqa.baselines.fit import Choosing, FitItem, Fitted, Validation
from latentqa.errors import ConfigError
from latentqa.reader import Reader

if TYPE_CHECKING:
    from latentqa.baselines.reads import Reads
    from latentqa.decoder import Decoder, Target


@dataclass(frozen=True, eq=False)
class ReaderContext:
    """What readers are made from; readers of one context share what was read of the target.

    Attributes:
        target: the model that is read.
        decoder: for `lit` and the readers of reference activations.
        fit_items: training split of probes and of `text-finetuned`; without it they are made unfitted.
        validation: items with their candidates, on which layers, prompts and penalties are chosen.
        seed: of everything random.
        answer_tokens: longest free answer, in tokens.
        budget: most settings that a baseline may try.
        layers: read layers that baselines choose from; None is six depths of the target.
        finetune_examples: examples that `text-finetuned` is trained on; the builtin decoder saw 6,000.
        folder: where `text-finetuned` keeps its adapter, to be used again by the same run; None keeps none.
        moved: further layers that readers will be put to (`at_layer`): read in the same target pass.
        signals: free answers of the decoder carry support and percentile, which costs about as much as
            generating them.
    """

    target: Target
    decoder: Decoder | None = None
    fit_items: Sequence[FitItem] = ()
    validation: Validation = ()
    seed: int = 0
    answer_tokens: int = 40
    budget: int = 12
    layers: tuple[int, ...] | None = None
    finetune_examples: int = 6000
    folder: str | os.PathLike[str] | None = None
    moved: tuple[int, ...] = ()
    signals: bool = True

    @cached_property
    def reads(self) -> Reads:
        """Activations of the target, kept for all readers of this context."""
        from latentqa.baselines.reads import Reads, grid, move

        own: set[int] = set()
        if self.decoder is not None:
            card = self.decoder.card
            own.update(self.decoder.read_layers)
            for layer in self.moved:
                own.update(move(card.read_layers, layer, sampled=card.sampled_layer).layers)
        return Reads(self.target, sorted({*grid(self.target, self.layers), *self.moved, *own}))


@dataclass(frozen=True)
class ReaderSpec:
    """What a reader is, for lists and tables.

    Attributes:
        name: as it is asked for.
        source: where it is from.
        needs: what it needs.
        cannot: what it cannot answer.
        needs_decoder: whether it cannot be made without a decoder.
        needs_fit: whether it must be fitted on a training split.
        answers_free: whether `ask` gives free answers.
        repeatable: whether what it says depends on the models, its choices and what is read alone: not on
            the seed or on what it was fitted on.
        layered: whether it can be put to another layer.
        classifies: whether it names labels that it was fitted on, and nothing else.
    """

    name: str
    source: str
    needs: str
    cannot: str
    needs_decoder: bool = False
    needs_fit: bool = False
    answers_free: bool = True
    repeatable: bool = True
    layered: bool = False
    classifies: bool = False


_ON_REFERENCE = {
    "source": "the reference activations of this library's decoder card (docs/design.md, 2)",
    "needs": "a decoder trained for the target",
    "cannot": "tell one dialog from another, by construction",
    "needs_decoder": True,
}

READERS: dict[str, ReaderSpec] = {
    spec.name: spec
    for spec in (
        ReaderSpec(
            name="lit",
            source="LatentQA (Pan et al. 2024), as this library trains it",
            needs="a decoder trained for the target",
            cannot="say how sure it is without its card's calibration",
            needs_decoder=True,
            layered=True,
        ),
        ReaderSpec("no-activation", **_ON_REFERENCE),
        ReaderSpec("mean-activation", **_ON_REFERENCE),
        ReaderSpec("shuffled", **_ON_REFERENCE),
        ReaderSpec(
            name="text-given",
            source="the text control of Li et al. (2025) for readers of activations",
            needs="a target that follows instructions",
            cannot="use anything that the model computed and the text does not say",
        ),
        ReaderSpec(
            name="text-finetuned",
            source="the text control of Li et al. (2025), finetuned like a decoder",
            needs="training pairs, and about as long as training a decoder",
            cannot="use anything that the model computed and the text does not say",
            needs_fit=True,
            repeatable=False,
        ),
        ReaderSpec(
            name="patchscopes",
            source="Patchscopes (Ghandeharioun et al. 2024)",
            needs="the target alone, and validation items for its search",
            cannot="use more than one vector of the span; it is not trained for any question",
            layered=True,
        ),
        ReaderSpec(
            name="selfie",
            source="SelfIE (Chen, Vondrick and Mao 2024)",
            needs="the target alone, and validation items for its search",
            cannot="do more than the model does untrained when it meets a deep layer's states in its prompt",
            layered=True,
        ),
        ReaderSpec(
            name="logit-lens",
            source="the logit lens (nostalgebraist 2020), with the target's final norm",
            needs="the target alone, and validation items for its search",
            cannot="take the question into account, or say anything but single tokens",
            layered=True,
        ),
        ReaderSpec(
            name="linear-probe",
            source="linear classifier probes (Alain and Bengio 2016), as multinomial logistic regression",
            needs="a training split with at least two items of a class, and scikit-learn",
            cannot="name a label that it was not fitted on, or answer a question that it was not fitted on",
            needs_fit=True,
            repeatable=False,
            layered=True,
            classifies=True,
        ),
        ReaderSpec(
            name="retrieval-probe",
            source="ridge regression to features of the answers, this library's own (docs/design.md, 8)",
            needs="a training split of dialogs with their answers",
            cannot="take the question into account, or write an answer that it was not given",
            needs_fit=True,
            repeatable=False,
        ),
    )
}


def make_reader(name: str, context: ReaderContext) -> Reader:
    """Make a reader, fit it on the context's training split, choose its settings on the validation items.

    Without a training split a probe is made unfitted (call its `fit`); without validation items a reader
    takes its first settings.

    Args:
        name: one of `READERS`.
        context: what it is made from.

    Raises:
        ConfigError: an unknown name, or a reader that needs a decoder and has none.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name, READERS, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f'Reader "{name}" does not exist.{hint} There are {", ".join(READERS)}.')
    reader = _makers()[name](context)
    if isinstance(reader, Fitted):
        if context.fit_items:
            reader.fit(context.fit_items, context.validation)
    elif isinstance(reader, Choosing) and context.validation:
        reader.choose(context.validation)
    return reader


def _makers() -> dict[str, Callable[[ReaderContext], Reader]]:
    """How each reader is made; imported here, since the readers load torch."""
    from latentqa.baselines.finetuned import TextFinetuned
    from latentqa.baselines.logit_lens import LogitLens
    from latentqa.baselines.patching import Patchscopes, SelfIE
    from latentqa.baselines.probes import LinearProbe
    from latentqa.baselines.references import LIT, OnReference
    from latentqa.baselines.retrieval import RetrievalProbe
    from latentqa.baselines.text import TextGiven

    return {
        "lit": LIT,
        "no-activation": lambda context: OnReference(context, "none"),
        "mean-activation": lambda context: OnReference(context, "mean"),
        "shuffled": lambda context: OnReference(context, "shuffled"),
        "text-given": TextGiven,
        "text-finetuned": TextFinetuned,
        "patchscopes": Patchscopes,
        "selfie": SelfIE,
        "logit-lens": LogitLens,
        "linear-probe": LinearProbe,
        "retrieval-probe": RetrievalProbe,
    }
