"""The unsteered target: what every treated one is compared with, measured once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from latentqa.baselines.steering.completions import Completions, user_turn
from latentqa.baselines.steering.likelihood import Scored, sequence_logprobs, tempered_logprobs
from latentqa.baselines.steering.treatment import Treated, tokens_of
from latentqa.decoder import Target
from latentqa.dialogs import render
from latentqa.errors import DataError
from latentqa.steering import NeutralReplies

NEUTRAL_TOKENS = 24
TEMPERATURES = (1.0, 1.025, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.55, 1.7, 1.9, 2.2)
"""Between which the temperature of a given perplexity is interpolated."""
Window = tuple[int, ...]


@dataclass(eq=False)
class Unsteered:
    """Measures of the target before any treatment; call its methods while none is on.

    Those that take a `Treated` measure that one, and may be called while it is on: what they need of the
    unsteered target is measured before, by `prepare`.

    Attributes:
        target: the model.
        completions: what it writes on the stimuli, which methods learn from too.
    """

    target: Target
    completions: Completions
    _windows: dict[Window, float] = field(default_factory=dict)
    _curves: dict[Window, Tensor] = field(default_factory=dict)
    _neutral: dict[str, NeutralReplies | None] = field(default_factory=dict)

    @property
    def plain(self) -> Treated:
        """The target under no treatment."""
        return Treated(self.target)

    def window_nll(self, windows: Sequence[Window]) -> list[float]:
        """Mean negative log-probability of each window's tokens, in nats a token."""
        missing = [window for window in dict.fromkeys(windows) if window not in self._windows]
        self._windows.update(zip(missing, window_nll(self.plain, missing), strict=True))
        return [self._windows[window] for window in windows]

    def perplexity_ratio(self, treated: Treated, windows: Sequence[Window]) -> float:
        """Perplexity of a treated target over the unsteered one's; `window_nll` must know the windows."""
        before = [self._windows[window] for window in windows]
        after = window_nll(treated, windows)
        added = sum(after) / len(after) - sum(before) / len(before)
        return float(torch.tensor(added).clamp(max=20.0).exp())

    def temperature_of(self, nll: float, windows: Sequence[Window]) -> float:
        """The lowest temperature, 1 or more, at which the windows have a mean nll of at least this.

        Between the temperatures that were measured it is interpolated; beyond them it is the last one.

        Args:
            nll: in nats a token.
            windows: on which it was measured.
        """
        curve = self._curve(windows)
        pairs = zip(TEMPERATURES, curve, strict=True)
        before = next(pairs)
        if before[1] >= nll:
            return before[0]
        for temperature, value in pairs:
            if value >= nll:
                share = (nll - before[1]) / (value - before[1])
                return before[0] + share * (temperature - before[0])
            before = temperature, value
        return before[0]

    def neutral_reply(self, prompt: str) -> NeutralReplies | None:
        """The target's own reply to a neutral prompt, with its distributions; None if it says nothing."""
        if prompt not in self._neutral:
            try:
                made = NeutralReplies.make(self.target, [prompt], tokens=NEUTRAL_TOKENS)
            except DataError:
                made = None
            self._neutral[prompt] = made
        return self._neutral[prompt]

    def text_nll(self, befores: Sequence[tuple[int, ...]], texts: Sequence[str]) -> list[float | None]:
        """How unlikely texts are to the unsteered target after what stands before them, in nats a token.

        Args:
            befores: token ids, at least one each.
            texts: what follows; one without tokens has no value.
        """
        sequences: list[Scored] = []
        places: list[int] = []
        for place, (before, text) in enumerate(zip(befores, texts, strict=True)):
            token_ids = tokens_of(self.target.tokenizer, text)
            if token_ids:
                sequences.append(Scored(before + token_ids, len(before)))
                places.append(place)
        found: list[float | None] = [None] * len(texts)
        for place, values in zip(places, sequence_logprobs(self.target, sequences), strict=True):
            found[place] = -float(values.mean())
        return found

    def _curve(self, windows: Sequence[Window]) -> list[float]:
        missing = [window for window in dict.fromkeys(windows) if window not in self._curves]
        if not missing:
            return torch.stack([self._curves[window] for window in windows]).mean(0).tolist()
        sequences = [self.plain.window(window) for window in missing]
        for window, values in zip(
            missing, tempered_logprobs(self.target, sequences, TEMPERATURES), strict=True
        ):
            self._curves[window] = -values.mean(1)
        return torch.stack([self._curves[window] for window in windows]).mean(0).tolist()


def window_nll(treated: Treated, windows: Sequence[Window]) -> list[float]:
    """Mean negative log-probability of each window's tokens under a treated target, in nats a token.

    No start token stands before a window, and its first token is not scored, as in `steering.perplexity`.
    """
    if not windows:
        return []
    sequences = [treated.window(window) for window in windows]
    values = sequence_logprobs(treated.target, sequences, temperature=treated.temperature)
    return [-float(one.mean()) for one in values]


@torch.no_grad()
def neutral_kl(treated: Treated, prompt: str, before: NeutralReplies) -> float:
    """KL of the treated target on an unsteered reply to a neutral prompt, in nats a token.

    A prompt of the treatment stands before the dialog; the reply's tokens are the same.
    """
    if treated.prompt is not None:
        (sequence,), (start,) = before.sequences, before.starts
        asked = render(treated.target.tokenizer, treated.dialog(user_turn(prompt))).token_ids
        before = replace(before, sequences=((*asked, *sequence[start:]),), starts=(len(asked),))
    return float(before.kl(treated.target))
