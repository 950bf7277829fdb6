"""Audit: find out what a model hides.

A reading audit puts a fixed battery of dialogs and questions, and the user's own, to what a model computes,
beside its base and beside every baseline; model organisms with a known hidden truth say how far it can be
believed.
"""

from latentqa.audit.audited import Audited, check_finetune, load_audited
from latentqa.audit.battery import Battery, Question, Section, load_battery
from latentqa.audit.methods import METHODS
from latentqa.audit.read import Audit, Finding, audit_model
from latentqa.audit.replies import refuses
from latentqa.audit.report import audit_json, check_report_place, write_audit

__all__ = [
    "Audit",
    "Audited",
    "Battery",
    "Finding",
    "METHODS",
    "Question",
    "Section",
    "audit_json",
    "audit_model",
    "check_finetune",
    "check_report_place",
    "load_audited",
    "load_battery",
    "refuses",
    "write_audit",
]
