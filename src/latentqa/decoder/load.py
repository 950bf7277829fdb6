"""Load decoders: the builtin one, a folder, a hub id."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

import latentqa.builtin
from latentqa.activations import WriteSite
from latentqa.decoder.card import CARD_FILE, Card, template_hash
from latentqa.decoder.decoder import Decoder
from latentqa.decoder.mapping import Mapping
from latentqa.decoder.presets import NLA_FILE, find_preset, preset_card, preset_references
from latentqa.decoder.references import REFERENCES_FILE, References
from latentqa.decoder.target import Target
from latentqa.decoder.wiring import Wiring
from latentqa.dialogs import DecoderPrompt, decoder_prompt
from latentqa.errors import CardError, ModelNotFoundError, PlaceholderError
from latentqa.models import (
    LoadedModel,
    find_blocks,
    hidden_size,
    load_adapter,
    load_model,
    read_adapter_config,
    weights_hash,
)

logger = logging.getLogger(__name__)
ADAPTER_CONFIG = "adapter_config.json"


def load_decoder(
    name: str | Path = "builtin",
    *,
    target: Target | None = None,
    preset: str | None = None,
    read_layers: Sequence[int] = (),
    revision: str | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    trust_remote_code: bool = False,
) -> Decoder:
    """Load a decoder and check its card against what was loaded.

    Where the decoder is an adapter of the target's own base, it is put on the target's weights and nothing is
    loaded twice. Otherwise its base (or the finetuned copy) is loaded beside the target.

    Args:
        name: `"builtin"`, a folder or a hub id.
        target: the model that will be read; sets its default read layers to the decoder's.
        preset: how a decoder without a card is wired: `latentqa`, `activation-oracle` or `nla`.
        read_layers: which layer a decoder without a card reads, or one of those that its card names where
            it takes one at a time.
        revision: of a hub decoder.
        dtype: of a base that has to be loaded.
        device: likewise.
        trust_remote_code: likewise.

    Raises:
        ModelNotFoundError: no such decoder.
        CardError: no card and no preset, or a card that does not match the model.
        LayerError: a read layer that the decoder does not take.
        AdapterError: a damaged adapter.
    """
    folder = find_decoder(name, revision)
    options: dict[str, Any] = {"dtype": dtype, "device": device, "trust_remote_code": trust_remote_code}
    if preset is None:
        card = Card.load(folder)
        layers = card.choose_layers(read_layers)
        base = _base(card, folder, target, options)
        check_card(card, base)
    else:
        card, base = _preset(preset, name, folder, target, read_layers, options)
        layers = card.read_layers
    mapping = None if card.mapping is None else Mapping.load(folder)
    if target is not None:
        _check_target(card, target, mapping)
    adapter = f"decoder_{uuid.uuid4().hex[:8]}" if card.kind == "lora" else None
    wiring, references = make_wiring(card, base, adapter, mapping), References.load(folder)
    if preset is not None and target is not None and not references.mean:
        references = preset_references(card, target)
    if adapter is not None:  # last, so that a decoder that is refused leaves nothing on the target
        load_adapter(base.model, str(folder), adapter, dtype=base.model.dtype)
    decoder = Decoder(wiring, card, references, target)
    decoder.read_layers = layers
    if target is not None:
        target.read_layers = layers
    return decoder


def find_decoder(name: str | Path, revision: str | None = None) -> Path:
    """Folder of a decoder: the builtin one, a local folder, or fetched from the hub.

    Raises:
        ModelNotFoundError: no such folder or hub id.
    """
    if str(name) == "builtin":
        return _builtin_folder()
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        wanted = [CARD_FILE, NLA_FILE, REFERENCES_FILE, "*.json", "*.safetensors"]
        return Path(snapshot_download(str(name), revision=revision, allow_patterns=wanted))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFoundError(
            f'Decoder "{name}" is neither "builtin", nor a folder, nor a hub id that is cached or can be '
            "reached now. `latentqa info` lists what is at hand."
        ) from error


def default_target(name: str | Path, *, preset: str | None = None, revision: str | None = None) -> str:
    """Name of the model that a decoder reads: the one on its card, or without a card its adapter's base.

    Raises:
        ModelNotFoundError: no such decoder.
        CardError: no card and no preset, or a full copy without a card.
    """
    folder = find_decoder(name, revision)
    if preset is None:
        return Card.load(folder).target_model
    named = read_adapter_config(folder).base_model_name_or_path if _is_adapter(folder) else None
    if not named:
        raise CardError(f"{name} does not say which model it reads. Name it: --target NAME.")
    return named


def make_wiring(card: Card, base: LoadedModel, adapter: str | None, mapping: Mapping | None = None) -> Wiring:
    """Wire a loaded base as the card says."""
    site = WriteSite.parse(card.write_site)
    site.module(base.model)
    prompt = _prompt(card, base)
    if prompt.placeholder_id != card.prompt.placeholder_id:
        raise CardError(
            f"Decoder {card.name} was made with placeholder {card.prompt.placeholder!r} = token "
            f"{card.prompt.placeholder_id}, but in the tokenizer of {base.name} it is "
            f"{prompt.placeholder_id}. Load the decoder on {card.base_model}."
        )
    return Wiring(
        base.model,
        prompt,
        site,
        card.injection,
        card.scale,
        adapter,
        card.prompt.shift_positions,
        mapping=None if mapping is None else mapping.to(base.model.device),
        raw=card.mapping is not None and card.mapping.raw,
    )


def check_card(card: Card, base: LoadedModel) -> None:
    """Refuse a base that the card does not name.

    Raises:
        CardError: naming both sides.
    """
    if card.kind == "full":
        return
    card.check_base(
        name=base.name,
        weights_hash=weights_hash(base.model),
        hidden_size=hidden_size(base.model),
        n_blocks=len(find_blocks(base.model)),
        template_hash=template_hash(base.tokenizer),
    )


def _prompt(card: Card, base: LoadedModel) -> DecoderPrompt:
    try:
        return decoder_prompt(
            base.tokenizer,
            system=card.prompt.system,
            placeholder=card.prompt.placeholder,
            template=card.prompt.template,
            reply=card.prompt.reply,
            answer_role=card.prompt.answer_role,
        )
    except PlaceholderError as error:
        raise CardError(
            f"Decoder {card.name} was made with placeholder {card.prompt.placeholder!r} = token "
            f"{card.prompt.placeholder_id}, but the tokenizer of {base.name} splits it. Load the decoder on "
            f"{card.base_model}, or fetch it again."
        ) from error


def _builtin_folder() -> Path:
    folder = Path(latentqa.builtin.__file__).parent
    if not (folder / CARD_FILE).is_file():
        raise ModelNotFoundError(
            'The decoder "builtin" is not in this installation. Train it with `make builtin`, or name '
            "another: --decoder NAME, in Python load_decoder(NAME)."
        )
    return folder


def _base(card: Card, folder: Path, target: Target | None, options: dict[str, Any]) -> LoadedModel:
    """The model under a decoder: the target's own where it is the same, else loaded."""
    if card.kind == "full":
        return load_model(str(folder), **options)
    if target is not None and _same_base(card, target):
        return target.loaded
    return load_model(card.base_model, revision=card.base_revision, **options)


