"""Difference mode: norm-matched around the decoder's mean, nothing where nothing differs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from latentqa.audit import Audited
from latentqa.audit.difference import center, differences, without_difference
from latentqa.types import Activation

DIALOGS = [[{"role": "user", "content": text}] for text in ("Where is the harbour?", "Hello there.")]


@pytest.fixture
def read(audited: Audited) -> tuple[list[Activation], list[Activation]]:
    assert audited.base is not None
    readings = [audited.model.reading(dialog) for dialog in DIALOGS]
    layers = audited.decoder.read_layers
    return audited.model.read_many(readings, layers), audited.base.read_many(readings, layers)


def test_a_difference_lies_where_the_bases_states_do(audited: Audited, read) -> None:
    model, base = read
    found = differences(audited.decoder, model, base)
    spread = torch.cat([(one.vectors - center(audited.decoder, one))[:, 1:] for one in base], dim=1)
    sizes = []
    for one, own, other in zip(found, model, base, strict=True):
        assert one is not None and one.token_ids == own.token_ids and one.layers == own.layers
        away = (one.vectors - center(audited.decoder, other))[:, 1:]  # token 0 is left out
        gap = (own.vectors - other.vectors)[:, 1:]
        assert torch.nn.functional.cosine_similarity(away.flatten(), gap.flatten(), dim=0) > 0.999
        sizes.append(float((away.square().sum() / one.vectors.shape[1]).sqrt()))
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-3)
    assert sizes[0] == pytest.approx(float(spread.square().sum(-1).mean().sqrt()), rel=0.2)


def test_where_nothing_differs_there_is_nothing_to_read(audited: Audited, read) -> None:
    model, base = read
    assert differences(audited.decoder, base, base) == [None, None]
    found = differences(audited.decoder, [model[0], base[1]], base)
    assert found[0] is not None and found[1] is None


def test_nothing_is_what_the_mean_would_give(audited: Audited, read) -> None:
    _, base = read
    bare = without_difference(audited.decoder, base[0])
    assert torch.allclose(bare.vectors, center(audited.decoder, base[0]))
    (scored,) = audited.decoder.score_many([(bare, "Who?")], [["A.", "B."]])
    assert all(abs(score.support) < 1e-3 for score in scored)  # it is what support compares with


def test_a_decoder_that_adds_by_direction_takes_the_bare_difference(audited: Audited, read) -> None:
    model, base = read
    audited.decoder.card = audited.decoder.card.model_copy(update={"injection": "norm_add"})
    (one, _) = differences(audited.decoder, model, base)
    assert one is not None
    gap, found = (model[0].vectors - base[0].vectors)[:, 1:], one.vectors[:, 1:]
    assert torch.nn.functional.cosine_similarity(found.flatten(), gap.flatten(), dim=0) > 0.999
    assert not without_difference(audited.decoder, base[0]).vectors.any()


def test_the_dialogs_first_token_is_left_out(audited: Audited, read) -> None:
    model, base = read
    loud = model[0].vectors.clone()
    loud[:, 0] += 1e6
    first = [replace(one, positions=(0, *one.positions[1:])) for one in (model[0], base[0])]
    (one,) = differences(audited.decoder, [replace(first[0], vectors=loud)], [first[1]])
    assert one is not None
    assert torch.allclose(one.vectors[:, 0], center(audited.decoder, first[1])[:, 0])
    assert one.vectors[:, 1:].abs().max() < 1e3


def test_without_references_the_spans_own_mean_is_the_center(audited: Audited, read) -> None:
    audited.decoder.references = replace(audited.decoder.references, mean={})
    _, base = read
    own = center(audited.decoder, base[0])
    assert torch.allclose(own[:, 0], base[0].vectors.mean(1)) and own.shape == base[0].vectors.shape
