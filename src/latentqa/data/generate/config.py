"""Settings of a run that makes data: what `latentqa data make --config data.yaml key=value` takes."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from latentqa.data.generate.rows import STAGES

WriterKind = Literal["rules", "local", "endpoint", "replay"]
WRITTEN: tuple[str, ...] = ("controls", "dialogs", "pairs")
"""Stages that have a writer."""


def _wrong(message: str) -> PydanticCustomError:
    """An error whose text is shown as it is."""
    return PydanticCustomError("settings", "{message}", {"message": message})


def _known_stage(value: Any) -> Any:
    if value not in STAGES:
        near = difflib.get_close_matches(str(value), STAGES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(STAGES)}."
        raise _wrong(f"there is no stage {value!r}. {hint}")
    return value


StageName = Annotated[str, BeforeValidator(_known_stage)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, frozen=True)


class Price(_Settings):
    """What a writer costs, in US dollars a million tokens; None is unknown.

    Attributes:
        input: of prompts.
        output: of replies.
    """

    input: float | None = Field(None, ge=0)
    output: float | None = Field(None, ge=0)


class WriterSettings(_Settings):
    """Who writes.

    Attributes:
        kind: `rules` (no model), `local` (a model loaded here), `endpoint` (any server that speaks OpenAI's
            protocol) or `replay` (the requests of another run, sent to nobody).
        model: the endpoint's or the local model's name; of a replay, the name that it was recorded under.
        base_url: of the endpoint; None is the SDK's own (`OPENAI_BASE_URL`, or the vendor).
        key_variable: environment variable that holds the key. A server on this machine needs none.
        recording: folder or `requests.jsonl` of the run that is replayed.
        concurrency: requests in flight at once; of a local model, dialogs generated together.
        structured: how replies of a given form are asked for: by `json_schema`, by `json_object`, or in the
            `prompt` alone.
        timeout: seconds after which a request counts as lost.
        retries: how often a request is sent again after 429, 5xx, a timeout or a broken connection.
        failures: share of the requests that may fail for good; their rows are rejected. Above it the run
            stops.
        temperature: of sampling; a local model is greedy.
        max_tokens: longest reply.
        batch: use the endpoint's batch interface, which is slower and cheaper.
        poll: seconds between looks at a batch.
        price: what it costs.
    """

    kind: WriterKind = "rules"
    model: str = ""
    base_url: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    recording: Path | None = None
    concurrency: int = Field(16, ge=1)
    structured: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    timeout: float = Field(60.0, gt=0)
    retries: int = Field(6, ge=0)
    failures: float = Field(0.01, ge=0, le=1)
    temperature: float = Field(1.0, ge=0)
    max_tokens: int = Field(1024, ge=1)
    batch: bool = False
    poll: float = Field(30.0, gt=0)
    price: Price = Price()  # pyright: ignore[reportCallIssue]


class SeedSettings(_Settings):
    """What controls are about.

    Attributes:
        builtin: use the tables that come with the package.
        files: further tables, one seed a line; the file's name is the category, such as `persona-ship.txt`.
        shares: relative shares of personas, goals, exact demands on the reply, and passages.
    """

    builtin: bool = True
    files: tuple[Path, ...] = ()
    shares: dict[Literal["persona", "goal", "exact", "sqa"], Annotated[float, Field(ge=0)]] = {
        "persona": 0.6,
        "goal": 0.27,
        "exact": 0.05,
        "sqa": 0.08,
    }


class ControlSettings(_Settings):
    """The instructions.

    Attributes:
        writer: who writes them, if not the run's writer.
        count: how many seeds are drawn, and so about how many controls there are.
        near_copy: estimated Jaccard similarity of word triples from which a control repeats an earlier one;
            1 rejects exact copies alone, and needs little memory for millions of controls.
        words: fewest and most words.
    """

    writer: WriterKind | None = None
    count: int = Field(1500, ge=1)
    near_copy: float = Field(0.85, gt=0, le=1)
    words: tuple[int, int] = (3, 160)


DialogKind = Literal["system", "stimulus", "stimulus_completion", "control"]


class DialogSettings(_Settings):
    """The dialogs.

    Attributes:
        writer: who writes stimuli and replies, if not the run's writer.
        kinds: relative shares of the kinds of dialog; passages are always of kind `control`, and
            `stimulus_completion` needs completions.
        completions: who answers the stimulus under the control: nobody, the writer, or the target itself
            (on policy).
        target: the model that does, if it is the target.
        max_new_tokens: its longest completion.
    """

    writer: WriterKind | None = None
    kinds: dict[DialogKind, Annotated[float, Field(ge=0)]] = {
        "system": 0.55,
        "stimulus": 0.4,
        "control": 0.05,
    }
    completions: Literal["none", "writer", "target"] = "none"
    target: str = "builtin"
    max_new_tokens: int = Field(64, ge=1)

    @model_validator(mode="after")
    def _check_completions(self) -> DialogSettings:
        if self.completions == "none" and self.kinds.get("stimulus_completion"):
            raise _wrong("dialogs of kind stimulus_completion need completions: writer or target")
        return self


class PairSettings(_Settings):
    """The question-answer pairs.

    Attributes:
        writer: who writes them, if not the run's writer.
        count: description, reasoning and extractive pairs of a dialog.
        future: pairs on what a completion says, for dialogs that have one.
    """

    writer: WriterKind | None = None
    count: int = Field(5, ge=1)
    future: int = Field(2, ge=0)


class CheckSettings(_Settings):
    """What is rejected.

    Attributes:
        leak: share of an answer's content words that may stand in its question and the stimulus.
        generic: how it is measured whether an answer fits other controls as well: by shared `words`, by an
            `embedding`, by the target that reads the control (`text_given`), or not at all (`none`).
        others: controls that an answer is compared with.
        words: fewest and most words of an answer.
        language: language that texts must be in (`en`), or None for any.
        held_out: share of labels that the card counts as held out, as `latentqa train` draws it.
    """

    leak: float = Field(0.6, ge=0, le=1)
    generic: Literal["words", "embedding", "text_given", "none"] = "words"
    others: int = Field(9, ge=1)
    words: tuple[int, int] = (1, 70)
    language: Literal["en"] | None = "en"
    held_out: float = Field(0.1, ge=0, lt=1)


class DataConfig(_Settings):
    """One run.

    Attributes:
        output: its folder.
        name: of the data set.
        seed: of everything random.
        licence: of the result. Rules and the builtin tables are this project's own; for a model's texts, see
            its terms.
        until: the last stage that is run.
        writer: who writes.
        seeds: what controls are about.
        controls: the instructions.
        dialogs: the dialogs.
        pairs: the question-answer pairs.
        checks: what is rejected.
    """

    output: Path
    name: str = "data"
    seed: int = 0
    licence: str = ""
    until: StageName = "checks"
    writer: WriterSettings = WriterSettings()  # pyright: ignore[reportCallIssue]
    seeds: SeedSettings = SeedSettings()  # pyright: ignore[reportCallIssue]
    controls: ControlSettings = ControlSettings()  # pyright: ignore[reportCallIssue]
    dialogs: DialogSettings = DialogSettings()  # pyright: ignore[reportCallIssue]
    pairs: PairSettings = PairSettings()  # pyright: ignore[reportCallIssue]
    checks: CheckSettings = CheckSettings()  # pyright: ignore[reportCallIssue]

    @model_validator(mode="after")
    def _check_writers(self) -> DataConfig:
        models = sorted({self.writer_of(stage) for stage in WRITTEN} - {"rules"})
        if len(models) > 1 or (models and self.writer.kind not in ("rules", models[0])):
            raise _wrong(f"a run has one model that writes, beside rules; asked for {' and '.join(models)}")
        if models and not self.writer.model:
            raise _wrong(f"the writer {models[0]} needs writer.model")
        if not models and self.dialogs.completions == "writer":
            raise _wrong("rules write no completions; set dialogs.completions: target")
        return self

    @property
    def model_kind(self) -> WriterKind | None:
        """The writer that is a model; None if rules write everything."""
        return next((kind for kind in map(self.writer_of, WRITTEN) if kind != "rules"), None)

    def writer_of(self, stage: str) -> WriterKind:
        """Who writes one of the stages that are `WRITTEN`."""
        return getattr(self, stage).writer or self.writer.kind
