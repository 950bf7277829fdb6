"""Baselines, each a `Reader`: same inputs, same questions, same scoring as the decoder.

Importing this loads no torch; the readers themselves are loaded by `make_reader`.
"""

from latentqa.baselines.fit import FitItem, ReaderError
from latentqa.baselines.registry import READERS, ReaderContext, ReaderSpec, make_reader

__all__ = ["FitItem", "READERS", "ReaderContext", "ReaderError", "ReaderSpec", "make_reader"]
