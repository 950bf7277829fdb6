import copy
from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from latentqa.errors import AdapterError
from latentqa.models import (
    TINY_ARCHITECTURES,
    active_adapter,
    active_names,
    adapter_names,
    adapter_parameters,
    add_adapter,
    enable_checkpointing,
    find_blocks,
    remove_adapter,
    scaled_adapter,
    set_active,
    tiny_model,
)

IDS = torch.arange(5, 17)[None]
LORA = LoraConfig(r=4, target_modules="all-linear")


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def flags(model: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def adapted(*names: str, architecture: str = "llama", **options: object) -> PreTrainedModel:
    """A model with adapters that do change its output: their weights are random, not PEFT's zeros."""
    model = tiny_model(architecture, **options)
    for seed, name in enumerate(names):
        add_adapter(model, LORA, name)
        randomize(model, name, seed)
    return model


@torch.no_grad()
def randomize(model: nn.Module, name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter_parameters(model, name):
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_switched_off_is_the_bare_model_bit_for_bit(architecture: str, dtype: torch.dtype) -> None:
    bare = logits(tiny_model(architecture, layers=2, dtype=dtype))
    model = adapted("target", "decoder", architecture=architecture, layers=2, dtype=dtype)
    assert torch.equal(logits(model), bare)
    with active_adapter(model, "decoder"):
        assert not torch.equal(logits(model), bare)
        with active_adapter(model, None):
            assert torch.equal(logits(model), bare)
    assert torch.equal(logits(model), bare)


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_a_lora_trains_and_the_base_does_not(architecture: str) -> None:
    model = tiny_model(architecture, layers=2)
    bare = logits(model)
    add_adapter(model, LORA, "decoder")
    parameters = adapter_parameters(model, "decoder")
    assert {id(p) for p in model.parameters() if p.requires_grad} == {id(p) for p in parameters}
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    losses = []
    with active_adapter(model, "decoder"):
        for _ in range(3):
            loss = model(IDS, labels=IDS).loss
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    assert losses[2] < losses[0]
    assert torch.equal(logits(model), bare)


def test_a_new_adapter_changes_nothing_and_is_in_fp32() -> None:
    model = tiny_model(dtype=torch.bfloat16)
    bare = logits(model)
    add_adapter(model, LORA, "decoder")
    assert {parameter.dtype for parameter in adapter_parameters(model, "decoder")} == {torch.float32}
    with active_adapter(model, "decoder"):
        assert torch.equal(logits(model), bare)
    assert model.lm_head.weight.dtype == torch.bfloat16


def test_weights_of_an_adapter_depend_on_its_seed_alone() -> None:
    models = [tiny_model(layers=1) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        torch.rand(seed + 1)
        add_adapter(model, LORA, "decoder", seed=seed)
    first, second, other = (adapter_parameters(model, "decoder")[0] for model in models)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_callers_config_is_not_changed() -> None:
    config = LoraConfig(target_modules="all-linear")
    before = copy.deepcopy(config)
    add_adapter(tiny_model(layers=1), config, "decoder")
    assert config == before


def test_several_adapters_add_up() -> None:
    model = adapted("a", "b")
    layer = model.model.layers[0].mlp.up_proj
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    out = {}
    for names in (None, "a", "b", ("a", "b")):
        with active_adapter(model, names), torch.no_grad():
            out[names] = layer(x)
    torch.testing.assert_close(out["a", "b"], out["a"] + out["b"] - out[None])


@pytest.mark.parametrize("name", [None, "target", "decoder", ("target", "decoder")])
def test_switching_never_changes_requires_grad(name: str | None | tuple[str, ...]) -> None:
    model = adapted("target", "decoder")
    for parameter in adapter_parameters(model, "target"):
        parameter.requires_grad_(False)
    before = flags(model)
    with active_adapter(model, name):
        assert flags(model) == before
    assert flags(model) == before


def test_contexts_nest_and_close_after_an_exception() -> None:
    model = adapted("target", "decoder")
    set_active(model, "target")
    with (
        pytest.raises(RuntimeError, match="stop"),
        active_adapter(model, "decoder"),
        active_adapter(model, None),
    ):
        assert active_names(model) == ()
        raise RuntimeError("stop")
    assert active_names(model) == ("target",)


def test_an_adapter_removed_within_its_context_stays_removed() -> None:
    model = adapted("target", "decoder")
    with active_adapter(model, ("target", "decoder")), active_adapter(model, None):
        remove_adapter(model, "decoder")
    assert active_names(model) == ()
    assert adapter_names(model) == ("target",)


def loss_across_adapters(target: nn.Module, decoder: nn.Module, one_base: bool) -> torch.Tensor:
    """A target pass whose states enter a decoder pass, as in steering: gradients go to both adapters."""
    read: list[torch.Tensor] = []
    handle = find_blocks(target)[1].register_forward_hook(lambda _m, _i, output: read.append(output))
    with active_adapter(target, "target") if one_base else nullcontext():
        target(IDS)
    handle.remove()
    with active_adapter(decoder, "decoder") if one_base else nullcontext():
        return decoder(inputs_embeds=read[0], labels=IDS).loss


def gradients(model: nn.Module, name: str) -> list[torch.Tensor]:
    found = [parameter.grad for parameter in adapter_parameters(model, name)]
    assert all(gradient is not None for gradient in found[: len(found) // 2])
    return [torch.zeros(()) if gradient is None else gradient for gradient in found]


def two_copies() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Gradients of target and decoder adapter from two separate models, with no switching at all."""
    target, decoder = adapted("target", "decoder"), adapted("target", "decoder")
    set_active(target, "target")
    set_active(decoder, "decoder")
    loss_across_adapters(target, decoder, one_base=False).backward()
    return gradients(target, "target"), gradients(decoder, "decoder")


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_gradients_of_two_adapters_on_one_base_equal_two_copies() -> None:
    target, decoder = two_copies()
    model = adapted("target", "decoder")
    loss_across_adapters(model, model, one_base=True).backward()
    assert same(gradients(model, "target"), target)
    assert same(gradients(model, "decoder"), decoder)


def test_checkpointing_recomputes_each_pass_under_its_own_adapter() -> None:
    target, decoder = two_copies()
    model = adapted("target", "decoder").train()
    enable_checkpointing(model)
    loss_across_adapters(model, model, one_base=True).backward()
    assert same(gradients(model, "target"), target)
    assert same(gradients(model, "decoder"), decoder)
    assert active_names(model) == ()


def test_plain_checkpointing_would_be_wrong() -> None:
    """The trap that `enable_checkpointing` is for: if PEFT or torch ever close it, that function can go."""
    target, _ = two_copies()
    model = adapted("target", "decoder").train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    loss = loss_across_adapters(model, model, one_base=True)
    try:
        loss.backward()
    except torch.utils.checkpoint.CheckpointError:
        return
    assert not same([p.grad for p in adapter_parameters(model, "target") if p.grad is not None], target)


def test_a_checkpointed_graph_may_be_walked_twice() -> None:
    model = adapted("target", "decoder").train()
    enable_checkpointing(model)
    loss = loss_across_adapters(model, model, one_base=True)
    loss.backward(retain_graph=True)
    once = [gradient.clone() for gradient in gradients(model, "target")]
    loss.backward()
    assert same(gradients(model, "target"), [2 * gradient for gradient in once])


def test_an_adapter_can_be_weaker_for_a_while() -> None:
    model = adapted("target", "decoder")
    bare = logits(model)
    with active_adapter(model, "decoder"):
        whole = logits(model)
        with pytest.raises(KeyboardInterrupt), scaled_adapter(model, "decoder", 0.5):
            half = logits(model)
            raise KeyboardInterrupt
        assert torch.equal(logits(model), whole)
        with scaled_adapter(model, "decoder", 0.0):
            assert torch.equal(logits(model), bare)
        with scaled_adapter(model, "target", 0.0):
            assert torch.equal(logits(model), whole)
    assert (half - bare).norm() < (whole - bare).norm() and not torch.equal(half, whole)
    with pytest.raises(AdapterError, match="no LoRA adapter other; it has target, decoder"):
        scaled_adapter(model, "other", 0.5).__enter__()


@pytest.mark.parametrize("architecture", TINY_ARCHITECTURES)
def test_removal_restores_keys_flags_and_logits(architecture: str) -> None:
    model = tiny_model(architecture, layers=2)
    model.get_input_embeddings().weight.requires_grad_(False)
    keys, before, bare = list(model.state_dict()), flags(model), logits(model)
    attributes = set(vars(model))
    for name in ("target", "decoder"):
        add_adapter(model, LORA, name)
        randomize(model, name, 0)
    set_active(model, "decoder")
    remove_adapter(model, "target")
    remove_adapter(model, "decoder")
    assert list(model.state_dict()) == keys
    assert flags(model) == before
    assert torch.equal(logits(model), bare)
    assert set(vars(model)) == attributes


def test_removal_of_one_leaves_the_other_as_it_was() -> None:
    model = adapted("target")
    set_active(model, "target")
    for parameter in adapter_parameters(model, "target"):
        parameter.requires_grad_(False)
    keys, before, expected = list(model.state_dict()), flags(model), logits(model)
    add_adapter(model, LoraConfig(target_modules=["lm_head", "up_proj"]), "decoder")
    assert all(parameter.requires_grad for parameter in adapter_parameters(model, "decoder"))
    assert torch.equal(logits(model), expected)
    remove_adapter(model, "decoder")
    assert list(model.state_dict()) == keys
    assert flags(model) == before
    assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("modules", [["lm_head"], ["embed_tokens"], ["lm_head", "embed_tokens", "q_proj"]])
def test_a_tied_head_and_its_embeddings_are_adapted_apart(modules: list[str]) -> None:
    model = tiny_model(tie_word_embeddings=True)
    embeddings, bare = model.model.embed_tokens.weight.clone(), logits(model)
    add_adapter(model, LoraConfig(target_modules=modules), "decoder")
    randomize(model, "decoder", 0)
    with active_adapter(model, "decoder"), torch.no_grad():
        states = model.model(IDS).last_hidden_state
        assert not torch.equal(model(IDS).logits, bare)
    with torch.no_grad():
        unchanged = torch.equal(model.model(IDS).last_hidden_state, states)
    assert unchanged == (modules == ["lm_head"])
    assert torch.equal(logits(model), bare)
    remove_adapter(model, "decoder")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.embed_tokens.weight, embeddings)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_decoder_joins_the_adapter_of_a_given_peft_model() -> None:
    model = get_peft_model(tiny_model(), LORA, adapter_name="finetune")
    randomize(model, "finetune", 0)
    keys, before, expected = list(model.state_dict()), flags(model), logits(model)
    assert (adapter_names(model), active_names(model)) == (("finetune",), ("finetune",))
    add_adapter(model, LORA, "decoder")
    randomize(model, "decoder", 1)
    assert torch.equal(logits(model), expected)
    with active_adapter(model, None):
        assert torch.equal(logits(model), logits(tiny_model()))
    remove_adapter(model, "decoder")
    assert (list(model.state_dict()), flags(model)) == (keys, before)
    assert torch.equal(logits(model), expected)


def test_a_model_without_adapters_can_be_switched_off() -> None:
    model = tiny_model(layers=1)
    with active_adapter(model, None):
        assert active_names(model) == ()
    with pytest.raises(AdapterError, match=r"'decoder' does not exist: LlamaForCausalLM has none"):
        set_active(model, "decoder")


def test_unknown_and_taken_names_are_refused() -> None:
    model = adapted("target", layers=1)
    for act in (remove_adapter, adapter_parameters, set_active):
        with pytest.raises(AdapterError, match=r"'decoder' does not exist: .* has target"):
            act(model, "decoder")
    with pytest.raises(AdapterError, match="exists already"):
        add_adapter(model, LORA, "target")
    with pytest.raises(AdapterError, match="without a dot"):
        add_adapter(model, LORA, "a.b")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(target_modules="all-linear", bias="all"), "bias='all'"),
        (LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]), "modules_to_save"),
        (LoraConfig(target_modules=["q_proj"], trainable_token_indices=[1]), "trainable_token_indices"),
        (PrefixTuningConfig(num_virtual_tokens=2), "Only LoRA"),
        (LoraConfig(target_modules=["no_such_module"]), "no_such_module"),
        (LoraConfig(target_modules=["q_proj", "input_layernorm"]), "input_layernorm|not supported"),
    ],
)
@pytest.mark.parametrize("others", [(), ("target",)])
def test_a_config_that_does_not_fit_leaves_the_model_as_it_was(
    config: LoraConfig, message: str, others: tuple[str, ...]
) -> None:
    model = adapted(*others, layers=1)
    set_active(model, others)
    keys, before, expected, attributes = (
        list(model.state_dict()),
        flags(model),
        logits(model),
        set(vars(model)),
    )
    with pytest.raises(AdapterError, match=message):
        add_adapter(model, config, "decoder")
    assert (list(model.state_dict()), flags(model), set(vars(model))) == (keys, before, attributes)
    assert adapter_names(model) == active_names(model) == others
    assert torch.equal(logits(model), expected)
