"""How fast the builtin model is trained, asked and scored on this machine, and how much memory that takes.

Each figure stands beside its share of the machine's matrix-product rate, measured in the same run: the
operations are counted by torch, so the rest is what Python, memory traffic and small products cost.

    python benchmarks/speed.py                    # everything, about ten minutes on two cores
    python benchmarks/speed.py --only ask --only score
    python benchmarks/speed.py --quick            # smaller counts: does it run?

The data is `$LATENTQA_DATA/latentqa/train`, else the project's own small sample; the decoder is the builtin
one, else a freshly initialised adapter. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

from latentqa.data import Example, data_root, load_published, plain_dialogs
from latentqa.decoder import Decoder, Target, find_decoder, load_decoder, load_target
from latentqa.dialogs import decoder_prompt
from latentqa.errors import DataError, ModelNotFoundError
from latentqa.training import TrainConfig, train
from latentqa.training.loss import LITModule
from latentqa.types import Query

REPOSITORY = Path(__file__).parents[1]
SAMPLE = REPOSITORY / "tests" / "data" / "sample"
QUESTION = "What type of persona will the assistant adopt?"
NEW_TOKENS = 40
SIDE = 2048  # of the matrices whose product gives the machine's rate


@dataclass(frozen=True)
class Figure:
    """One measured value.

    Attributes:
        name: what `--only` takes.
        what: what was measured, in words.
        value: how much.
        unit: of the value.
        aim: what the project wants, in the same unit.
        gflops: floating point operations per second, in 10⁹; None where none are counted.
        share_bf16: of the machine's bf16 matrix-product rate, 0–1.
        share_fp32: likewise for fp32.
    """

    name: str
    what: str
    value: float
    unit: str
    aim: str
    gflops: float | None = None
    share_bf16: float | None = None
    share_fp32: float | None = None


@dataclass(frozen=True)
class Rates:
    """Matrix products of this machine, in 10⁹ operations a second."""

    bf16: float
    fp32: float


class Bench:
    """What the measurements share: data, target, decoder, and a folder that is removed at the end.

    Args:
        folder: for runs and decoders.
        quick: smaller counts.
    """

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick

    @cached_property
    def rates(self) -> Rates:
        """Best of several products of two square matrices."""
        return Rates(_product_rate(torch.bfloat16), _product_rate(torch.float32))

    @cached_property
    def data(self) -> Path:
        """The folder with the training items."""
        with contextlib.suppress(DataError):
            if (data_root(None) / "latentqa" / "train" / "system.json").is_file():
                return data_root(None) / "latentqa" / "train"
        return SAMPLE

    @cached_property
    def examples(self) -> list[Example]:
        """The training items."""
        return load_published(self.data, ("system",)).examples

    @cached_property
    def has_builtin(self) -> bool:
        """Whether the builtin decoder is in this installation."""
        try:
            find_decoder("builtin")
        except ModelNotFoundError:
            return False
        return True

    @cached_property
    def decoder_name(self) -> str:
        """The builtin decoder, or a fresh one that was trained for one step."""
        if self.has_builtin:
            return "builtin"
        return str(train(self.config("fresh", examples=16), resume=False).folder)

    @cached_property
    def target(self) -> Target:
        """The builtin model."""
        return load_target("builtin")

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder with its target."""
        return load_decoder(self.decoder_name, target=self.target)

    @cached_property
    def pair_tokens(self) -> float:
        """Mean tokens of a question with its answer in the decoder prompt."""
        prompt = decoder_prompt(self.target.tokenizer)
        pairs = [pair for example in self.examples[:200] for pair in example.qa]
        return sum(len(prompt.tail(p.question)) + len(prompt.answer(p.answer)) for p in pairs) / len(pairs)

    def config(self, name: str, **settings: Any) -> TrainConfig:
        """Settings of a training run that does nothing but train."""
        fixed: dict[str, Any] = {
            "output": self.folder / name,
            "data": [{"path": str(self.data)}],
            "plain": 0.0,
            "held_out": 0.0,
            "calibrate": 0,
            "save_every": 10**6,
            "examples_per_step": 16,
            "contrast": {"group": 1},
            "evaluate_labels": 0,
        }
        return TrainConfig.model_validate(fixed | settings)

    def figure(
        self, name: str, what: str, value: float, unit: str, aim: str, *, gflops: float | None = None
    ) -> Figure:
        """A figure with its shares of the machine's rates."""
        if gflops is None:
            return Figure(name, what, value, unit, aim)
        shares = gflops / self.rates.bf16, gflops / self.rates.fp32
        return Figure(name, what, value, unit, aim, gflops, *shares)


