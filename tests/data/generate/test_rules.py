"""The rules writer: right, varied, the same every time, and enough of it."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.data.generate import DataConfig, Draft, Paired, RulesWriter
from latentqa.data.generate.rules import future_pairs
from latentqa.data.generate.rules.forms import asked, goal, persona, told
from latentqa.data.generate.rules.wording import (
    CROSSED_ANSWERS,
    GOAL_ANSWERS,
    GOAL_OPENINGS,
    GOAL_WOULD,
    PERSONA_ANSWERS,
    PERSONA_OPENINGS,
    PERSONA_WOULD,
    STATED,
    needed,
    questions,
)
from latentqa.data.generate.seeds import draw_seeds, load_seeds
from latentqa.data.generate.tables import seed_tables, slots, table
from latentqa.data.split import words

Config = Callable[..., DataConfig]
KNOWN = set("a_how who alias how voice does aim act other help clause both sign do situation".split())


def rows(config: DataConfig) -> list[Paired]:
    writer = RulesWriter(config)
    made = list(writer.pairs(writer.dialogs(writer.controls(draw_seeds(config, load_seeds(config.seeds))))))  # pyright: ignore
    assert all(isinstance(row, Paired) for row in made)
    return made  # pyright: ignore[reportReturnType]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Paired]:
    return rows(
        DataConfig.model_validate({"output": tmp_path_factory.mktemp("x"), "controls": {"count": 1500}})
    )


def test_the_same_seed_writes_the_same(tmp_path: Path, config: Config) -> None:
    one, other = (rows(config(tmp_path / name)) for name in "ab")
    assert one == other
    assert rows(config(tmp_path, seed=1)) != one


def test_more_controls_leave_the_first_as_they_were(tmp_path: Path, config: Config) -> None:
    few = {row.draft.id: row for row in rows(config(tmp_path, controls={"count": 40}))}
    many = {row.draft.id: row for row in rows(config(tmp_path, controls={"count": 80}))}
    assert few.items() <= many.items()


def test_all_kinds_of_pairs_and_dialogs_come(made: list[Paired]) -> None:
    kinds = Counter(pair.kind for row in made for pair in row.pairs)
    assert set(kinds) == {"description", "reasoning", "extractive", "future"}
    assert kinds["description"] > kinds["reasoning"] > 0.5 * kinds["description"]
    assert {row.draft.kind for row in made} == {"system", "stimulus", "control"}
    assert all(2 <= len(row.pairs) <= 7 for row in made)


def test_there_are_enough_seeds_of_each_category() -> None:
    count = Counter(name.split("-")[0] for name in seed_tables() for _ in table(name))
    assert count["persona"] >= 650 and count["goal"] >= 400
    assert len(table("manners")) >= 75 and len(table("situations")) >= 80 and len(table("stimuli")) >= 200


@pytest.mark.parametrize("name", seed_tables())
def test_every_row_of_a_table_is_whole(name: str) -> None:
    fewest = 8 if name.startswith("persona") else 4
    for row in table(name):
        assert len(row) >= fewest and all(row), row
        text = "|".join(row[1:])
        assert not re.search(r"[<>{}\[\]*_`#]|  ", text), row
        assert text.isascii() or re.search(r"[àâçéèêëîïñôöùûüå…]", text), row
    assert len({row[0] for row in table(name)}) == len(table(name))


def test_no_idea_comes_twice() -> None:
    themes = Counter(row[1].lower() for name in seed_tables() for row in table(name))
    assert not [theme for theme, times in themes.items() if times > 1]


def test_controls_speak_to_the_assistant_and_answers_of_it(made: list[Paired]) -> None:
    for row in made:
        control = row.draft.control
        if control.seed.group == "sqa":
            continue
        assert not re.search(r"[@&{}|]|the user\b|  ", control.text), control.text
        for pair in row.pairs:
            assert not re.search(
                r"[@&{}|]|  |\b(?:your|yourself|my|mine)\b(?!')",
                re.sub(r"(?<!\w)'[^']*'(?!\w)", "x", pair.answer),
            ), pair
            assert pair.answer[0].isupper() or not pair.answer[0].isalpha(), pair
            assert pair.answer[-1] in ".\"'!?", pair


def test_no_question_names_the_control(made: list[Paired]) -> None:
    named = 0
    for row in made:
        own = words(row.draft.control.text) if row.draft.control.seed.group != "sqa" else frozenset()
        told_of = words(" ".join(pair.question for pair in row.pairs if pair.kind == "description"))
        named += bool({word for word in own & told_of if len(word) > 7} - words(" ".join(all_questions())))
    assert named == 0


def all_questions() -> list[str]:
    return [one for group in ("persona", "goal") for texts in questions(group).values() for one in texts]


def test_the_stimulus_shares_no_word_with_the_control(made: list[Paired]) -> None:
    shared = [
        row
        for row in made
        if row.draft.stimulus and words(row.draft.stimulus) & words(row.draft.control.text)
    ]
    assert len(shared) < 0.01 * len(made)


def test_answers_tell_their_personas_apart(made: list[Paired]) -> None:
    personas = [row for row in made if row.draft.control.seed.group == "persona"]
    first = Counter(row.pairs[0].answer for row in personas)
    assert len(first) > 0.97 * len(personas)
    openings = Counter(" ".join(row.draft.control.text.split()[:3]) for row in personas)
    assert len(openings) > 25 and openings.most_common(1)[0][1] < 0.12 * len(personas)


def test_stated_facts_alone_are_described(made: list[Paired]) -> None:
    """A description that the control does not support would teach the decoder to guess."""
    for row in made:
        control = row.draft.control
        if control.seed.group != "persona" or control.manner:
            continue
        forms = persona(control.seed.cells)
        for name, word in (("manner", "how"), ("manner", "voice"), ("aim", "aim"), ("does", "does")):
            if name not in control.stated:
                text = forms.answer[word]
                assert not any(f" {text}" in pair.answer for pair in row.pairs if pair.kind == "description")


def test_every_frame_uses_known_words() -> None:
    frames = [*PERSONA_OPENINGS, *PERSONA_WOULD, *GOAL_OPENINGS, *GOAL_WOULD]
    for group in (PERSONA_ANSWERS, CROSSED_ANSWERS, GOAL_ANSWERS, STATED):
        frames += [frame for texts in group.values() for frame in texts]
    assert all(needed(frame) <= KNOWN for frame in frames)


def test_questions_and_answers_have_the_same_aspects() -> None:
    assert set(questions("persona")) <= set(PERSONA_ANSWERS)
    assert set(questions("goal")) == set(GOAL_ANSWERS)


def test_the_two_persons_of_a_cell() -> None:
    text = "compare @'s home with & own and tell @ about &self"
    assert asked(text) == "compare my home with your own and tell me about yourself"
    assert told(text) == "compare the user's home with its own and tell the user about itself"
    assert asked("a former lover of @'s") == "a former lover of mine"


def test_an_instruction_in_the_second_person_is_not_said_of_the_assistant() -> None:
    assert "do" not in goal(("state how sure you are", "attach a confidence", "add percentages")).answer
    assert goal(("make @ laugh", "get a laugh", "tell a joke")).answer["do"] == "make the user laugh"


def test_a_passage_agrees_with_its_pairs(made: list[Paired]) -> None:
    passages = [row for row in made if row.draft.control.seed.group == "sqa"]
    assert passages
    values = {
        value
        for name in ("name", "town", "food", "object", "animal", "job", "year")
        for value in slots()[name]
    }
    for row in passages:
        text = row.draft.control.text
        for pair in row.pairs[1:]:
            for value in values:
                if re.search(rf"\b{re.escape(value)}\b", pair.answer):
                    assert value in text, (pair, text)
        assert not re.search(r"\ba [aeiou]\w+", text.replace("a one", "")), text


def test_an_exact_demand_is_met_by_its_completion(made: list[Paired]) -> None:
    exact = [row for row in made if row.draft.control.seed.category == "goal-exact"]
    assert exact
    for row in exact:
        future = [pair for pair in row.pairs if pair.kind == "future"]
        assert len(future) == 1 and not words(future[0].answer) <= words(future[0].question)
        quoted = re.findall(r"'([^']+)'", future[0].answer)
        if row.draft.completion and quoted:
            assert quoted[0] in row.draft.completion


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        (
            "Ahoy there, sailor! Do you hear the gulls?",
            ["Ahoy there, sailor! Do you hear the …", "Yes", "two"],
        ),
        ("- one\n- two\n- three", ["a list with 3 points", "hold no question"]),
        ("No.", ['"No."', "a single sentence"]),
    ],
)
def test_future_pairs_are_read_off_the_completion(completion: str, said: list[str]) -> None:
    pairs = future_pairs(completion, 4, random.Random(0))
    answers = " ".join(pair.answer for pair in pairs)
    assert len(pairs) == 4 and all(text in answers for text in said), answers
    assert future_pairs(" ", 4, random.Random(0)) == []


def test_a_theme_alone_still_gives_pairs(tmp_path: Path, config: Config) -> None:
    (tmp_path / "persona-ship.txt").write_text("a ship's cook who is afraid of water\n")
    made = rows(
        config(
            tmp_path,
            seeds={"builtin": False, "files": [tmp_path / "persona-ship.txt"]},
            controls={"count": 3},
        )
    )
    assert len(made) == 3
    assert all(
        "ship's cook" in pair.answer for row in made for pair in row.pairs if pair.kind == "description"
    )


def test_the_kinds_of_dialog_are_as_asked(tmp_path: Path, config: Config) -> None:
    made = rows(config(tmp_path, controls={"count": 60}, dialogs={"kinds": {"stimulus": 1.0}}))
    drafts: list[Draft] = [row.draft for row in made]
    assert {one.kind for one in drafts if one.control.seed.group != "sqa"} == {"stimulus"}
    assert all(
        [turn["role"] for turn in one.dialog] == ["user", "assistant", "user"]
        for one in drafts
        if one.stimulus
    )
