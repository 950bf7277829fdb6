"""Conversation facts: said early, asked at the end, and never in the turn that is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from latentqa.data.tasks import FactSettings, fact_examples, read_fact_texts
from latentqa.errors import DataError

TEXTS = read_fact_texts()


def test_facts_are_said_before_the_turn_that_is_read() -> None:
    unknown = 0
    for example in fact_examples(FactSettings(dialogs=400)):
        users = [message["content"] for message in example.dialog if message["role"] == "user"]
        assert example.read == "stimulus" and users[-1] in TEXTS.finals and len(users) > 1
        for pair in example.qa:
            attribute = TEXTS.attributes[pair.pool.removeprefix("fact-").replace("_", " ")]
            assert pair.question in attribute.questions
            said = [
                sentence
                for sentence in attribute.said.get(pair.answer, ())
                if any(sentence in turn for turn in users[:-1])
            ]
            if pair.answer in TEXTS.unknown:
                unknown += 1
                assert not any(s in t for v in attribute.said.values() for s in v for t in users)
            else:
                assert said or any(pair.answer in turn for turn in users[:-1])
                assert pair.answer not in users[-1]
    assert 60 < unknown < 180


def test_a_dialog_depends_on_seed_and_number_alone() -> None:
    ten, many = (list(fact_examples(FactSettings(dialogs=count))) for count in (10, 40))
    assert many[:10] == ten
    assert [e.dialog for e in fact_examples(FactSettings(dialogs=10, seed=1))] != [e.dialog for e in ten]
    assert len({e.id for e in many}) == len({e.label for e in many}) == 40


def test_attributes_values_and_places_vary() -> None:
    examples = list(fact_examples(FactSettings(dialogs=1500)))
    pools = {pair.pool for example in examples for pair in example.qa}
    assert len(pools) == len(TEXTS.attributes) >= 10
    assert len({pair.answer for example in examples for pair in example.qa}) > 200
    assert len({len(example.dialog) for example in examples}) > 4
    stated = [sum(pair.answer not in TEXTS.unknown for pair in example.qa) for example in examples]
    assert set(stated) == {1, 2, 3}


def test_articles_fit() -> None:
    texts = " ".join(m["content"] for e in fact_examples(FactSettings(dialogs=3000)) for m in e.dialog)
    assert "as an architect" in texts and " a architect" not in texts and " an carpenter" not in texts
    assert "{" not in texts


GOOD = {
    "attributes": {"pet": {"questions": ["Which pet?"], "statements": ["A {value}."], "values": "cat, dog"}},
    "acknowledgements": ["Hm."],
    "exchanges": [["Q?", "A."]],
    "finals": ["Bye?"],
    "unknown": ["Unsaid."],
}


def changed(**changes: object) -> dict[str, object]:
    return {**GOOD, "attributes": {"pet": {**GOOD["attributes"]["pet"], **changes}}}  # type: ignore[dict-item]


def test_texts_of_your_own(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    (example,) = fact_examples(FactSettings(dialogs=1), read_fact_texts(path))
    assert example.qa[0].answer in ("cat", "dog") and example.dialog[-1]["content"] == "Bye?"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (changed(statements=["A cat."]), "has a statement without {value}"),
        (changed(values="cat"), "at least two values"),
        (changed(said={"a": ["b"]}), "needs statements and values, or said"),
        ({**GOOD, "finals": []}, "finals"),
        ({**GOOD, "final": ["x"]}, "final is not a known field"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, content: dict[str, object], said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match=said):
        read_fact_texts(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Cannot read"):
        read_fact_texts(tmp_path / "none.yaml")
