"""Runs whose decoder reads through a mapping, and runs that go on from a decoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from latentqa.decoder import Card, Mapping, load_decoder, load_target
from latentqa.errors import CardError, ConfigError
from latentqa.models import tiny_model, tiny_tokenizer
from latentqa.training import TrainConfig, train
from tests.training.conftest import losses, toy_examples

Make = Callable[..., TrainConfig]
FP32: dict[str, Any] = {"dtype": "float32", "device": "cpu"}
MAPPED = {"read_layers": [1, 2], "write_site": "block:2", "mapping": {"ridge": 0.1, "gain": 2.0}}


def test_a_decoder_reads_through_its_mapping_again_after_loading(config: Make) -> None:
    settings = config(**MAPPED)
    folder = Path(str(train(settings).folder))
    card = Card.load(folder)
    assert card.mapping is not None and (card.mapping.ridge, card.mapping.gain) == (0.1, 2.0)
    assert card.mapping.dialogs == len(toy_examples())
    decoder = load_decoder(str(folder), target=(target := load_target(settings.model, **FP32)))
    assert decoder.wiring.mapping is not None
    activation = target.read(toy_examples()[0].dialog)
    slot = decoder.wiring.slot(activation.vectors)
    assert slot.n == activation.vectors.shape[1]  # both layers of a token are one vector
    assert torch.equal(slot.vectors, decoder.wiring.mapping(activation.vectors)[0])
    (folder / "mapping.safetensors").unlink()
    with pytest.raises(CardError, match="names a mapping"):
        load_decoder(str(folder), target=load_target(settings.model, **FP32))


RAW = {**MAPPED, "mapping": {"ridge": 0.1, "gain": 2.0, "raw": True}}


def test_the_token_itself_may_be_written_beside_what_it_is_mapped_to(config: Make) -> None:
    settings = config(**RAW)
    folder = Path(str(train(settings).folder))
    decoder = load_decoder(str(folder), target=(target := load_target(settings.model, **FP32)))
    assert decoder.card.mapping is not None and decoder.card.mapping.raw and decoder.wiring.raw
    activation = target.read(toy_examples()[0].dialog)
    slot = decoder.wiring.slot(activation.vectors, activation.positions)
    assert decoder.wiring.mapping is not None and slot.vectors is not None
    assert (
        slot.n
        == 2 * activation.vectors.shape[1]
        == decoder.wiring.empty_slot(*activation.vectors.shape[:2]).n
    )
    assert torch.equal(slot.vectors[0::2], decoder.wiring.mapping(activation.vectors)[0])
    assert torch.equal(slot.vectors[1::2], activation.vectors[-1])  # layer 2 of 1 and 2
    assert slot.positions == tuple(place for place in activation.positions for _ in range(2))
    assert decoder.ask(activation, "Who?", max_new_tokens=2, guidance=1.0).support is not None


def test_a_run_may_add_the_tokens_themselves_and_not_leave_them_out(config: Make, tmp_path: Path) -> None:
    plain = str(train(config(output=tmp_path / "plain", **MAPPED)).folder)
    raw = str(train(config(output=tmp_path / "raw", start=plain, **RAW)).folder)
    assert torch.equal(Mapping.load(raw).weight, Mapping.load(plain).weight)
    with pytest.raises(ConfigError, match=r"trained with mapping \(raw\) True, and this run asks for False"):
        train(config(output=tmp_path / "again", start=raw, **MAPPED))


def test_a_resumed_run_keeps_its_mapping(config: Make, every_step: None, tmp_path: Path) -> None:
    whole, stopped = config(output=tmp_path / "a", **MAPPED), config(output=tmp_path / "b", **MAPPED)
    train(whole)
    train(stopped)
    kept = Mapping.load(stopped.output)
    train(stopped)
    assert torch.equal(Mapping.load(stopped.output).weight, kept.weight)
    assert losses(whole) == losses(stopped)[: len(losses(whole))]


def test_a_target_of_another_width_is_read(config: Make, tmp_path: Path) -> None:
    wide = tmp_path / "wide"
    tiny_model("llama", hidden_size=48).save_pretrained(wide)
    tiny_tokenizer("chatml").save_pretrained(wide)
    settings = config(target=str(wide), **MAPPED)
    decoder = load_decoder(str(train(settings).folder), target=(target := load_target(str(wide), **FP32)))
    assert decoder.wiring.width == 48
    assert decoder.ask(target.read(toy_examples()[0].dialog), "Who?", max_new_tokens=2).support is not None
    with pytest.raises(ConfigError, match="Choose a base of the target's width, or set a mapping"):
        train(config(target=str(wide), output=tmp_path / "bare"))
    with pytest.raises(ConfigError, match="a mapping without raw"):
        train(config(target=str(wide), output=tmp_path / "raw", **RAW))


def test_a_mapping_needs_a_block_and_all_layers(config: Make) -> None:
    with pytest.raises(ConfigError, match="needs a block as write site, not embed"):
        train(config(**{**MAPPED, "write_site": "embed"}))
    with pytest.raises(ConfigError, match="takes all read layers together"):
        train(config(sample_layer=True, **MAPPED))


def test_a_run_goes_on_from_a_decoder(config: Make, every_step: None, tmp_path: Path) -> None:
    first = config(
        output=tmp_path / "first", examples=240, learning_rate=2e-2, contrast={"group": 4}, **MAPPED
    )
    folder = str(train(first).folder)
    then = config(
        output=tmp_path / "then", start=folder, contrast={"group": 4, "reference": "mean"}, **MAPPED
    )
    again = str(train(then).folder)
    assert torch.equal(Mapping.load(again).weight, Mapping.load(folder).weight)
    assert losses(then)[0] < losses(first)[0]
    with pytest.raises(ConfigError, match="was trained with injection replace, and this run asks for add"):
        train(config(output=tmp_path / "other", start=folder, injection="add", **MAPPED))
