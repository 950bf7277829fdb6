"""What repeatable readers said, kept beside the runs: another seed or experiment asks nothing twice.

A reader is repeatable if what it says depends on the models, its choices and what is read alone. Three draws
of wrong answers then share one set of free answers, and each candidate is scored once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from latentqa.baselines.fit import Layered, Specific
from latentqa.errors import ConfigError, DataError
from latentqa.reader import Reader
from latentqa.types import Answer, Query, Score

FORMAT = 1
NO_CHOICE = ("tried", "validation")
"""What a reader's choices say of the search, and not of the reader."""
Key = Callable[[Query], str]
"""What a reader is given of a query, as a hash: see `reading_key`."""


class Beginning(Protocol):
    """A rendered dialog with the span of it that is read; `decoder.Reading` is one."""

    @property
    def rendered(self) -> Any:
        """With its `token_ids`."""
        ...

    @property
    def span(self) -> Any:
        """With its `indices`."""
        ...


def reading_key(reading: Callable[[Query], Beginning]) -> Key:
    """A key of queries: the tokens up to the end of the span, the span, and the question.

    A causal model's states do not depend on what comes later, so two dialogs that begin alike are one.

    Args:
        reading: renders a query's dialog and finds its span.
    """

    def key(query: Query) -> str:
        found = reading(query)
        indices = list(found.span.indices)
        begin = list(found.rendered.token_ids[: indices[-1] + 1])
        return _hash([begin, indices, query.question])

    return key


