"""A target pass runs what is read of each dialog, and nothing after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from latentqa.decoder import Target
from latentqa.models import find_blocks

TURNS = [{"role": "user", "content": "Where is the harbour?"}]
REPLIES = [[*TURNS, {"role": "assistant", "content": text}] for text in ("Down the hill.", "Ask the pilot.")]


@pytest.fixture
def passes(target: Target) -> Iterator[list[tuple[int, ...]]]:
    """Shape `[B, T]` of each pass through the target's first block."""
    shapes: list[tuple[int, ...]] = []
    block = find_blocks(target.model)[0]
    handle = block.register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape[:2]))
    )
    yield shapes
    handle.remove()


def test_what_follows_the_span_is_not_run(target: Target, passes: list[tuple[int, ...]]) -> None:
    readings = [target.reading(dialog, "stimulus:content") for dialog in REPLIES]
    found = target.read_many(readings)
    ends = {reading.span.indices[-1] + 1 for reading in readings}
    assert passes == [(1, *ends)]  # both begin alike, so they are one
    alone = target.read(TURNS, "stimulus:content")
    assert all(torch.equal(one.vectors, alone.vectors) for one in found)


def test_spans_of_one_dialog_are_run_once_up_to_the_last(
    target: Target, passes: list[tuple[int, ...]]
) -> None:
    readings = [target.reading(REPLIES[0], span) for span in ("stimulus:content", "completion:content")]
    early, late = target.read_many(readings)
    assert passes == [(1, readings[1].span.indices[-1] + 1)]
    assert early.positions == readings[0].span.indices and late.positions == readings[1].span.indices


def test_a_cut_dialog_reads_as_a_whole_one(target: Target) -> None:
    readings = [target.reading(dialog, "stimulus:content") for dialog in REPLIES]
    whole = [target.reading(dialog, "all") for dialog in REPLIES]
    for part, every in zip(target.read_many(readings), target.read_many(whole), strict=True):
        torch.testing.assert_close(part.vectors, every.vectors[:, list(part.positions)])
