"""Material: computed once, base results shared between audits, replies where a span needs them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from latentqa.audit import Audited
from latentqa.audit.material import Material, default_spans
from latentqa.errors import SpanError

DIALOGS = [[{"role": "user", "content": text}] for text in ("A hint?", "Another?")]


@pytest.fixture
def asked(audited: Audited, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers and scores the decoder was asked for at a time."""
    counts: list[int] = []

    def counting(name: str) -> Callable[..., object]:
        whole = getattr(audited.decoder, name)

        def call(pairs, *more, **options):  # noqa: ANN001, ANN002, ANN003, ANN202
            counts.append(len(pairs))
            return whole(pairs, *more, **options)

        return call

    monkeypatch.setattr(audited.decoder, "ask_many", counting("ask_many"))
    monkeypatch.setattr(audited.decoder, "score_many", counting("score_many"))
    return counts


def test_nothing_is_computed_twice(material: Material, asked: list[int]) -> None:
    first = material.answers("model", DIALOGS, ["Who?", "Why?"])
    assert len(first) == 4 and asked == [4]
    assert [one.answer.text for one in material.answers("model", DIALOGS, ["Who?", "Why?"])] == [
        one.answer.text for one in first
    ]
    again = material.supports("model", DIALOGS, "Who?", ["A.", "B."])
    assert asked == [4, 2] and material.supports("model", DIALOGS, "Who?", ["A.", "B."]) == again
    assert asked == [4, 2] and material.rows == 4 + 4


def test_the_base_is_remembered_and_the_model_is_not(audited: Audited, asked: list[int]) -> None:
    memory: dict = {}
    for _ in range(2):
        material = Material(audited, ("stimulus",), answer_tokens=2, memory=memory)
        for mode in ("model", "base", "difference", "nothing"):
            material.answers(mode, DIALOGS, ["Who?"])
    assert asked[:3] == [2, 2, 2] and len(asked) == 6  # "nothing" is the same for every dialog of one length
    assert asked[4:] == [2, 2]  # of the second audit the model and the difference alone


def test_answers_are_put_where_they_belong(material: Material) -> None:
    said = material.answers("base", DIALOGS, ["Who?", "Why?"])
    assert [(one.place.number, one.answer.question) for one in said] == [
        (0, "Who?"),
        (0, "Why?"),
        (1, "Who?"),
        (1, "Why?"),
    ]
    assert {one.mode for one in said} == {"base"} and material.modes == (
        "model",
        "base",
        "difference",
        "nothing",
    )
    own = material.audited.decoder.ask_many(
        [(material.activations("base", DIALOGS)[1], "Why?")],
        max_new_tokens=3,  # pyright: ignore
    )
    assert own[0].text == said[3].answer.text


def test_a_span_with_the_reply_reads_the_models_own(audited: Audited) -> None:
    material = Material(audited, reply_tokens=3)
    assert material.spans == ("stimulus", "stimulus+completion") == default_spans(audited)
    places = material.places(DIALOGS[:1])
    replied = [place for place in places if place.replied]
    assert [place.span for place in replied] == ["stimulus+completion"]
    assert replied[0].dialog[-1]["content"] == material.replies(DIALOGS[:1])[0]
    model, base = material.activations("model", DIALOGS[:1]), material.activations("base", DIALOGS[:1])
    assert model[1].token_ids == base[1].token_ids  # pyright: ignore[reportOptionalMemberAccess]


def test_a_dialog_that_ends_with_the_assistant_is_read_as_it_is(audited: Audited) -> None:
    material = Material(audited, ("completion",), reply_tokens=3)
    whole = [*DIALOGS[0], {"role": "assistant", "content": "It is sweet."}]
    (place,) = material.places([whole])
    assert not place.replied and place.dialog == whole and material.replies([whole]) == [""]


def test_a_span_that_is_not_there_is_named(audited: Audited) -> None:
    with pytest.raises(SpanError, match="control"):
        Material(audited, ("control",)).places(DIALOGS)


def test_alone_there_is_nothing_to_compare_with(audited: Audited) -> None:
    assert Material(audited.alone()).modes == ("model",)


def test_support_elsewhere_is_that_of_the_same_answer_on_the_base(material: Material) -> None:
    (said,) = material.answers("model", DIALOGS[:1], ["Who?"])
    found = material.support_elsewhere("base", said)
    (activation,) = material.activations("base", DIALOGS[:1])
    (scores,) = material.audited.decoder.score_many([(activation, "Who?")], [[said.answer.text]])  # pyright: ignore
    assert found == pytest.approx(scores[0].support, abs=1e-5)


def test_states_at_other_layers_are_those_of_the_target(material: Material) -> None:
    (state, _) = material.states("model", DIALOGS, (0, 3))
    assert torch.equal(state.vectors, material.audited.model.read(DIALOGS[0], layers=(0, 3)).vectors)
