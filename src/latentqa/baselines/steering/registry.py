"""All methods of steering by name, and what each is made from."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from latentqa.errors import ConfigError

if TYPE_CHECKING:
    from latentqa.baselines.steering.context import MethodContext
    from latentqa.baselines.steering.treatment import Treatment


@dataclass(frozen=True)
class MethodSpec:
    """What a method is, for lists and tables.

    Attributes:
        name: as it is asked for.
        source: where it is from.
        needs: what it needs.
        cannot: what it cannot do.
        needs_decoder: whether it cannot be made without a decoder.
        has_strength: whether it can be put on more or less strongly.
    """

    name: str
    source: str
    needs: str
    cannot: str
    needs_decoder: bool = False
    has_strength: bool = True


METHODS: dict[str, MethodSpec] = {
    spec.name: spec
    for spec in (
        MethodSpec(
            name="no-control",
            source="the target as it is",
            needs="nothing",
            cannot="change anything",
            has_strength=False,
        ),
        MethodSpec(
            name="prompting",
            source="the control as system prompt, or as a prefix of a raw text",
            needs="a target that follows instructions",
            cannot="be put on more or less strongly, or be hidden from who sees the dialog",
            has_strength=False,
        ),
        MethodSpec(
            name="contrast",
            source="difference of means (CAA, Rimsky et al. 2024), layer and strength chosen on validation "
            "prompts",
            needs="a control that the target follows when it is prompted with it",
            cannot="say more than how controlled and plain activations differ on average",
        ),
        MethodSpec(
            name="principal-component",
            source="principal component of the differences (RepE, Zou et al. 2023), chosen alike",
            needs="a control that the target follows when it is prompted with it",
            cannot="say more than how controlled and plain activations differ on average",
        ),
        MethodSpec(
            name="random",
            source="a random vector of the norm, layers and strength of the steering vector",
            needs="the method that it imitates",
            cannot="steer on purpose: what it achieves, any push achieves",
        ),
        MethodSpec(
            name="sft",
            source="finetuning on the target's own completions under the control, this library's own loop",
            needs="a control that the target follows when it is prompted with it, and training",
            cannot="be better than prompting at what it imitates, except where it adds up",
        ),
        MethodSpec(
            name="dpo",
            source="DPO (Rafailov et al. 2023) of completions under the control over those without it",
            needs="a control under which the target writes something else, and training",
            cannot="prefer what the target never writes",
        ),
        MethodSpec(
            name="closed-form",
            source="the averaged gradient of the decoder's loss as a vector, this library's own",
            needs="a decoder trained for the target",
            cannot="follow the loss where it curves",
            needs_decoder=True,
        ),
        MethodSpec(
            name="vector",
            source="a vector optimised by the decoder's loss, this library's own",
            needs="a decoder trained for the target",
            cannot="reach what no added vector can",
            needs_decoder=True,
        ),
        MethodSpec(
            name="weights",
            source="LatentQA (Pan et al. 2024): a LoRA trained by the decoder's loss",
            needs="a decoder trained for the target, and training",
            cannot="steer towards what the decoder cannot tell",
            needs_decoder=True,
        ),
    )
}


def make_treatment(name: str, context: MethodContext) -> Treatment:
    """Make a method's treatment of an aim; its layers and strength are chosen by the context's judge.

    Raises:
        ConfigError: an unknown method, or one that needs a decoder and has none.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1, cutoff=0.3)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f'Method "{name}" does not exist.{hint} There are {", ".join(METHODS)}.')
    from latentqa.baselines.steering.context import timed

    return timed(_makers()[name], context)


def _makers() -> dict[str, Callable[[MethodContext], Treatment]]:
    """How each method is made; imported here, since the methods load torch."""
    from latentqa.baselines.steering import contrast, decoded, finetuned, plain

    return {
        "no-control": plain.make_no_control,
        "prompting": plain.make_prompting,
        "contrast": contrast.make_contrast,
        "principal-component": contrast.make_principal_component,
        "random": plain.make_random,
        "sft": finetuned.make_sft,
        "dpo": finetuned.make_dpo,
        "closed-form": decoded.make_closed_form_method,
        "vector": decoded.make_vector_method,
        "weights": decoded.make_weights_method,
    }
