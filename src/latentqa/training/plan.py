"""What is seen when: a list of passes that is a pure function of the seed, so that a run resumes exactly."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from latentqa.data import QA, Example, for_calibration, plain_examples, plain_pairs, without_control
from latentqa.data.split import words
from latentqa.dialogs import DecoderPrompt
from latentqa.errors import DataError
from latentqa.training.config import DataSource, TrainConfig
from latentqa.training.parts import Examples, Part, epoch_scale

WINDOW = 16  # groups sorted by answer length together, so that little is padded
NEAR_WINDOW = 64  # groups among which answers that are alike are sought


@dataclass(frozen=True)
class Entry:
    """One dialog with the span that is read and the pairs that are asked.

    Attributes:
        example: index into the examples.
        span: name of the span.
        pairs: questions with their answers; the first is the one that is contrasted.
        layer: the sampled read layer; None for all.
        pool: of the first pair, if it names one: of a task, not of a control.
    """

    example: int
    span: str
    pairs: tuple[tuple[str, str], ...]
    layer: int | None = None
    pool: str = ""


Group = tuple[Entry, ...]


@dataclass(frozen=True)
class Pass:
    """The groups of one forward and backward."""

    groups: tuple[Group, ...]

    @property
    def n_examples(self) -> int:
        """Entries in all groups."""
        return sum(map(len, self.groups))


def make_plan(config: TrainConfig, parts: Sequence[Part], prompt: DecoderPrompt) -> list[Pass]:
    """All passes of a run.

    Args:
        config: the settings.
        parts: training examples by source, ordinary dialogs included.
        prompt: the decoder prompt, for lengths.

    Raises:
        DataError: no example has a pair.
    """
    examples = Examples(parts)
    passes: list[Pass] = []
    seen, epoch = 0, config.first_epoch
    while seen < config.examples:
        before = seen
        for packed in _packed(_epoch(config, examples, prompt, epoch), config, prompt):
            passes.append(packed)
            seen += packed.n_examples
            if seen >= config.examples:
                break
        if seen == before:
            raise DataError(
                "No training example has a question-answer pair. Add a qa.json, or set pairs: rules."
            )
        epoch += 1
    return passes


def with_plain(examples: Sequence[Example], share: float, seed: int) -> list[Example]:
    """Ordinary dialogs for a mix: our own, and as many of the examples' stimuli without their control."""
    if not share:
        return []
    own = [example for example in plain_examples(seed=seed) if not for_calibration(example.label)]
    bare = [example for example in examples if example.kind == "system"]
    random.Random(f"{seed}:plain").shuffle(bare)
    return own + [without_control(example) for example in bare[: len(own)]]


def _epoch(config: TrainConfig, examples: Examples, prompt: DecoderPrompt, epoch: int) -> list[Group]:
    pools: dict[str, list[tuple[str, Entry]]] = {}
    scale = epoch_scale(examples.parts)
    for part, start in zip(examples.parts, examples.starts, strict=False):
        for row, weight in part.drawn(1.0 if part.ordinary else scale, config.seed, epoch):
            example = part.examples[row]
            for entry in _entries(config, start + row, example, part.source, weight, epoch):
                pools.setdefault(entry.pool or example.group, []).append((example.label, entry))
    plain = [entry for _, entry in pools.pop("plain", [])]
    chooser = random.Random(f"{config.seed}:{epoch}:groups")
    groups: list[Group] = []
    for name in sorted(pools):
        pool = sorted(pools[name], key=lambda labelled: (labelled[1].example, labelled[1].pairs))
        chooser.shuffle(pool)
        near = int(config.contrast.near * len(pool))
        alike, left = _cut_near(pool[:near], config.contrast.group)
        groups += [*alike, *_cut([*left, *pool[near:]], config.contrast.group, prompt)]
    chooser.shuffle(groups)
    return [_finish(group, plain, config, chooser) for group in groups]


def _entries(
    config: TrainConfig, number: int, example: Example, source: DataSource, weight: float, epoch: int
) -> Iterator[Entry]:
    """The entries of an example in an epoch: none, one, or several for a weight above 1."""
    chooser = random.Random(f"{config.seed}:{epoch}:{example.id}")
    times = int(weight) + (chooser.random() < weight % 1)
    asked = any(source.reasoning or pair.kind != "reasoning" for pair in example.qa)
    for _ in range(times if asked else 0):
        pairs = _draw(example, source, config.questions_per_dialog, chooser)
        spans = source.spans or {example.read: 1.0}
        span = chooser.choices(list(spans), list(spans.values()))[0]
        layer = chooser.choice(config.read_layers) if config.sample_layer else None
        said = tuple((pair.question, pair.answer) for pair in pairs)
        yield Entry(number, span, said, layer, pairs[0].pool)


def _draw(example: Example, source: DataSource, count: int, chooser: random.Random) -> list[QA]:
    """Different pairs of an example, by weight (Efraimidis and Spirakis 2006)."""
    weights = [source.reasoning if pair.kind == "reasoning" else 1.0 for pair in example.qa]
    keys = [chooser.random() ** (1 / weight) if weight else -1.0 for weight in weights]
    order = sorted(range(len(keys)), key=lambda number: -keys[number])
    return [example.qa[number] for number in order[:count] if weights[number]]


