"""`steered`: what it changes, what it does not, and that nothing is left of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from latentqa.decoder import Decoder, Target
from latentqa.errors import SteeringError
from latentqa.models import active_names, adapter_names, set_active, tiny_model
from latentqa.steering import Steering, steered
from tests.steering.conftest import (
    DIALOG,
    STIMULI,
    logits,
    make_decoder,
    make_target,
    parameters,
    random_adapter,
)

ARCHITECTURES = ("llama", "gemma2", "gpt2", "opt", "qwen3")
DIALOGS = [[{"role": "user", "content": text}] for text in STIMULI]
Make = Callable[..., Steering]


def flags(target: Target) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in target.model.named_parameters()}


def n_hooks(target: Target) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in target.model.modules())


@pytest.mark.parametrize("with_decoder", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_leaving_undoes_everything_bit_for_bit(
    with_decoder: bool, dtype: torch.dtype, steering: Make, adapter_steering: Make
) -> None:
    made = [steering(1), adapter_steering(0, 1)]
    target = make_target(dtype=dtype)
    if with_decoder:
        make_decoder(target)
    bare, before, weights, state = logits(target), flags(target), parameters(target.model), target.adapter
    keys = list(target.model.state_dict())
    with steered(target, *made):
        assert not torch.equal(logits(target), bare)
    with pytest.raises(RuntimeError, match="stop"), steered(target, *made):
        target.chat(DIALOG, max_new_tokens=2)
        raise RuntimeError("stop")
    assert torch.equal(logits(target), bare)
    assert flags(target) == before and n_hooks(target) == 0
    assert target.adapter == state and list(target.model.state_dict()) == keys
    assert all(torch.equal(value, weights[name]) for name, value in parameters(target.model).items())


def test_a_steering_that_fails_half_way_leaves_nothing(target: Target, steering: Make) -> None:
    bare = logits(target)
    good, wrong = steering(1), steering(2).described(base_hash="0" * 64)
    with pytest.raises(SteeringError, match="weights hash"), steered(target, good, wrong):
        raise AssertionError("not reached")
    assert torch.equal(logits(target), bare) and n_hooks(target) == 0


def test_several_add_up(target: Target, steering: Make) -> None:
    one, two = steering(1, seed=1), steering(1, 2, seed=2)
    assert one.vectors is not None and two.vectors is not None
    both = Steering.from_vectors(
        target, (1, 2), torch.stack([one.vectors[0] + 0.5 * two.vectors[0], 0.5 * two.vectors[1]]), method="x"
    )
    with steered(target, both):
        expected = logits(target)
    with steered(target, one, two, strength=(1.0, 0.5)):
        together = logits(target)
    with steered(target, one), steered(target, two, strength=0.5):
        nested = logits(target)
    torch.testing.assert_close(together, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(nested, together)


def test_a_vector_and_a_lora_work_together_and_nested(
    target: Target, steering: Make, adapter_steering: Make
) -> None:
    vector, lora = steering(1), adapter_steering(0, 1)
    with steered(target, vector, lora):
        together = logits(target)
    with steered(target, vector), steered(target, lora):
        assert torch.equal(logits(target), together)
    with steered(target, lora), steered(target, vector):
        assert torch.equal(logits(target), together)
    with steered(target, vector):
        assert not torch.equal(logits(target), together)


def test_strength_multiplies_and_zero_is_off(target: Target, steering: Make, adapter_steering: Make) -> None:
    bare, vector, lora = logits(target), steering(1), adapter_steering(0)
    with steered(target, vector, lora, strength=0):
        assert torch.equal(logits(target), bare)
    assert vector.vectors is not None
    double = Steering.from_vectors(target, [1], 2 * vector.vectors, method="random")
    with steered(target, double):
        expected = logits(target)
    with steered(target, vector, strength=2):
        assert torch.equal(logits(target), expected)
    with steered(target, vector, vector, strength=(1, -1)):
        torch.testing.assert_close(logits(target), bare, rtol=1e-4, atol=1e-5)
    with steered(target, lora, lora, strength=(0.75, 0.25)):
        several = logits(target)
    with steered(target, lora):
        torch.testing.assert_close(logits(target), several, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["all", "completion"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_cached_generation_equals_uncached(architecture: str, positions: str) -> None:
    target = make_target(architecture)
    made = steering_of(target, positions)
    bare = target.generate(DIALOGS, max_new_tokens=8)
    with steered(target, made):
        cached = target.generate(DIALOGS, max_new_tokens=8)
        uncached = target.generate(DIALOGS, max_new_tokens=8, use_cache=False)
    assert cached == uncached
    assert cached != bare
    assert target.generate(DIALOGS, max_new_tokens=8) == bare


def steering_of(target: Target, positions: str, layers: tuple[int, ...] = (1, 2)) -> Steering:
    vectors = torch.randn(len(layers), 32, generator=torch.Generator().manual_seed(0)) * 3
    return Steering.from_vectors(target, layers, vectors, method="random", positions=positions)


@pytest.mark.parametrize("positions", ["all", "completion"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_padded_batch_replies_as_single_dialogs_do(architecture: str, positions: str) -> None:
    target = make_target(architecture)
    with steered(target, steering_of(target, positions)):
        together = target.generate(DIALOGS, max_new_tokens=6)
        alone = [target.chat(dialog, max_new_tokens=6) for dialog in DIALOGS]
    assert together == alone


def test_completion_steering_leaves_the_prompt_alone(target: Target) -> None:
    made = steering_of(target, "completion", (1,))
    assert made.vectors is not None
    dialog = [*DIALOG, {"role": "assistant", "content": "You could make a soup."}]
    spans = ("stimulus:content", "completion:content")
    plain = [target.read(dialog, span, [1]).vectors for span in spans]
    with steered(target, made):
        prompt, completion = (target.read(dialog, span, [1]).vectors for span in spans)
        long = target.read([{"role": "user", "content": STIMULI[2] * 3}], "all", [1]).vectors
    assert torch.equal(prompt, plain[0])
    torch.testing.assert_close(completion[0] - plain[1][0], made.vectors.expand_as(completion[0]))
    unsteered = target.read([{"role": "user", "content": STIMULI[2] * 3}], "all", [1]).vectors
    assert torch.equal(long[0, :-1], unsteered[0, :-1])
    assert not torch.equal(long[0, -1], unsteered[0, -1])  # where the first completion token is decided


def test_the_decoder_on_the_same_weights_is_not_steered(
    target: Target, decoder: Decoder, steering: Make, adapter_steering: Make
) -> None:
    activation = target.read(DIALOG)
    before = decoder.ask(activation, "Who is the assistant?")
    scores = decoder.score(activation, "Who is the assistant?", ["a pirate", "a nurse"])
    with steered(target, steering(0, 1, 2, scale=5), adapter_steering(0, 3)):
        assert decoder.ask(activation, "Who is the assistant?") == before
        assert decoder.score(activation, "Who is the assistant?", ["a pirate", "a nurse"]) == scores
        assert not torch.equal(target.read(DIALOG).vectors, activation.vectors)
    assert torch.equal(target.read(DIALOG).vectors, activation.vectors)


def test_a_target_with_an_adapter_of_its_own_is_steered_on_top_of_it(adapter_steering: Make) -> None:
    model = tiny_model()
    random_adapter(model, "finetune", seed=7)
    set_active(model, "finetune")
    target = make_target()
    target = Target(type(target.loaded)(model, target.tokenizer, "tiny", None, "given"), adapter="finetune")
    bare = logits(target)
    made = adapter_steering(1)
    with steered(target, made):
        assert active_names(model)[0] == "finetune" and len(active_names(model)) == 2
        assert not torch.equal(logits(target), bare)
    assert torch.equal(logits(target), bare) and adapter_names(model) == ("finetune",)


def test_another_adapter_on_the_base_is_warned_of(steering: Make, caplog: pytest.LogCaptureFixture) -> None:
    made = steering(1)
    target = make_target()
    random_adapter(target.model, "finetune")
    finetuned = Target(target.loaded, adapter="finetune")
    with steered(finetuned, made):
        pass
    assert "another adapter on the same base" in caplog.text


@pytest.mark.parametrize(
    ("strength", "sentence"),
    [
        (float("nan"), "Strength nan is not a finite number"),
        (float("inf"), "Strength inf is not a finite number"),
        (1e39, "Strength 1e\\+39 makes values of steering random that are not finite"),
        ((1, 2), "1 steerings were given with 2 strengths"),
    ],
)
def test_strengths_that_cannot_be(target: Target, steering: Make, strength, sentence: str) -> None:
    bare = logits(target)
    with pytest.raises(SteeringError, match=sentence), steered(target, steering(1), strength=strength):
        raise AssertionError("not reached")
    assert torch.equal(logits(target), bare)


def test_a_lora_that_overflows_is_refused(target: Target, adapter_steering: Make) -> None:
    made = adapter_steering(1)
    with pytest.raises(SteeringError, match="makes values of steering sft"):
        with steered(target, made, strength=1e39):
            raise AssertionError("not reached")
    assert adapter_names(target.model) == ()


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"layers": 3}, "number of blocks"),
        ({"hidden_size": 64}, "hidden size"),
        ({"seed": 1}, "weights hash"),
    ],
)
def test_a_steering_made_for_another_model_is_refused(steering: Make, other: dict, what: str) -> None:
    made = steering(1)
    target = make_target()
    target = Target(type(target.loaded)(tiny_model(**other), target.tokenizer, "other", None, "given"))
    with pytest.raises(SteeringError, match=f"Steering random was made for .* with {what} .*, but other has"):
        with steered(target, made):
            raise AssertionError("not reached")
