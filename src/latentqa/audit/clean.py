"""Clean finetunes as a yardstick: how far does the first hypothesis lead where there is nothing to find?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from latentqa.audit.audited import Audited
from latentqa.audit.battery import Battery
from latentqa.audit.material import Material
from latentqa.audit.methods import Method, choose
from latentqa.audit.organisms import Manifest, check_base, organism_folders
from latentqa.audit.organisms.clean import KIND
from latentqa.decoder import Target
from latentqa.errors import ConfigError, DataError
from latentqa.models import load_adapter, remove_adapter

ADAPTER = "clean"
Margins = dict[tuple[str, str], list[float]]
"""(question's id, method) → margins of the clean finetunes, in nats a token."""


def clean_folders(folder: str | Path, audited: Audited) -> list[Path]:
    """Clean organisms of the audited model's base that passed their own check.

    Raises:
        ConfigError: no base is known, so there is none that they could share.
        DataError: the folder holds none, or one of another base.
    """
    if audited.base is None:
        raise ConfigError(
            "Clean organisms are compared with a finetune of the same base. Name it with --base."
        )
    found = []
    for path in organism_folders(folder):
        manifest = Manifest.load(path)
        if manifest.kind == KIND and manifest.passed:
            check_base(manifest, audited.base)
            found.append(path)
    if not found:
        raise DataError(
            f"{folder} holds no clean organism. Make some: latentqa organism make clean --out {folder}"
        )
    return found


def clean_margins(
    folders: Sequence[Path],
    material: Material,
    battery: Battery,
    methods: Sequence[Method],
    on_done: Callable[[], None] = lambda: None,
) -> Margins:
    """Margins of the first hypothesis on clean finetunes, question by question and method by method.

    Args:
        folders: of clean organisms of the audited model's base.
        material: of the audit; what it read of the base is used again.
        battery: with the questions.
        methods: that rank.
        on_done: called after each organism.
    """
    base = material.audited.base
    assert base is not None
    found: Margins = {}
    for folder in folders:
        load_adapter(base.model, folder, ADAPTER, dtype=base.model.dtype)
        try:
            organism = Target(base.loaded, adapter=ADAPTER, read_layers=material.audited.model.read_layers)
            own = material.of(Audited(organism, base, material.audited.decoder))
            for question in battery.hypotheses:
                dialogs = question.dialogs or battery.section(question.section).dialogs
                for method in methods:
                    choice = choose(method, own, question, dialogs)
                    if choice is not None:
                        found.setdefault((question.id, method.name), []).append(choice.margin)
        finally:
            remove_adapter(base.model, ADAPTER)
        on_done()
    return found
