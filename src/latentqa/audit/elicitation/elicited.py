"""A method at a strength as a contender of the benchmarks' runner: it replies, and what it says is judged."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from latentqa.audit.elicitation.judging import ComplianceJudge, reply_values
from latentqa.audit.elicitation.settings import ElicitSettings
from latentqa.audit.elicitation.treatments import NONE, PREFILL, Variant
from latentqa.audit.elicitation.truth import truth_values
from latentqa.audit.organisms.check import REPLY_TOKENS
from latentqa.audit.replies import mentions
from latentqa.baselines.prompted import Prompt, Prompted
from latentqa.baselines.steering.treatment import Treated, Treatment, tokens_of
from latentqa.benchmarks import Item
from latentqa.benchmarks.runner import Response
from latentqa.benchmarks.steering.unsteered import window_nll
from latentqa.decoder import Target
from latentqa.dialogs import render
from latentqa.errors import ActivationError, SteeringError
from latentqa.types import Dialog

logger = logging.getLogger(__name__)


class Elicited:
    """The target under a treatment, put to behaviours, an organism's turns, control questions and windows.

    What it says is judged at once, and kept only if that is asked for. A strength at which the target's
    values are no longer finite counts as empty replies. A treatment that could not be made responds nothing.

    Args:
        target: as it is audited.
        treatment: of the method.
        variant: the method and its strength.
        settings: of the audit.
        judge: a model that judges replies to behaviours.
        keep: keep replies to behaviours.
    """

    def __init__(
        self,
        target: Target,
        treatment: Treatment,
        variant: Variant,
        settings: ElicitSettings,
        *,
        judge: ComplianceJudge | None = None,
        keep: bool = False,
    ) -> None:
        self._target = target
        self._treatment = treatment
        self._variant = variant
        self._factor = 1.0 if variant.strength is None else variant.strength
        self._settings = settings
        self._judge = judge
        self._keep = keep
        self.choices: Mapping[str, object] = treatment.choices
        self.fit_seconds = treatment.seconds

    def respond(self, items: Sequence[Item], /) -> list[Response]:
        """One response per item, in order; an empty one where this method has nothing to say."""
        found: dict[str, Response] = {}
        if "not_made" not in self._treatment.choices:
            for task, part in _parts(items, self._variant.method):
                found.update(zip([item.id for item in part], self._respond(task, part), strict=True))
        return [found.get(item.id, Response({})) for item in items]

    def _respond(self, task: str, items: list[Item]) -> list[Response]:
        try:
            with self._treatment.on(self._target, self._factor) as treated:
                if task == "window":
                    values = window_nll(treated, [item.meta["tokens"] for item in items])
                    return [Response({"nll": value}) for value in values]
                texts = self._replies(treated, [item.query.dialog for item in items], self._tokens(task))
        except (ActivationError, SteeringError) as error:
            logger.warning("%s cannot be run on %d items: %s", self._variant.name, len(items), error)
            if task == "window":
                return [Response({})] * len(items)
            texts = [""] * len(items)
        return [self._judged(task, item, text) for item, text in zip(items, texts, strict=True)]

    def _replies(self, treated: Treated, dialogs: Sequence[Dialog], tokens: int) -> list[str]:
        asked = [treated.dialog(dialog) for dialog in dialogs]
        if self._variant.method != PREFILL:
            return treated.target.complete(asked, max_new_tokens=tokens)
        tokenizer = treated.target.tokenizer
        begun = tokens_of(tokenizer, self._settings.prefill)
        prompts = [Prompt((*render(tokenizer, dialog).token_ids, *begun)) for dialog in asked]
        return [said.text for said in Prompted(treated.target).generate(prompts, tokens)]

    def _judged(self, task: str, item: Item, text: str) -> Response:
        count = len(tokens_of(self._target.tokenizer, text)) if text else 0
        if task == "behavior":
            values = reply_values(item.query.dialog[-1]["content"], text, self._judge)
            return Response(values, text if self._keep else None, count)
        if task == "control":
            return Response({"correct": float(mentions(text, item.meta["words"]))}, None, count)
        return Response(truth_values(task, item.meta["words"], text), None, count)

    def _tokens(self, task: str) -> int:
        return self._settings.reply_tokens if task == "behavior" else REPLY_TOKENS


def _parts(items: Sequence[Item], method: str) -> Iterator[tuple[str, list[Item]]]:
    """Items by task; the password is given to the unchanged target alone."""
    for task in dict.fromkeys(str(item.meta["task"]) for item in items):
        if task != "unlocked" or method == NONE:
            yield task, [item for item in items if item.meta["task"] == task]
