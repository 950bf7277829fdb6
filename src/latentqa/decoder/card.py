"""The decoder card: how a decoder was made and must be used, kept beside its weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import PreTrainedTokenizerBase

from latentqa.decoder.confidence import Confidence
from latentqa.errors import CardError, LayerError

CARD_FILE = "latentqa.json"
FORMAT = 1
WEIGHTS = ("adapter_config.json", "config.json")
SCALE = r"^(placeholder|norm:[0-9.]+)$"


class PromptCard(BaseModel):
    """How placeholders and question are put to the decoder.

    Attributes:
        placeholder: text of the placeholder token.
        placeholder_id: its id, checked against the tokenizer.
        system: system message of the decoder prompt; `""` keeps a template from adding its own.
        template: the user turn, with `{placeholders}` and `{question}`.
        reply: an assistant turn between the two.
        answer_role: what the chat template calls who answers.
        shift_positions: give placeholders the positions that the read tokens had in the dialog.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    placeholder: str
    placeholder_id: int
    system: str | None = ""
    template: str = "{placeholders}\n{question}"
    reply: str | None = None
    answer_role: str = "assistant"
    shift_positions: bool = False


class MappingCard(BaseModel):
    """How activations are mapped before they are written; the map itself is `mapping.safetensors`.

    Attributes:
        ridge: penalty of the regression that made it.
        gain: factor on what it predicts.
        dialogs: how many it was fitted on.
        raw: whether the vector of the last read layer is written beside each mapped one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ridge: float
    gain: float
    dialogs: int
    raw: bool = False


class Calibration(BaseModel):
    """What makes a generated answer `supported`.

    Attributes:
        supports: ascending supports of answers that the decoder generated on ordinary dialogs (no control),
            in nats.
        reference: what those supports compare with; an answer is judged by the same.
        threshold: percentile among them from which an answer counts as supported.
        typicality: largest share of a span's energy outside the target's main directions that ordinary
            dialogs show.
        questions: the questions that were asked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    supports: tuple[float, ...]
    reference: str = "mean"
    threshold: float
    typicality: float
    questions: tuple[str, ...] = ()


