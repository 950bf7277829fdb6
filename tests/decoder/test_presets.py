"""Presets: adapters that were published without a card, wired as their makers wired them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from peft import LoraConfig

from latentqa.decoder import Decoder, Target, default_target, load_decoder
from latentqa.decoder.forward import Row, encode
from latentqa.decoder.presets import PRESETS, preset_card
from latentqa.errors import CardError, LayerError, ModelNotFoundError
from latentqa.models import (
    LoadedModel,
    adapter_names,
    adapter_parameters,
    add_adapter,
    load_model,
    save_adapter,
    tiny_model,
    tiny_tokenizer,
)

DIALOG = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Hi there"}]
QUESTION = "Who is it?"


def loaded(template: str = "chatml", layers: int = 4) -> LoadedModel:
    return load_model(tiny_model(layers=layers), tokenizer=tiny_tokenizer(template))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of the tiny model in the PEFT layout, without a card."""
    model = tiny_model()
    add_adapter(model, LoraConfig(r=2, target_modules="all-linear"), "published")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapter_parameters(model, "published"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    folder = tmp_path_factory.mktemp("published") / "their-decoder"
    save_adapter(model, "published", folder)
    return folder


def decoder_text(decoder: Decoder, n: int = 3) -> str:
    return decoder.wiring.prompt.text(n, QUESTION)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_adapter_without_a_card_answers(preset: str, adapter: Path) -> None:
    target = Target(loaded())
    decoder = load_decoder(adapter, preset=preset, target=target, read_layers=[1])
    assert decoder.wiring.model is target.model and decoder.name == "their-decoder"
    activation = target.read(DIALOG, "last:2")
    assert activation.layers == (1,)
    first, second = (decoder.ask(activation, QUESTION, max_new_tokens=4) for _ in range(2))
    assert first == second and first.verdict == "not sure" and first.read_layers == (1,)
    assert first.support is not None and decoder.references.foreign_energy(activation) is not None
    decoder.close()
    assert adapter_names(target.model) == ()


def test_activation_oracles_are_asked_as_published(adapter: Path) -> None:
    decoder = load_decoder(adapter, preset="activation-oracle", target=Target(loaded()), read_layers=[-1])
    assert f"<|im_start|>user\nLayer: 3\n ? ? ? \n{QUESTION}<|im_end|>" in decoder_text(decoder)
    assert (str(decoder.wiring.site), decoder.wiring.mode, decoder.wiring.scale) == (
        "block:1",
        "norm_add",
        None,
    )


def test_activation_oracles_read_half_depth_unless_told_otherwise(adapter: Path) -> None:
    assert load_decoder(adapter, preset="activation-oracle", target=Target(loaded())).card.read_layers == (2,)


def test_latentqa_decoders_are_asked_as_published(adapter: Path) -> None:
    target = Target(loaded("default_system"))
    decoder = load_decoder(adapter, preset="latentqa", target=target, read_layers=[1])
    assert decoder_text(decoder) == (
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n ? ? ?<|im_end|>\n"
        "<|im_start|>reflect\nSure, I've analyzed the assistant.<|im_end|>\n"
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>reflect\n"
    )
    assert (str(decoder.wiring.site), decoder.wiring.mode) == ("block:0", "replace")
    assert decoder.wiring.shift_positions
    assert "reflect" not in str(target.tokenizer.chat_template)


def test_latentqa_decoders_read_layer_15(adapter: Path) -> None:
    with pytest.raises(LayerError, match="Read layer 15 does not exist"):
        load_decoder(adapter, preset="latentqa", target=Target(loaded()))


def test_a_preset_card_is_a_card_like_any_other(adapter: Path, tmp_path: Path) -> None:
    target = Target(loaded())
    decoder = load_decoder(adapter, preset="latentqa", target=target, read_layers=[1])
    decoder.save_pretrained(tmp_path)
    again = load_decoder(tmp_path, target=target)
    assert again.card == decoder.card
    activation = target.read(DIALOG)
    ours, theirs = (d.score(activation, QUESTION, ["a", "bb"], reference="none") for d in (decoder, again))
    assert ours == theirs


def nla_folder(adapter: Path, folder: Path, **changes: object) -> Path:
    """The adapter with what a natural language autoencoder says of itself."""
    meta = {
        "kind": "nla_model",
        "extraction": {"injection_scale": 150, "layer_index": 3},
        "tokens": {"injection_char": "?"},
        "prompt_templates": {"av": "Here it is:\n\n<concept>{injection_char}</concept>\n\nDescribe it."},
    } | changes
    folder.mkdir()
    for file in adapter.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "nla_meta.yaml").write_text(yaml.safe_dump(meta, allow_unicode=True), encoding="utf-8")
    return folder


def test_natural_language_autoencoders_say_their_own_scale_token_prompt_and_layer(
    adapter: Path, tmp_path: Path
) -> None:
    target = Target(loaded())
    decoder = load_decoder(nla_folder(adapter, tmp_path / "nla"), preset="nla", target=target)
    assert decoder.card.read_layers == (3,) and decoder.card.scale == "norm:150.0"
    turn = f"<|im_start|>user\nHere it is:\n\n<concept>?</concept>\n\n{QUESTION}<|im_end|>"
    assert turn in decoder_text(decoder, n=1)


