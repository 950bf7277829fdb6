"""Texts from files, folders and Hugging Face data sets, one at a time."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentqa.data.jsonl import parse_json, stream_lines
from latentqa.errors import DataError, MissingPackageError

HUB = "hf:"
LONGEST = 4000  # characters of one text; a longer paragraph is cut
TEXT_FILES = (".txt", ".md", ".text")
DATASET_FILES = ("dataset_info.json", "state.json", "dataset_dict.json")
"""What `save_to_disk` of the datasets library leaves in a folder."""


@dataclass(frozen=True)
class Text:
    """A text and where it is from.

    Attributes:
        name: file and row (`notes.txt:12`), or data set and row.
        text: what it says.
    """

    name: str
    text: str


def read_texts(
    source: str, left_out: Counter[str], *, field: str = "text", split: str = "train"
) -> Iterator[Text]:
    """Yields texts without holding a file in memory.

    Args:
        source: a text file, whose paragraphs (between blank lines) are texts; a `.jsonl` file; a folder of
            both, or of a saved data set (parquet files, or what `save_to_disk` wrote); `hf:NAME`, or
            `hf:NAME@CONFIG`, of the Hugging Face hub.
        left_out: counts rows without text.
        field: of a JSON row or data set.
        split: of a data set.

    Raises:
        DataError: there is no such file or data set, it is not UTF-8, or its first row has no such field.
        MissingPackageError: a data set needs the `datasets` library.
    """
    if source.startswith(HUB):
        name, _, config = source.removeprefix(HUB).partition("@")
        yield from _data_set(name, _hub_rows(name, config or None, split), field, left_out)
        return
    path = Path(source).expanduser()
    if path.is_dir():
        yield from _folder(path, left_out, field, split)
    elif path.is_file():
        yield from _file(path, path.name, left_out, field)
    else:
        raise DataError(
            f"There is no file or folder {source}. Check the name; a data set of the hub is written "
            f"{HUB}{source}."
        )


def _folder(folder: Path, left_out: Counter[str], field: str, split: str) -> Iterator[Text]:
    if any((folder / name).is_file() for name in DATASET_FILES):
        yield from _data_set(folder.name, _saved_rows(folder, split), field, left_out)
        return
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in (*TEXT_FILES, ".jsonl", ".parquet")
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise DataError(
            f"{folder} holds no text: looked for {', '.join(TEXT_FILES)}, .jsonl and .parquet files in it "
            "and its folders."
        )
    for path in found:
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".parquet":
            yield from _data_set(name, _parquet_rows(path), field, left_out)
        else:
            yield from _file(path, name, left_out, field)


def _file(path: Path, name: str, left_out: Counter[str], field: str) -> Iterator[Text]:
    if path.suffix == ".jsonl":
        yield from _json_rows(path, name, left_out, field)
    elif path.suffix == ".parquet":
        yield from _data_set(name, _parquet_rows(path), field, left_out)
    else:
        yield from _paragraphs(path, name)


def _paragraphs(path: Path, name: str) -> Iterator[Text]:
    """Paragraphs of a text file; one longer than `LONGEST` characters is cut at a line or blank."""
    lines: list[str] = []
    size, first = 0, 1
    last = 0
    for number, _, line in stream_lines(path):
        if lines and (number > last + 1 or size > LONGEST):
            yield from _pieces(f"{name}:{first}", "\n".join(lines))
            lines, size = [], 0
        if not lines:
            first = number
        lines.append(_decoded(path, number, line).strip())
        size, last = size + len(lines[-1]), number
    if lines:
        yield from _pieces(f"{name}:{first}", "\n".join(lines))


def _pieces(name: str, text: str) -> Iterator[Text]:
    place = 0
    while len(text) > LONGEST:
        cut = max(text.rfind(" ", 1, LONGEST), text.rfind("\n", 1, LONGEST))
        cut = LONGEST if cut < 0 else cut
        yield Text(f"{name}+{place}", text[:cut].strip())
        text, place = text[cut:].lstrip(), place + cut
    if text:
        yield Text(name if place == 0 else f"{name}+{place}", text)


def _json_rows(path: Path, name: str, left_out: Counter[str], field: str) -> Iterator[Text]:
    checked = False
    for number, _, line in stream_lines(path):
        try:
            row = parse_json(_decoded(path, number, line))
        except (json.JSONDecodeError, ValueError, RecursionError):
            left_out["a line that is no JSON"] += 1
            continue
        if not checked and (not isinstance(row, dict) or field not in row):
            raise _no_field(str(path), field, row)
        checked = True
        yield from _of_row(row, f"{name}:{number}", field, left_out)


def _data_set(name: str, rows: Iterable[Any], field: str, left_out: Counter[str]) -> Iterator[Text]:
    try:
        for number, row in enumerate(rows, start=1):
            if number == 1 and field not in row:
                raise _no_field(name, field, row)
            yield from _of_row(row, f"{name}:{number}", field, left_out)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(name, error) from error


def _of_row(row: Any, name: str, field: str, left_out: Counter[str]) -> Iterator[Text]:
    text = row.get(field) if isinstance(row, dict) else None
    if not isinstance(text, str) or not text.strip():
        left_out["a row without text"] += 1
        return
    yield from _pieces(name, text.strip())


def _hub_rows(name: str, config: str | None, split: str) -> Iterable[Any]:
    datasets = _datasets()
    try:
        return datasets.load_dataset(name, config, split=split, streaming=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unreadable(name, error) from error


def _saved_rows(folder: Path, split: str) -> Iterable[Any]:
    datasets = _datasets()
    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(str(folder), error) from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise DataError(f"{folder} has no split {split!r}. There are: {', '.join(found)}.")
        return found[split]
    return found


def _parquet_rows(path: Path) -> Iterable[Any]:
    datasets = _datasets()
    try:
        return datasets.load_dataset("parquet", data_files=[str(path)], split="train", streaming=True)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(str(path), error) from error


def _datasets() -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingPackageError(
            "Hugging Face data sets and parquet files need the package datasets, which is missing. "
            "Run: pip install 'latentqa[data]'"
        ) from None
    return datasets


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: see line {number}, byte {error.start}. Convert the file."
        ) from None


def _no_field(name: str, field: str, row: Any) -> DataError:
    found = ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
    return DataError(
        f"The first row of {name} has no field {field!r}: found {found or 'nothing'}. Name it: --field."
    )


def _unreadable(name: str, error: Exception) -> DataError:
    first = str(error).strip().split("\n")[0]
    return DataError(f"The data set {name} cannot be read: {type(error).__name__}: {first}")


def local_path(source: str) -> Path | None:
    """The file or folder of a source, to be hashed; None for a data set of the hub."""
    return None if source.startswith(HUB) else Path(os.path.expanduser(source))
