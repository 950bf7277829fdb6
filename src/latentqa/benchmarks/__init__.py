"""Benchmarks: the reading experiments as data, one runner for any readers, one report.

Experiments are handed readers and what else they need of a target; they load no model themselves.
"""

from latentqa.benchmarks.contenders import Lineup, Training, check_names, line_up
from latentqa.benchmarks.embedding import Embedding, load_embedding
from latentqa.benchmarks.experiment import Experiment, Item, Metric, Tools
from latentqa.benchmarks.registry import EXPERIMENTS, find_experiment
from latentqa.benchmarks.report import build_report, write_report
from latentqa.benchmarks.runner import Contender, Run, Subject, load_run, run
from latentqa.benchmarks.summary import Summary, summarize

__all__ = [
    "Contender",
    "EXPERIMENTS",
    "Embedding",
    "Experiment",
    "Item",
    "Lineup",
    "Metric",
    "Run",
    "Subject",
    "Summary",
    "Tools",
    "Training",
    "build_report",
    "check_names",
    "find_experiment",
    "line_up",
    "load_embedding",
    "load_run",
    "run",
    "summarize",
    "write_report",
]
