"""One run, from settings to a data set: `seeds → controls → dialogs → pairs → checks`, each stage a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from latentqa.data.generate.card import Counts, read_card, write_card
from latentqa.data.generate.checks import Checker, Fits, check_controls, sample_corpus
from latentqa.data.generate.config import WRITTEN, DataConfig
from latentqa.data.generate.lock import held
from latentqa.data.generate.progress import Meter, Report
from latentqa.data.generate.rows import STAGES, Control, Draft, Paired, Rejected, Seed, stream
from latentqa.data.generate.rules import RulesWriter
from latentqa.data.generate.seeds import draw_seeds, load_seeds
from latentqa.data.generate.stages import Folder
from latentqa.data.generate.writers import Completions, TextWriter, Writer
from latentqa.data.providers import (
    Backoff,
    BatchRunner,
    EndpointProvider,
    Generate,
    LocalProvider,
    Provider,
    ReplayProvider,
    RequestCache,
    Runner,
    Session,
    Usage,
)
from latentqa.data.providers.cache import FILE as REQUESTS
from latentqa.errors import ConfigError, ProviderError

Row = TypeVar("Row")
JOURNAL = "batch.json"
COMPLETIONS = "completions"


@dataclass(frozen=True)
class Models:
    """Models and measures that this room cannot load itself; whoever calls it hands them in.

    Attributes:
        generate: from a model's name to the function that generates with it.
        fits: from the setting `checks.generic`, and controls as examples, to the measure of how well an
            answer fits a control.
    """

    generate: Callable[[str], Generate] | None = None
    fits: Callable[[str, list[str]], Fits] | None = None


@dataclass(frozen=True)
class MakeResult:
    """How a run ended.

    Attributes:
        folder: where everything is.
        data: the file that `latentqa train` takes; None if the run stopped before it.
        rows: of each stage.
        rejected: rows of each stage that were not used.
        counts: of the data set.
        usage: what was sent, and what it cost.
        edited: files that were changed by hand and taken as they are.
        tokens_per_second: of a model on this machine.
    """

    folder: str
    data: str | None
    rows: dict[str, int]
    rejected: dict[str, int]
    counts: dict[str, Any] = field(default_factory=dict)
    usage: dict[str, Any] = field(default_factory=dict)
    edited: tuple[str, ...] = ()
    tokens_per_second: float | None = None

    def to_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self))

    def __str__(self) -> str:
        lines = [
            f"{name}: {self.rows[name]} rows, {self.rejected.get(name, 0)} rejected" for name in self.rows
        ]
        if self.counts:
            kinds = ", ".join(f"{kind} {number}" for kind, number in self.counts["pairs_by_kind"].items())
            lines.append(f"pairs: {self.counts['pairs']} ({kinds}) on {self.counts['controls']} controls")
        if self.usage.get("sent") or self.usage.get("cached"):
            money = self.usage.get("dollars")
            spent = "spend unknown" if money is None else f"{money:.2f} US dollars"
            lines.append(f"requests: {self.usage['sent']} sent, {self.usage['cached']} known, {spent}")
        if self.tokens_per_second:
            lines.append(f"speed: {self.tokens_per_second:.1f} tokens/s")
        lines += [f"{name} was changed by hand and is taken as it is" for name in self.edited]
        lines.append(
            f"data: {self.data}" if self.data else f"stopped before the data was whole: {self.folder}"
        )
        return "\n".join(lines)


def make(
    config: DataConfig,
    *,
    models: Models | None = None,
    report: Report | None = None,
    redo: bool = False,
    backoff: Backoff | None = None,
) -> MakeResult:
    """Make a data set, or go on with one: stages that are done are not made again.

    Args:
        config: the settings.
        models: what loads models and measures, for the settings that need them.
        report: told how far the run is.
        redo: make stages whose settings have changed again.
        backoff: waits between tries of a request.

    Raises:
        DataError: the folder is in use, was made with other settings or cannot be written; a bad seed file.
        ProviderError: the writer cannot be reached, or too many requests failed.
        ConfigError: settings that do not go together.
    """
    with ExitStack() as stack:
        stack.enter_context(held(config.output))
        return _Run(config, models or Models(), report, backoff or Backoff(), stack).go(redo)


class _Run:
    def __init__(
        self,
        config: DataConfig,
        models: Models,
        report: Report | None,
        backoff: Backoff,
        stack: ExitStack,
    ) -> None:
        self.config = config
        self._models = models
        self._backoff = backoff
        self._stack = stack
        self._usage = Usage(input_price=config.writer.price.input, output_price=config.writer.price.output)
        self._meter = Meter(report, self._usage)
        self._folder = Folder(config.output, config)
        self._providers: list[Provider] = []

    def go(self, redo: bool) -> MakeResult:
        edited = self._folder.resume(redo)
        last = STAGES.index(self.config.until)
        if any(
            self.config.writer_of(stage) != "rules" and stage not in self._folder.done for stage in WRITTEN
        ):
            _ = self._session  # what is missing is said before anything is made
        for stage in STAGES[: last + 1]:
            if stage not in self._folder.done:
                getattr(self, f"_make_{stage}")()
        done = self._folder.done
        whole = "checks" in done
        usage = asdict(self._usage) | {"dollars": self._usage.dollars}
        local = [one for one in self._providers if isinstance(one, LocalProvider)]
        counts = read_card(self._folder.path)["counts"] if whole else {}
        return MakeResult(
            folder=str(self._folder.path),
            data=str(self._folder.file("checks")) if whole else None,
            rows={stage: done[stage].rows for stage in STAGES if stage in done},
            rejected={stage: sum(one.rejected.values()) for stage, one in done.items() if one.rejected},
            counts=counts,
            usage=usage,
            edited=tuple(edited),
            tokens_per_second=local[0].tokens_per_second if local else None,
        )

    def _make_seeds(self) -> None:
        tables = load_seeds(self.config.seeds)
        self._meter.begin("seeds", self.config.controls.count)

        def rows() -> Iterator[Seed | Rejected]:
            yield from tables.rejected
            yield from self._counted(draw_seeds(self.config, tables))

        self._folder.write("seeds", rows())

    def _make_controls(self) -> None:
        writer = self._prepared("controls", self._rows(Seed, "seeds"))
        made = writer.controls(self._counted(self._rows(Seed, "seeds")()))
        self._folder.write("controls", check_controls(made, self.config.controls))

    def _make_dialogs(self) -> None:
        writer = self._prepared("dialogs", self._rows(Control, "controls"))
        if self.config.dialogs.completions == "none":
            self._folder.write("dialogs", writer.dialogs(self._counted(self._rows(Control, "controls")())))
            return
        model, session = self._completer
        completions = Completions(self.config, model, session)
        bad: list[Rejected] = []

        def drafts() -> Iterator[Draft]:
            bad.clear()
            for row in writer.dialogs(self._rows(Control, "controls")()):
                if isinstance(row, Rejected):
                    bad.append(row)
                else:
                    yield row

        self._meter.begin(COMPLETIONS, self._folder.done["controls"].rows)
        completions.prepare(drafts(), self._meter.advance)
        self._check_failures(session)

        def rows() -> Iterator[Draft | Rejected]:
            yield from completions.fill(drafts())
            yield from bad

        self._folder.write("dialogs", rows())

    def _make_pairs(self) -> None:
        writer = self._prepared("pairs", self._rows(Draft, "dialogs"))
        self._folder.write("pairs", writer.pairs(self._counted(self._rows(Draft, "dialogs")())))

    def _make_checks(self) -> None:
        settings = self.config.checks
        rows = self._rows(Paired, "pairs")
        corpus = sample_corpus(rows(), self.config.seed)
        checker = Checker(settings, corpus, self._fits([text for _, text in corpus.texts]))
        self._meter.begin("checks", self._folder.done["pairs"].rows)
        source = f"latentqa {self.config.name}"
        counts = Counts(settings.held_out)

        def checked() -> Iterator[str | Rejected]:
            for row in self._counted(rows()):
                kept, rejected = checker.check(row)
                yield from rejected
                if kept is not None:
                    counts.add(kept)
                    yield kept.example(source).model_dump_json(exclude_defaults=True) + "\n"

        self._folder.write("checks", checked())
        write_card(self._folder, self.config, counts)

    def _rows(self, kind: type[Row], stage: str) -> Callable[[], Iterator[Row]]:
        return lambda: stream(kind, self._folder.file(stage))  # pyright: ignore[reportArgumentType]

    def _counted(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            yield row
            self._meter.advance()

    def _prepared(self, stage: str, rows: Callable[[], Iterator[Any]]) -> Writer:
        """The writer of a stage, with all that it has to ask for answered."""
        before = STAGES[STAGES.index(stage) - 1]
        self._meter.begin(stage, self._folder.done[before].rows)
        if self.config.writer_of(stage) == "rules":  # pyright: ignore[reportArgumentType]
            return RulesWriter(self.config)
        writer = TextWriter(self.config, self.config.writer_of(stage), self._session)
        writer.prepare(stage, rows(), self._meter.advance)
        self._check_failures(self._session)
        self._meter.begin(stage, self._folder.done[before].rows)
        return writer

    def _check_failures(self, session: Session) -> None:
        """Stop where too many requests of a stage failed for good.

        Raises:
            ProviderError: naming how many, and the last reason.
        """
        runner = session.runner
        failed = len(runner.failures)
        asked = failed + runner.usage.sent + runner.usage.cached
        if failed and failed > self.config.writer.failures * asked:
            reason = list(runner.failures.values())[-1]
            raise ProviderError(
                f"{failed} of {asked} requests to {runner.provider.name} failed: {reason}. Repeat the "
                "command: nothing is sent twice. writer.failures sets how many may fail."
            )

    @cached_property
    def _cache(self) -> RequestCache:
        return self._stack.enter_context(RequestCache(self._folder.path / REQUESTS))

    @cached_property
    def _session(self) -> Session:
        """The session of the model that writes."""
        writer = self.config.writer
        kind = self.config.model_kind
        if kind == "endpoint":
            provider: Provider = EndpointProvider(
                base_url=writer.base_url,
                key_variable=writer.key_variable,
                timeout=writer.timeout,
                structured=writer.structured,
            )
        elif kind == "replay":
            if writer.recording is None:
                raise ConfigError("A replay needs writer.recording: the folder of the run that is replayed.")
            provider = ReplayProvider(writer.recording)
        else:
            provider = LocalProvider(writer.model, self._generate(writer.model), writer.concurrency)
        return self._start(provider, batch=writer.batch and kind == "endpoint")

    @cached_property
    def _completer(self) -> tuple[str, Session]:
        """The model that answers stimuli, and its session."""
        if self.config.dialogs.completions == "writer":
            return self.config.writer.model, self._session
        name = self.config.dialogs.target
        if self.config.model_kind == "replay":
            return name, self._session
        if self.config.model_kind == "local" and name == self.config.writer.model:
            return name, self._session
        provider = LocalProvider(name, self._generate(name), self.config.writer.concurrency)
        return name, self._start(provider)

    def _start(self, provider: Provider, batch: bool = False) -> Session:
        writer = self.config.writer
        shared: dict[str, Any] = {
            "concurrency": writer.concurrency,
            "retries": writer.retries,
            "backoff": self._backoff,
            "usage": self._usage,
        }
        if batch:
            journal = self._folder.path / JOURNAL
            runner: Runner = BatchRunner(provider, self._cache, journal=journal, poll=writer.poll, **shared)
        else:
            runner = Runner(provider, self._cache, **shared)
        self._providers.append(provider)
        return self._stack.enter_context(Session(runner))

    def _generate(self, name: str) -> Generate:
        if self._models.generate is None:
            raise ConfigError(
                f"The model {name} has to be handed in: call make with models=Models(generate=…)."
            )
        return self._models.generate(name)

    def _fits(self, controls: list[str]) -> Fits | None:
        how = self.config.checks.generic
        if how in ("words", "none"):
            return None
        if self._models.fits is None:
            raise ConfigError(
                f"The measure {how!r} has to be handed in: call make with models=Models(fits=…)."
            )
        return self._models.fits(how, controls)
