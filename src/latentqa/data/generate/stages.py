"""The folder of a run: one JSONL file a stage, its rejected rows beside it, and a record of what is done.

A stage's file appears when the stage is whole. What a model was asked is kept request by request, so that a
run that was killed in the middle of a stage loses no more than the requests in flight.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from latentqa.data.generate.config import DataConfig
from latentqa.data.generate.prompts import NAMES, prompt_hash
from latentqa.data.generate.rows import STAGES, Rejected, dump
from latentqa.data.generate.tables import tables_hash
from latentqa.data.jsonl import open_whole, stream_lines, write_text
from latentqa.data.roots import data_hash
from latentqa.errors import DataError

RECORD, CARD = "stages.json", "card.json"
FILES = {stage: f"{stage}.jsonl" for stage in STAGES} | {"checks": "data.jsonl"}
"""The file that each stage makes."""
UNIMPORTANT = (
    "recording",
    "concurrency",
    "timeout",
    "retries",
    "failures",
    "batch",
    "poll",
    "price",
    "base_url",
    "key_variable",
)
"""Settings of the writer that do not change what is written."""
_QUOTED, _BRACKETS, _NUMBER = re.compile(r"'[^']*'|\"[^\"]*\""), re.compile(r"\([^)]*\)"), re.compile(r"\d+")


@dataclass
class Done:
    """A finished stage.

    Attributes:
        rows: in its file.
        rejected: rows that it did not use, by reason.
        sha256: of its file.
        settings: that it was made with.
    """

    rows: int
    rejected: dict[str, int]
    sha256: str
    settings: dict[str, Any] = field(default_factory=dict)


class Folder:
    """The folder of a run.

    Args:
        path: the folder; it is there.
        config: the run's settings.

    Raises:
        DataError: its record cannot be read.
    """

    def __init__(self, path: Path, config: DataConfig) -> None:
        self.path = path
        self._settings = settings_of(config)
        self.done: dict[str, Done] = {}
        record = path / RECORD
        if record.is_file():
            try:
                found = json.loads(record.read_text("utf-8"))
                self.done = {stage: Done(**found[stage]) for stage in STAGES if stage in found}
            except (OSError, ValueError, TypeError) as error:
                raise DataError(
                    f"{record} cannot be read ({error}). Remove it to make the stages again; requests that "
                    "were answered are not sent twice."
                ) from None

    def file(self, stage: str) -> Path:
        """The file that a stage makes."""
        return self.path / FILES[stage]

    def rejected_file(self, stage: str) -> Path:
        """The file with the rows that a stage did not use."""
        return self.path / f"{stage}.rejected.jsonl"

    def resume(self, redo: bool) -> list[str]:
        """Forget the stages that have to be made again, and say which files were changed by hand.

        Args:
            redo: make stages whose settings have changed again, instead of refusing.

        Raises:
            DataError: the run was made with other settings.
        """
        edited: list[str] = []
        for number, stage in enumerate(STAGES):
            done = self.done.get(stage)
            if done is None or not self._whole(stage):
                self._forget(STAGES[number:])
                break
            changed = _changed(done.settings, self._settings[stage])
            if changed and not redo:
                raise DataError(
                    f"{self.path} holds a run with other settings ({', '.join(changed)}). Repeat it with "
                    "the same, name another folder, or pass --redo; what was answered is not sent twice."
                )
            if changed:
                self._forget(STAGES[number:])
                break
            found = file_hash(self.file(stage))
            if found != done.sha256 and stage != STAGES[-1]:
                edited.append(self.file(stage).name)
                done.sha256 = found
                done.rows = sum(1 for _ in stream_lines(self.file(stage)))
                self._forget(STAGES[number + 1 :])
                self._save()
                break
        return edited

    def write(self, stage: str, rows: Iterable[Any]) -> Done:
        """Write a stage: its rows and, beside them, those that are rejected.

        Raises:
            DataError: the disk refuses; nothing of the stage is then there.
        """
        reasons: Counter[str] = Counter()
        count = 0
        with open_whole(self.rejected_file(stage)) as bad, open_whole(self.file(stage)) as good:
            for row in rows:
                if isinstance(row, Rejected):
                    reasons[kind_of_reason(row.reason)] += 1
                    bad.write(dump(row))
                else:
                    count += 1
                    good.write(row if isinstance(row, str) else dump(row))
        done = Done(count, dict(reasons.most_common()), file_hash(self.file(stage)), self._settings[stage])
        self.done[stage] = done
        self._save()
        return done

    def _whole(self, stage: str) -> bool:
        """Whether a stage's files are there; that of the last is followed by a card."""
        return self.file(stage).is_file() and (stage != STAGES[-1] or (self.path / CARD).is_file())

    def _forget(self, stages: Iterable[str]) -> None:
        for stage in stages:
            self.done.pop(stage, None)

    def _save(self) -> None:
        record = {stage: asdict(done) for stage, done in self.done.items()}
        write_text(self.path / RECORD, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def settings_of(config: DataConfig) -> dict[str, dict[str, Any]]:
    """By stage: the settings that its file depends on, beside those of the stages before."""
    plain = config.model_dump(mode="json")
    writer = {
        name: value for name, value in plain["writer"].items() if name not in UNIMPORTANT and name != "kind"
    }
    asked = {name: prompt_hash(name) for name in NAMES}

    def by_model(stage: str) -> dict[str, Any]:
        return {"writer": writer, "prompts": asked} if config.writer_of(stage) not in ("rules",) else {}

    kinds = {stage: config.writer_of(stage) for stage in ("controls", "dialogs", "pairs")}
    kinds = {stage: "model" if kind != "rules" else kind for stage, kind in kinds.items()}
    controls = {name: value for name, value in plain["controls"].items() if name != "count"}
    files = data_hash(config.seeds.files) if config.seeds.files else ""
    return {
        "seeds": {
            "seed": config.seed,
            "seeds": plain["seeds"] | {"files": files},
            "controls.count": config.controls.count,
            "tables": tables_hash(),
        },
        "controls": {"controls": controls | {"writer": kinds["controls"]}} | by_model("controls"),
        "dialogs": {"dialogs": plain["dialogs"] | {"writer": kinds["dialogs"]}} | by_model("dialogs"),
        "pairs": {"pairs": plain["pairs"] | {"writer": kinds["pairs"]}} | by_model("pairs"),
        "checks": {"checks": plain["checks"], "name": config.name, "licence": config.licence},
    }


def kind_of_reason(reason: str) -> str:
    """A reason without what differs from row to row: what is quoted, numbers, what is in brackets.

    Example:
        >>> kind_of_reason("the answer has 90 words (at most 70)")
        'the answer has # words'
    """
    short = _BRACKETS.sub("", _QUOTED.sub("", reason.split(": ")[0]))
    return " ".join(_NUMBER.sub("#", short).split())[:80]


def file_hash(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _changed(old: dict[str, Any], new: dict[str, Any], where: str = "") -> list[str]:
    """Names of the settings that differ, with their values."""
    found: list[str] = []
    for name in sorted(old.keys() | new.keys()):
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            found += _changed(before, now, f"{where}{name}.")
        elif before != now:
            found.append(f"{where}{name}: {_short(before)} before, now {_short(now)}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:40]}…"
