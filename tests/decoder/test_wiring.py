"""Activations laid out in placeholders, bare and mapped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from latentqa.decoder import Decoder, Target
from latentqa.decoder.mapping import Mapping
from latentqa.errors import ActivationError
from tests.decoder.conftest import DIALOG, make_decoder


@pytest.fixture
def decoder(target: Target) -> Decoder:
    return make_decoder(target)


def numbered(n_layers: int, n_tokens: int) -> torch.Tensor:
    """Vectors `[L, T, 2]` that say which layer and token they are."""
    grid = torch.meshgrid(torch.arange(n_layers), torch.arange(n_tokens), indexing="ij")
    return torch.stack(grid, dim=-1).float()


def test_several_layers_are_laid_out_token_by_token(decoder: Decoder) -> None:
    slot = decoder.wiring.slot(numbered(2, 3), (5, 6, 9))
    assert slot.vectors is not None
    assert slot.vectors.tolist() == [[0, 0], [1, 0], [0, 1], [1, 1], [0, 2], [1, 2]]
    assert (slot.n, slot.positions) == (6, (5, 5, 6, 6, 9, 9))
    assert decoder.wiring.empty_slot(2, 3).n == 6


def test_a_mapping_takes_all_layers_of_a_token_to_one_vector(decoder: Decoder) -> None:
    added = Mapping(torch.zeros(2, 2), torch.tensor([[1.0, 0], [0, 1], [10, 0], [0, 10]]), torch.ones(2))
    wiring = replace(decoder.wiring, mapping=added)
    slot = wiring.slot(numbered(2, 3), (5, 6, 9))
    assert slot.vectors is not None
    assert slot.vectors.tolist() == [[11, 1], [11, 12], [11, 23]]
    assert (slot.n, slot.positions) == (3, (5, 6, 9))
    assert wiring.empty_slot(2, 3).n == 3
    assert wiring.width == 2


@pytest.mark.parametrize("shape", [(2, 3), (1, 0, 4)])
def test_vectors_without_tokens_are_refused(decoder: Decoder, shape: tuple[int, ...]) -> None:
    with pytest.raises(ActivationError, match=r"\[L, T, D\] with at least one token; got"):
        decoder.wiring.slot(torch.zeros(shape))


def test_an_identity_mapping_changes_no_answer(decoder: Decoder, target: Target) -> None:
    activation = target.read(DIALOG)
    plain = decoder.score(activation, "Who?", ["A pirate.", "A nurse."])
    size = activation.vectors.shape[-1]
    same = Mapping(torch.zeros(1, size), torch.eye(size), torch.zeros(size))
    decoder.wiring = replace(decoder.wiring, mapping=same)
    decoder.forget()
    mapped = decoder.score(activation, "Who?", ["A pirate.", "A nurse."])
    assert [s.logprob for s in mapped] == pytest.approx([s.logprob for s in plain], abs=1e-5)
