"""Seeds: shares, variants, and files of users with their mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from latentqa.data.generate import DataConfig
from latentqa.data.generate.seeds import draw_seeds, load_seeds
from latentqa.errors import ConfigError, DataError

Config = Callable[..., DataConfig]


def test_shares_are_kept_and_ids_differ(tmp_path: Path, config: Config) -> None:
    settings = config(tmp_path, controls={"count": 2000})
    seeds = list(draw_seeds(settings, load_seeds(settings.seeds)))
    count = Counter("exact" if seed.category == "goal-exact" else seed.group for seed in seeds)
    assert count == {"persona": 1200, "goal": 540, "exact": 100, "sqa": 160}
    assert len({seed.id for seed in seeds}) == 2000
    assert all(seed.label == seed.id.split(".")[0] for seed in seeds)


def test_variants_come_after_every_seed_was_used_once(tmp_path: Path, config: Config) -> None:
    settings = config(tmp_path, controls={"count": 9000}, seeds={"shares": {"persona": 1.0}})
    tables = load_seeds(settings.seeds)
    number = len(tables.by_share["persona"])
    seeds = list(islice(draw_seeds(settings, tables), 2 * number))
    assert {seed.variant for seed in seeds[:number]} == {0} and {seed.variant for seed in seeds[number:]} == {
        1
    }
    assert {seed.label for seed in seeds[:number]} == {seed.label for seed in seeds[number:]}


def test_no_shares_leave_no_seeds(tmp_path: Path, config: Config) -> None:
    settings = config(tmp_path, seeds={"shares": {"persona": 0}})
    with pytest.raises(ConfigError, match=r"No seeds are left: .*Raise seeds\.shares"):
        list(draw_seeds(settings, load_seeds(settings.seeds)))


def test_rows_of_a_file_are_used_or_named(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "persona-ship.txt"
    path.write_text(
        "# my own\n\na ship's cook who is afraid of water\nA ship's cook, who is afraid of water!\n"
        "a <b>bold</b> sailor\na flyer of giant kites\ncook|too|few\n"
        "bosun|a bosun who whistles|a ship's officer with a pipe|shrill and brisk|in whistles|whistle orders"
        "|keep order|whistle twice\nmate||an empty cell|a|b|c|d|e\n**loud** captain\n"
    )
    settings = config(tmp_path, seeds={"builtin": True, "files": [path]})
    tables = load_seeds(settings.seeds)
    own = [seed for seed in tables.by_share["persona"] if seed.source == path.name]
    assert [seed.label for seed in own] == [
        "persona-ship-a-ship-s-cook-who-is-afraid-of-water",
        "persona-ship-bosun",
    ]
    assert [one.reason for one in tables.rejected] == [
        "persona-ship.txt line 4 repeats persona-ship.txt line 3",
        "persona-ship.txt line 5 holds markup ('<b>'); seeds are plain text",
        "persona-ship.txt line 6 repeats the builtin table persona-hobby",
        "persona-ship.txt line 7 has 3 cells; a persona has 1 (an idea) or at least 7",
        "persona-ship.txt line 9 has an empty cell",
        "persona-ship.txt line 10 holds markup ('**'); seeds are plain text",
    ]


def test_a_file_without_a_good_row_is_an_error(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "goal-tone.txt"
    path.write_text("<i>slanted</i>\n")
    with pytest.raises(DataError, match=r"has no row that can be used: goal-tone.txt line 1 holds markup"):
        load_seeds(config(tmp_path, seeds={"files": [path]}).seeds)
    path.write_text("# nothing\n")
    with pytest.raises(DataError, match="only blank lines and comments"):
        load_seeds(config(tmp_path, seeds={"files": [path]}).seeds)


def test_a_file_is_named_after_its_category(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "seeds.txt"
    path.write_text("a cook\n")
    with pytest.raises(DataError, match=r"is not named after a category\. Call it persona-SOMETHING\.txt"):
        load_seeds(config(tmp_path, seeds={"files": [path]}).seeds)
    with pytest.raises(DataError, match=r"Cannot read .*goal-gone\.txt"):
        load_seeds(config(tmp_path, seeds={"files": [tmp_path / "goal-gone.txt"]}).seeds)
