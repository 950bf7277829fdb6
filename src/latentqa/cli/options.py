"""Options that several verbs share, so that they are named and explained once."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from latentqa.decoder import Decoder, Target
    from latentqa.steering import Steering


class Quantization(StrEnum):
    """Bits per weight that a model is loaded with."""

    FOUR_BIT = "4bit"
    EIGHT_BIT = "8bit"


class Reference(StrEnum):
    """Activations that support compares with."""

    NONE = "none"
    MEAN = "mean"
    SHUFFLED = "shuffled"


class Preset(StrEnum):
    """How a decoder that was published without a card is wired."""

    LATENTQA = "latentqa"
    ACTIVATION_ORACLE = "activation-oracle"
    NLA = "nla"


class Kind(StrEnum):
    """Which of the published LatentQA item files is read."""

    SYSTEM = "system"
    CONTROL = "control"
    STIMULUS = "stimulus"
    STIMULUS_COMPLETION = "stimulus_completion"


DecoderName = Annotated[
    str,
    typer.Option("--decoder", help='Decoder: "builtin", a folder, or a hub id with a card.', metavar="NAME"),
]
TargetName = Annotated[
    str | None,
    typer.Option(
        "--target",
        help='Model that is read: "builtin", a hub id, a folder or a .gguf file. '
        "Left out: the one that the decoder was trained on.",
        metavar="NAME",
    ),
]
PresetName = Annotated[Preset | None, typer.Option("--preset", help="How a decoder without a card is wired.")]
ReadLayers = Annotated[
    list[int] | None,
    typer.Option(
        "--read-layer",
        help="Read layer: with --preset the one that the decoder was made for, else one that its card names. "
        "Left out: the decoder's own.",
        metavar="K",
    ),
]
Revision = Annotated[str | None, typer.Option("--revision", help="Revision of the target on the hub.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, bfloat16, float16 or float32.", metavar="DTYPE")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.", metavar="DEVICE")]
QuantizationOption = Annotated[
    Quantization | None, typer.Option("--quantization", help="Load the target's weights with fewer bits.")
]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run code that the target's repository brings.")
]
ReadSpan = Annotated[
    str | None,
    typer.Option(
        "--read",
        help="Span that is read: stimulus, stimulus:content, control, completion, all, last:8, [3,4,5] or a "
        "'\"quoted substring\"'. Left out: the decoder's own.",
        metavar="SPAN",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
ReferenceOption = Annotated[Reference, typer.Option("--reference", help="What support compares with.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Questions answered at once.")]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Folder with the item files, or a data root. Left out: $LATENTQA_DATA.", metavar="DIR"
    ),
]


SteerFolders = Annotated[
    list[Path] | None,
    typer.Option(
        "--steer",
        help="Folder of a steering, as `latentqa steer make` writes it. Can be repeated.",
        metavar="DIR",
    ),
]
Strengths = Annotated[
    list[float] | None,
    typer.Option(
        "--strength",
        help="Strength of the steerings: one for all, or one for each. 1 is as made, 0 is off.",
        metavar="X",
    ),
]
ChatTarget = Annotated[
    str | None,
    typer.Option(
        "--target",
        help='Model that replies: "builtin", a hub id, a folder or a .gguf file. Left out: the one that the '
        "first steering was made for, or builtin.",
        metavar="NAME",
    ),
]
NewTokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest reply, in tokens.")]
Temperature = Annotated[float, typer.Option("--temperature", min=0.0, help="0 is greedy.")]
DrawSeed = Annotated[int, typer.Option("--seed", help="Of the drawing, with a temperature.")]


def load_steered(
    folders: Sequence[Path],
    strengths: Sequence[float],
    *,
    target: str | None,
    revision: str | None,
    dtype: str,
    device: str,
    quantization: Quantization | None,
    trust_remote_code: bool,
) -> tuple[Target, list[Steering], list[float]]:
    """Load steerings, and the model that they were made for or the one that is named; nothing is steered yet.

    Raises:
        SteeringError: a damaged steering, one made for another model, or a number of strengths that does not
            fit.
    """
    from latentqa.decoder import load_target
    from latentqa.errors import SteeringError
    from latentqa.steering import Steering

    steerings = [Steering.load(folder) for folder in folders]
    given = list(strengths) or [1.0]
    if len(given) not in (1, len(steerings)):
        raise SteeringError(
            f"{len(steerings)} steerings were given with {len(given)} strengths. Give one --strength, or one "
            "for each --steer."
        )
    loaded = load_target(
        target or (steerings[0].card.base_model if steerings else "builtin"),
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=quantization.value if quantization else None,
        trust_remote_code=trust_remote_code,
    )
    for steering in steerings:
        steering.check(loaded)
    return loaded, steerings, given * len(steerings) if len(given) == 1 else given


def load_reader(
    decoder: str,
    *,
    target: str | None,
    revision: str | None,
    dtype: str,
    device: str,
    quantization: Quantization | None,
    trust_remote_code: bool,
    preset: Preset | None = None,
    read_layers: Sequence[int] = (),
) -> tuple[Target, Decoder]:
    """Load the target, by default the one that the decoder's card names, and the decoder on it.

    The target then reads `read_layers`, if its decoder takes them; by default the decoder's own.
    """
    from latentqa.decoder import default_target, load_decoder, load_target

    wired = preset.value if preset else None
    loaded = load_target(
        target or default_target(decoder, preset=wired),
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=quantization.value if quantization else None,
        trust_remote_code=trust_remote_code,
    )
    options: dict[str, Any] = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    return loaded, load_decoder(decoder, target=loaded, preset=wired, read_layers=read_layers, **options)