def _preset(
    preset: str,
    name: str | Path,
    folder: Path,
    target: Target | None,
    read_layers: Sequence[int],
    options: dict[str, Any],
) -> tuple[Card, LoadedModel]:
    """A card for a folder without one, and the model under it."""
    find_preset(preset)
    if (folder / CARD_FILE).is_file():
        raise CardError(f"{name} has a card of its own ({CARD_FILE}). Leave the preset out.")
    adapter = _is_adapter(folder)
    base = _preset_base(folder, target, options) if adapter else load_model(str(folder), **options)
    card = preset_card(
        preset,
        base,
        decoder=Path(name).name or preset,
        kind="lora" if adapter else "full",
        target=target,
        read_layers=read_layers,
        folder=folder,
    )
    return card, base


def _preset_base(folder: Path, target: Target | None, options: dict[str, Any]) -> LoadedModel:
    """The base that an adapter names; the target's where it has that name or was given as a model."""
    config = read_adapter_config(folder)
    named = config.base_model_name_or_path
    if target is not None:
        names = {target.name, getattr(target.model, "name_or_path", None)}
        if not named or named in names or target.loaded.source == "given":
            return target.loaded
    if not named:
        raise CardError(f"The adapter in {folder} does not name its base model. Pass target=load_target(…).")
    return load_model(named, revision=config.revision, **options)


def _is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def _same_base(card: Card, target: Target) -> bool:
    return isinstance(target.model, PreTrainedModel) and (
        target.weights_hash == card.base_hash and template_hash(target.tokenizer) == card.template_hash
    )


def _check_target(card: Card, target: Target, mapping: Mapping | None) -> None:
    """Refuse a target whose vectors the decoder cannot take; warn of one that it was not trained to read."""
    count = len(find_blocks(target.model))
    if max(card.read_layers) >= count:
        raise CardError(
            f"Decoder {card.name} reads layers {list(card.read_layers)}, but {target.name} has {count} "
            f"blocks (0–{count - 1}). Read the model that it was trained for: {card.target_model}."
        )
    width = card.hidden_size if mapping is None else mapping.center.shape[1]
    if hidden_size(target.model) != width:
        raise CardError(
            f"Decoder {card.name} takes vectors of {width} dimensions ({card.target_model}), but "
            f"{target.name} has {hidden_size(target.model)}. Train a decoder for it with `latentqa train`."
        )
    if target.weights_hash != card.target_hash:
        logger.warning(
            "Decoder %s was trained to read %s, and %s has other weights: treat its answers with care.",
            card.name,
            card.target_model,
            target.name,
        )
    elif card.target_hash == card.base_hash and template_hash(target.tokenizer) != card.template_hash:
        raise CardError(
            f"Decoder {card.name} was made with chat template {card.template_hash}, but {target.name} has "
            f"{template_hash(target.tokenizer)}. Load the target with the tokenizer that it was made with."
        )
