"""Which seeds a run has: those of the tables, each with as many variants as are needed, and passages' topics.

A seed file of a user is a table too. Its name is the category (`persona-ship.txt`, `goal-tone.txt`); a line
is a whole row of such a table, or just an idea ("a ship's cook who is afraid of water").
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from latentqa.data.generate.config import DataConfig, SeedSettings
from latentqa.data.generate.rows import Rejected, Seed
from latentqa.data.generate.rules.forms import told
from latentqa.data.generate.rules.passages import facts, fill
from latentqa.data.generate.tables import cells, kept, seed_tables, slots, table
from latentqa.data.jsonl import stream_lines
from latentqa.errors import ConfigError, DataError

WHOLE = {"persona": 7, "goal": 3}
"""Fewest cells of a whole row, the name included."""
_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\*\*|\]\(|^#|`|https?://|&\w+;|{|}")
_SLUG = re.compile(r"[^a-z0-9]+")


class SeedTable(NamedTuple):
    """Seeds of the tables, by the group of `shares`, and the rows that could not be used."""

    by_share: dict[str, list[Seed]]
    rejected: list[Rejected]


def load_seeds(settings: SeedSettings) -> SeedTable:
    """Reads the tables of the package and the user's.

    Raises:
        DataError: a file cannot be read, has no good row, or is not named after a category.
    """
    rows: list[Seed] = []
    rejected: list[Rejected] = []
    if settings.builtin:
        for category in seed_tables():
            rows += [_seed(category, row, "builtin") for row in table(category)]
    seen = {_key(seed): f"the builtin table {seed.category}" for seed in rows}
    for path in settings.files:
        good, bad = _read(path, seen)
        rows += good
        rejected += bad
    by_share: dict[str, list[Seed]] = {"persona": [], "goal": []}
    for seed in rows:
        by_share[seed.group].append(seed)
    return SeedTable(by_share, rejected)


def draw_seeds(config: DataConfig, tables: SeedTable) -> Iterator[Seed]:
    """The seeds of a run, in an order that its seed sets: first one of each, then further variants.

    Raises:
        ConfigError: no seed has a share above 0.
    """
    shares = {
        name: share
        for name, share in config.seeds.shares.items()
        if share and (tables.by_share.get(name) or (name in ("exact", "sqa") and config.seeds.builtin))
    }
    if not shares:
        raise ConfigError(
            "No seeds are left: the shares are 0, or the tables hold none. Raise seeds.shares, set "
            "seeds.builtin: true, or give seeds.files."
        )
    whole = sum(shares.values())
    counts = {name: math.floor(config.controls.count * share / whole) for name, share in shares.items()}
    counts[max(shares, key=lambda name: shares[name])] += config.controls.count - sum(counts.values())
    sources = {
        "persona": lambda: _variants(tables.by_share["persona"], config.seed),
        "goal": lambda: _variants(tables.by_share["goal"], config.seed),
        "exact": lambda: _exact(config.seed),
        "sqa": lambda: _passages(config.seed),
    }
    streams = {name: sources[name]() for name in shares}
    done = dict.fromkeys(shares, 0)
    for _ in range(config.controls.count):
        name = min(shares, key=lambda one: (done[one] + 0.5) / max(counts[one], 1e-9))
        done[name] += 1
        yield next(streams[name])


def _variants(seeds: Sequence[Seed], seed: int) -> Iterator[Seed]:
    """Every seed once in an order of its own, then again as its next variant, without end."""
    order = list(seeds)
    random.Random(f"{seed}:seeds").shuffle(order)
    variant = 0
    while True:
        for one in order:
            name = f"{one.label}.{variant}" if variant else one.label
            yield Seed(name, one.label, one.category, one.theme, one.cells, variant, one.source)
        variant += 1


def _exact(seed: int) -> Iterator[Seed]:
    """Exact demands with their slots filled; after a while demands come again with other words."""
    number = 0
    while True:
        for slug, *row in table("exact"):
            chooser = random.Random(f"{seed}:exact:{slug}:{number}")
            values = {name: chooser.choice(found) for name, found in slots().items()}
            body = values["body"]
            values |= {
                "Word": values["word"],
                "lower_body": body if body.startswith("I ") else body[0].lower() + body[1:],
            }
            filled = tuple(fill(cell, values) for cell in row)
            label = f"goal-exact-{slug}-{number}"
            yield Seed(label, label, "goal-exact", filled[1], filled, number)
        number += 1


def _passages(seed: int) -> Iterator[Seed]:
    """Topics combined by three, without end."""
    topics = sorted(facts())
    number = 0
    while True:
        chosen = tuple(random.Random(f"{seed}:topics:{number}").sample(topics, 3))
        label = f"sqa-topics-{'-'.join(chosen)}-{number}"
        yield Seed(label, label, "sqa-topics", ", ".join(chosen), chosen, number)
        number += 1


def _seed(category: str, row: Sequence[str], source: str) -> Seed:
    slug, *rest = row
    label = f"{category}-{slug}"
    theme = rest[0] if category.startswith("persona") else rest[1]
    return Seed(label, label, category, told(theme), tuple(rest), 0, source)


def _read(path: Path, seen: dict[str, str]) -> tuple[list[Seed], list[Rejected]]:
    category = path.stem
    group = category.split("-", 1)[0]
    if group not in WHOLE or "-" not in category:
        raise DataError(
            f"The seed file {path} is not named after a category. Call it persona-SOMETHING.txt or "
            "goal-SOMETHING.txt."
        )
    good: list[Seed] = []
    bad: list[Rejected] = []
    for number, _, line in stream_lines(path):
        text = line.decode("utf-8", errors="replace").strip("\ufeff\r\n ")
        if not kept(text):
            continue
        where = f"{path.name} line {number}"
        reason = _problem(text, group)
        seed = None if reason else _from_line(category, cells(text), path.name)
        if seed is not None and (first := seen.get(_key(seed))):
            reason = f"repeats {first}"
        if reason or seed is None:
            bad.append(Rejected("seeds", f"{path.name}:{number}", f"{where} {reason}", text))
        else:
            seen[_key(seed)] = where
            good.append(seed)
    if not good:
        why = f": {bad[0].reason}" if bad else ", only blank lines and comments"
        raise DataError(f"The seed file {path} has no row that can be used{why}. One idea a line is enough.")
    return good, bad


def _problem(text: str, group: str) -> str | None:
    markup = _MARKUP.search(text)
    if "\ufffd" in text:
        return "is not UTF-8"
    if markup:
        return f"holds markup ({markup[0]!r}); seeds are plain text"
    number = len(cells(text))
    if 1 < number < WHOLE[group]:
        return f"has {number} cells; a {group} has 1 (an idea) or at least {WHOLE[group]}"
    if not all(cells(text)):
        return "has an empty cell"
    return None


def _from_line(category: str, row: Sequence[str], source: str) -> Seed:
    if len(row) > 1:
        return _seed(category, row, source)
    label = f"{category}-{_SLUG.sub('-', row[0].lower()).strip('-')[:60]}"
    return Seed(label, label, category, told(row[0]), (), 0, source)


def _key(seed: Seed) -> str:
    """What two seeds have in common that are the same idea: its words, in lower case."""
    return " ".join(_SLUG.sub(" ", seed.theme.lower()).split())
