"""Examples and their files: schema, formats, splits, derived pairs, ordinary dialogs."""

from latentqa.data.builtin import BUILTIN, builtin_data
from latentqa.data.check import CheckReport, check_file
from latentqa.data.jsonl import Row, read_examples, stream_rows, write_examples
from latentqa.data.plain import (
    calibration_dialogs,
    for_calibration,
    plain_dialogs,
    plain_example,
    plain_examples,
    plain_pairs,
    plain_turns,
    without_control,
)
from latentqa.data.published import LoadCounts, LoadReport, Problem, load_published, save_published
from latentqa.data.questions import (
    DESCRIPTION_QUESTIONS,
    GOAL_QUESTIONS,
    PERSONA_QUESTIONS,
    STOCK_PERSONA_QUESTIONS,
)
from latentqa.data.roots import DATA_VARIABLE, data_file, data_hash, data_root
from latentqa.data.rows import RowFile, RowIndex, index_rows
from latentqa.data.rules import derive_pairs
from latentqa.data.schema import DEFAULT_READ, EXAMPLE_KINDS, QA, Example, QAKind
from latentqa.data.split import NearCopy, Split, is_held_out, jaccard, near_copies, split_by_label
from latentqa.data.variants import as_turns, with_completion, with_told_completion

__all__ = [
    "BUILTIN",
    "CheckReport",
    "DATA_VARIABLE",
    "DEFAULT_READ",
    "DESCRIPTION_QUESTIONS",
    "EXAMPLE_KINDS",
    "Example",
    "GOAL_QUESTIONS",
    "LoadCounts",
    "LoadReport",
    "NearCopy",
    "PERSONA_QUESTIONS",
    "Problem",
    "QA",
    "QAKind",
    "Row",
    "RowFile",
    "RowIndex",
    "STOCK_PERSONA_QUESTIONS",
    "Split",
    "as_turns",
    "builtin_data",
    "calibration_dialogs",
    "check_file",
    "data_file",
    "data_hash",
    "data_root",
    "derive_pairs",
    "for_calibration",
    "index_rows",
    "is_held_out",
    "jaccard",
    "load_published",
    "near_copies",
    "plain_dialogs",
    "plain_example",
    "plain_examples",
    "plain_pairs",
    "plain_turns",
    "read_examples",
    "save_published",
    "split_by_label",
    "stream_rows",
    "with_completion",
    "with_told_completion",
    "without_control",
    "write_examples",
]
