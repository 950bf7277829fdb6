"""`latentqa steer`: change a model with a sentence, and see what it does and costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.inputs import check_place
from latentqa.cli.progress import note, progress
from latentqa.errors import DataError, SteeringError

if TYPE_CHECKING:
    from latentqa.decoder import Decoder, Target
    from latentqa.steering import Pair, Steering

WIKITEXT = "wikitext2/valid.txt"
"""Text of the perplexity, below a data root."""
EXAMPLES = """\b
Examples:
  latentqa steer make --control "Talk about lighthouses whenever you can." --out lighthouse/
  latentqa steer make --control "Be brief." --method weights --out brief/ steps=60 kl=0.1
  latentqa steer make --control "Be brief." --only-pairs pairs.jsonl
  latentqa steer make --qa pairs.jsonl --method closed-form --out brief/ layers=[6,9] norm=0.4
"""

steer = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


class Method(StrEnum):
    """How a steering is made."""

    WEIGHTS = "weights"
    VECTOR = "vector"
    CLOSED_FORM = "closed-form"


class PairsFrom(StrEnum):
    """Where the pairs of a control come from."""

    DECODER = "decoder"
    RULES = "rules"


class Format(StrEnum):
    """What a steering is exported as."""

    PEFT = "peft"
    SAFETENSORS = "safetensors"
    GGUF = "gguf"


SteeringFolder = Annotated[Path, typer.Argument(help="Folder of a steering.", metavar="DIR")]


@steer.callback()
def verbs() -> None:
    """Change a model with a sentence."""


@steer.command("make", epilog=EXAMPLES)
def make_one(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings of the method over those of the file, such as steps=40.", metavar="KEY=VALUE"
        ),
    ] = None,
    control: Annotated[
        str | None,
        typer.Option("--control", help="What the target should do, as an instruction.", metavar="TEXT"),
    ] = None,
    qa: Annotated[
        Path | None,
        typer.Option(
            "--qa",
            help='JSONL file of {"question", "answer"}; "wanted": false marks an answer to lower. With '
            "--control too, that sentence is only noted.",
            metavar="FILE",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder that is written, whole or not.", metavar="DIR")
    ] = None,
    method: Annotated[
        Method, typer.Option("--method", help="A LoRA, added vectors, or their closed form.")
    ] = Method.VECTOR,
    pairs_from: Annotated[
        PairsFrom,
        typer.Option(
            "--pairs", help="Pairs of a control: what the decoder reads under it, or rules on its text."
        ),
    ] = PairsFrom.DECODER,
    only_pairs: Annotated[
        Path | None,
        typer.Option(
            "--only-pairs", help="Write the control's pairs here, to be edited, and stop.", metavar="FILE"
        ),
    ] = None,
    stimuli: Annotated[
        Path | None,
        typer.Option(
            "--stimuli",
            help="Prompts that the target is read on, one a line. Left out: 200 of ours.",
            metavar="FILE",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name in tables. Left out: the folder's.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a steering that is there already.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file with the method's settings.", metavar="FILE")
    ] = None,
    decoder: options.DecoderName = "builtin",
    preset: options.PresetName = None,
    read_layer: options.ReadLayers = None,
    target: options.TargetName = None,
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    trust_remote_code: options.TrustRemoteCode = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a steering from a control sentence or from question-answer pairs.

    The decoder's loss on the pairs is lowered by changing the target; the decoder itself never changes. An
    interrupted run leaves nothing.
    """
    _check_asked(control, qa, out, only_pairs, overwrite)
    from latentqa.steering import load_stimuli, read_pairs

    given = None if qa is None else read_pairs(qa)
    prompts = load_stimuli(stimuli)
    settings = _settings(method, config, overrides or [])
    loaded, reader = options.load_reader(
        decoder,
        target=target,
        revision=revision,
        dtype=dtype,
        device=device,
        quantization=None,
        trust_remote_code=trust_remote_code,
        preset=preset,
        read_layers=read_layer or (),
    )
    pairs, notes = (given, []) if given is not None else _pairs_of(loaded, reader, control or "", pairs_from)
    if only_pairs is not None:
        from latentqa.steering import write_pairs

        write_pairs(only_pairs, pairs)
        typer.echo(f"{len(pairs)} pairs written to {only_pairs}")
        return
    assert out is not None
    _show_pairs(pairs)
    with progress("steering, step") as advance:
        made = _maker(method)(loaded, reader, pairs, prompts, settings, advance)
    made = made.described(
        name=name or out.absolute().name,
        control=" ".join(control.split()) if control else None,
        notes=(*made.card.notes, *notes),
    )
    made.save(out)
    typer.echo(json.dumps(_row(made, out), ensure_ascii=False) if as_json else "\n".join(_lines(made, out)))


