"""The rules writer: our own grammar of personas, goals and passages."""

from latentqa.data.generate.rules.futures import future_pairs
from latentqa.data.generate.rules.writer import RulesWriter

__all__ = ["RulesWriter", "future_pairs"]
