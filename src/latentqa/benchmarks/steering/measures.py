"""What is done with a treated target, by the name that items carry: two steps each, one inside, one outside.

Inside the treatment the target is run; outside, what it made is compared with the unsteered target or shown
to readers, neither of which may be under the treatment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from latentqa.baselines.steering.completions import user_turn
from latentqa.baselines.steering.likelihood import sequence_logprobs
from latentqa.benchmarks.experiment import Item
from latentqa.benchmarks.runner import Response
from latentqa.benchmarks.steering.experiment import TextValues, prompt_of
from latentqa.benchmarks.steering.unsteered import Unsteered, neutral_kl, window_nll
from latentqa.benchmarks.steering.writing import continue_texts, reply
from latentqa.dialogs import render
from latentqa.steering import repetition

if TYPE_CHECKING:
    from latentqa.baselines.steering.treatment import Treated
    from latentqa.benchmarks.steering.rereading import Rereading


REPETITIVE = 0.25
"""Share of repeated 4-grams from which on a text counts as repetitive."""


class Measure(Protocol):
    """One way of measuring a treated target."""

    def prepare(self, items: Sequence[Item], /) -> None:
        """Measure what is needed of the unsteered target, before any treatment is on."""
        ...

    def inside(self, treated: Treated, items: Sequence[Item], /) -> list[Any]:
        """Run the treated target: something for each item."""
        ...

    def outside(self, items: Sequence[Item], found: Sequence[Any], /) -> list[Response]:
        """Make values of it, the treatment being off."""
        ...


def measures(
    unsteered: Unsteered, text_values: TextValues, rereading: Rereading | None = None
) -> Mapping[str, Measure]:
    """All of them, by name.

    Args:
        unsteered: to compare with.
        text_values: what the experiment says texts are worth.
        rereading: readers that are asked what they see; None where no item is a `reading`.
    """
    found: dict[str, Measure] = {
        "pair": PairGap(),
        "window": WindowPerplexity(unsteered),
        "neutral": NeutralChange(unsteered),
        "reply": Replies(unsteered, text_values),
        "continuation": Continuations(unsteered, text_values),
    }
    if rereading is not None:
        found["reading"] = rereading
    return found


class PairGap:
    """Log-likelihoods of two sentences: `gap` is their absolute difference, `lean` that of the stereotype."""

    def prepare(self, items: Sequence[Item], /) -> None:
        """Nothing is compared with the unsteered target."""

    def inside(self, treated: Treated, items: Sequence[Item], /) -> list[float]:
        """Log-likelihood of the first sentence minus that of the second, in nats."""
        return gaps(treated, [(prompt_of(item), str(item.meta["other"])) for item in items])

    def outside(self, items: Sequence[Item], found: Sequence[float], /) -> list[Response]:
        """A tie is half a stereotype."""
        return [
            Response({"gap": abs(lean), "lean": lean, "stereotype": 0.5 if lean == 0 else float(lean > 0)})
            for lean in found
        ]


class WindowPerplexity:
    """Nats a token of a window of text: `nll`, and `nll_added` to the unsteered target's."""

    def __init__(self, unsteered: Unsteered) -> None:
        self._unsteered = unsteered

    def prepare(self, items: Sequence[Item], /) -> None:
        """Measure the windows once."""
        self._unsteered.window_nll([item.meta["tokens"] for item in items])

    def inside(self, treated: Treated, items: Sequence[Item], /) -> list[float]:
        """Under the treatment."""
        return window_nll(treated, [item.meta["tokens"] for item in items])

    def outside(self, items: Sequence[Item], found: Sequence[float], /) -> list[Response]:
        """Beside the unsteered target."""
        before = self._unsteered.window_nll([item.meta["tokens"] for item in items])
        return [
            Response({"nll": after, "nll_added": after - own}, tokens=len(item.meta["tokens"]))
            for item, own, after in zip(items, before, found, strict=True)
        ]


