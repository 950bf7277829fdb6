import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from latentqa.errors import LayerError
from latentqa.models import (
    TINY_ARCHITECTURES,
    add_adapter,
    context_length,
    describe,
    find_blocks,
    hidden_size,
    linear_modules,
    resolve_layer,
    tiny_model,
    unwrap,
)


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_block_outputs_are_the_hidden_states_in_order(architecture: str) -> None:
    model = tiny_model(architecture, layers=3)
    outputs: list[torch.Tensor] = []
    for block in find_blocks(model):
        block.register_forward_hook(
            lambda _module, _inputs, output: outputs.append(
                output[0] if isinstance(output, tuple) else output
            )
        )
    with torch.no_grad():
        hidden_states = model(torch.arange(5, 15)[None], output_hidden_states=True).hidden_states
    assert len(outputs) == 3
    for layer in range(2):  # the last hidden state is normed
        assert torch.equal(outputs[layer], hidden_states[layer + 1])


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_shapes_are_read_from_any_config(architecture: str) -> None:
    model = tiny_model(architecture, layers=1)
    assert (hidden_size(model), context_length(model)) == (32, 512)


# PEFT asks transformers for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_peft_model_has_the_blocks_of_its_base() -> None:
    model = tiny_model()
    blocks = find_blocks(model)
    wrapped = get_peft_model(model, LoraConfig(target_modules="all-linear"))
    assert find_blocks(wrapped) is blocks
    assert unwrap(wrapped) is model
    assert unwrap(model) is model


def test_a_longer_list_outside_the_decoder_is_not_taken() -> None:
    model = tiny_model(layers=2)
    model.vision_tower = nn.ModuleList(GradientCheckpointingLayer() for _ in range(9))
    assert len(find_blocks(model)) == 2


def test_a_path_names_the_blocks() -> None:
    model = tiny_model(layers=2)
    assert find_blocks(model, "model.layers") is find_blocks(model)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("model.blocks", r"no module 'model\.blocks'"),
        ("model.norm", "is a LlamaRMSNorm, not a list"),
        ("__import__('os')", "no module"),
    ],
)
def test_a_wrong_path_is_an_error(path: str, message: str) -> None:
    with pytest.raises(LayerError, match=message):
        find_blocks(tiny_model(layers=1), path)


def test_a_model_without_blocks_is_an_error() -> None:
    with pytest.raises(LayerError, match="Pass path="):
        find_blocks(nn.Sequential(nn.Linear(2, 2)))


MODEL = tiny_model(layers=4)


@given(st.integers(-4, 3))
def test_a_layer_counts_from_either_end(layer: int) -> None:
    assert resolve_layer(MODEL, layer) == list(range(4))[layer]


@given(st.one_of(st.integers(max_value=-5), st.integers(min_value=4)))
def test_a_layer_out_of_range_says_what_there_is(layer: int) -> None:
    with pytest.raises(LayerError, match=rf"Read layer {layer} does not exist: .* has 4 blocks \(0–3\)"):
        resolve_layer(MODEL, layer)


def test_describe_takes_the_last_part_of_the_name() -> None:
    model = tiny_model(layers=1)
    assert describe(model) == "LlamaForCausalLM"
    model.name_or_path = "org/some-model"
    assert describe(model) == "some-model"


def test_linear_modules_are_those_of_the_named_blocks_and_pass_over_adapters() -> None:
    model = tiny_model(layers=3)
    found = linear_modules(model, (0, 2))
    assert len(found) == 14 and {name.split(".")[2] for name in found} == {"0", "2"}
    assert linear_modules(model, (1,), ("q_proj",)) == ["model.layers.1.self_attn.q_proj"]
    assert linear_modules(model, (1,), ("nothing",)) == []
    add_adapter(model, LoraConfig(r=2, target_modules="all-linear"), "x")
    assert linear_modules(model, (0, 2)) == found
    assert len(linear_modules(tiny_model("gpt2"), (0,))) == 4