class Card(BaseModel):
    """How a decoder was made and must be used.

    Attributes:
        format: version of this file.
        name: what the decoder is called in tables.
        kind: `lora` (an adapter on the base) or `full` (a finetuned copy).
        base_model: name of the model that the decoder was made from.
        base_revision: its revision, if it came from a hub.
        base_hash: `models.weights_hash` of it.
        template_hash: hash of its chat template.
        hidden_size: its residual width, `D`.
        n_blocks: its number of blocks.
        target_model: name of the model whose activations the decoder was trained to read.
        target_hash: hash of that model.
        read_layers: the target's layers that are read, ascending.
        sampled_layer: trained on one of `read_layers` at a time; an activation holds any one of them.
        write_site: where the vectors are written, `embed` or `block:k`.
        injection: how, `replace`, `add` or `norm_add`.
        scale: None, a number, `placeholder` (the norm of the state written over), or a norm (`norm:150`).
        mapping: what vectors pass through before they are written; None writes them as they are.
        span: the span that is read unless another is asked for.
        spans: all spans that it was trained on.
        prompt: the decoder prompt.
        guidance: weight of the guidance of its answers by the mean activation, unless another is asked for.
        data: training data, path below the data root → sha256.
        training: settings and course of the training.
        figures: measured results.
        calibration: what a verdict is judged by; None before `calibrate`.
        confidence: what p(correct) is made of, one model per set of signals; none before `fit_confidence`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    name: str
    kind: Literal["lora", "full"] = "lora"
    base_model: str
    base_revision: str | None = None
    base_hash: str
    template_hash: str
    hidden_size: int
    n_blocks: int
    target_model: str
    target_hash: str
    read_layers: tuple[int, ...] = Field(min_length=1)
    sampled_layer: bool = False
    write_site: str
    injection: Literal["replace", "add", "norm_add"]
    scale: float | Annotated[str, Field(pattern=SCALE)] | None = None
    mapping: MappingCard | None = None
    span: str = "stimulus"
    spans: tuple[str, ...] = ("stimulus",)
    prompt: PromptCard
    guidance: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    data: dict[str, str] = {}
    training: dict[str, Any] = {}
    figures: dict[str, Any] = {}
    calibration: Calibration | None = None
    confidence: tuple[Confidence, ...] = ()

    @property
    def default_layers(self) -> tuple[int, ...]:
        """Layers that are read unless others are asked for: all, or the middle one of a sampled set."""
        if not self.sampled_layer:
            return self.read_layers
        return (self.read_layers[len(self.read_layers) // 2],)

    def choose_layers(self, wanted: Sequence[int]) -> tuple[int, ...]:
        """The layers that were asked for, if the decoder takes them; none asked for are `default_layers`.

        Raises:
            LayerError: others than the card's.
        """
        layers = tuple(sorted(wanted)) or self.default_layers
        one_of = self.sampled_layer and len(layers) == 1 and layers[0] in self.read_layers
        if one_of or layers == self.default_layers:
            return layers
        takes = "one of" if self.sampled_layer else "exactly"
        raise LayerError(
            f"Read layers {list(wanted)} were asked for, but decoder {self.name} reads {takes} "
            f"{list(self.read_layers)}. Leave them out, or train a decoder for them with `latentqa train`."
        )

    @classmethod
    def load(cls, folder: str | Path) -> Card:
        """Read `latentqa.json` of a decoder folder.

        Raises:
            CardError: no card there, or one that cannot be read.
        """
        path = Path(folder) / CARD_FILE
        if not path.is_file() and not any((Path(folder) / name).is_file() for name in WEIGHTS):
            raise CardError(
                f"{folder} holds no decoder: neither a card ({CARD_FILE}) nor an adapter. `latentqa info` "
                "lists the decoders at hand."
            )
        if not path.is_file():
            raise CardError(
                f"{folder} has no {CARD_FILE}: an adapter alone does not say which layers it reads or where "
                "it writes. Name the preset that it was made for: --preset latentqa, activation-oracle or "
                "nla, in Python load_decoder(…, preset=…); or train a decoder with `latentqa train`."
            )
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise CardError(
                f"{path} cannot be read as a decoder card: {_first_problem(error)}. Fetch the decoder again, "
                "or upgrade latentqa."
            ) from error

    def save(self, folder: str | Path) -> None:
        """Write `latentqa.json` into a folder, replacing an older one at once."""
        path = Path(folder) / CARD_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        text = json.dumps(self.model_dump(mode="json"), indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)

    def check_base(
        self, *, name: str, weights_hash: str, hidden_size: int, n_blocks: int, template_hash: str
    ) -> None:
        """Refuse a base model that is not the one the decoder was made from.

        Raises:
            CardError: naming both sides.
        """
        self._same("hidden size", self.hidden_size, hidden_size, name)
        self._same("number of blocks", self.n_blocks, n_blocks, name)
        self._same("weights hash", self.base_hash, weights_hash, name)
        self._same("chat template", self.template_hash, template_hash, name)

    def _same(self, what: str, expected: object, found: object, name: str) -> None:
        if expected != found:
            raise CardError(
                f"Decoder {self.name} was made from {self.base_model} with {what} {str(expected)[:16]}, but "
                f"{name} has {what} {str(found)[:16]} here. Load the model that it was made from, or train a "
                "decoder for this one with `latentqa train`."
            )


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Short hash of a tokenizer's chat template; that of the empty text where it has none."""
    return hashlib.sha256(str(tokenizer.chat_template or "").encode()).hexdigest()[:16]


def _first_problem(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "the file"
    return f"{place}: {first['msg']}"
