"""Audit: find out what a model hides, and what it can be brought to do.

A reading audit puts a fixed battery of dialogs and questions, and the user's own, to what a model computes,
beside its base and beside every baseline; model organisms with a known hidden truth say how far it can be
believed. An elicitation audit steers a model by a sentence, and counts what it then no longer refuses.
"""

from latentqa.audit.audited import Audited, check_finetune, load_audited
from latentqa.audit.battery import Battery, Question, Section, load_battery
from latentqa.audit.elicitation import (
    Elicitation,
    ElicitSettings,
    elicit_model,
    find_truth,
    load_elicited,
    read_behaviors,
    write_elicitation,
)
from latentqa.audit.methods import METHODS
from latentqa.audit.read import Audit, Finding, audit_model
from latentqa.audit.replies import complies, refuses
from latentqa.audit.report import audit_json, check_report_place, write_audit

__all__ = [
    "Audit",
    "Audited",
    "Battery",
    "ElicitSettings",
    "Elicitation",
    "Finding",
    "METHODS",
    "Question",
    "Section",
    "audit_json",
    "audit_model",
    "check_finetune",
    "check_report_place",
    "complies",
    "elicit_model",
    "find_truth",
    "load_audited",
    "load_battery",
    "load_elicited",
    "read_behaviors",
    "refuses",
    "write_audit",
    "write_elicitation",
]
