"""The decoder, reading the model alone, against its base, or their difference."""

from __future__ import annotations

from collections.abc import Sequence

from latentqa.audit.battery import Question
from latentqa.audit.claims import Claim, find_claims, rank_claims
from latentqa.audit.material import Material, Mode, Said
from latentqa.audit.methods.method import Rows, by_dialog, minus
from latentqa.audit.organisms import MultipleChoice
from latentqa.benchmarks import load_embedding
from latentqa.types import Dialog


class ReadBy:
    """The decoder, reading the model, the model against its base, or their difference.

    Args:
        name: of the method.
        doc: what it does.
        mode: what is read.
        control: what is taken off; None takes nothing off.
        claimed: what claims are compared with; None compares with nothing.
    """

    def __init__(
        self, name: str, doc: str, mode: Mode, control: Mode | None = None, claimed: Mode | None = None
    ) -> None:
        self.name = name
        self.doc = doc
        self._mode: Mode = mode
        self._control: Mode | None = control
        self._claimed: Mode | None = claimed

    def rows(self, material: Material, choice: MultipleChoice, dialogs: Sequence[Dialog]) -> Rows:
        """Support on the activations, minus that on the base's where the base is compared with."""
        if self._missing(material):
            return []
        options = [choice.said(option) for option in choice.options]
        own = material.supports(self._mode, dialogs, choice.question, options)
        if self._control is None:
            return by_dialog(material.places(dialogs), own)
        other = material.supports(self._control, dialogs, choice.question, options)
        return by_dialog(material.places(dialogs), [minus(*pair) for pair in zip(own, other, strict=True)])

    def says(self, material: Material, dialogs: Sequence[Dialog], questions: Sequence[Question]) -> list[str]:
        """Claims, the most recurrent first."""
        return [claim.text for claim in self.claims(material, dialogs, questions)]

    def claims(
        self, material: Material, dialogs: Sequence[Dialog], questions: Sequence[Question]
    ) -> list[Claim]:
        """Claims with their evidence, ranked."""
        if self._missing(material):
            return []
        asked = [question.ask for question in questions]
        said = material.answers(self._mode, dialogs, asked)
        control: list[Said] = []
        if self._claimed is not None:
            control = material.answers(self._claimed, dialogs, asked)
        if not said:
            return []
        embedding = load_embedding([one.answer.text for one in (*said, *control)])
        return rank_claims(find_claims(said, control, embedding, material.audited.decoder))

    def _missing(self, material: Material) -> bool:
        """Whether a base is needed and not known."""
        needed = {self._mode, self._control, self._claimed} - {None}
        return not needed <= set(material.modes)
