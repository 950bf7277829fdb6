"""The one forward: sharing a prefix, padding and batching change no value and no gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from latentqa.activations import WriteSite
from latentqa.decoder import Wiring
from latentqa.decoder.forward import Row, answer_logprobs, mean_per_row
from latentqa.decoder.wiring import Slot
from latentqa.dialogs import match_positions
from latentqa.errors import ActivationError, ContextLengthError
from latentqa.models import adapter_parameters, enable_checkpointing, tiny_model
from tests.decoder.conftest import ADAPTER, ARCHITECTURES, QUESTIONS, make_slots, make_wiring

LENGTHS = (3, 9, 20)  # the last is longer than gemma2's sliding window of 16
ANSWERS = ("It is a pirate.", "A nurse.", "There is nothing special about this.")


def make_rows(wiring: Wiring, places: tuple[int, ...] = (0, 1, 1, 2)) -> list[Row]:
    """Questions and answers of several lengths, two of them on one slot."""
    return [
        Row(slot, QUESTIONS[i % 3], wiring.prompt.answer(ANSWERS[(i + slot) % 3]))
        for i, slot in enumerate(places)
    ]


def values(wiring: Wiring, slots: list[Slot], rows: list[Row], **options: bool) -> Tensor:
    with wiring.active():
        return answer_logprobs(wiring, slots, rows, **options)[0]


def gradients(wiring: Wiring, slots: list[Slot], rows: list[Row], **options: bool) -> list[Tensor]:
    """Of the summed log-probabilities: to the adapter, then to the slots' vectors."""
    vectors = [slot.vectors for slot in slots if slot.vectors is not None and slot.vectors.requires_grad]
    wanted = [*adapter_parameters(wiring.model, ADAPTER), *vectors]
    found = torch.autograd.grad(values(wiring, slots, rows, **options).sum(), wanted, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(wanted, found, strict=True)]


def close(a: Tensor, b: Tensor, tolerance: float = 2e-4) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_sharing_a_prefix_equal_flat_rows(architecture: str) -> None:
    wiring, slots = make_wiring(architecture), make_slots(LENGTHS, gradients=True)
    rows = make_rows(wiring)
    close(values(wiring, slots, rows, share=True), values(wiring, slots, rows, share=False))
    shared, flat = gradients(wiring, slots, rows), gradients(wiring, slots, rows, share=False)
    for one, other in zip(shared, flat, strict=True):
        close(one, other, 1e-3)
    assert all(float(gradient.abs().sum()) > 0 for gradient in flat[-len(slots) :])


@pytest.mark.parametrize(
    ("site", "mode", "scale"),
    [
        ("embed", "replace", "placeholder"),
        ("block:0", "replace", None),
        ("block:0", "add", 0.5),
        ("block:3", "norm_add", None),
    ],
)
def test_every_site_and_injection_shares_its_prefix(site: str, mode: str, scale: float | str | None) -> None:
    wiring = make_wiring(site=site, mode=mode, scale=scale)
    slots, rows = make_slots(LENGTHS), make_rows(wiring)
    shared = values(wiring, slots, rows, share=True)
    close(shared, values(wiring, slots, rows, share=False))
    written_elsewhere = replace(wiring, site=WriteSite.parse("block:2"))
    assert not torch.allclose(shared, values(written_elsewhere, slots, rows), atol=1e-3)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_padded_batch_equals_single_rows(architecture: str, share: bool) -> None:
    wiring, slots = make_wiring(architecture), make_slots(LENGTHS)
    rows = make_rows(wiring)
    together = values(wiring, slots, rows, share=share)
    alone = [values(wiring, [slots[row.slot]], [replace(row, slot=0)], share=share) for row in rows]
    close(together, torch.cat(alone))


def test_bfloat16_agrees_within_its_precision() -> None:
    wiring = make_wiring(settings={"dtype": torch.bfloat16})
    slots, rows = make_slots(LENGTHS), make_rows(wiring)
    full = make_wiring()
    half, reference = values(wiring, slots, rows), values(full, slots, rows)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, reference, rtol=0.05, atol=0.15)


def test_values_are_the_models_own_logprobs() -> None:
    """Against a plain forward on one whole sequence, with the vectors written by hand."""
    wiring, slots = make_wiring(site="embed"), make_slots([5])
    row = Row(0, QUESTIONS[0], wiring.prompt.answer(ANSWERS[0]))
    ids, marked, _ = wiring.prompt.full(5, row.question)
    ids = torch.tensor([[*ids, *row.answer]])
    embedded = wiring.model.get_input_embeddings()(ids).detach()
    embedded[0, [i for i, mark in enumerate(marked) if mark]] = slots[0].vectors
    with wiring.active(), torch.no_grad():
        logits = wiring.model(inputs_embeds=embedded).logits[0, len(marked) - 1 : -1]
    expected = logits.log_softmax(-1)[torch.arange(len(row.answer)), list(row.answer)]
    close(values(wiring, slots, [row]), expected)


