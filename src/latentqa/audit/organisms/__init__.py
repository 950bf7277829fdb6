"""Model organisms: small finetunes with a known hidden truth, to test audits on."""

from latentqa.audit.organisms.check import run_checks
from latentqa.audit.organisms.finetune import FinetuneSettings
from latentqa.audit.organisms.kinds import KINDS, Recipes, find_recipes
from latentqa.audit.organisms.make import Made, check_base, check_organisms, make_organisms
from latentqa.audit.organisms.manifest import (
    Case,
    Check,
    CheckFigure,
    Manifest,
    MultipleChoice,
    organism_folders,
)
from latentqa.audit.organisms.recipe import Recipe

__all__ = [
    "Case",
    "Check",
    "CheckFigure",
    "FinetuneSettings",
    "KINDS",
    "Made",
    "Manifest",
    "MultipleChoice",
    "Recipe",
    "Recipes",
    "check_base",
    "check_organisms",
    "find_recipes",
    "make_organisms",
    "organism_folders",
    "run_checks",
]
