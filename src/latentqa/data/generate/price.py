"""What a run will cost, told before anything is sent: requests, tokens, money, minutes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice

from latentqa.data.generate.config import DataConfig
from latentqa.data.generate.prompts import fill
from latentqa.data.generate.rows import Seed
from latentqa.data.generate.seeds import draw_seeds, load_seeds

CHARACTERS = 4  # of English text a token
SAMPLED = 200  # seeds whose prompts are measured
REPLIES = {"controls": 70, "dialogs": 60, "pairs": 75, "future": 45, "overhead": 60}
"""Assumed tokens: of a control, of a reply and stimulus, of each pair, and of the JSON around them."""
CONTROL_TOKENS, STIMULUS_TOKENS = 60, 20
RULES_PER_SECOND = 20_000  # pairs
ENDPOINT_SECONDS, ENDPOINT_SPEED = 1.0, 60  # before the first token; then tokens a second
LOCAL_SPEED = 40  # tokens a second of a batch of one, on a small machine


@dataclass(frozen=True)
class StagePrice:
    """What one stage asks for.

    Attributes:
        stage: its name; `completions` are those of the dialogs.
        writer: who writes it.
        requests: that are sent if nothing was answered before.
        input_tokens: of the prompts.
        output_tokens: of the replies.
    """

    stage: str
    writer: str
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True)
class Price:
    """What a run is expected to cost.

    Attributes:
        stages: stage by stage.
        dollars: of all; None if the price of a token is unknown.
        minutes: of all.
        pairs: that are expected, before checks.
    """

    stages: tuple[StagePrice, ...]
    dollars: float | None
    minutes: float
    pairs: int

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        rows = [
            f"{one.stage}: {one.writer}"
            + (
                f", {one.requests} requests, {one.input_tokens} tokens in, {one.output_tokens} out"
                if one.requests
                else ""
            )
            for one in self.stages
        ]
        money = "unknown (set writer.price.input and writer.price.output)"
        if self.dollars is not None:
            money = f"{self.dollars:.2f} US dollars"
        return "\n".join(
            [*rows, f"pairs: about {self.pairs}", f"cost: {money}", f"time: {_time(self.minutes)}"]
        )


def estimate(config: DataConfig) -> Price:
    """Price a run: the prompts of its first seeds are measured, the replies are assumed.

    Raises:
        DataError: a seed file that cannot be used.
        ConfigError: no seeds.
    """
    tables = load_seeds(config.seeds)
    count = config.controls.count
    seeds = list(islice(draw_seeds(config, tables), min(SAMPLED, count)))
    passages = sum(seed.group == "sqa" for seed in seeds) / len(seeds)
    stages = list(_stages(config, seeds, count, passages))
    batch = config.writer.batch
    tokens_in = sum(one.input_tokens for one in stages if one.writer not in ("rules", "target"))
    tokens_out = sum(one.output_tokens for one in stages if one.writer not in ("rules", "target"))
    per_dialog = config.pairs.count + (config.pairs.future if config.dialogs.completions != "none" else 0)
    minutes = sum(_minutes(config, one) for one in stages)
    if batch:
        minutes = 60.0 * 24
    return Price(tuple(stages), _dollars(config, tokens_in, tokens_out), minutes, count * per_dialog)


def _stages(config: DataConfig, seeds: list[Seed], count: int, passages: float) -> Iterator[StagePrice]:
    def text(characters: float) -> int:
        return round(characters / CHARACTERS)

    def mean(prompts: list[str]) -> int:
        return text(sum(map(len, prompts)) / max(len(prompts), 1))

    overhead = REPLIES["overhead"]
    dialogs = round(count * (1 - passages))
    writer = config.writer_of("controls")
    if writer == "rules":
        yield StagePrice("controls", writer)
    else:
        prompts = [fill("control", category=s.category, theme=s.theme, variant=s.variant) for s in seeds]
        yield StagePrice("controls", writer, count, count * mean(prompts), count * REPLIES["controls"])
    writer = config.writer_of("dialogs")
    if writer == "rules":
        yield StagePrice("dialogs", writer)
    else:
        asked = text(len(fill("dialog", control=""))) + CONTROL_TOKENS
        yield StagePrice("dialogs", writer, dialogs, dialogs * asked, dialogs * REPLIES["dialogs"])
    if config.dialogs.completions != "none":
        who = "target" if config.dialogs.completions == "target" else config.writer.kind
        asked = CONTROL_TOKENS + STIMULUS_TOKENS
        said = config.dialogs.max_new_tokens
        yield StagePrice("completions", who, dialogs, dialogs * asked, dialogs * said)
    writer = config.writer_of("pairs")
    if writer == "rules":
        yield StagePrice("pairs", writer)
        return
    asked = text(len(fill("pairs", control="", stimulus=""))) + CONTROL_TOKENS + STIMULUS_TOKENS
    said = config.pairs.count * REPLIES["pairs"] + overhead
    requests, tokens_in, tokens_out = count, count * asked, count * said
    if config.dialogs.completions != "none" and config.pairs.future:
        requests += dialogs
        tokens_in += dialogs * (text(len(fill("future"))) + config.dialogs.max_new_tokens + STIMULUS_TOKENS)
        tokens_out += dialogs * (config.pairs.future * REPLIES["future"] + overhead)
    yield StagePrice("pairs", writer, requests, tokens_in, tokens_out)


def _dollars(config: DataConfig, tokens_in: int, tokens_out: int) -> float | None:
    if config.model_kind in (None, "local", "replay"):
        return 0.0
    price = config.writer.price
    if price.input is None or price.output is None:
        return None
    return (tokens_in * price.input + tokens_out * price.output) / 1_000_000


def _minutes(config: DataConfig, stage: StagePrice) -> float:
    if stage.writer == "rules":
        return config.controls.count * config.pairs.count / RULES_PER_SECOND / 60
    if stage.writer == "replay" or not stage.requests:
        return 0.0
    if stage.writer in ("local", "target"):
        return stage.output_tokens / (LOCAL_SPEED * config.writer.concurrency**0.5) / 60
    seconds = ENDPOINT_SECONDS + stage.output_tokens / stage.requests / ENDPOINT_SPEED
    return stage.requests * seconds / config.writer.concurrency / 60


def _time(minutes: float) -> str:
    if minutes < 1:
        return "under a minute"
    return f"about {minutes:.0f} minutes" if minutes < 120 else f"about {minutes / 60:.1f} hours"