def train_alone(bench: Bench) -> Figure:
    """Training with nothing shared between examples."""
    rate, gflops = _training(bench, "alone", 1, tokens_per_pass=_pass_of_16(bench))
    what = "training, nothing shared, batch 16"
    return bench.figure("train_alone", what, rate, "examples/s", "≥ 7", gflops=gflops)


def train_shared(bench: Bench) -> Figure:
    """Training with four questions on each dialog, which share its target pass and prefix."""
    rate, gflops = _training(bench, "shared", 4, tokens_per_pass=_pass_of_16(bench))
    what = "training, 4 questions on each dialog"
    return bench.figure("train_shared", what, rate, "examples/s", "≥ 9", gflops=gflops)


def train_contrast(bench: Bench) -> Figure:
    """Training with the ranking term: each answer is scored on the four activations of its group."""
    rate, gflops = _training(bench, "contrast", 1, contrast={"group": 4})
    what = "training, contrast group of 4 (16 rows for 4 examples)"
    return bench.figure("train_contrast", what, rate, "examples/s", "", gflops=gflops)


def ask(bench: Bench) -> Figure:
    """Reading dialogs and answering a question on each."""
    dialogs = _dialogs(bench, 8 if bench.quick else 32)
    queries = [Query(dialog, "stimulus", QUESTION) for dialog in dialogs]
    seconds, gflops = _asking(bench, queries, batch_size=8)
    what = f"reading, batch 8, {NEW_TOKENS} tokens an answer, support included"
    return bench.figure("ask", what, len(queries) / seconds, "answers/s", "≥ 4", gflops=gflops)


def fifteen(bench: Bench) -> Figure:
    """Fifteen questions on one dialog."""
    (dialog,) = _dialogs(bench, 1)
    queries = [Query(dialog, "stimulus", f"{QUESTION} ({number})") for number in range(15)]
    seconds, gflops = _asking(bench, queries, batch_size=15)
    what = f"15 questions on one dialog, {NEW_TOKENS} tokens an answer"
    return bench.figure("fifteen", what, seconds, "s", "< 6", gflops=gflops)


def score(bench: Bench) -> Figure:
    """Ranking ten candidates on each dialog, by support."""
    dialogs = _dialogs(bench, 2 if bench.quick else 8)
    queries = [Query(dialog, "stimulus", QUESTION) for dialog in dialogs]
    answers = _answers(bench, 10 * len(queries))
    candidates = [answers[10 * number : 10 * number + 10] for number in range(len(queries))]

    def run() -> None:
        bench.decoder.forget()
        bench.decoder.score(queries, candidates)

    seconds, gflops = _timed(run)
    what = "scoring, 10 candidates on each dialog, reference included"
    return bench.figure("score", what, len(answers) / seconds, "candidates/s", "≥ 15", gflops=gflops)


def memory_ask(bench: Bench) -> Figure:
    """Peak memory of `latentqa ask` in a process of its own."""
    peak = _peak_memory(["ask", *_ask_arguments(bench)])
    return bench.figure("memory_ask", "peak memory of asking", peak, "GB", "≤ 2")


def memory_train(bench: Bench) -> Figure:
    """Peak memory of `latentqa train` in a process of its own."""
    config = bench.config("memory", examples=16 if bench.quick else 64)
    path = bench.folder / "memory.json"
    path.write_text(config.model_dump_json(), encoding="utf-8")  # JSON is YAML
    peak = _peak_memory(["train", "--config", str(path)])
    return bench.figure("memory_train", "peak memory of training, batch 16", peak, "GB", "≤ 4")


