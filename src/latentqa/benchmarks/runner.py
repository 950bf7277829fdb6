"""Put an experiment to any number of contenders: one JSONL row per (item, contender), appended as it goes.

A run is a folder: `run.json` says what was asked of whom (settings, versions, hashes of model and decoder),
`rows.jsonl` holds the results. A killed run goes on where it stopped; one of other items, another version or
another model is refused.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from latentqa.baselines.fit import Layered, Specific
from latentqa.benchmarks.experiment import Embed, Experiment, Item, Metric
from latentqa.benchmarks.scorers import SCORERS, Values, answer_signals
from latentqa.errors import ConfigError, DataError
from latentqa.reader import Reader
from latentqa.types import Answer, Query, Score

FORMAT = 1
HEADER_FILE = "run.json"
ROWS_FILE = "rows.jsonl"
Prepare = Callable[[Sequence[Item]], list[Query]]
"""Queries of items with their activations captured, so that one target pass serves several readers."""


Judges = Callable[[str, str, str], bool | None]
"""(question, right answer, answer) → whether they mean the same; None for unjudged."""
Grading = tuple[Embed | None, Judges | None]


@dataclass(frozen=True)
class Response:
    """What a contender that is no reader made of an item.

    Attributes:
        values: what was measured.
        text: that it wrote; None if it wrote none.
        tokens: of the text.
    """

    values: Mapping[str, float]
    text: str | None = None
    tokens: int = 0


@runtime_checkable
class Responder(Protocol):
    """A contender that is asked no question, such as a steered target."""

    choices: Mapping[str, object]

    def respond(self, items: Sequence[Item], /) -> list[Response]:
        """One response per item, in order."""
        ...


@dataclass(frozen=True, eq=False)
class Contender:
    """A reader, or another responder, that takes part.

    Attributes:
        name: in rows and tables.
        make: builds (and fits) the reader; not called if all of its rows are there already.
        answers_free: whether it can say more than it ranks. One that cannot gives its best-ranked candidate
            as its answer.
        layered: whether it can be put to the layers of items that name one; others have no row of those.
        shares: whether it takes the activations that `Prepare` captures; others read the dialog themselves.
        tested: whether it takes part in the paired tests.
        against: contenders that it is tested against, where not every pair is a question that was asked: each
            further test costs the others power.
    """

    name: str
    make: Callable[[], Reader | Responder]
    answers_free: bool = True
    layered: bool = False
    shares: bool = False
    tested: bool = True
    against: tuple[str, ...] | None = None

    def takes(self, item: Item) -> bool:
        """Whether it has a row of an item."""
        return item.layer is None or self.layered


@dataclass(frozen=True)
class Subject:
    """Which model was read by which decoder: what results of one table must have in common.

    Attributes:
        target: name of the target model.
        target_hash: hash of its weights.
        decoder: name of the decoder; empty without one.
        decoder_hash: hash of its files.
        versions: package → version; `latentqa` among them.
        adapter_hash: hash of the target's own adapters, where it is a finetune given as one; part of
            `target_hash` too.
    """

    target: str
    target_hash: str
    decoder: str = ""
    decoder_hash: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    adapter_hash: str = ""


@dataclass(frozen=True)
class Row:
    """What one reader made of one item.

    Attributes:
        item: its id.
        reader: name of the reader.
        group: of the item.
        unit: what it is resampled with.
        flags: that metrics filter by.
        values: of the scorer.
        question: that was asked.
        gold: the right answer.
        answer: what the reader said; None if it was not asked.
        ranking: candidates with their support in nats a token, best first.
        seconds: of the reader's work on this item, its share of the batch.
        tokens: of the free answer.
    """

    item: str
    reader: str
    group: str
    unit: str
    flags: Mapping[str, Any]
    values: Mapping[str, float]
    question: str
    gold: str
    answer: str | None
    ranking: Sequence[tuple[str, float]]
    seconds: float
    tokens: int


@dataclass(frozen=True)
class Run:
    """A run as it lies on disk.

    Attributes:
        folder: that holds it.
        header: what was asked of whom.
        rows: results, one per (item, reader), in the order of the items.
    """

    folder: Path
    header: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Figures that are made of the rows."""
        return tuple(Metric(**metric) for metric in self.header["metrics"])

    @property
    def readers(self) -> tuple[str, ...]:
        """Readers that have rows, in the order in which they were named."""
        found = {row.reader for row in self.rows}
        return tuple(name for name in self.header["readers"] if name in found)

    @property
    def missing(self) -> int:
        """Rows that the run still lacks."""
        whole = self.header["items"]
        return sum(one.get("items", whole) for one in self.header["readers"].values()) - len(self.rows)