def test_their_vectors_are_written_at_the_norm_that_they_say(adapter: Path, tmp_path: Path) -> None:
    target = Target(loaded())
    decoder = load_decoder(nla_folder(adapter, tmp_path / "nla"), preset="nla", target=target)
    activation = target.read(DIALOG, "last:1")
    written: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, arguments: tuple) -> None:
        written.append(arguments[0])

    blocks = target.model.get_decoder().layers
    handle = blocks[0].register_forward_pre_hook(keep)
    with decoder.wiring.active():
        encode(decoder.wiring, [decoder.wiring.slot(activation.vectors)], [Row(0, QUESTION)])
    handle.remove()
    vector = written[0][0, -1]
    torch.testing.assert_close(vector.norm(), torch.tensor(150.0))
    torch.testing.assert_close(vector / 150, torch.nn.functional.normalize(activation.vectors[0, 0], dim=0))


@pytest.mark.parametrize(
    "changes", [{"prompt_templates": {}}, {"extraction": {"injection_scale": "?"}}, {"tokens": None}]
)
def test_a_broken_description_is_one_sentence(adapter: Path, tmp_path: Path, changes: dict) -> None:
    folder = nla_folder(adapter, tmp_path / "nla", **changes)
    with pytest.raises(CardError, match="no description of a natural language autoencoder"):
        load_decoder(folder, preset="nla", target=Target(loaded()))


def test_without_a_description_the_read_layer_must_be_named(adapter: Path) -> None:
    with pytest.raises(CardError, match="--read-layer"):
        load_decoder(adapter, preset="nla", target=Target(loaded()))


def test_an_adapter_without_a_card_says_that_a_preset_is_needed(adapter: Path) -> None:
    target = Target(loaded())
    with pytest.raises(CardError, match=r"latentqa\.json.*--preset latentqa, activation-oracle or nla"):
        load_decoder(adapter, target=target)
    assert adapter_names(target.model) == ()


def test_an_unknown_preset_names_those_there_are(adapter: Path) -> None:
    with pytest.raises(CardError, match='"oracle" does not exist. There are: latentqa, activation'):
        load_decoder(adapter, preset="oracle", target=Target(loaded()))


def test_one_layer_at_a_time(adapter: Path) -> None:
    with pytest.raises(CardError, match=r"one layer at a time, but \[1, 2\]"):
        load_decoder(adapter, preset="activation-oracle", target=Target(loaded()), read_layers=[1, 2])


def test_a_decoder_with_a_card_takes_no_preset_and_no_other_layers(adapter: Path, tmp_path: Path) -> None:
    target = Target(loaded())
    load_decoder(adapter, preset="latentqa", target=target, read_layers=[1]).save_pretrained(tmp_path)
    with pytest.raises(CardError, match="has a card of its own"):
        load_decoder(tmp_path, preset="latentqa", target=target)
    with pytest.raises(LayerError, match=r"\[2\] were asked for, but decoder .* reads exactly \[1\]"):
        load_decoder(tmp_path, target=target, read_layers=[2])


def test_the_base_that_the_adapter_names_is_used(adapter: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_model().save_pretrained(base)
    tiny_tokenizer("chatml").save_pretrained(base)
    folder = tmp_path / "decoder"
    folder.mkdir()
    for file in adapter.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": str(base)}))
    assert default_target(folder, preset="latentqa") == str(base)
    finetuned = tmp_path / "finetuned"
    tiny_model(seed=1).save_pretrained(finetuned)
    tiny_tokenizer("chatml").save_pretrained(finetuned)
    options = {"preset": "latentqa", "read_layers": [1]}
    same = Target(load_model(base, device="cpu"))
    assert load_decoder(folder, target=same, **options).wiring.model is same.model
    other = Target(load_model(finetuned, device="cpu"))
    decoder = load_decoder(folder, target=other, device="cpu", **options)
    assert decoder.wiring.model is not other.model and decoder.card.base_model == str(base)
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/nowhere"}))
    with pytest.raises(ModelNotFoundError, match="/nowhere"):
        load_decoder(folder, target=other, **options)
    assert adapter_names(other.model) == ()


def test_a_full_copy_can_be_used_with_a_preset(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    tiny_model(seed=2).save_pretrained(copy)
    tiny_tokenizer("chatml").save_pretrained(copy)
    target = Target(loaded())
    decoder = load_decoder(copy, preset="nla", target=target, read_layers=[1], device="cpu")
    assert decoder.card.kind == "full" and decoder.wiring.adapter is None
    assert decoder.wiring.model is not target.model
    assert decoder.ask_many([(target.read(DIALOG), QUESTION)], reference="none", max_new_tokens=2)
    with pytest.raises(CardError, match="--target"):
        default_target(copy, preset="nla")


def test_the_role_is_kept_where_the_template_does_not_name_it() -> None:
    base = loaded()
    base.tokenizer.chat_template = (
        "{% for m in messages %}{{ '[' ~ m['content'] ~ ']' ~ (eos_token if loop.index % 2 == 0 else '') }}"
        "{% endfor %}"
    )
    assert preset_card("latentqa", base, read_layers=[1]).prompt.answer_role == "assistant"