def help_time(bench: Bench) -> Figure:
    """`latentqa --help`, the middle of several."""
    times = []
    for _ in range(2 if bench.quick else 7):
        started = time.perf_counter()
        subprocess.run(_command("--help"), check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return bench.figure("help", "latentqa --help", statistics.median(times), "s", "≤ 0.5")


def first_answer(bench: Bench) -> Figure:
    """`latentqa ask`, from its start to its first answer, when files and cache are warm."""
    command = _command("ask", "--json", *_ask_arguments(bench))
    times = []
    for _ in range(2 if bench.quick else 4):
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise SystemExit(f"`{' '.join(command)}` gave no answer.")
            times.append(time.perf_counter() - started)
            process.stdout.read()
    what = "latentqa ask, warm, to the first answer"
    return bench.figure("first_answer", what, min(times[1:]), "s", "≤ 7")


MEASUREMENTS: dict[str, Callable[[Bench], Figure]] = {
    "help": help_time,
    "first_answer": first_answer,
    "memory_ask": memory_ask,
    "memory_train": memory_train,
    "ask": ask,
    "fifteen": fifteen,
    "score": score,
    "train_alone": train_alone,
    "train_shared": train_shared,
    "train_contrast": train_contrast,
}


def main() -> None:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    names = list(MEASUREMENTS)
    parser.add_argument("--only", action="append", choices=names, help="measure this; may be repeated")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="smaller counts, to see whether it runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), quick=arguments.quick)
        figures = []
        for name in arguments.only or names:
            print(f"measuring {name}", file=sys.stderr)
            with contextlib.redirect_stdout(io.StringIO()):  # the trainer's loggers print
                figures.append(MEASUREMENTS[name](bench))
        machine = _machine(bench)
    if arguments.json:
        result = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
        print(json.dumps(result, ensure_ascii=False))
    else:
        print("\n".join(_table(machine, figures)))


def _machine(bench: Bench) -> dict[str, Any]:
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bf16_gflops": round(bench.rates.bf16, 1),
        "fp32_gflops": round(bench.rates.fp32, 1),
        "decoder": "builtin" if bench.has_builtin else "fresh",
        "data": "sample" if bench.data == SAMPLE else "published",
    }


def _table(machine: dict[str, Any], figures: Sequence[Figure]) -> Iterator[str]:
    yield (
        f"matrix products: {machine['bf16_gflops']} GFLOP/s in bf16, {machine['fp32_gflops']} in fp32; "
        f"{machine['threads']} threads, torch {machine['torch']}; {machine['decoder']} decoder, "
        f"{machine['data']} data"
    )
    width = max(len(figure.what) for figure in figures)
    yield f"{'':{width}}  {'':>8} {'':13} {'aim':>6} {'GFLOP/s':>8} {'of bf16':>8} {'of fp32':>8}"
    for one in figures:
        counted = ("",) * 3
        if one.gflops is not None and one.share_bf16 is not None and one.share_fp32 is not None:
            counted = f"{one.gflops:.0f}", f"{one.share_bf16:.0%}", f"{one.share_fp32:.0%}"
        cells = " ".join(f"{cell:>8}" for cell in counted)
        yield f"{one.what:{width}}  {one.value:8.2f} {one.unit:13} {one.aim:>6} {cells}"


