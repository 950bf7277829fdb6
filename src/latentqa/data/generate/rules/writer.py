"""The writer that needs no model: seeds × our own grammar."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from latentqa.data.generate.config import DataConfig, DialogKind, WriterKind
from latentqa.data.generate.rows import Control, Draft, Paired, Rejected, Seed
from latentqa.data.generate.rules import goals, passages, personas
from latentqa.data.generate.rules.dialogs import draft
from latentqa.data.generate.rules.futures import future_pairs
from latentqa.data.generate.rules.wording import GOAL_OPENINGS, PERSONA_OPENINGS
from latentqa.data.rules import derive_pairs
from latentqa.data.schema import QA

_BY_GROUP = {"persona": personas, "goal": goals, "sqa": passages}


class RulesWriter:
    """Writes controls, dialogs and pairs by rules; every choice is a pure function of seed and id.

    Args:
        config: the run's settings.
    """

    kind: WriterKind = "rules"
    model = ""

    def __init__(self, config: DataConfig) -> None:
        self._config = config
        kinds: dict[DialogKind, float] = {k: share for k, share in config.dialogs.kinds.items() if share > 0}
        self._kinds = kinds or {"system": 1.0}

    def prepare(self, stage: str, rows: Iterable[Any], advance: Callable[[], None]) -> None:
        """Nothing has to be asked for."""

    def controls(self, seeds: Iterable[Seed]) -> Iterator[Control | Rejected]:
        """One control per seed."""
        for seed in seeds:
            chooser = self._chooser("control", seed.id)
            yield (
                self._bare(seed, chooser) if not seed.cells else _BY_GROUP[seed.group].control(seed, chooser)
            )

    def dialogs(self, controls: Iterable[Control]) -> Iterator[Draft | Rejected]:
        """One dialog per control."""
        for control in controls:
            yield draft(control, self._kinds, self._chooser("dialog", control.id))

    def pairs(self, drafts: Iterable[Draft]) -> Iterator[Paired | Rejected]:
        """The pairs of each dialog; a dialog that no rule can ask about is rejected."""
        count = self._config.pairs.count
        for one in drafts:
            chooser = self._chooser("pairs", one.id)
            found = self._described(one.control, count, chooser)
            hidden = one.completion and one.kind != "stimulus_completion"
            if hidden and one.control.seed.category != "goal-exact":
                found += future_pairs(one.completion, self._config.pairs.future, chooser)
            if found:
                yield Paired(one, tuple(found))
            else:
                yield Rejected("pairs", one.id, "the rules find no pairs in this control", one.control.text)

    def _described(self, control: Control, count: int, chooser: random.Random) -> list[QA]:
        seed = control.seed
        if control.origin.writer != "rules":
            return derive_pairs(control.text, control.label)[:count]
        if seed.cells:
            return _BY_GROUP[seed.group].pairs(control, count, chooser)
        bare = f"You are {seed.theme}." if seed.group == "persona" else f"Please {seed.theme}."
        return derive_pairs(bare, seed.id)[:count]

    def _bare(self, seed: Seed, chooser: random.Random) -> Control:
        """A control from nothing but a theme."""
        if seed.group == "persona":
            text = chooser.choice(PERSONA_OPENINGS).format(who=seed.theme)
        else:
            text = chooser.choice(GOAL_OPENINGS).format(do=seed.theme)
        return Control(seed.id, seed.label, text, seed)

    def _chooser(self, what: str, name: str) -> random.Random:
        return random.Random(f"{self._config.seed}:{what}:{name}")
