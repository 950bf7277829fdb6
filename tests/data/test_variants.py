"""The same control in other dialogs."""

from latentqa.data import QA, Example, as_turns, with_completion, with_told_completion


def _example() -> Example:
    return Example(
        id="1",
        label="persona-job-nurse",
        kind="system",
        dialog=[
            {"role": "system", "content": "Please play a nurse."},
            {"role": "user", "content": "I slept badly."},
        ],
        qa=[QA(question="Who is it?", answer="A nurse.")],
        source="ours",
    )


def test_a_control_becomes_a_first_user_turn_with_a_reply() -> None:
    turned = as_turns(_example())
    assert [message["role"] for message in turned.dialog] == ["user", "assistant", "user"]
    assert turned.dialog[0]["content"] == "Please play a nurse."
    assert turned.dialog[2]["content"] == "I slept badly."
    assert (turned.kind, turned.read, turned.label) == ("stimulus", "stimulus", "persona-job-nurse")
    assert turned.qa == _example().qa
    assert turned.id != _example().id


def test_the_reply_says_nothing_of_the_control_and_is_drawn_by_the_id() -> None:
    assert as_turns(_example()) == as_turns(_example())
    assert "nurse" not in as_turns(_example()).dialog[1]["content"].lower()


def test_a_completion_is_read_with_its_stimulus() -> None:
    for example in (_example(), as_turns(_example())):
        completed = with_completion(example, "Let me look at you.", "builtin")
        assert completed.dialog[-1] == {"role": "assistant", "content": "Let me look at you."}
        assert (completed.kind, completed.read, completed.source) == (
            "stimulus_completion",
            "stimulus+completion",
            "builtin",
        )


def test_the_reply_restates_the_control_on_request() -> None:
    example = _example().model_copy(
        update={
            "dialog": [
                {"role": "system", "content": "Please end every answer with a rhyme."},
                _example().dialog[1],
            ]
        }
    )
    reply = as_turns(example, restate=True).dialog[1]["content"]
    assert "I will" in reply
    assert "rhyme" in reply
    assert "rhyme" not in as_turns(example).dialog[1]["content"]


def test_a_control_that_no_rule_reads_is_acknowledged_without_restating_it() -> None:
    example = _example().model_copy(
        update={"dialog": [{"role": "system", "content": "Nurse nurse."}, _example().dialog[1]]}
    )
    assert as_turns(example, restate=True).dialog[1] == as_turns(example).dialog[1]


def test_a_completion_is_told_by_the_reasoning_pair_which_is_then_not_asked() -> None:
    told = QA(question="What next?", answer="It would ask the user for a pulse.", kind="reasoning")
    example = _example().model_copy(update={"qa": [*_example().qa, told]})
    made = with_told_completion(example)
    assert made is not None
    assert made.dialog[-1] == {"role": "assistant", "content": "I would ask you for a pulse."}
    assert made.qa == _example().qa
    assert (made.kind, made.read) == ("stimulus_completion", "stimulus+completion")


def test_nothing_is_told_without_a_reasoning_pair_or_without_another_one() -> None:
    told = QA(question="What next?", answer="It would ask for a pulse.", kind="reasoning")
    assert with_told_completion(_example()) is None
    assert with_told_completion(_example().model_copy(update={"qa": [told]})) is None