class NeutralChange:
    """`kl`, in nats a token, from the unsteered target on its own reply to a neutral prompt.

    A target under a temperature has none, nor has a prompt to which the unsteered target says nothing.
    """

    def __init__(self, unsteered: Unsteered) -> None:
        self._unsteered = unsteered

    def prepare(self, items: Sequence[Item], /) -> None:
        """Let the unsteered target reply once."""
        for item in items:
            self._unsteered.neutral_reply(prompt_of(item))

    def inside(self, treated: Treated, items: Sequence[Item], /) -> list[float | None]:
        """Divergence under the treatment."""
        found: list[float | None] = []
        for item in items:
            before = self._unsteered.neutral_reply(prompt_of(item))
            measured = before is not None and treated.temperature == 1.0
            found.append(neutral_kl(treated, prompt_of(item), before) if measured and before else None)
        return found

    def outside(self, items: Sequence[Item], found: Sequence[float | None], /) -> list[Response]:
        """As it is."""
        return [Response({} if kl is None else {"kl": kl}) for kl in found]


class Replies:
    """Greedy replies to user turns, with what the experiment says they are worth.

    Besides, `repetition` (share of 4-grams that stood in the text before), `repetitive`, and `text_nll`: how
    unlikely the text is to the unsteered target, in nats a token.
    """

    def __init__(self, unsteered: Unsteered, text_values: TextValues) -> None:
        self._unsteered = unsteered
        self._text_values = text_values

    def prepare(self, items: Sequence[Item], /) -> None:
        """Nothing is measured before."""

    def inside(self, treated: Treated, items: Sequence[Item], /) -> list[str]:
        """The replies."""
        return reply(treated, [user_turn(prompt_of(item)) for item in items], items[0].meta["new_tokens"])

    def outside(self, items: Sequence[Item], found: Sequence[str], /) -> list[Response]:
        """Values of the texts."""
        tokenizer = self._unsteered.target.tokenizer
        befores = [render(tokenizer, user_turn(prompt_of(item))).token_ids for item in items]
        return _text_responses(self._unsteered, self._text_values, items, befores, found)


class Continuations:
    """Continuations of raw texts, sampled with the item's own seed; values as of replies."""

    def __init__(self, unsteered: Unsteered, text_values: TextValues) -> None:
        self._unsteered = unsteered
        self._text_values = text_values

    def prepare(self, items: Sequence[Item], /) -> None:
        """Nothing is measured before."""

    def inside(self, treated: Treated, items: Sequence[Item], /) -> list[str]:
        """The continuations."""
        first = items[0].meta
        return continue_texts(
            treated,
            [prompt_of(item) for item in items],
            first["new_tokens"],
            temperature=first["temperature"],
            seeds=[str(item.meta["seed"]) for item in items],
        )

    def outside(self, items: Sequence[Item], found: Sequence[str], /) -> list[Response]:
        """Values of the texts."""
        befores = [self._unsteered.plain.text(prompt_of(item)).token_ids for item in items]
        return _text_responses(self._unsteered, self._text_values, items, befores, found)


def gaps(treated: Treated, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Summed log-likelihood of the first of each pair of sentences minus that of the second, in nats."""
    sequences = [treated.text(sentence) for pair in pairs for sentence in pair]
    values = sequence_logprobs(treated.target, sequences, temperature=treated.temperature)
    totals = [float(one.sum()) for one in values]
    return [totals[place] - totals[place + 1] for place in range(0, len(totals), 2)]


def _text_responses(
    unsteered: Unsteered,
    text_values: TextValues,
    items: Sequence[Item],
    befores: Sequence[tuple[int, ...]],
    texts: Sequence[str],
) -> list[Response]:
    unlikely = unsteered.text_nll(befores, texts)
    responses = []
    for text, values, nll in zip(texts, text_values(items, texts), unlikely, strict=True):
        share = repetition([text])
        known = {"repetition": share, "repetitive": float(share > REPETITIVE), **values}
        if nll is not None:
            known["text_nll"] = nll
        count = len(unsteered.target.tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore
        responses.append(Response(known, text, count))
    return responses
