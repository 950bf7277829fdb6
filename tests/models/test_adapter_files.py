import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from latentqa.errors import AdapterError
from latentqa.models import (
    TINY_ARCHITECTURES,
    active_adapter,
    active_names,
    adapter_config,
    adapter_files,
    adapter_names,
    adapter_parameters,
    adapter_weights,
    add_adapter,
    attach_adapter,
    load_adapter,
    read_adapter_config,
    save_adapter,
    tiny_model,
)

IDS = torch.arange(5, 17)[None]
WEIGHTS = "adapter_model.safetensors"


def trained(architecture: str = "llama", modules: str | list[str] = "all-linear") -> nn.Module:
    model = tiny_model(architecture, layers=2)
    add_adapter(model, LoraConfig(r=4, target_modules=modules), "decoder")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in adapter_parameters(model, "decoder"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_adapter(trained(), "decoder", tmp_path)
    return tmp_path


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_saved_adapter_gives_the_same_logits_again(architecture: str, tmp_path: Path) -> None:
    model = trained(architecture)
    save_adapter(model, "decoder", tmp_path)
    fresh = tiny_model(architecture, layers=2)
    load_adapter(fresh, tmp_path, "other")
    assert active_names(fresh) == ()
    assert torch.equal(logits(fresh), logits(model))
    with active_adapter(model, "decoder"), active_adapter(fresh, "other"):
        assert torch.equal(logits(fresh), logits(model))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_plain_peft_loads_it(saved: Path) -> None:
    model = trained()
    wrapped = PeftModel.from_pretrained(tiny_model(layers=2), str(saved))
    with active_adapter(model, "decoder"):
        assert torch.equal(logits(wrapped), logits(model))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_what_plain_peft_saves_is_loaded(saved: Path, tmp_path: Path) -> None:
    PeftModel.from_pretrained(tiny_model(layers=2), str(saved)).save_pretrained(str(tmp_path / "peft"))
    model, fresh = trained(), tiny_model(layers=2)
    load_adapter(fresh, tmp_path / "peft", "decoder")
    for left, right in zip(
        adapter_parameters(model, "decoder"), adapter_parameters(fresh, "decoder"), strict=True
    ):
        assert torch.equal(left, right)


def test_a_loaded_adapter_is_frozen_unless_it_is_to_be_trained(saved: Path) -> None:
    for trainable in (False, True):
        model = tiny_model(layers=2)
        load_adapter(model, saved, "decoder", trainable=trainable)
        assert {parameter.requires_grad for parameter in adapter_parameters(model, "decoder")} == {trainable}


def test_only_the_adapter_is_written_even_on_a_tied_head(tmp_path: Path) -> None:
    save_adapter(trained(modules=["lm_head", "embed_tokens"]), "decoder", tmp_path)
    with safe_open(tmp_path / WEIGHTS, "pt") as file:
        assert sorted(key.rpartition("lora_")[2] for key in file.keys()) == [
            "A.weight",
            "B.weight",
            "embedding_A",
            "embedding_B",
        ]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["adapter_config.json", WEIGHTS]


def test_the_config_names_its_base_and_is_the_same_each_time(tmp_path: Path) -> None:
    model = trained()
    model.name_or_path = "org/base"
    save_adapter(model, "decoder", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base"
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["inference_mode"] is True
    assert read_adapter_config(tmp_path).r == 4


def test_a_failed_save_leaves_the_old_adapter_whole(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in saved.iterdir()}

    def full_disk(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(adapter_files, "save_file", full_disk)
    with pytest.raises(AdapterError, match="No space left on device.*Free some space"):
        save_adapter(trained(), "decoder", saved)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


def truncate(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def not_safetensors(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"PK\x03\x04 a pickle")


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def no_config(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA",')


def another_method(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "IA3", "target_modules": ["q_proj"]}')


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(folder / WEIGHTS)
    first = sorted(tensors)[0]
    for kind, value in changes.items():
        if kind == "unknown":
            tensors["base_model.model.model.no_such.lora_A.weight"] = torch.zeros(4, 32)
        elif value is None:
            del tensors[first]
        else:
            tensors[first] = value
    save_file(tensors, folder / WEIGHTS)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "truncated"),
        (not_safetensors, "cannot be read as safetensors"),
        (pickled, r"pickled adapter_model\.bin is never read"),
        (no_config, r"has no adapter_config\.json"),
        (broken_config, "cannot be read as a PEFT config"),
        (another_method, "only LoRA"),
        (lambda folder: change_weights(folder, first=None), "lacks 1 tensors"),
        (lambda folder: change_weights(folder, unknown=torch.zeros(1)), "has no place for 1 tensors"),
        (lambda folder: change_weights(folder, first=torch.zeros(4, 31)), r"has shape \[4, 31\]"),
        (lambda folder: change_weights(folder, first=torch.full((4, 48), torch.nan)), "NaN or infinite"),
    ],
)
def test_a_damaged_adapter_is_refused_and_the_model_is_left_alone(saved: Path, damage, message: str) -> None:
    damage(saved)
    model = trained()
    keys, flags = list(model.state_dict()), [parameter.requires_grad for parameter in model.parameters()]
    with pytest.raises(AdapterError, match=message):
        load_adapter(model, saved, "second")
    assert adapter_names(model) == ("decoder",)
    assert list(model.state_dict()) == keys
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


@pytest.mark.parametrize(("architecture", "layers"), [("llama", 1), ("gpt2", 2)])
def test_an_adapter_of_another_model_is_refused(saved: Path, architecture: str, layers: int) -> None:
    model = tiny_model(architecture, layers=layers)
    keys = list(model.state_dict())
    with pytest.raises(AdapterError, match="does not fit"):
        load_adapter(model, saved, "decoder")
    assert list(model.state_dict()) == keys


def test_an_adapter_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"'decoder' does not exist"):
        save_adapter(tiny_model(layers=1), "decoder", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_goes_from_model_to_model_in_memory() -> None:
    first, second = tiny_model(layers=2), tiny_model(layers=2)
    add_adapter(first, LoraConfig(r=2, target_modules="all-linear"), "one")
    with torch.no_grad():
        for parameter in adapter_parameters(first, "one"):
            parameter.normal_(0, 0.1)
    weights = adapter_weights(first, "one")
    attach_adapter(second, "two", adapter_config(first, "one"), weights, dtype=torch.bfloat16)
    assert {p.dtype for p in adapter_parameters(second, "two")} == {torch.bfloat16}
    assert not any(p.requires_grad for p in adapter_parameters(second, "two"))
    for left, right in zip(adapter_parameters(first, "one"), adapter_parameters(second, "two"), strict=True):
        assert torch.equal(left.to(torch.bfloat16), right)
    adapter_parameters(first, "one")[0].data.zero_()
    assert weights[next(iter(weights))].any()  # a copy
    with pytest.raises(AdapterError, match="does not fit .* lacks"):
        attach_adapter(second, "three", adapter_config(first, "one"), {}, source="of nothing")
