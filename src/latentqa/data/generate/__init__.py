"""Make a training set: seeds, controls, dialogs, question-answer pairs, checks and a card."""

from latentqa.data.generate.card import read_card
from latentqa.data.generate.checks import Fits
from latentqa.data.generate.config import DataConfig
from latentqa.data.generate.price import Price, estimate
from latentqa.data.generate.progress import Report, Status
from latentqa.data.generate.rows import STAGES, Control, Draft, Origin, Paired, Rejected, Seed
from latentqa.data.generate.rules import RulesWriter
from latentqa.data.generate.run import MakeResult, Models, make

__all__ = [
    "Control",
    "DataConfig",
    "Draft",
    "Fits",
    "MakeResult",
    "Models",
    "Origin",
    "Paired",
    "Price",
    "Rejected",
    "Report",
    "RulesWriter",
    "STAGES",
    "Seed",
    "Status",
    "estimate",
    "make",
    "read_card",
]
