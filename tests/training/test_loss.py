"""The loss of a pass: its terms, where its gradients go, and that batching changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from latentqa.decoder import Target
from latentqa.decoder.forward import Row
from latentqa.models import (
    adapter_parameters,
    enable_checkpointing,
    find_blocks,
    load_model,
    tiny_model,
    tiny_tokenizer,
)
from latentqa.training import ContrastSettings, LITModule
from latentqa.training.loss import Losses, LossSettings, _Layout, _rows, lit_loss
from tests.training.conftest import NO_CONTRAST, gradients, in_groups, make_entries, make_module

CONTRAST = ContrastSettings.model_validate({"group": 4, "foreign": 0.7, "ranking": 0.3, "sharpness": 5.0})


def backward(module: LITModule, groups: list) -> dict[str, torch.Tensor]:
    module(groups)["loss"].backward()
    return gradients(module)


def assert_same(
    one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-4
) -> None:
    assert set(one) == set(other) and one
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("contrast", "size"), [(NO_CONTRAST, 1), (CONTRAST, 4), (CONTRAST, 2)])
def test_a_pass_of_k_groups_equals_k_passes(contrast: ContrastSettings, size: int) -> None:
    module, groups = make_module(contrast=contrast), in_groups(make_entries(), size)
    together = module(groups)
    together["loss"].backward()
    whole = gradients(module)
    total = Losses()
    for group in groups:
        part = module([group])
        part["loss"].backward()
        total = Losses({name: total.get(name, 0) + value.detach() for name, value in part.items()})
    assert_same(whole, gradients(module))
    for name, value in together.items():
        torch.testing.assert_close(value.detach(), total[name], rtol=1e-4, atol=1e-4)
    assert float(together["count"]) == 8


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2", "qwen3"])
def test_sharing_and_stopping_change_no_gradient(architecture: str) -> None:
    groups = in_groups(make_entries(4, pairs=2), 2)
    made = [make_module(architecture, contrast=CONTRAST, **o) for o in ({}, {"share": False, "stop": False})]
    losses = [module(groups) for module in made]
    torch.testing.assert_close(losses[0]["loss"], losses[1]["loss"], rtol=1e-4, atol=1e-4)
    found = []
    for module, loss in zip(made, losses, strict=True):
        loss["loss"].backward()
        found.append(gradients(module))
    assert_same(found[0], found[1], 2e-3)


def test_checkpointing_changes_no_gradient() -> None:
    groups = in_groups(make_entries(4), 2)
    plain, saving = make_module(contrast=CONTRAST, share=False), make_module(contrast=CONTRAST, share=False)
    enable_checkpointing(saving.model)
    saving.train()
    assert_same(backward(plain, groups), backward(saving, groups))


def test_gradients_reach_the_adapter_and_neither_base_nor_target() -> None:
    separate = Target(load_model(tiny_model("llama", seed=4), tokenizer=tiny_tokenizer()))
    for parameter in separate.model.parameters():
        parameter.requires_grad_(True)
    for target in (None, separate):
        module = make_module(contrast=CONTRAST, target=target)
        module(in_groups(make_entries(4), 2))["loss"].backward()
        adapter = adapter_parameters(module.model, "decoder")
        below = list(find_blocks(module.model)[0].parameters())  # cannot see what is written after it
        own = {id(parameter) for parameter in adapter}
        assert all(p.grad is not None for p in adapter if not any(p is q for q in below))
        assert all(p.grad is None for p in module.parameters() if id(p) not in own)
    assert all(parameter.grad is None for parameter in separate.model.parameters())


def test_a_separate_target_is_read_and_is_no_part_of_the_module() -> None:
    other = Target(load_model(tiny_model("llama", seed=4), tokenizer=tiny_tokenizer()))
    groups = in_groups(make_entries(4), 2)
    own, separate = make_module(), make_module(target=other)
    assert not torch.allclose(own(groups)["loss"], separate(groups)["loss"], atol=1e-3)
    assert set(dict(separate.named_parameters())) == set(dict(own.named_parameters()))


def test_dropout_does_not_disturb_what_is_read() -> None:
    """Target and decoder share weights, and the trainer puts them into training mode."""
    settings = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
    module, entries = make_module("gpt2", settings=settings), make_entries(3)
    expected = [slot.vectors for slot in module._read(entries)]
    module.train()
    for slot, vectors in zip(module._read(entries), expected, strict=True):
        assert torch.equal(slot.vectors, vectors)
    assert module.model.training and all(block.training for block in find_blocks(module.model))


def test_what_is_read_is_the_bare_model_whatever_the_adapter() -> None:
    module, entries = make_module(), make_entries(3)
    before = [slot.vectors for slot in module._read(entries)]
    with torch.no_grad():
        for parameter in adapter_parameters(module.model, "decoder"):
            parameter.add_(1.0)
    for slot, vectors in zip(module._read(entries), before, strict=True):
        assert torch.equal(slot.vectors, vectors)


def test_a_dialog_that_occurs_twice_is_run_once() -> None:
    module = make_module()
    entries = make_entries(2)
    sizes: list[int] = []
    block = find_blocks(module.model)[0]
    handle = block.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    slots = module._read([entries[0], entries[1], entries[0]])
    handle.remove()
    assert sizes == [2] and torch.equal(slots[0].vectors, slots[2].vectors)


def test_several_layers_and_a_sampled_one() -> None:
    entries = make_entries(2)
    both, one = make_module(layers=(1, 3)), make_module(layers=(3,))
    n_tokens = len(entries[0].reading.span.indices)
    assert both._read(entries)[0].n == 2 * n_tokens
    sampled = [replace(entry, layer=3) for entry in entries]
    for slot, expected in zip(both._read(sampled), one._read(entries), strict=True):
        assert torch.equal(slot.vectors, expected.vectors) and slot.positions == expected.positions
    torch.testing.assert_close(both([sampled])["loss"], one([entries])["loss"])


def test_every_answer_is_scored_on_every_activation_of_its_group() -> None:
    groups = in_groups(make_entries(5, pairs=2), 3)
    rows, layout = _rows(groups, CONTRAST)
    for (start, size), group, first in zip(layout.squares, groups, (0, 3), strict=True):
        for i in range(size):
            for j in range(size):
                assert rows[start + i * size + j] == Row(first + i, *group[j].pairs[0])
    further = [(rows[i].slot, rows[i].question) for i in layout.further]
    assert further == [(slot, "What would it say?") for slot in range(5)]
    alone, layout = _rows(groups, NO_CONTRAST)
    assert len(alone) == 10 and [size for _, size in layout.squares] == [1] * 5


def test_the_terms_are_what_their_formulas_say() -> None:
    generator = torch.Generator().manual_seed(0)
    square, further = torch.randn(3, 3, generator=generator) - 2, torch.tensor([-1.5])
    scores = torch.cat([square.reshape(-1), further])
    losses = lit_loss(scores, _Layout(((0, 3),), (9,)), LossSettings(2.0, CONTRAST, (2,)))
    foreign = -sum((5 * square[:, j]).log_softmax(0)[j] for j in range(3))  # which activation, for answer j
    support = square - square.exp().mean(0).log()
    ranking = -sum((5 * support[i]).log_softmax(0)[i] for i in range(3))  # which answer, for activation i
    answer = -square.diagonal().sum()
    expected = 2.0 * (answer + 1.5) + 0.7 * foreign + 0.3 * ranking
    torch.testing.assert_close(losses["loss"], torch.as_tensor(expected))
    torch.testing.assert_close(losses["foreign"], torch.as_tensor(foreign))
    torch.testing.assert_close(losses["ranking"], torch.as_tensor(ranking))
    others = torch.stack([(square[:, j].sum() - square[j, j]) / 2 for j in range(3)])
    torch.testing.assert_close(losses["gap"], (square.diagonal() - others).sum())
    assert float(losses["count"]) == 3


def test_support_against_the_mean_activation() -> None:
    generator = torch.Generator().manual_seed(0)
    square, prior = torch.randn(3, 3, generator=generator) - 2, torch.randn(3, generator=generator) - 2
    settings = LossSettings(0.0, CONTRAST.model_copy(update={"reference": "mean"}), (2,))
    losses = lit_loss(torch.cat([square.reshape(-1), prior]), _Layout(((0, 3),), (), (9,)), settings)
    choices = torch.cat([square, prior[None]])  # the mean stands among the activations
    foreign = -sum((5 * choices[:, j]).log_softmax(0)[j] for j in range(3))
    ranking = -sum((5 * (square[i] - prior)).log_softmax(0)[i] for i in range(3))
    torch.testing.assert_close(losses["foreign"], torch.as_tensor(foreign))
    torch.testing.assert_close(losses["ranking"], torch.as_tensor(ranking))


def test_the_mean_activation_is_put_to_every_answer_of_a_group() -> None:
    groups = in_groups(make_entries(5, pairs=2), 3)
    by_mean = CONTRAST.model_copy(update={"reference": "mean"})
    rows, layout = _rows(groups, by_mean)
    assert _rows(groups, CONTRAST)[0] == rows[: layout.priors[0]]
    for number, (first, group) in enumerate(zip(layout.priors, groups, strict=True)):
        found = rows[first : first + len(group)]
        assert found == [Row(5 + number, *entry.pairs[0]) for entry in group]
    module = make_module(contrast=by_mean)
    width = module.model.config.hidden_size
    module._mean = {"stimulus": torch.zeros(1, width)}
    assert torch.isfinite(module(groups)["loss"])


def test_a_group_of_one_has_the_answer_term_alone() -> None:
    losses = lit_loss(
        torch.tensor([-1.0, -2.0]), _Layout(((0, 1), (1, 1)), ()), LossSettings(1.0, CONTRAST, (2,))
    )
    assert (float(losses["loss"]), float(losses["foreign"]), float(losses["count"])) == (3.0, 0.0, 2.0)


@pytest.mark.parametrize("mode", ["replace", "add", "norm_add"])
@pytest.mark.parametrize("site", ["embed", "block:0", "block:2"])
def test_every_site_and_injection_learns_the_toy(site: str, mode: str) -> None:
    """Its answers differ by the activation alone, so the gap between own and foreign ones must grow."""
    module = make_module(
        site=site, mode=mode, scale="placeholder" if site == "embed" else None, contrast=CONTRAST
    )
    groups = in_groups(make_entries(4, span="control"), 4)
    optimizer = torch.optim.Adam(adapter_parameters(module.model, "decoder"), lr=0.02)
    course = []
    for _ in range(20):
        losses = module(groups)
        course.append((losses["loss"].item(), losses["gap"].item()))
        losses["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    (first_loss, first_gap), (loss, gap) = course[0], course[-1]
    assert loss < 0.8 * first_loss and gap > first_gap + 0.5
