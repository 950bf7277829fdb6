"""How far a run is: rows, rate, spend and time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from latentqa.data.providers import Usage


@dataclass(frozen=True)
class Status:
    """A run at one moment.

    Attributes:
        stage: what is being made.
        done: rows of it.
        total: rows that it will have, about.
        rate: rows a second since the stage began.
        seconds_left: of the stage; None before anything is done.
        tokens: that were sent and received in this run.
        dollars: that they cost; None if unknown.
        failed: requests that failed for good.
    """

    stage: str
    done: int
    total: int
    rate: float
    seconds_left: float | None
    tokens: int
    dollars: float | None
    failed: int

    def __str__(self) -> str:
        parts = [f"{self.stage}: {self.done}/{self.total}, {self.rate:.1f}/s"]
        if self.tokens:
            parts.append(f"{self.tokens} tokens")
            parts.append("spend unknown" if self.dollars is None else f"{self.dollars:.2f} US dollars")
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.seconds_left is not None and self.done < self.total:
            parts.append(f"{self.seconds_left:.0f} s left")
        return ", ".join(parts)


Report = Callable[[Status], None]


class Meter:
    """Counts rows and tells a report about them, at most ten times a second.

    Args:
        report: what is told.
        usage: of the writer; None for rules.
        clock: seconds; for tests.
    """

    def __init__(
        self, report: Report | None, usage: Usage | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._report = report
        self._usage = usage
        self._clock = clock
        self.begin("", 0)

    def begin(self, stage: str, total: int) -> None:
        """Begin a stage of so many rows."""
        self._stage, self._total, self._done = stage, total, 0
        self._started = self._told = self._clock()

    def advance(self) -> None:
        """One row more."""
        self._done += 1
        now = self._clock()
        if self._report is not None and (now - self._told >= 0.1 or self._done == self._total):
            self._told = now
            self._report(self.status(now))

    def status(self, now: float | None = None) -> Status:
        """Where the run is."""
        seconds = (self._clock() if now is None else now) - self._started
        rate = self._done / seconds if seconds > 0 else 0.0
        left = (self._total - self._done) / rate if rate else None
        usage = self._usage or Usage()
        tokens = usage.input_tokens + usage.output_tokens
        return Status(self._stage, self._done, self._total, rate, left, tokens, usage.dollars, usage.failed)
