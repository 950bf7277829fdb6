"""A CSV, TSV or JSONL file as rows of named columns, one after another, however large it is."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latentqa.data.jsonl import parse_json, stream_lines
from latentqa.errors import DataError


def stream_columns(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields the number of each row and its cells by column; only one row is held in memory.

    Args:
        path: `.jsonl`, `.tsv`, or CSV under any other name.
        left_out: counts the lines of a JSONL file that hold no object.

    Raises:
        DataError: the file cannot be opened, is not UTF-8, or is no CSV.
    """
    return _json_rows(path, left_out) if path.suffix == ".jsonl" else _csv_rows(path)


def cell_text(value: Any) -> str:
    """A cell as text; a JSON truth value or number counts too, and whatever else there is as empty."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).strip() if isinstance(value, str | int | float) else ""


def _json_rows(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, _, line in stream_lines(path):
        try:
            row = parse_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except UnicodeDecodeError:
            raise DataError(f"{path} is not UTF-8: see line {number}. Convert the file.") from None
        except (json.JSONDecodeError, ValueError, RecursionError):
            left_out["a line that is no JSON"] += 1
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            left_out["a row that is no object"] += 1


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
            yield from enumerate(reader, start=2)
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the name.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: see byte {error.start}. Convert the file.") from error
    except csv.Error as error:
        raise DataError(f"{path} is no CSV: {error}.") from error
