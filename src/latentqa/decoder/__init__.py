"""Decoders: load one, ask it, score answers with it, evaluate it."""

from latentqa.decoder.calibrate import calibrate
from latentqa.decoder.card import CARD_FILE, Calibration, Card, MappingCard, PromptCard
from latentqa.decoder.confidence import Confidence
from latentqa.decoder.decoder import Decoder
from latentqa.decoder.evaluate import EvaluationReport, RankedItem, evaluate, rank
from latentqa.decoder.load import default_target, find_decoder, load_decoder
from latentqa.decoder.mapping import Mapping, fit_mapping
from latentqa.decoder.presets import PRESETS, preset_card
from latentqa.decoder.references import References, make_references
from latentqa.decoder.target import Reading, Target, load_target
from latentqa.decoder.wiring import Wiring

__all__ = [
    "CARD_FILE",
    "Calibration",
    "Card",
    "Confidence",
    "Decoder",
    "EvaluationReport",
    "Mapping",
    "MappingCard",
    "PRESETS",
    "PromptCard",
    "RankedItem",
    "Reading",
    "References",
    "Target",
    "Wiring",
    "calibrate",
    "default_target",
    "evaluate",
    "find_decoder",
    "fit_mapping",
    "load_decoder",
    "load_target",
    "make_references",
    "preset_card",
    "rank",
]