def _cut(pool: list[tuple[str, Entry]], size: int, prompt: DecoderPrompt) -> list[Group]:
    """Groups of `size` entries of like answer length; a remainder is left to another epoch.

    No two of a group have the same label or the same answer: the ranking terms would call the one's answer
    wrong on the other's activation. Where answers repeat (yes and no), groups are smaller, but of two at
    least.

    Args:
        pool: label and entry.
        size: of a group.
        prompt: for the lengths of answers.
    """
    groups: list[Group] = []
    for first in range(0, len(pool), WINDOW * size):
        window = pool[first : first + WINDOW * size]
        window.sort(key=lambda labelled: len(prompt.answer(labelled[1].pairs[0][1])))
        whole, parts = _deal(window, size)
        groups += whole
        if sum(map(len, parts)) >= size or len(pool) < size:
            groups += [group for group in parts if len(group) > 1]
    return groups


def _deal(window: Sequence[tuple[str, Entry]], size: int) -> tuple[list[Group], list[Group]]:
    """Whole groups, and those that were not filled: each entry goes to the first that it differs from."""
    whole: list[Group] = []
    unfilled: list[tuple[list[Entry], set[str]]] = []
    for label, entry in window:
        marks = {f"label {label}", f"answer {entry.pairs[0][1].strip().casefold()}"}
        group, taken = next((one for one in unfilled if not marks & one[1]), ([], set()))
        if not group:
            unfilled.append((group, taken))
        group.append(entry)
        taken |= marks
        if len(group) == size:
            whole.append(tuple(group))
            unfilled = [one for one in unfilled if one[0] is not group]
    return whole, [tuple(group) for group, _ in unfilled]


def _cut_near(pool: Sequence[tuple[str, Entry]], size: int) -> tuple[list[Group], list[tuple[str, Entry]]]:
    """Groups of `size` entries whose answers are alike, no two of one label or answer, and what is left.

    Answers are alike if they share words that few other answers have.
    """
    groups: list[Group] = []
    rest: list[tuple[str, Entry]] = []
    for first in range(0, len(pool), NEAR_WINDOW * size):
        window = pool[first : first + NEAR_WINDOW * size]
        said = [words(entry.pairs[0][1]) for _, entry in window]
        counts = Counter(word for own in said for word in own)
        left = list(range(len(window)))
        while left:
            own = said[left[0]]
            alike = {n: sum(1 / counts[word] for word in own & said[n]) for n in left[1:]}
            order = [left[0], *sorted(alike, key=lambda n: -alike[n])]
            whole, _ = _deal([window[n] for n in order], size)
            if not whole:
                break
            groups.append(whole[0])
            chosen = set(map(id, whole[0]))
            left = [n for n in left if id(window[n][1]) not in chosen]
        rest += [window[n] for n in left]
    return groups, rest


def _finish(group: Group, plain: Sequence[Entry], config: TrainConfig, chooser: random.Random) -> Group:
    """Put an ordinary dialog into some groups of controls, and one question to all answers of some."""
    entries = list(group)
    if plain and not entries[0].pool and chooser.random() < config.plain * len(entries):
        ordinary = chooser.choice(plain)
        place = chooser.randrange(len(entries))
        question = entries[place].pairs[0][0]
        entries[place] = replace(ordinary, pairs=((question, plain_answer(question, chooser)),))
    if chooser.random() < config.contrast.same_question:
        question = chooser.choice(entries).pairs[0][0]
        entries = [replace(e, pairs=((question, e.pairs[0][1]), *e.pairs[1:])) for e in entries]
    return tuple(entries)


def plain_answer(question: str, chooser: random.Random) -> str:
    """A right answer to a question on a dialog that asks nothing special of the assistant."""
    return plain_pairs(str(chooser.random()), 1, [question])[0].answer


def _packed(groups: Sequence[Group], config: TrainConfig, prompt: DecoderPrompt) -> Iterator[Pass]:
    """Passes of whole groups under the token budget, at least one group each."""
    batch: list[Group] = []
    tokens = 0
    for group in groups:
        cost = group_tokens(group, prompt)
        if batch and tokens + cost > config.tokens_per_pass:
            yield Pass(tuple(batch))
            batch, tokens = [], 0
        batch.append(group)
        tokens += cost
    if batch:
        yield Pass(tuple(batch))


def pass_tokens(one: Pass, prompt: DecoderPrompt) -> int:
    """Decoder tokens of a pass's rows, without the placeholders."""
    return sum(group_tokens(group, prompt) for group in one.groups)


def group_tokens(group: Group, prompt: DecoderPrompt) -> int:
    """Decoder tokens of a group's rows, without the placeholders."""
    rows = [len(prompt.tail(q)) + len(prompt.answer(a)) for entry in group for q, a in entry.pairs[:1]]
    extra = [len(prompt.tail(q)) + len(prompt.answer(a)) for entry in group for q, a in entry.pairs[1:]]
    return len(group) * sum(rows) + sum(extra)
