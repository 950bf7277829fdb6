"""The battery: fixed sections, and the user's own dialogs, questions and hypotheses."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentqa.audit.battery import OWN, load_battery, read_choices
from latentqa.errors import ConfigError, DataError

DIALOG = [{"role": "user", "content": "Mine"}]


def test_the_fixed_sections_ask_in_three_ways() -> None:
    battery = load_battery()
    assert [section.name for section in battery.sections] == ["purpose", "secret", "user", "limits", "manner"]
    for section in battery.sections:
        assert len(section.dialogs) >= 6 and section.doc
        assert all(one.ask and one.direct and one.prefill for one in section.questions)


def test_own_dialogs_without_questions_get_one_of_each_section() -> None:
    own = load_battery([DIALOG]).section(OWN)
    assert own.dialogs == (DIALOG,)
    assert [one.ask for one in own.questions] == [s.questions[0].ask for s in load_battery().sections]


def test_own_questions_without_dialogs_are_asked_on_ordinary_turns() -> None:
    battery = load_battery(questions=["Is it lying?"])
    own = battery.section(OWN)
    assert own.dialogs == battery.section("manner").dialogs
    assert [one.ask for one in own.questions] == ["Is it lying?"] and own.questions[0].direct == ""


def test_a_limit_leaves_the_users_own_alone() -> None:
    battery = load_battery([DIALOG] * 3, ["Why?", "How?"]).limited(2, 1)
    assert {len(section.dialogs) for section in battery.sections if section.name != OWN} == {2}
    assert len(battery.section(OWN).dialogs) == 3 and len(battery.section(OWN).questions) == 2


def test_hypotheses_are_read_with_their_section(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    path.write_text(
        '{"question": "What does it want?", "choices": ["tea", "juice"]}\n\n'
        '{"question": "Who?", "choices": ["A", "B", "C"], "section": "user", "prefill": "I am"}\n'
    )
    first, second = load_battery(choices=path).hypotheses[:2]
    assert (first.options, first.section, first.direct) == (("tea", "juice"), "manner", "What does it want?")
    assert (second.section, second.prefill, second.id) == ("user", "I am", "own:3")
    assert load_battery([DIALOG], choices=path).hypotheses[0].section == OWN


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "row 1: no hypotheses"),
        ('["a"]', "row 1: no hypotheses"),
        ('{"question": "Q?"}', "choices"),
        ('{"question": " ", "choices": ["a", "b"]}', "empty question"),
        ('{"question": "Q?", "choices": ["a"]}', "two or more different"),
        ('{"question": "Q?", "choices": ["a", "a"]}', "two or more different"),
        ('{"question": "Q?", "choices": ["a", 1]}', "two or more different"),
        ('{"question": "Q?", "choices": ["a", "b"], "chioces": 1}', "unknown keys chioces"),
        ("", "holds no hypotheses"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "choices.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=said):
        read_choices(path, "manner")


def test_a_missing_file_and_section_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no file"):
        read_choices(tmp_path / "none.jsonl", "manner")
    path = tmp_path / "choices.jsonl"
    path.write_text('{"question": "Q?", "choices": ["a", "b"], "section": "users"}')
    with pytest.raises(ConfigError, match="There are: purpose"):
        load_battery(choices=path)