class Memory:
    """A JSONL file of `key → value`, appended as it goes; its first line says whose it is.

    A torn last line, left by a kill, is cut off.

    Args:
        path: of the file; made on the first write.
        identity: of who said it; a file of somebody else's is refused.

    Raises:
        DataError: a damaged line before the last.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._first = _plain({"format": FORMAT, **identity})
        self._values: dict[str, Any] = {}
        if path.is_file():
            self._read()

    def get(self, key: str) -> Any:
        """The value of a key; None where there is none."""
        return self._values.get(key)

    def add(self, values: Mapping[str, Any]) -> None:
        """Keep some values, at once on disk."""
        if not values:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = [] if self.path.is_file() else [self._first]
        lines += [{"key": key, "value": value} for key, value in values.items()]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        self._values.update(values)

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            self.path.unlink()
            return
        if len(whole) < len(content):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        first, *lines = whole.split(b"\n")[:-1]
        for number, line in enumerate([first, *lines], start=1):
            try:
                row = json.loads(line)
                if number == 1:
                    self._check(row)
                else:
                    self._values[row["key"]] = row["value"]
            except (ValueError, TypeError, KeyError) as error:
                raise DataError(
                    f"{self.path}, line {number}: not a kept answer ({error}). Delete the file; what it held "
                    "is asked again."
                ) from None

    def _check(self, found: Any) -> None:
        if found != self._first:
            raise ConfigError(
                f"{self.path} holds what another reader said. Name another folder with --share, or delete it."
            )


class Remembering:
    """A repeatable reader that is asked only what is not kept yet.

    Args:
        reader: that is asked.
        folder: of the kept files; one for scores and one for answers, named by the reader and a hash.
        key: of what is read.
        identity: models, code and whatever else what it says depends on; its choices are added.
        answers: what free answers depend on besides, such as their longest length.

    Attributes:
        asked: answers and candidates that the reader was asked for.
        remembered: those that were kept already.
    """

    def __init__(
        self,
        reader: Reader,
        folder: Path,
        key: Key,
        identity: Mapping[str, Any],
        answers: Mapping[str, Any],
    ) -> None:
        self.reader = reader
        self.asked = 0
        self.remembered = 0
        self._folder = folder
        self._key = key
        self._identity = dict(identity)
        self._about_answers = dict(answers)
        choices = getattr(reader, "choices", {})
        chosen = {name: value for name, value in choices.items() if name not in NO_CHOICE}
        whose = {"reader": reader.name, "choices": chosen, **identity}
        self._scores = self._memory({"what": "scores", **whose})
        self._answers = self._memory({"what": "answers", **whose, **answers})

    @property
    def name(self) -> str:
        """The reader's."""
        return self.reader.name

    @property
    def choices(self) -> Mapping[str, object]:
        """The reader's."""
        return getattr(self.reader, "choices", {})

    def at_layer(self, layer: int) -> Remembering:
        """The reader at another layer, with a memory of its own.

        Raises:
            ConfigError: a reader that has no layer.
        """
        if not isinstance(self.reader, Layered):
            raise ConfigError(f"Reader {self.name} reads no single layer, so it cannot be put to another.")
        moved = self.reader.at_layer(layer)
        identity = {**self._identity, "layer": layer}
        return Remembering(moved, self._folder, self._key, identity, self._about_answers)

    def ask(self, queries: Sequence[Query], /) -> list[Answer]:
        """One answer per query, in order."""
        return self._ask(queries, self.reader.ask, lambda kept: True)

    def ask_with_specificity(self, queries: Sequence[Query], /) -> list[Answer]:
        """The same, each with its specificity; without one where the reader cannot tell."""
        if not isinstance(self.reader, Specific):
            return self.ask(queries)
        ask = self.reader.ask_with_specificity
        return self._ask(queries, ask, lambda kept: kept["specificity"] is not None)

    def score(self, queries: Sequence[Query], candidates: Sequence[Sequence[str]], /) -> list[list[Score]]:
        """For each query its candidates' scores, best support first."""
        keys = [self._key(query) for query in queries]
        places = [[_hash([key, text]) for text in texts] for key, texts in zip(keys, candidates, strict=True)]
        missing: dict[str, tuple[Query, dict[str, str]]] = {}
        for query, key, own, texts in zip(queries, keys, places, candidates, strict=True):
            for place, text in zip(own, texts, strict=True):
                if self._scores.get(place) is None:
                    missing.setdefault(key, (query, {}))[1][text] = place
        wanted = sum(map(len, places))
        fresh = sum(len(texts) for _, texts in missing.values())
        self.asked, self.remembered = self.asked + wanted, self.remembered + wanted - fresh
        if missing:
            asked = list(missing.values())
            found = self.reader.score([query for query, _ in asked], [list(texts) for _, texts in asked])
            self._scores.add(
                {
                    texts[score.answer]: [score.logprob, score.support, score.n_tokens]
                    for (_, texts), scores in zip(asked, found, strict=True)
                    for score in scores
                }
            )
        ranked = [
            [Score(text, *self._scores.get(place)) for place, text in zip(own, texts, strict=True)]
            for own, texts in zip(places, candidates, strict=True)
        ]
        return [sorted(scores, key=lambda score: -score.support) for scores in ranked]

    def _ask(
        self,
        queries: Sequence[Query],
        ask: Callable[[Sequence[Query]], list[Answer]],
        enough: Callable[[Mapping[str, Any]], bool],
    ) -> list[Answer]:
        keys = [self._key(query) for query in queries]
        missing = {
            key: query
            for query, key in zip(queries, keys, strict=True)
            if (kept := self._answers.get(key)) is None or not enough(kept)
        }
        self.asked, self.remembered = self.asked + len(keys), self.remembered + len(keys) - len(missing)
        if missing:
            found = ask(list(missing.values()))
            self._answers.add({key: _plain(vars(one)) for key, one in zip(missing, found, strict=True)})
        return [_answer(self._answers.get(key), query) for key, query in zip(keys, queries, strict=True)]

    def _memory(self, identity: Mapping[str, Any]) -> Memory:
        name = f"{self.reader.name}-{identity['what']}-{_hash(_plain(identity))[:16]}.jsonl"
        return Memory(self._folder / name, identity)


def code_hash(rooms: Sequence[str]) -> str:
    """Hash of this package's code in some of its rooms: what was said by other code is not shared.

    Args:
        rooms: folders and files below the package, such as `decoder` and `reader.py`.
    """
    import latentqa

    root = Path(os.fspath(latentqa.__path__[0]))
    digest = hashlib.sha256()
    for room in rooms:
        place = root / room
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _answer(kept: Mapping[str, Any], query: Query) -> Answer:
    values = {
        **kept,
        "token_logprobs": tuple(kept["token_logprobs"]),
        "read_layers": tuple(kept["read_layers"]),
    }
    return replace(Answer(**values), question=query.question, span=query.span)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
