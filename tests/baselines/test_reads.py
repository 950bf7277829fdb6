"""Activations for baselines: one pass a dialog, at any layers, without token 0."""

from __future__ import annotations

import pytest
import torch

from latentqa.baselines.reads import Reads, grid, select
from latentqa.decoder import Target
from latentqa.types import Query
from tests.baselines.conftest import activation

DIALOG = [{"role": "user", "content": "What should I cook tonight?"}]


def test_a_dialog_is_read_once(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(target, (1, 3))
    passes = []
    read_many = target.read_many
    monkeypatch.setattr(target, "read_many", lambda *given: passes.append(given) or read_many(*given))
    queries = [Query(DIALOG, "stimulus", "Who?"), Query(DIALOG, "stimulus", "Why?")]
    first = reads.activations(queries, (1,))
    again = reads.activations(queries, (3,))
    assert len(passes) == 1 and len(passes[0][0]) == 1
    expected = read_many([target.reading(DIALOG, "stimulus")], (1, 3))[0].vectors
    assert torch.equal(first[0].vectors[0], expected[0])
    assert torch.equal(again[1].vectors[0], expected[1])
    reads.activations(queries, (2,))
    assert len(passes) == 2


def test_a_querys_own_activation_is_used_where_it_holds_the_layers(target: Target) -> None:
    own = activation(torch.ones(2, 3, 32))
    query = Query(DIALOG, "stimulus", "Who?", own)
    assert torch.equal(Reads(target).vectors([query], (2,))[0], torch.ones(1, 3, 32))
    assert Reads(target).vectors([query], (3,))[0].shape[1] != 3


def test_token_0_is_left_out_unless_it_is_all(target: Target) -> None:
    reads = Reads(target)
    whole = target.read(DIALOG, "all", (2,)).vectors
    assert torch.equal(reads.vectors([Query(DIALOG, "all", "?")], (2,))[0], whole[:, 1:])
    assert reads.vectors([Query(DIALOG, "[0]", "?")], (2,))[0].shape[1] == 1


def test_old_activations_are_dropped(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentqa.baselines.reads.KEPT_BYTES", 1)
    reads = Reads(target)
    queries = [Query([{"role": "user", "content": f"{n}"}], "stimulus", "?") for n in range(3)]
    assert len(reads.activations(queries, (1,))) == 3
    assert len(reads._kept) == 1
    assert len(list(reads.map(queries, (1,), lambda vectors: vectors))) == 3


def test_the_grid_begins_in_the_middle(target: Target) -> None:
    assert grid(target, None)[0] == 2
    assert grid(target, (-1, 1, 3)) == (3, 1)
    assert len(set(grid(target, None))) == len(grid(target, None))


def test_select_takes_layers_in_order() -> None:
    both = activation(torch.arange(2.0)[:, None, None].expand(2, 1, 32))
    assert select(both, (2, 1)).vectors[:, 0, 0].tolist() == [1.0, 0.0]
    assert select(both, (1, 2)) is both
