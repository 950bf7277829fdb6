"""Exports, opened by the programs that they are for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import torch
from peft import PeftModel
from safetensors import safe_open

from latentqa.decoder import Target
from latentqa.errors import SteeringError
from latentqa.models import find_blocks, tiny_model
from latentqa.steering import Steering, steered
from tests.steering.conftest import logits

Make = Callable[..., Steering]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_loads_the_adapter_without_us(target: Target, adapter_steering: Make, tmp_path: Path) -> None:
    made = adapter_steering(0, 2)
    made.export_peft(tmp_path / "peft")
    assert sorted(path.name for path in (tmp_path / "peft").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    model = PeftModel.from_pretrained(tiny_model(), str(tmp_path / "peft"))
    with steered(target, made), torch.no_grad():
        torch.testing.assert_close(model(torch.arange(5, 25)[None]).logits, logits(target))


def test_safetensors_hold_the_vectors_by_block(steering: Make, tmp_path: Path) -> None:
    made = steering(1, 3, control="Be brief.")
    made.export_vector(tmp_path / "brief.safetensors", strength=0.5)
    assert made.vectors is not None
    with safe_open(tmp_path / "brief.safetensors", framework="pt") as file:
        assert sorted(file.keys()) == ["block.1", "block.3"]
        assert torch.equal(file.get_tensor("block.3"), made.vectors[1] * 0.5)
        described = file.metadata()
    assert described["control"] == "Be brief." and described["positions"] == "all"
    assert described["strength"] == "0.5"


def test_the_gguf_reader_opens_the_control_vector(steering: Make, tmp_path: Path) -> None:
    made, path = steering(1, 2), tmp_path / "brief.gguf"
    made.export_gguf(path, strength=2.0)
    reader = gguf.GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == "controlvector"
    assert fields["controlvector.model_hint"] == "llama"
    assert fields["controlvector.layer_count"] == 2
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.2"]
    assert made.vectors is not None
    for tensor, vector in zip(reader.tensors, made.vectors, strict=True):
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert torch.equal(torch.from_numpy(tensor.data.copy()), 2 * vector)


def test_adding_the_exported_directions_as_repeng_and_llama_cpp_do_is_our_steering(
    target: Target, steering: Make, tmp_path: Path
) -> None:
    """Both add direction K to the output of block K, counted from 0."""
    made = steering(1, 2)
    made.export_gguf(tmp_path / "x.gguf")
    model = tiny_model()
    for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors:
        direction = torch.from_numpy(tensor.data.copy())
        block = find_blocks(model)[int(tensor.name.removeprefix("direction."))]
        block.register_forward_hook(lambda m, i, output, direction=direction: output + direction)
    with torch.no_grad(), steered(target, made):
        torch.testing.assert_close(model(torch.arange(5, 25)[None]).logits, logits(target))


def test_what_cannot_be_exported_says_what_can(
    steering: Make, adapter_steering: Make, tmp_path: Path
) -> None:
    lora, vector = adapter_steering(1), steering(1)
    for export in (lora.export_gguf, lora.export_vector):
        with pytest.raises(SteeringError, match="is a LoRA and cannot be exported as .*PEFT adapter"):
            export(tmp_path / "x")
    with pytest.raises(
        SteeringError, match="has no adapter: it adds vectors. Export it as safetensors or gguf"
    ):
        vector.export_peft(tmp_path / "x")
    with pytest.raises(SteeringError, match="changes block 0, for which llama.cpp's control vectors have no"):
        steering(0, 1).export_gguf(tmp_path / "x")
    with pytest.raises(SteeringError, match="Strength nan makes vectors that are not finite"):
        vector.export_vector(tmp_path / "x", float("nan"))
    with pytest.raises(SteeringError, match="could not be written .* folder that is there"):
        vector.export_gguf(tmp_path / "nowhere" / "x.gguf")
    assert list(tmp_path.iterdir()) == []
