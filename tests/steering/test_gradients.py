"""Gradients reach the target's LoRA or vector and nothing else, and are those of two separate models."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from latentqa.decoder import Decoder, Target
from latentqa.decoder.forward import Row, answer_logprobs, mean_per_row
from latentqa.models import (
    adapter_parameters,
    add_adapter,
    load_model,
    remove_adapter,
    set_active,
    tiny_model,
    tiny_tokenizer,
)
from latentqa.steering import ClosedFormSettings, Pair, VectorSettings, WeightsSettings, steering_lora
from latentqa.steering.closed_form import make_closed_form
from latentqa.steering.frozen import frozen
from latentqa.steering.objective import AskedPair, asked_pairs, objective_backward, stimulus_reading
from latentqa.steering.reads import live_slots
from latentqa.steering.vector import adding, make_vector
from latentqa.steering.weights import make_weights
from tests.steering.conftest import ADAPTER, PAIRS, QUICK, STIMULI, make_decoder, make_target, parameters

READINGS = STIMULI[:3]


def one_base(architecture: str = "llama", **options: object) -> tuple[Target, Decoder]:
    target = make_target(architecture, layers=(1, 2))
    return target, make_decoder(target, **options)


def two_copies(architecture: str = "llama", **options: object) -> tuple[Target, Decoder]:
    target = make_target(architecture, layers=(1, 2))
    other = load_model(tiny_model(architecture), tokenizer=tiny_tokenizer())
    return target, make_decoder(target, other, **options)


def put_lora(target: Target, name: str = "steering_x") -> list[nn.Parameter]:
    """A LoRA that changes the target, so that its gradients are not those at zero."""
    add_adapter(target.model, steering_lora(target, (0, 1, 2), rank=2), name)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in adapter_parameters(target.model, name):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return adapter_parameters(target.model, name)


def gradients_of(target: Target, decoder: Decoder, limit: int = 10_000) -> list[torch.Tensor]:
    """Of the LoRA and of a vector at block 0, by one objective."""
    with frozen(target.model, decoder.wiring.model):
        trained = put_lora(target)
        vector = torch.zeros(1, 32, requires_grad=True)
        readings = [stimulus_reading(target, text, "stimulus") for text in READINGS]
        asked = asked_pairs(decoder, PAIRS)
        with adding(target, (0,), vector):
            slots = live_slots(target, decoder, readings, "steering_x")
        objective_backward(decoder, slots, [asked] * len(readings), limit)
        found = [p.grad.clone() for p in (*trained, vector) if p.grad is not None]
        assert len(found) == len(trained) + 1
        remove_adapter(target.model, "steering_x")
    return found


def same(left: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_gradients_on_one_base_equal_those_of_two_copies(architecture: str, mapped: bool) -> None:
    shared = gradients_of(*one_base(architecture, mapped=mapped))
    assert same(shared, gradients_of(*two_copies(architecture, mapped=mapped)))
    assert all(gradient.abs().sum() > 0 for gradient in shared)


def test_gradients_equal_those_of_plain_autograd_without_any_sharing() -> None:
    """One graph through target, mapping and decoder; rows run whole; copies without other adapters."""
    expected_of, shared = two_copies(mapped=True), gradients_of(*one_base(mapped=True))
    target, decoder = expected_of
    with frozen(target.model, decoder.wiring.model):
        trained = put_lora(target)
        set_active(target.model, "steering_x")
        set_active(decoder.wiring.model, ADAPTER)
        vector = torch.zeros(32, requires_grad=True)
        total = torch.zeros(())
        for text in READINGS:
            reading = stimulus_reading(target, text, "stimulus")
            states: list[torch.Tensor] = []
            blocks = target.model.model.layers
            handles = [blocks[0].register_forward_hook(lambda m, i, o: o + vector)]
            handles += [
                blocks[k].register_forward_hook(lambda m, i, o, to=states: to.append(o[0])) for k in (1, 2)
            ]
            target.model(torch.tensor([reading.rendered.token_ids]))
            for handle in handles:
                handle.remove()
            chosen = torch.stack(states)[:, list(reading.span.indices)]
            slot = decoder.wiring.slot(chosen, reading.span.indices)
            for pair in asked_pairs(decoder, PAIRS):
                rows = [Row(0, pair.question, pair.answer)]
                values, index = answer_logprobs(decoder.wiring, [slot], rows, share=False)
                total = total - mean_per_row(values, index, 1).sum()
        (total / (len(READINGS) * len(PAIRS))).backward()
    for found, parameter in zip(shared[:-1], trained, strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(shared[-1][0], vector.grad, rtol=1e-3, atol=1e-6)


def test_cutting_the_decoder_into_passes_changes_no_gradient() -> None:
    whole, cut = gradients_of(*one_base()), gradients_of(*one_base(), limit=64)
    for left, right in zip(whole, cut, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-3, atol=1e-6)


def test_checkpointing_and_training_mode_change_no_gradient() -> None:
    """Blocks that are computed again in the backward pass would be so under the wrong adapter."""
    target, decoder = one_base()
    expected = gradients_of(target, decoder)
    target.model.train()
    target.model.activation_checkpointing_enable({"use_reentrant": False})
    assert same(gradients_of(target, decoder), expected)
    assert target.model.training


MAKERS = [
    (make_vector, VectorSettings(**QUICK)),
    (make_vector, VectorSettings(**QUICK, read="every", layers=(0, 1, 2))),
    (make_weights, WeightsSettings(**QUICK, rank=2, kl=0.1, kl_prompts=2, kl_tokens=3)),
    (make_weights, WeightsSettings(**QUICK, rank=2, read="every")),
    (make_closed_form, ClosedFormSettings(samples=4, held_out=2, batch=2)),
]


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize(("make", "settings"), MAKERS)
def test_neither_decoder_nor_target_moves(make, settings, separate: bool) -> None:
    target, decoder = (two_copies if separate else one_base)(mapped=True)
    models = {id(m): m for m in (target.model, decoder.wiring.model)}.values()
    before = [parameters(model) for model in models]
    mapping = copy.deepcopy(decoder.wiring.mapping)
    flags = [[p.requires_grad for p in model.parameters()] for model in models]
    steering = make(target, decoder, PAIRS, STIMULI, settings)
    assert steering.card.loss_after is not None
    for model, weights in zip(models, before, strict=True):
        after = parameters(model)
        assert after.keys() == weights.keys()
        assert all(torch.equal(after[name], value) for name, value in weights.items())
        assert all(parameter.grad is None for parameter in model.parameters())
    assert flags == [[p.requires_grad for p in model.parameters()] for model in models]
    assert mapping is not None and decoder.wiring.mapping is not None
    assert torch.equal(mapping.weight, decoder.wiring.mapping.weight)


def test_a_make_that_is_interrupted_leaves_the_target_as_it_was() -> None:
    target, decoder = one_base()
    before, keys = parameters(target.model), list(target.model.state_dict())

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_weights(target, decoder, PAIRS, STIMULI, WeightsSettings(**QUICK, rank=2), stop)
    assert list(target.model.state_dict()) == keys and target.adapter is None
    assert all(torch.equal(value, before[name]) for name, value in parameters(target.model).items())


def test_every_block_has_a_loss_of_its_own() -> None:
    """A loss on block k's own states changes block k's update and no other's."""
    from latentqa.steering.geometry import measure_geometry
    from latentqa.steering.reads import slots_of_every_block

    target, decoder = one_base(mapped=True)
    readings = [stimulus_reading(target, text, "stimulus") for text in READINGS]
    ground = measure_geometry(target, readings, (0, 1, 2))
    asked = asked_pairs(decoder, PAIRS)
    with frozen(target.model, decoder.wiring.model):
        put_lora(target)
        for layer in (0, 1, 2):
            slots = slots_of_every_block(target, decoder, readings, (0, 1, 2), ground, "steering_x")
            own = slots[3 * layer : 3 * layer + 3]
            objective_backward(decoder, own, [asked] * 3, 10_000)
            for number, block in enumerate(target.model.model.layers):
                reached = [p.grad is not None and bool(p.grad.any()) for p in block.parameters()]
                assert any(reached) == (number == layer)
            target.model.zero_grad()


