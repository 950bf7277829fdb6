"""Training examples without any writer: context prediction, classification, relations, conversation facts."""

from latentqa.data.tasks.classification import ClassificationSettings, classification_examples
from latentqa.data.tasks.context import (
    ContextSettings,
    Passage,
    context_examples,
    on_policy_passages,
    on_policy_prompt,
    own_prompts,
    text_passages,
)
from latentqa.data.tasks.facts import FactSettings, FactTexts, fact_examples, read_fact_texts
from latentqa.data.tasks.relations import RelationSettings, relation_examples
from latentqa.data.tasks.report import TaskReport, write_task
from latentqa.data.tasks.tables import Table, read_tables
from latentqa.data.tasks.texts import Text, local_path, read_texts
from latentqa.data.tasks.unseen import TEST_RELATIONS, Unseen, benchmark_unseen

__all__ = [
    "ClassificationSettings",
    "ContextSettings",
    "FactSettings",
    "FactTexts",
    "Passage",
    "RelationSettings",
    "TEST_RELATIONS",
    "Table",
    "TaskReport",
    "Text",
    "Unseen",
    "benchmark_unseen",
    "classification_examples",
    "context_examples",
    "fact_examples",
    "local_path",
    "on_policy_passages",
    "on_policy_prompt",
    "own_prompts",
    "read_fact_texts",
    "read_tables",
    "read_texts",
    "relation_examples",
    "text_passages",
    "write_task",
]
