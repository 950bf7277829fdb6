"""Does steering mean reading? Readers that did not steer are asked what they see of a steered target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from latentqa.baselines import FitItem, ReaderContext, make_reader
from latentqa.baselines.reads import grid
from latentqa.baselines.steering import Aim
from latentqa.baselines.steering.completions import user_turn
from latentqa.baselines.steering.treatment import Treated
from latentqa.benchmarks.experiment import Item
from latentqa.benchmarks.runner import Response
from latentqa.benchmarks.steering.experiment import prompt_of
from latentqa.benchmarks.steering.writing import reply
from latentqa.decoder import Decoder, Target
from latentqa.reader import Reader
from latentqa.types import Activation, Message, Query

SPAN = "stimulus"
SEED_PROMPTS = 8
"""Dialogs with each control that the probe is fitted on."""
PROBE_BUDGET = 6
"""Settings of the probe that are tried: a layer each."""
REPLY_TOKENS = 45


@dataclass(frozen=True)
class Seen:
    """What a treated target shows of itself on a prompt.

    Attributes:
        activation: of the user turn, at all layers that some reader takes.
        reply: what it says.
    """

    activation: Activation
    reply: str


class Rereading:
    """Asks readers which of the aims they see in a steered target: `read_NAME` is 1 for the right one.

    `steering-decoder` is the one that may have steered; `second-decoder` another one, `probe` a linear probe
    fitted on the unsteered target under each control as system prompt, and `text` the unsteered target
    itself, shown the steered one's reply. So success of steering and success of reading are told apart: a
    vector that only deceives its own decoder is seen by that decoder alone.

    Args:
        target: unsteered when the readers are made and asked.
        aims: the candidates, those with an answer.
        question: put to all readers.
        decoder: that steers.
        second: another one.
        stimuli: user turns for fitting the probe.
        seed: of the readers.
    """

    def __init__(
        self,
        target: Target,
        aims: Mapping[str, Aim],
        question: str,
        *,
        decoder: Decoder | None = None,
        second: Decoder | None = None,
        stimuli: Sequence[str] = (),
        seed: int = 0,
    ) -> None:
        self._target = target
        self._question = question
        self._aims = {name: aim for name, aim in aims.items() if aim.answer}
        self._decoders = {"steering-decoder": decoder, "second-decoder": second}
        self._stimuli = list(stimuli)[:SEED_PROMPTS]
        self._seed = seed
        self._readers: dict[str, Reader] = {}
        own = [layer for one in (decoder, second) if one is not None for layer in one.read_layers]
        self._layers = tuple(sorted({*grid(target, None), *own}))

    def prepare(self, items: Sequence[Item], /) -> None:
        """Make the readers, before any treatment is on."""
        if self._readers:
            return
        for name, decoder in self._decoders.items():
            if decoder is not None:
                context = ReaderContext(self._target, decoder, seed=self._seed)
                self._readers[name] = make_reader("lit", context)
        if len(self._aims) > 1:
            fit = [
                FitItem(Query(self._controlled(aim, text), SPAN, self._question), aim.answer, aim.answer)
                for aim in self._aims.values()
                for text in self._stimuli
            ]
            context = ReaderContext(self._target, fit_items=fit, seed=self._seed, budget=PROBE_BUDGET)
            self._readers["probe"] = make_reader("linear-probe", context)
        self._readers["text"] = make_reader("text-given", ReaderContext(self._target, seed=self._seed))

    def inside(self, treated: Treated, items: Sequence[Item], /) -> list[Seen]:
        """What the treated target computes and says on the prompts."""
        dialogs = [user_turn(prompt_of(item)) for item in items]
        readings = [treated.target.reading(treated.dialog(dialog), SPAN) for dialog in dialogs]
        activations = treated.target.read_many(readings, self._layers)
        said = reply(treated, dialogs, REPLY_TOKENS)
        return [Seen(one, text) for one, text in zip(activations, said, strict=True)]

    def outside(self, items: Sequence[Item], found: Sequence[Seen], /) -> list[Response]:
        """Which aim each reader ranks first; ties lose."""
        candidates = [tuple(aim.answer for aim in self._aims.values())] * len(items)
        values: list[dict[str, float]] = [{} for _ in items]
        for name, reader in self._readers.items():
            queries = [
                self._query(item, seen, text=name == "text") for item, seen in zip(items, found, strict=True)
            ]
            for item, ranked, known in zip(items, reader.score(queries, candidates), values, strict=True):
                wanted = self._aims[str(item.meta["aim"])].answer
                own = next(score.support for score in ranked if score.answer == wanted)
                others = [score.support for score in ranked if score.answer != wanted]
                known[f"read_{name}"] = float(not others or own > max(others))
        return [Response(known, seen.reply) for known, seen in zip(values, found, strict=True)]

    def _query(self, item: Item, seen: Seen, *, text: bool) -> Query:
        dialog = user_turn(prompt_of(item))
        if not text:
            return Query(dialog, SPAN, self._question, seen.activation)
        said = seen.reply or "(nothing)"
        return Query([*dialog, Message(role="assistant", content=said)], "completion", self._question)

    def _controlled(self, aim: Aim, text: str) -> list[Message]:
        return Treated(self._target, aim.control).dialog(user_turn(text))