def run(
    experiment: Experiment,
    contenders: Sequence[Contender],
    folder: str | os.PathLike[str],
    subject: Subject,
    *,
    seed: int = 0,
    limit: int | None = None,
    settings: Mapping[str, Any] | None = None,
    prepare: Prepare | None = None,
    embed: Embed | None = None,
    judge: Judges | None = None,
    data: str = "",
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    """Ask all readers about all items that have no row yet.

    Args:
        experiment: with its items.
        contenders: the readers.
        folder: of the run; made if it is not there.
        subject: which model and decoder; checked against what the folder holds.
        seed: with which the items were drawn.
        limit: with which the items were drawn; the run is marked by it.
        settings: of the experiment.
        prepare: captures the activations of items for the readers that share them.
        embed: for scorers of free answers.
        judge: of free answers; what it cannot judge counts as unjudged.
        data: the data root as the user named it, for the record.
        command: that was run, for the record.
        progress: called with (rows done, rows in all).

    Raises:
        DataError: no items, or a folder that holds rows that are no rows.
        ConfigError: the folder holds a run of other items, settings, version, model or decoder; no readers.
    """
    if not experiment.items:
        left_out = "; ".join(f"{count}: {reason}" for reason, count in experiment.filtered.items())
        raise DataError(f"Experiment {experiment.name} has no items ({left_out or 'its files are empty'}).")
    if not contenders:
        raise ConfigError("No reader takes part. Name at least one with --readers.")
    folder = Path(folder)
    header = _header(experiment, contenders, subject, seed, limit, settings or {}, data, command)
    known = load_run(folder) if (folder / HEADER_FILE).is_file() else None
    if known is not None:
        check_same(known.header, header, folder)
        header["readers"] = {**known.header["readers"], **_new_readers(header, known.header)}
        header["created"] = known.header["created"]
    done = {(row.item, row.reader) for row in known.rows} if known else set()
    folder.mkdir(parents=True, exist_ok=True)
    _write_header(folder, header)
    _mend(folder / ROWS_FILE)
    if any(_todo(experiment.items, one, done) for one in contenders):
        _ask_all(experiment, contenders, folder, header, done, prepare, (embed, judge), progress)
    return load_run(folder)


def load_run(folder: str | os.PathLike[str]) -> Run:
    """Read a run; a torn last line, left by a kill, does not count.

    Raises:
        DataError: the folder holds no run, one of another format, or a damaged row before the last.
    """
    folder = Path(folder)
    try:
        header = json.loads((folder / HEADER_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no run: there is no {HEADER_FILE}. Name a folder that `latentqa bench run` "
            "wrote."
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{folder / HEADER_FILE} is not JSON: {error}. Delete the folder, run again."
        ) from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else type(header).__name__
        raise DataError(
            f"{folder} holds a run of format {found}, and this version reads format {FORMAT}. Run it again."
        )
    rows: dict[tuple[str, str], Row] = {}
    for row in _read_rows(folder / ROWS_FILE):
        rows.setdefault((row.item, row.reader), row)
    order = {name: place for place, name in enumerate(header["order"])}
    readers = {name: place for place, name in enumerate(header["readers"])}
    last = len(order)
    kept = sorted(rows.values(), key=lambda row: (order.get(row.item, last), readers.get(row.reader, last)))
    return Run(folder, header, tuple(kept))


def check_same(known: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    """Refuse to go on with a run of something else.

    Raises:
        ConfigError: naming both sides.
    """
    check_same_subject(known, wanted, str(folder), "this command")
    for key in ("experiment", "seed", "limit", "settings", "fingerprint"):
        if known[key] != wanted[key]:
            what = {"fingerprint": "items (data, draws or questions)"}.get(key, key)
            raise ConfigError(
                f"{folder} holds a run of {known['experiment']} with {what} {_short(known[key])}, and now "
                f"{what} {_short(wanted[key])} is asked for. Name another folder with --out."
            )


def check_same_subject(
    first: Mapping[str, Any], second: Mapping[str, Any], first_name: str, second_name: str
) -> None:
    """Refuse results of different versions, targets or decoders in one run or table.

    Raises:
        ConfigError: naming both sides.
    """
    one, other = first["subject"], second["subject"]
    versions = (one["versions"].get("latentqa", "unknown"), other["versions"].get("latentqa", "unknown"))
    pairs = [("version of latentqa", *versions)]
    for key, what in (("target", "target model"), ("decoder", "decoder")):
        if one[f"{key}_hash"] and other[f"{key}_hash"] and one[f"{key}_hash"] != other[f"{key}_hash"]:
            left, right = (f"{side[key]} ({side[f'{key}_hash'][:12]})" for side in (one, other))
            pairs.append((what, left, right))
    for what, left, right in pairs:
        if left != right:
            raise ConfigError(
                f"Results of another {what} do not mix: {first_name} is of {left}, {second_name} of {right}. "
                "Run both with the same, or keep them in folders and reports of their own."
            )


def _ask_all(
    experiment: Experiment,
    contenders: Sequence[Contender],
    folder: Path,
    header: dict[str, Any],
    done: set[tuple[str, str]],
    prepare: Prepare | None,
    grading: Grading,
    progress: Callable[[int, int], None] | None,
) -> None:
    readers: dict[str, Reader | Responder] = {}
    for contender in contenders:
        if _todo(experiment.items, contender, done):
            started = time.monotonic()
            made = readers[contender.name] = contender.make()
            seconds = getattr(made, "fit_seconds", time.monotonic() - started)
            header["readers"][contender.name] |= {
                "choices": _plain(getattr(made, "choices", {})),
                "fit_seconds": round(seconds, 2),
            }
    _write_header(folder, header)
    total = sum(contender.takes(item) for contender in contenders for item in experiment.items)
    finished = total - sum(len(_todo(experiment.items, contender, done)) for contender in contenders)
    layers = _Layers(readers)
    try:
        with (folder / ROWS_FILE).open("a", encoding="utf-8") as file:
            for batch in _batches(experiment.items, experiment.batch):
                shared: dict[str, Query] = {}
                for contender in contenders:
                    todo = _todo(batch, contender, done)
                    if not todo:
                        continue
                    if contender.shares and prepare is not None and not shared:
                        shared = dict(zip([item.id for item in batch], prepare(batch), strict=True))
                    reader = layers.reader(contender.name, batch[0].layer)
                    rows = _ask(experiment, contender, reader, todo, shared, grading)
                    file.writelines(json.dumps(_to_json(row), ensure_ascii=False) + "\n" for row in rows)
                    file.flush()
                    finished += len(rows)
                    if progress is not None:
                        progress(finished, total)
    finally:
        for name, count in layers.remembered().items():
            header["readers"][name]["remembered"] = header["readers"][name].get("remembered", 0) + count
        _write_header(folder, header)


class _Layers:
    """Readers where they are, and at the layer that is asked about now."""

    def __init__(self, readers: Mapping[str, Reader | Responder]) -> None:
        self._readers = readers
        self._moved: dict[str, tuple[int, Reader]] = {}
        self._let_go: Counter[str] = Counter()

    def reader(self, name: str, layer: int | None) -> Reader | Responder:
        """The reader of a name, put to a layer; the one at the layer before is let go."""
        if layer is None:
            return self._readers[name]
        held = self._moved.get(name)
        if held is None or held[0] != layer:
            base = self._readers[name]
            assert isinstance(base, Layered)
            self._let_go[name] += 0 if held is None else _remembered(held[1])
            held = self._moved[name] = layer, base.at_layer(layer)
        return held[1]

    def remembered(self) -> dict[str, int]:
        """Reader → answers and scores that it took from earlier runs."""
        return {
            name: _remembered(reader)
            + self._let_go[name]
            + (_remembered(self._moved[name][1]) if name in self._moved else 0)
            for name, reader in self._readers.items()
        }


def _remembered(reader: Reader | Responder) -> int:
    return getattr(reader, "remembered", 0)


def _todo(items: Sequence[Item], contender: Contender, done: set[tuple[str, str]]) -> list[Item]:
    """Items of which a contender has no row yet and is to have one."""
    return [item for item in items if contender.takes(item) and (item.id, contender.name) not in done]


def _ask(
    experiment: Experiment,
    contender: Contender,
    reader: Reader | Responder,
    items: Sequence[Item],
    shared: Mapping[str, Query],
    grading: Grading,
) -> list[Row]:
    started = time.monotonic()
    if isinstance(reader, Responder):
        responses = reader.respond(items)
        seconds = (time.monotonic() - started) / len(items)
        return [
            _made(contender, item, response.values, response.text, seconds, response.tokens, [])
            for item, response in zip(items, responses, strict=True)
        ]
    queries = [shared.get(item.id, item.query) if contender.shares else item.query for item in items]
    ranked = [number for number, item in enumerate(items) if item.candidates]
    scores: list[list[Score]] = [[] for _ in items]
    if ranked:
        found = reader.score([queries[n] for n in ranked], [items[n].candidates for n in ranked])
        for number, group in zip(ranked, found, strict=True):
            scores[number] = group
    answers: list[Answer | None] = [None] * len(items)
    if experiment.asks and contender.answers_free:
        answers = _free(reader, items, queries)
    seconds = (time.monotonic() - started) / len(items)
    said = [_said(experiment, answer, group) for answer, group in zip(answers, scores, strict=True)]
    embed = _at_once(grading[0], items, said)
    return [
        _row(contender, item, text, answer, group, seconds, (embed, grading[1]))
        for item, text, answer, group in zip(items, said, answers, scores, strict=True)
    ]


def _said(experiment: Experiment, answer: Answer | None, scores: Sequence[Score]) -> str | None:
    """The free answer's text, or the best-ranked candidate of one that cannot answer; None if not asked."""
    if answer is not None:
        return answer.text
    if experiment.asks and scores:
        return max(scores, key=lambda score: score.support).answer
    return None


def _at_once(embed: Embed | None, items: Sequence[Item], said: Sequence[str | None]) -> Embed | None:
    """An embedding that has embedded a batch's answers and candidates together."""
    if embed is None:
        return None
    texts = {text: None for item in items for text in (item.gold, *item.candidates)}
    texts |= {text: None for text in said if text is not None}
    vectors = dict(zip(texts, embed(list(texts)), strict=True))
    return lambda wanted: np.stack([vectors[text] for text in wanted])


def _free(reader: Reader, items: Sequence[Item], queries: Sequence[Query]) -> list[Answer | None]:
    """Free answers; those of items that want it with their specificity, where the reader can tell."""
    answers: list[Answer | None] = [None] * len(items)
    special = [n for n, item in enumerate(items) if item.meta.get("specificity")]
    if special and isinstance(reader, Specific):
        for number, answer in zip(
            special, reader.ask_with_specificity([queries[n] for n in special]), strict=True
        ):
            answers[number] = answer
    plain = [number for number, answer in enumerate(answers) if answer is None]
    if plain:
        for number, answer in zip(plain, reader.ask([queries[n] for n in plain]), strict=True):
            answers[number] = answer
    return answers


def _row(
    contender: Contender,
    item: Item,
    said: str | None,
    answer: Answer | None,
    scores: list[Score],
    seconds: float,
    grading: Grading,
) -> Row:
    embed, judge = grading
    values: Values = SCORERS[item.scorer](item, said, scores, embed)
    if judge is not None and said is not None:
        verdict = judge(item.question, item.gold, said)
        values |= {"unjudged": 1.0} if verdict is None else {"unjudged": 0.0, "judged": float(verdict)}
    if answer is not None:
        values |= answer_signals(answer)
    ranking = [(score.answer, round(float(score.support), 5)) for score in scores]
    tokens = answer.n_tokens if answer is not None else 0
    return _made(contender, item, values, said, seconds, tokens, ranking)


def _made(
    contender: Contender,
    item: Item,
    values: Mapping[str, float],
    said: str | None,
    seconds: float,
    tokens: int,
    ranking: Sequence[tuple[str, float]],
) -> Row:
    return Row(
        item=item.id,
        reader=contender.name,
        group=item.group,
        unit=item.unit,
        flags=item.flags,
        values={name: round(float(value), 6) for name, value in values.items() if math.isfinite(value)},
        question=item.question,
        gold=item.gold,
        answer=said,
        ranking=ranking,
        seconds=round(seconds, 4),
        tokens=tokens,
    )


def _header(
    experiment: Experiment,
    contenders: Sequence[Contender],
    subject: Subject,
    seed: int,
    limit: int | None,
    settings: Mapping[str, Any],
    data: str,
    command: str,
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "experiment": experiment.name,
        "doc": experiment.doc,
        "data": data,
        "files": dict(experiment.files),
        "seed": seed,
        "limit": limit,
        "settings": _plain(settings),
        "subject": _plain(vars(subject)),
        "items": sum(item.layer is None for item in experiment.items),
        "fingerprint": experiment.fingerprint(),
        "filtered": dict(experiment.filtered),
        "groups": list(experiment.groups),
        "mean_groups": list(experiment.mean_groups or experiment.groups),
        "pooled": experiment.pooled,
        "contender": experiment.contender,
        "tradeoff": list(experiment.tradeoff or ()),
        "metrics": [_plain(vars(metric)) for metric in experiment.metrics],
        "notes": list(experiment.notes),
        "readers": {
            contender.name: {
                "choices": {},
                "fit_seconds": 0.0,
                "items": sum(map(contender.takes, experiment.items)),
                "tested": contender.tested,
                "against": None if contender.against is None else list(contender.against),
            }
            for contender in contenders
        },
        "order": [item.id for item in experiment.items],
        "command": command,
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _new_readers(header: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in header["readers"].items() if name not in known["readers"]}


def _write_header(folder: Path, header: Mapping[str, Any]) -> None:
    temporary = folder / f"{HEADER_FILE}.tmp"
    temporary.write_text(json.dumps(header, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, folder / HEADER_FILE)


def _mend(path: Path) -> None:
    """Cut off a torn last line, so that what is appended begins on a line of its own."""
    if not path.is_file():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        with path.open("r+b") as file:
            file.truncate(len(whole))


def _read_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        return
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1], start=1):  # the last piece is empty, or torn
        try:
            row = json.loads(line)
            yield Row(**{**row, "ranking": [(text, support) for text, support in row["ranking"]]})
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path}, line {number}: not a row of a run ({error}). Delete the line; the run fills it "
                "again."
            ) from None


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Items in their order, cut into batches of one read layer each."""
    for _, group in itertools.groupby(items, key=lambda item: item.layer):
        members = list(group)
        for first in range(0, len(members), size):
            yield members[first : first + size]


def _to_json(row: Row) -> dict[str, Any]:
    return {**vars(row), "ranking": [list(pair) for pair in row.ranking]}


def _plain(value: Any) -> Any:
    """Values as JSON has them, so that a header compares equal to itself read back."""
    return json.loads(json.dumps(value, default=str))


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:117] + "…"
