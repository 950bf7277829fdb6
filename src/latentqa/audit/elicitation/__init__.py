"""Elicitation: what a model can be brought to do that it normally withholds, method by method."""

from latentqa.audit.elicitation.behaviors import Behavior, Behaviors, read_behaviors
from latentqa.audit.elicitation.elicit import Elicitation, check_place, elicit_model, load_elicited
from latentqa.audit.elicitation.judging import ComplianceJudge, compliance_judge
from latentqa.audit.elicitation.report import elicitation_json, write_elicitation
from latentqa.audit.elicitation.settings import SENTENCE, ElicitSettings
from latentqa.audit.elicitation.treatments import METHODS, known_methods
from latentqa.audit.elicitation.truth import Truth, find_truth

__all__ = [
    "Behavior",
    "Behaviors",
    "ComplianceJudge",
    "ElicitSettings",
    "Elicitation",
    "METHODS",
    "SENTENCE",
    "Truth",
    "check_place",
    "compliance_judge",
    "elicit_model",
    "elicitation_json",
    "find_truth",
    "known_methods",
    "load_elicited",
    "read_behaviors",
    "write_elicitation",
]
