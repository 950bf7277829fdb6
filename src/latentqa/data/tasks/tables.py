"""Tables of relations: which object belongs to which subject, as YAML of ours or as tab-separated rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentqa.data.schema import reasons
from latentqa.errors import DataError

SHIPPED = Path(__file__).parent / "tables"
SUFFIXES = (".yaml", ".yml", ".tsv")

QUESTIONS: dict[str, tuple[str, ...]] = {
    "country_capital_city": (
        "What is the capital of the country?",
        "Which city is the seat of its government?",
        "Name the capital of this country.",
    ),
    "fruit_outside_color": (
        "What colour is the fruit on the outside?",
        "Which colour does its skin have?",
        "Name the colour of the fruit as it hangs there.",
    ),
    "object_superclass": (
        "What kind of thing is it?",
        "Which larger class of things does it belong to?",
        "Is it an animal, a plant, a food or something else? Name the class.",
    ),
    "task_done_by_tool": (
        "Which tool does one use for this task?",
        "With what tool is it done?",
        "Name the tool that this work calls for.",
    ),
    "word_sentiment": (
        "Is the word positive, negative or neutral?",
        "What sentiment does the word carry?",
        "Name the feeling of the word: positive, negative or neutral.",
    ),
}
"""Our own questions for files in the layout of Patchscopes' relations, by the file's name."""

CONTEXTS: tuple[str, ...] = (
    "There was a short notice about {subject} in the paper.",
    "Somebody at the next table was talking about {subject} again.",
    "The last chapter is about {subject} and how it all began.",
    "She asked us whether we had ever heard of {subject} before.",
    "He wrote {subject} on a card and put it in his pocket.",
    "A question about {subject} came up near the end of the quiz.",
)
"""For subjects whose table brings no sentences."""


@dataclass(frozen=True)
class Row:
    """A subject and its object, with a text that holds the subject, if the table brings one."""

    subject: str
    object: str
    context: str = ""


@dataclass(frozen=True)
class Table:
    """One relation.

    Attributes:
        name: of the file.
        path: the file.
        questions: wordings of the question; none names the subject.
        contexts: sentences with `{subject}` (and `{a}` for its article), for rows without one.
        rows: of a YAML table; those of a tab-separated one are read as they are asked for.
    """

    name: str
    path: Path
    questions: tuple[str, ...]
    contexts: tuple[str, ...] = CONTEXTS
    rows: tuple[Row, ...] = field(default=(), repr=False)

    def read(self, left_out: Counter[str]) -> Iterator[Row]:
        """Yields the rows; what cannot be used is counted."""
        yield from self.rows if self.rows else _tsv_rows(self.path, left_out)


class _Yaml(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: tuple[str, ...] = Field(min_length=1)
    contexts: tuple[str, ...] = CONTEXTS
    pairs: str


def read_tables(sources: Iterable[str]) -> list[Table]:
    """Finds the tables of files and folders, or those that ship with the project.

    A YAML table has `questions`, `contexts` and `pairs`, the last a text with `subject = object` lines. A
    tab-separated one has the columns subject and object, and may have context and query (`The capital of x`).

    Args:
        sources: files, and folders that are searched; none: the shipped tables.

    Raises:
        DataError: a source that is not there, holds no table, or is damaged; two tables of one name.
    """
    paths = [path for source in sources for path in _find(Path(source).expanduser())]
    tables = [_table(path) for path in paths or sorted(SHIPPED.glob("*.yaml"))]
    names = Counter(table.name for table in tables)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise DataError(f"Two tables are called {twice!r}. Give each relation one file of its own name.")
    return tables


def _find(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise DataError(f"{path} is no table: a relation is a {', '.join(SUFFIXES)} file.")
        return [path]
    found = sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES) if path.is_dir() else []
    if not found:
        raise DataError(f"There is no table at {path}: looked for {', '.join(SUFFIXES)} files.")
    return found


def _table(path: Path) -> Table:
    return _tsv_table(path) if path.suffix == ".tsv" else _yaml_table(path)


def _yaml_table(path: Path) -> Table:
    try:
        read = _Yaml.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the name.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        first = str(error).split("\n")[0]
        raise DataError(f"{path} is no YAML: {first}.") from None
    except ValidationError as error:
        raise DataError(
            f"{path} is no table: {reasons(error)}. A table has questions, contexts and pairs."
        ) from None
    without = next((one for one in read.contexts if "{subject}" not in one), None)
    if without is not None:
        raise DataError(f"{path}: the context {without!r} has no place for the {{subject}}.")
    rows: dict[str, Row] = {}
    for number, line in enumerate(read.pairs.splitlines(), start=1):
        if not line.strip():
            continue
        subject, equals, found = (part.strip() for part in line.partition(" = "))
        if not (equals and subject and found):
            raise DataError(f"{path}: pair {number} is {line.strip()!r}; write it as subject = object.")
        if subject in rows:
            raise DataError(f"{path}: the subject {subject!r} comes twice. Keep one of its pairs.")
        rows[subject] = Row(subject, found)
    if len({row.object for row in rows.values()}) < 2:
        raise DataError(f"{path} needs at least two objects: else nothing can be told apart.")
    return Table(path.stem, path, read.questions, read.contexts, tuple(rows.values()))


def _tsv_table(path: Path) -> Table:
    query = next((row["query"] for row in _cells(path) if row.get("query")), "")
    questions = QUESTIONS.get(path.stem) or _questions_of(query) or _questions_of(_words(path.stem))
    return Table(path.stem, path, questions)


def _questions_of(query: str) -> tuple[str, ...]:
    """Questions of a query like `The capital city of x`, which is to be completed."""
    asked = re.sub(r"\bx\b", "this", query.strip().rstrip(".?"))
    asked = asked[:1].lower() + asked[1:]
    return (f"What is {asked}?", f"Name {asked}.", f"Tell me {asked}.") if asked else ()


def _words(name: str) -> str:
    return f"the {name.replace('_', ' ').replace('-', ' ')} of this"


def _tsv_rows(path: Path, left_out: Counter[str]) -> Iterator[Row]:
    for row in _cells(path):
        cells = [(row.get(name) or "").strip() for name in ("subject", "object", "context")]
        if cells[0] and cells[1]:
            yield Row(*cells)
        else:
            left_out["a row without subject or object"] += 1


def _cells(path: Path) -> Iterator[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
            found = reader.fieldnames or ()
            missing = [name for name in ("subject", "object") if name not in found]
            if missing:
                raise DataError(
                    f"{path} has no column {missing[0]}: found {', '.join(found) or 'nothing'}. A relation "
                    "has the tab-separated columns subject and object, and may have context and query."
                )
            yield from reader
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror or error}. Check the name.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: see byte {error.start}. Convert the file.") from error
