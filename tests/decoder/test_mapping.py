"""The closed-form mapping: what it finds, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from latentqa.decoder.mapping import MAPPING_FILE, Mapping, fit_mapping
from latentqa.errors import CardError, DataError


def made(n: int = 300, n_layers: int = 2, width: int = 6, out: int = 5) -> tuple[list, list, torch.Tensor]:
    """Activations `[L, T, D]` that hold a hidden `[out]` state in directions of very different variance."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(n, out, generator=generator)
    into = torch.randn(out, n_layers * width, generator=generator) * torch.logspace(-2, 2, n_layers * width)
    activations = []
    for number in range(n):
        flat = (states[number] @ into).expand(2 + number % 3, -1)
        activations.append(flat.reshape(len(flat), n_layers, width).transpose(0, 1) + 7.0)
    return activations, list(states + 3.0), into


def test_it_finds_the_states_whatever_the_scale_of_the_inputs() -> None:
    activations, states, _ = made()
    mapping = fit_mapping(activations, states, ridge=1e-8, gain=1.0)
    for vectors, state in list(zip(activations, states, strict=True))[:20]:
        mapped = mapping(vectors)
        assert mapped.shape == (1, vectors.shape[1], 5)
        torch.testing.assert_close(mapped[0], state.expand(vectors.shape[1], -1), atol=2e-2, rtol=0)


def test_gain_scales_the_difference_from_the_mean_state() -> None:
    activations, states, _ = made()
    one, four = (fit_mapping(activations, states, ridge=0.01, gain=gain) for gain in (1.0, 4.0))
    difference = one(activations[0]) - one.bias
    torch.testing.assert_close(four(activations[0]) - four.bias, 4 * difference, atol=1e-3, rtol=1e-3)


def test_ridge_shrinks_what_is_predicted() -> None:
    activations, states, _ = made()
    weak, strong = (fit_mapping(activations, states, ridge=ridge, gain=1.0) for ridge in (0.01, 10.0))
    assert (strong(activations[0]) - strong.bias).norm() < (weak(activations[0]) - weak.bias).norm()


def test_gradients_flow_and_the_dtype_stays() -> None:
    activations, states, _ = made(60)
    mapping = fit_mapping(activations, states, ridge=0.1, gain=1.0)
    vectors = activations[0].bfloat16().requires_grad_(True)
    mapped = mapping(vectors)
    assert mapped.dtype == torch.bfloat16
    mapped.float().sum().backward()
    assert vectors.grad is not None and float(vectors.grad.abs().sum()) > 0


def test_it_saves_and_loads(tmp_path: Path) -> None:
    activations, states, _ = made(60)
    mapping = fit_mapping(activations, states, ridge=0.1, gain=2.0)
    mapping.save(tmp_path)
    again = Mapping.load(tmp_path)
    assert torch.equal(again(activations[3]), mapping(activations[3]))


def test_a_missing_or_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="names a mapping, but mapping.safetensors cannot be read"):
        Mapping.load(tmp_path)
    (tmp_path / MAPPING_FILE).write_bytes(b"\x00" * 40)
    with pytest.raises(CardError, match="Fetch the decoder again"):
        Mapping.load(tmp_path)


def test_nothing_to_fit_on_is_said() -> None:
    with pytest.raises(DataError, match="No activation to fit the mapping on"):
        fit_mapping([], [], ridge=0.1, gain=1.0)