def test_at_the_last_read_layer_the_stand_in_is_the_state_itself() -> None:
    from latentqa.steering.geometry import measure_geometry
    from latentqa.steering.reads import slots_of_every_block

    target, decoder = one_base(mapped=True)
    readings = [stimulus_reading(target, text, "stimulus") for text in READINGS]
    ground = measure_geometry(target, readings, (0, 1, 2))
    with frozen(decoder.wiring.model):
        put_lora(target)
        every = slots_of_every_block(target, decoder, readings, (0, 1, 2), ground, "steering_x")
        last = live_slots(target, decoder, readings, "steering_x")
    for left, right in zip(every[-3:], last, strict=True):
        assert left.vectors is not None and right.vectors is not None
        torch.testing.assert_close(left.vectors, right.vectors)


def test_an_unwanted_answer_is_pushed_up_to_its_ceiling_and_no_further() -> None:
    target, decoder = one_base()
    readings = [stimulus_reading(target, text, "stimulus") for text in READINGS]
    (pair,) = asked_pairs(decoder, [Pair("Who is the assistant?", "A lighthouse keeper.", wanted=False)])

    def gradient(ceiling: float, wanted: bool = False) -> torch.Tensor:
        asked = AskedPair(pair.question, pair.answer, pair.counted, wanted, ceiling)
        vector = torch.zeros(1, 32, requires_grad=True)
        with frozen(target.model, decoder.wiring.model):
            with adding(target, (1,), vector):
                slots = live_slots(target, decoder, readings, None)
            objective_backward(decoder, slots, [[asked]] * 3, 10_000)
        assert vector.grad is not None
        return vector.grad

    raised, lowered = gradient(100.0), gradient(100.0, wanted=True)
    torch.testing.assert_close(raised, -lowered)
    assert torch.equal(gradient(0.0), torch.zeros(1, 32))


def test_only_the_tokens_of_the_focus_count() -> None:
    target, decoder = one_base()
    question, answer = "Who is the assistant?", "It will talk about a lighthouse, they say."
    whole, part = asked_pairs(
        decoder, [Pair(question, answer), Pair(f"{question}?", answer, focus="a lighthouse")]
    )
    assert all(whole.counted) and len(whole.counted) == len(whole.answer) == len(part.counted)
    counted = [token for token, flag in zip(part.answer, part.counted, strict=True) if flag]
    assert target.tokenizer.decode(counted).strip() == "a lighthouse"
