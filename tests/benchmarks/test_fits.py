"""Measures of how well an answer fits a control."""

from __future__ import annotations

import pytest

from latentqa.benchmarks import embedding, fits
from latentqa.reader import FakeReader

CONTROLS = [
    "You are a patient gardener of roses.",
    "You are a pirate who longs for the sea.",
    "Answer in rhyme.",
]


def test_the_own_control_fits_best_by_embedding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "minilm_folder", lambda: None)
    found = fits.by_embedding(CONTROLS)(["A gardener who loves roses."], [CONTROLS])[0]
    assert found[0] > max(found[1:])


def test_a_reader_is_asked_about_each_control() -> None:
    reader = FakeReader({fits.QUESTION: "A pirate."})
    assert fits.by_text_given(reader)(["A pirate.", "A nurse."], [CONTROLS[:2], CONTROLS]) == [
        [1.0, 1.0],
        [0.0] * 3,
    ]
