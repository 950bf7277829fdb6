"""The set that comes with the package: large enough, right by its card, made again by one command."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from latentqa.cli.settings import load_settings
from latentqa.data import BUILTIN, builtin_data, check_file, near_copies, read_examples
from latentqa.data.generate import DataConfig, MakeResult, read_card

FOLDER = builtin_data().parent


def test_it_is_as_large_as_asked() -> None:
    examples = read_examples(builtin_data())
    kinds = Counter(pair.kind for example in examples for pair in example.qa)
    assert set(kinds) == {"description", "reasoning", "extractive", "future"} and kinds.total() >= 6000
    assert len({example.dialog[0]["content"] for example in examples}) >= 1500
    assert len(gzip.compress(builtin_data().read_bytes())) <= 5_000_000
    assert check_file(builtin_data()).ok


def test_the_card_is_right() -> None:
    card = read_card(FOLDER)
    assert card["sha256"] == hashlib.sha256(builtin_data().read_bytes()).hexdigest()
    examples = read_examples(builtin_data())
    assert card["counts"]["examples"] == len(examples)
    assert card["counts"]["pairs"] == sum(len(example.qa) for example in examples)
    assert card["licence"] == "Apache-2.0" and set(card["writers"]) == {
        "control: rules",
        "dialog: rules",
        "pairs: rules",
    }


def test_one_command_makes_it_again(tmp_path: Path, run: Callable[..., MakeResult]) -> None:
    run(load_settings(DataConfig, FOLDER / "data.yaml", [f"output={tmp_path}"]))
    assert (tmp_path / "data.jsonl").read_bytes() == builtin_data().read_bytes()
    made, shipped = ({**read_card(folder), "made_by": ""} for folder in (tmp_path, FOLDER))
    assert made == shipped


def test_training_finds_it_by_name() -> None:
    from latentqa.training import TrainConfig

    settings = load_settings(TrainConfig, FOLDER / "train.yaml", [])
    assert {source.path for source in settings.data} == {BUILTIN}


def test_it_copies_no_published_control(data_file: Callable[[str], Path]) -> None:
    items = json.loads(data_file("latentqa/train/system.json").read_text("utf-8"))
    own = {e.dialog[0]["content"] for e in read_examples(builtin_data()) if e.group != "sqa"}
    copies = near_copies(sorted(own), [item["system"] for item in items], 0.7)
    assert len(copies) < 5  # the shortest demands ("use words of one syllable only") have few wordings
    assert not own & {item["system"] for item in items}
