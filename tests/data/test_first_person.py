"""What the assistant would say, as it says it itself."""

import pytest

from latentqa.data.first_person import first_person, speak


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("It would greet the user and ask about its garden.", "I would greet you and ask about my garden."),
        ("The assistant would praise the user's bread.", "I would praise your bread."),
        ("It will speak as a nurse.", "I will speak as a nurse."),
        ("The reply would say that it knows the tune itself.", "I would say that I know the tune myself."),
    ],
)
def test_the_assistant_becomes_i_and_the_user_you(told: str, said: str) -> None:
    assert first_person(told) == said


def test_a_long_quotation_stands_for_the_whole_completion() -> None:
    answer = "It would say 'Aye, the boat leaves when the captain's awake', then hum."
    assert speak(answer) == "Aye, the boat leaves when the captain's awake."


def test_short_quotations_stay_inside_what_is_told() -> None:
    assert speak("It would write 'hm' and no more.") == "I would write 'hm' and no more."


def test_quotations_of_one_answer_are_joined_as_sentences() -> None:
    answer = 'It would open with "my dearest friend of old" and close with "yours until the tide turns".'
    assert speak(answer) == "My dearest friend of old. Yours until the tide turns."