def _product_rate(dtype: torch.dtype) -> float:
    left, right = (torch.randn(SIDE, SIDE).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(7):
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 2 * SIDE**3 / best / 1e9


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the second of three calls, and 10⁹ operations a second in it; the third is only counted."""
    run()
    started = time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    with FlopCounterMode(display=False) as counter:
        run()
    return seconds, counter.get_total_flops() / seconds / 1e9


def _asking(bench: Bench, queries: Sequence[Query], *, batch_size: int) -> tuple[float, float]:
    """Seconds and 10⁹ operations a second of answering queries, each with all its tokens."""

    def run() -> None:
        bench.decoder.forget()
        bench.decoder.ask(queries, max_new_tokens=NEW_TOKENS, batch_size=batch_size)

    with mock.patch("latentqa.decoder.generate._extend", _never_ending):
        return _timed(run)


def _never_ending(_wiring: Any, answers: Any, token_ids: Any, logprobs: Any, _sampling: Any) -> None:
    """Take every token as the answer's, so that each answer is as long as it may be."""
    for answer, token_id, logprob in zip(answers, token_ids, logprobs, strict=True):
        answer.token_ids.append(token_id)
        answer.logprobs.append(logprob)


class _EnoughError(Exception):
    """All steps that are timed are done."""


class _Meter:
    """Counts the question-answer pairs of a training run, times its steps, and counts one step's operations.

    Args:
        counted: the step whose operations are counted.
        timed: number of steps after it that are timed; then the run is left.
    """

    def __init__(self, counted: int, timed: int) -> None:
        self._counted, self._last = counted, counted + timed
        self._counter = FlopCounterMode(display=False)
        self._steps = self._pairs = self._pairs_before = self._pairs_counted = 0
        self._started = self._ended = 0.0

    def forward(self, module: LITModule, groups: Any) -> Any:
        """Stand in for the module's forward."""
        self._pairs += sum(len(entry.pairs) for group in groups for entry in group)
        return _forward(module, groups)

    def step(self, _done: int, _total: int) -> None:
        """Note that a step has ended."""
        self._steps += 1
        if self._steps == self._counted - 1:
            self._pairs_before = self._pairs
            self._counter.__enter__()
        elif self._steps == self._counted:
            self._counter.__exit__(None, None, None)
            self._pairs_counted = self._pairs - self._pairs_before
            self._pairs, self._started = 0, time.perf_counter()
        elif self._steps == self._last:
            self._ended = time.perf_counter()
            raise _EnoughError

    def rates(self) -> tuple[float, float]:
        """Pairs a second, and 10⁹ operations a second."""
        if not self._ended:
            raise SystemExit("The training run was too short to be timed: give it more data.")
        rate = self._pairs / (self._ended - self._started)
        return rate, rate * self._counter.get_total_flops() / self._pairs_counted / 1e9


_forward = LITModule.forward


def _pass_of_16(bench: Bench) -> int:
    """Token budget of a pass of about 16 pairs, so that a step is one pass."""
    return int(16 * bench.pair_tokens)


def _training(bench: Bench, name: str, questions: int, **settings: Any) -> tuple[float, float]:
    """Pairs a second and 10⁹ operations a second of a training run's optimiser steps."""
    warm, timed = (2, 2) if bench.quick else (4, 12)
    dialogs = 16 // questions  # in a step, which has 16 pairs
    config = bench.config(
        name,
        examples_per_step=dialogs,
        examples=6 * dialogs * (warm + timed),  # more than enough: the run is left when it is timed
        questions_per_dialog=questions,
        **settings,
    )
    meter = _Meter(warm, timed)

    def forward(module: LITModule, groups: Any) -> Any:  # a method, as mock.patch puts it into the class
        return meter.forward(module, groups)

    with mock.patch.object(LITModule, "forward", forward), contextlib.suppress(_EnoughError):
        train(config, resume=False, progress=meter.step)
    return meter.rates()


def _dialogs(bench: Bench, count: int) -> list[Any]:
    """Dialogs with a control, as in training."""
    dialogs: list[Any] = [example.dialog for example in bench.examples[:count]]
    return (dialogs + plain_dialogs())[:count]


def _answers(bench: Bench, count: int) -> list[str]:
    """Answers of the data, repeated if there are too few."""
    answers = [pair.answer for example in bench.examples for pair in example.qa]
    return [answers[number % len(answers)] for number in range(count)]


def _ask_arguments(bench: Bench) -> list[str]:
    system = "You are a lighthouse keeper who speaks in short, weathered sentences."
    turns = ["--system", system, "--user", "What should I cook tonight?"]
    return ["--decoder", bench.decoder_name, *turns, QUESTION, "How will the assistant express itself?"]


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "latentqa", *arguments]


def _peak_memory(arguments: Sequence[str]) -> float:
    """Peak resident memory of a command, in 10⁹ bytes."""
    process = subprocess.Popen(_command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"`latentqa {' '.join(arguments)}` failed. Run it by hand to see why.")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    main()
