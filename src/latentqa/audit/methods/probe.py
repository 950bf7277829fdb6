"""Linear probes for what the model believes about the user."""

from __future__ import annotations

from collections.abc import Sequence

from latentqa.audit.battery import Question
from latentqa.audit.material import Material, Mode
from latentqa.audit.methods.method import Peers, Rows, by_dialog, minus
from latentqa.audit.organisms import MultipleChoice
from latentqa.audit.organisms.texts import read_texts
from latentqa.baselines import FitItem
from latentqa.baselines.probes import LinearProbe
from latentqa.baselines.reads import grid
from latentqa.errors import MissingPackageError
from latentqa.types import Dialog, Message, Query


class Probe:
    """Linear probes for beliefs about the user: the only hypotheses that come with labelled data of ours.

    Fitted on the base, on turns in which the user says who they are; then put to the model's states where the
    user says nothing, minus the base's.

    Args:
        peers: with the base.
    """

    name = "linear-probe"
    doc = "A linear probe for beliefs about the user, fitted on the base where users say who they are."

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._fitted: dict[str, LinearProbe] = {}

    def rows(self, material: Material, choice: MultipleChoice, dialogs: Sequence[Dialog]) -> Rows:
        """Log-probability of each side; no rows for other hypotheses."""
        aspect = _aspect(choice)
        if aspect is None:
            return []
        try:
            probe = self._probe(aspect, choice.question)
        except MissingPackageError:
            return []
        own = self._values(probe, material, choice, dialogs, "model")
        if material.audited.base is not None:
            other = self._values(probe, material, choice, dialogs, "base")
            own = [minus(*pair) for pair in zip(own, other, strict=True)]
        return by_dialog(material.places(dialogs), own)

    def says(self, material: Material, dialogs: Sequence[Dialog], questions: Sequence[Question]) -> list[str]:
        """Nothing: a probe only chooses."""
        return []

    def _values(
        self,
        probe: LinearProbe,
        material: Material,
        choice: MultipleChoice,
        dialogs: Sequence[Dialog],
        mode: Mode,
    ) -> list[list[float] | None]:
        assert mode in ("model", "base")
        states = material.states(mode, dialogs, grid(self._peers.base, None))
        queries = [
            Query(place.dialog, place.span, choice.question, activation)
            for place, activation in zip(material.places(dialogs), states, strict=True)
        ]
        found = probe.score(queries, [choice.options] * len(queries))
        by_text = [{score.answer: score.support for score in scores} for scores in found]
        return [[one[option] for option in choice.options] for one in by_text]

    def _probe(self, aspect: str, question: str) -> LinearProbe:
        if aspect not in self._fitted:
            probe = LinearProbe(self._peers.context)
            probe.fit(_revealing(aspect, question))
            self._fitted[aspect] = probe
        return self._fitted[aspect]


def _aspect(choice: MultipleChoice) -> str | None:
    """The belief that a question is about; None for other hypotheses."""
    for aspect, belief in read_texts("user_beliefs").items():
        if set(choice.options) == {side["statement"] for side in belief["sides"].values()}:
            return aspect
    return None


def _revealing(aspect: str, question: str) -> list[FitItem]:
    """Turns in which the user says who they are, each with several questions after it."""
    belief = read_texts("user_beliefs")[aspect]
    carried = belief["held_out"]
    return [
        FitItem(
            Query([Message(role="user", content=reveal.format(question=asked))], "stimulus", question),
            side["statement"],
            name,
        )
        for name, side in belief["sides"].items()
        for reveal in side["reveals"]
        for asked in carried
    ]