@steer.command()
def show(
    folder: SteeringFolder,
    pairs: Annotated[
        bool, typer.Option("--pairs", help="Print its pairs as JSON lines, as --qa takes them.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what a steering is, and how it was made."""
    from latentqa.steering import SteeringCard

    card = SteeringCard.load(folder)
    if pairs:
        from latentqa.steering.pairs import pairs_text

        typer.echo(pairs_text(card.given_pairs()), nl=False)
    elif as_json:
        typer.echo(card.model_dump_json())
    else:
        from latentqa.steering import Steering

        typer.echo("\n".join(_lines(Steering.load(folder), folder)))


@steer.command("sweep")
def sweep_one(
    folder: SteeringFolder,
    strengths: Annotated[
        str, typer.Option("--strengths", help="Strengths, separated by commas.", metavar="X,Y")
    ] = "0,0.25,0.5,0.75,1,1.5",
    keywords: Annotated[
        str | None,
        typer.Option(
            "--keywords", help="Words or phrases that show the effect, separated by commas.", metavar="A,B"
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            help="Prompts that are replied to, one a line. Left out: 24 neutral ones.",
            metavar="FILE",
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            help=f"Plain text for the perplexity. Left out: {WIKITEXT} below $LATENTQA_DATA, if there.",
            metavar="FILE",
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", min=2, help="Tokens of that text, in windows of 512.")
    ] = 50_000,
    max_new_tokens: options.NewTokens = 45,
    decoder: Annotated[
        str,
        typer.Option("--decoder", help='Decoder whose loss is shown: its name, or "none".', metavar="NAME"),
    ] = "builtin",
    target: options.ChatTarget = None,
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    as_json: options.AsJson = False,
) -> None:
    """Show the trade-off of a steering: effect, perplexity, KL on neutral prompts, repetition by strength.

    The control ratio says how much likelier the replies are under the control than without it, to the
    unsteered target, in nats a token.
    """
    wanted = _strengths(strengths)
    from latentqa.steering import Steering, load_stimuli, sweep
    from latentqa.steering.fluency import read_text

    steering = Steering.load(folder)
    asked = None if prompts is None else load_stimuli(prompts)
    place = text if text is not None else _wikitext()
    content = None if place is None else read_text(place)
    if content is None:
        note(f"No perplexity: pass --text FILE, or set LATENTQA_DATA to a folder with {WIKITEXT}.")
    loaded, reader = _load(steering, decoder, target, dtype, device)
    with progress("sweeping, strength") as advance:
        report = sweep(
            loaded,
            steering,
            wanted,
            decoder=reader,
            text=content,
            tokens=tokens,
            prompts=asked,
            keywords=[word.strip() for word in (keywords or "").split(",") if word.strip()],
            max_new_tokens=max_new_tokens,
            progress=advance,
        )
    if as_json:
        typer.echo(report.to_json())
        return
    typer.echo(str(report))
    for row in report.rows:
        if row.problem is None:
            typer.secho(f"\nstrength {row.strength:g}", bold=True)
            typer.echo(f"  {' '.join(row.example.split())}")


@steer.command()
def export(
    folder: SteeringFolder,
    out: Annotated[
        Path, typer.Option("--out", help="File that is written; for peft a folder.", metavar="PATH")
    ],
    form: Annotated[
        Format | None,
        typer.Option(
            "--to",
            help="PEFT adapter (of weights), safetensors or llama.cpp control vector (of vectors). Left out: "
            "by the ending of --out.",
        ),
    ] = None,
    strength: Annotated[
        float, typer.Option("--strength", help="Vectors are multiplied by it.", metavar="X")
    ] = 1.0,
) -> None:
    """Write a steering for programs that do not know latentqa."""
    form = form or _form(out)
    from latentqa.steering import Steering

    steering = Steering.load(folder)
    if form == Format.PEFT:
        if strength != 1.0:
            raise typer.BadParameter("--strength goes with vectors. A PEFT adapter is exported as it is.")
        steering.export_peft(out)
    else:
        check_place(out)
        write = steering.export_gguf if form == Format.GGUF else steering.export_vector
        write(out, strength)
    typer.echo(f"{steering.name} exported to {out} ({form.value})")


def _check_asked(
    control: str | None, qa: Path | None, out: Path | None, only_pairs: Path | None, overwrite: bool
) -> None:
    """Refuse what cannot work before anything is loaded."""
    if control is None and qa is None:
        raise typer.BadParameter(
            'nothing to steer towards. Pass --control "Talk about …", or --qa FILE with pairs.'
        )
    if (out is None) == (only_pairs is None):
        raise typer.BadParameter("pass --out DIR for the steering, or --only-pairs FILE for its pairs.")
    if only_pairs is not None:
        if qa is not None:
            raise typer.BadParameter("--only-pairs writes the pairs of a control; --qa has them already.")
        check_place(only_pairs)
    if qa is None and control is not None and not any(map(str.isalnum, control)):
        raise SteeringError(
            'The control is empty. Say what the target should do, for example --control "Talk about the '
            'Golden Gate Bridge whenever you can."'
        )
    if out is not None:
        from latentqa.steering.files import check_folder

        check_folder(out)
        if out.is_dir() and any(out.iterdir()) and not overwrite:
            raise SteeringError(
                f"{out} holds a steering already. Name another folder, or pass --overwrite to replace it."
            )


def _settings(method: Method, config: Path | None, overrides: Sequence[str]) -> Any:
    """The method's settings from file and overrides."""
    from latentqa.cli.settings import load_settings
    from latentqa.steering import ClosedFormSettings, VectorSettings, WeightsSettings

    models = {
        Method.WEIGHTS: WeightsSettings,
        Method.VECTOR: VectorSettings,
        Method.CLOSED_FORM: ClosedFormSettings,
    }
    return load_settings(models[method], config, overrides)


def _maker(method: Method) -> Callable[..., Steering]:
    from latentqa.steering import make_closed_form, make_vector, make_weights

    makers = {
        Method.WEIGHTS: make_weights,
        Method.VECTOR: make_vector,
        Method.CLOSED_FORM: make_closed_form,
    }
    return makers[method]


def _pairs_of(
    target: Target, decoder: Decoder, control: str, source: PairsFrom
) -> tuple[list[Pair], list[str]]:
    """Pairs of a control, and where they come from; both are told."""
    from latentqa.steering import pairs_from_control

    with progress("reading the control") as advance:
        report = pairs_from_control(target, decoder, control, source=source.value, progress=advance)
    note(report.note)
    return list(report.pairs), [report.note]


def _show_pairs(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        note(f"  {'+' if pair.wanted else '-'} {pair.question}  {pair.answer}")


def _load(
    steering: Steering, decoder: str, target: str | None, dtype: str, device: str
) -> tuple[Target, Decoder | None]:
    """The target of a steering, and a decoder on it unless none is wanted."""
    from latentqa.decoder import load_decoder, load_target

    loaded = load_target(target or steering.card.base_model, dtype=dtype, device=device)
    steering.check(loaded)
    if decoder == "none" or not steering.card.pairs:
        return loaded, None
    return loaded, load_decoder(decoder, target=loaded, dtype=dtype, device=device)


def _strengths(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise typer.BadParameter(
            f"--strengths {text!r} is no list of numbers. Write them as 0,0.5,1."
        ) from None


def _wikitext() -> Path | None:
    """WikiText-2 below the data root, if there is one."""
    from latentqa.data import data_file

    try:
        return data_file(WIKITEXT)
    except DataError:
        return None


def _form(out: Path) -> Format:
    """The format that a file's ending names."""
    endings = {".gguf": Format.GGUF, ".safetensors": Format.SAFETENSORS, "": Format.PEFT}
    if out.suffix not in endings:
        raise typer.BadParameter(
            f"{out} does not say what to write. Pass --to peft, safetensors or gguf, or end --out in .gguf "
            "or .safetensors."
        )
    return endings[out.suffix]


def _row(steering: Steering, folder: Path) -> dict[str, Any]:
    return {"folder": str(folder), **steering.card.model_dump(mode="json")}


def _lines(steering: Steering, folder: Path) -> list[str]:
    """A steering for people."""
    card = steering.card
    layers = ", ".join(map(str, card.layers))
    change = f"a LoRA on blocks {layers}" if card.kind == "adapter" else f"vectors added to blocks {layers}"
    lines = [f"{card.name}: {card.method}, {change} of {card.base_model}"]
    if card.control:
        lines.append(f"control: {card.control}")
    if card.norms:
        where = "every token" if card.positions == "all" else "completion tokens"
        sizes = _shares(card.norms, card.spread)
        lines.append(f"added at {where}; lengths {sizes}")
    for kind, before, after in (
        ("wanted", card.loss_before, card.loss_after),
        ("unwanted", card.unwanted_before, card.unwanted_after),
    ):
        if before is not None:
            then = "not measured" if after is None else f"{after:.2f}"
            lines.append(
                f"decoder's loss on {kind} answers: {before:.2f} before, {then} after (nats a token)"
            )
    lines += [f"{len(card.pairs)} pairs", *card.notes] if card.pairs else list(card.notes)
    if card.seconds is not None:
        lines.append(f"made in {card.seconds:g} s")
    lines.append(f'try it: latentqa chat --steer {folder} --user "What should I do on Sunday?" --compare')
    return lines


def _shares(norms: Sequence[float], spread: Sequence[float]) -> str:
    if len(spread) != len(norms):
        return ", ".join(f"{norm:.3g}" for norm in norms)
    shares = ", ".join(
        f"{norm:.3g} ({norm / unit:.0%})" for norm, unit in zip(norms, spread, strict=True) if unit
    )
    return f"{shares} of the states' spread"
