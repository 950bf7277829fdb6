"""What every method is made from, and the search that is the same for all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from latentqa.baselines.search import Axes, search
from latentqa.baselines.steering.aim import Aim
from latentqa.baselines.steering.completions import Completions
from latentqa.baselines.steering.lora import LoraSettings
from latentqa.baselines.steering.treatment import Treated, Treatment
from latentqa.decoder import Decoder, Target
from latentqa.errors import ActivationError, ConfigError, SteeringError

if TYPE_CHECKING:
    from latentqa.baselines.steering.contrast import Contrast, Where
    from latentqa.steering import Pair

Judge = Callable[[Treated], float]
"""How well a treated target does on the validation prompts; higher is better."""


@dataclass(frozen=True, eq=False)
class MethodContext:
    """What a method steers, towards what, and what it may use for that.

    Attributes:
        target: unsteered.
        aim: towards what.
        stimuli: user turns on which methods learn; none of them is a test prompt.
        completions: what the target writes on them, shared by all methods.
        judge: by which layers and strengths are chosen; None takes the first of each.
        decoder: for the methods that steer by one.
        lora: the adapter that all methods which train one share, and its number of steps.
        seed: of everything random.
        budget: most settings that a method may try.
        others: makes another method's treatment of the same aim, or hands over the one that is made already.
        note: told what is being done.
        made_pairs: question-answer pairs that were made of the control, for the methods after the first.
    """

    target: Target
    aim: Aim
    stimuli: Sequence[str]
    completions: Completions
    judge: Judge | None = None
    decoder: Decoder | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)
    seed: int = 0
    budget: int = 12
    others: Callable[[str], Treatment] | None = None
    note: Callable[[str], None] = lambda text: None
    made_pairs: list[Pair] = field(default_factory=list)
    _contrasts: dict[Any, Contrast] = field(default_factory=dict)

    def contrast(self, where: Where, layers: Sequence[int]) -> Contrast:
        """Activations with the control and without, read once for all methods of the aim."""
        from latentqa.baselines.steering.contrast import read_contrast

        key = (self.aim.name, where, tuple(layers))
        if key not in self._contrasts:
            self._contrasts[key] = read_contrast(self, where, layers)
        return self._contrasts[key]

    def search(self, made: Callable[[dict[str, Any]], Treatment], axes: Axes) -> Treatment:
        """The treatment whose settings do best on the validation prompts, within the budget that all have.

        Settings under which the target's values are no longer finite lose to all others.

        Args:
            made: a treatment from settings.
            axes: name → values, the first of each being the start.
        """
        judge = self.judge
        if judge is None:
            first = {name: values[0] for name, values in axes.items()}
            return made(first).chosen(**first, tried=0)

        def value(settings: dict[str, Any]) -> float:
            try:
                with made(settings).on(self.target) as treated:
                    return judge(treated)
            except (ActivationError, SteeringError):  # so strong that states or logits are not finite
                return -math.inf

        found = search(axes, value, self.budget)
        return made(found.settings).chosen(**found.choices())

    def other(self, method: str) -> Treatment:
        """Another method's treatment of the same aim."""
        if self.others is None:
            raise ConfigError(f"This method is made like {method}, and {method} does not take part.")
        return self.others(method)


def timed(make: Callable[[MethodContext], Treatment], context: MethodContext) -> Treatment:
    """A treatment with the seconds that it took."""
    started = time.monotonic()
    made = make(context)
    return replace(made, seconds=time.monotonic() - started)