def test_a_slot_without_vectors_leaves_its_placeholders_as_they_are() -> None:
    wiring = make_wiring(mode="add")
    rows = make_rows(wiring)
    nothing = [Slot(None, n) for n in LENGTHS]
    zeros = [Slot(torch.zeros(n, 32), n) for n in LENGTHS]
    close(values(wiring, nothing, rows), values(wiring, zeros, rows))
    mixed = [nothing[0], *make_slots(LENGTHS)[1:]]
    close(values(wiring, mixed, rows), values(wiring, mixed, rows, share=False))
    assert not torch.allclose(values(wiring, mixed, rows), values(wiring, nothing, rows), atol=1e-3)


@pytest.mark.parametrize("tokenizer", ["chatml", "default_system", None])
def test_a_question_before_the_placeholders_works(tokenizer: str | None) -> None:
    wiring = make_wiring(template="{question}\n{placeholders}", tokenizer=tokenizer)
    slots, rows = make_slots(LENGTHS), make_rows(wiring)
    assert not wiring.prompt.placeholders_first
    together = values(wiring, slots, rows, share=True)
    alone = [values(wiring, [slots[row.slot]], [replace(row, slot=0)]) for row in rows]
    close(together, torch.cat(alone))
    wiring_after = make_wiring(tokenizer=tokenizer)
    assert not torch.allclose(together, values(wiring_after, slots, rows), atol=1e-3)


def test_gradients_reach_the_adapter_and_not_the_base() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    values(wiring, slots, make_rows(wiring)).sum().backward()
    adapter = adapter_parameters(wiring.model, ADAPTER)
    trained = {id(parameter) for parameter in adapter}
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in adapter)
    assert all(p.grad is None for p in wiring.model.parameters() if id(p) not in trained)


def test_checkpointing_changes_no_gradient() -> None:
    wiring, slots = make_wiring(), make_slots(LENGTHS)
    rows = make_rows(wiring)
    expected = gradients(wiring, slots, rows, share=False)
    enable_checkpointing(wiring.model)
    wiring.model.train()
    for one, other in zip(gradients(wiring, slots, rows, share=False), expected, strict=True):
        close(one, other)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
def test_shifted_placeholders_stand_where_the_read_tokens_stood(architecture: str) -> None:
    wiring = make_wiring(architecture, shift_positions=True, site="embed")
    vectors = make_slots([3])[0].vectors
    slots = [Slot(vectors, 3, (40, 41, 45))]
    row = Row(0, QUESTIONS[0], wiring.prompt.answer(ANSWERS[0]))
    shared, flat = values(wiring, slots, [row]), values(wiring, slots, [row], share=False)
    close(shared, flat)
    ids, marked, _ = wiring.prompt.full(3, row.question)
    ids = torch.tensor([[*ids, *row.answer]])
    head = marked.index(True)
    positions = torch.tensor([match_positions(head, (40, 41, 45), ids.shape[1] - head - 3)])
    embedding = wiring.model.get_input_embeddings()
    hook = embedding.register_forward_hook(
        lambda _, __, out: out.index_copy(1, torch.arange(head, head + 3), vectors[None])
    )
    with wiring.active(), torch.no_grad():
        logits = wiring.model(ids, position_ids=positions, attention_mask=torch.ones_like(ids)).logits[0]
    hook.remove()
    own = logits[len(marked) - 1 : -1].log_softmax(-1)[torch.arange(len(row.answer)), list(row.answer)]
    close(shared, own)
    unshifted = values(replace(wiring, shift_positions=False), slots, [row])
    assert not torch.allclose(shared, unshifted, atol=1e-4)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_row_longer_than_the_context_is_one_sentence(architecture: str, share: bool) -> None:
    wiring = make_wiring(architecture)
    row = Row(0, QUESTIONS[0], wiring.prompt.answer(ANSWERS[0]))
    with pytest.raises(ContextLengthError, match="tokens, but .* takes 512"):
        values(wiring, make_slots([600]), [row], share=share)


def test_a_slot_with_too_few_vectors_is_refused() -> None:
    wiring = make_wiring()
    with pytest.raises(
        ActivationError, match=r"4 placeholders need vectors \[4, D\], but they are \[3, 32\]"
    ):
        values(wiring, [Slot(torch.zeros(3, 32), 4)], make_rows(wiring, (0,)))


def test_vectors_of_another_width_are_refused_and_no_hook_is_left() -> None:
    wiring = make_wiring()
    rows = make_rows(wiring, (0,))
    before = values(wiring, make_slots([3]), rows)
    with pytest.raises(ActivationError, match="hidden size|dimensions"):
        values(wiring, make_slots([3], width=48), rows)
    assert torch.equal(values(wiring, make_slots([3]), rows), before)


def test_mean_per_row() -> None:
    values = torch.tensor([1.0, 3.0, 5.0])
    assert mean_per_row(values, torch.tensor([0, 0, 1]), 2).tolist() == [2.0, 5.0]


def test_the_adapter_is_off_again_after_the_decoder_ran() -> None:
    wiring, ids = make_wiring(), torch.arange(5, 15)[None]
    bare = tiny_model("llama")(ids).logits
    values(wiring, make_slots(LENGTHS), make_rows(wiring))
    assert torch.equal(wiring.model(ids).logits, bare)
