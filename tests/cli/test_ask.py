"""`latentqa ask` with a scripted decoder: what is printed, what is written, how a batch resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import Result

from latentqa.cli import options
from latentqa.decoder import PRESETS
from latentqa.reader import FakeReader

KEYS = "dialog question answer verdict support percentile logprob read_layers span decoder n_tokens".split()
PIRATE = [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "Hi"}]
DIALOGS = [
    {"id": "first", "dialog": PIRATE},
    {"messages": [{"role": "user", "content": "Hello"}]},
    [{"role": "user", "content": "A\u2028line separator"}, {"role": "assistant", "content": "Yes."}],
]
QUESTIONS = ["Who?", "How will it speak?"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Options that name a file of three dialogs and a file of two questions."""
    dialogs, questions = tmp_path / "dialogs.jsonl", tmp_path / "questions.txt"
    dialogs.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in DIALOGS) + "\n", encoding="utf-8"
    )
    questions.write_text("\n\n".join(QUESTIONS) + "\n")
    return ("--dialogs", str(dialogs), "--questions", str(questions))


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_options_make_the_dialog(latentqa: Callable[..., Result], decoder) -> None:
    latentqa("ask", "--system", "Be brief.", "--user", "Hi", "--read", "last:4", "Who?", "How?")
    assert [query.question for query in decoder.queries] == ["How?", "Who?"]
    query = decoder.queries[0]
    assert query.dialog == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert query.span == "last:4" and query.activation is None


def test_the_decoders_own_span_is_the_default(latentqa: Callable[..., Result], decoder) -> None:
    latentqa("ask", "--user", "Hi", "Who?")
    assert decoder.queries[0].span == "stimulus"


def test_people_read_answers_with_their_verdicts_in_the_order_asked(
    latentqa: Callable[..., Result], decoder, files
) -> None:
    finished = latentqa("ask", *files)
    assert finished.exit_code == 0
    places = [finished.stdout.index(text) for text in ("You are a pirate.", "Hello", "line separator")]
    assert places == sorted(places)
    first = finished.stdout[: places[1]]
    assert first.index("Who?") < first.index("A lighthouse keeper.") < first.index("How will it speak?")
    assert "supported" in first and "not sure" in first and "+1.00 nats" in first
    assert finished.stderr.startswith("asking: 6/6, ") and finished.stderr.count("\n") == 1


def test_json_prints_one_object_a_line_with_the_designed_keys(
    latentqa: Callable[..., Result], decoder, files
) -> None:
    found = [json.loads(line) for line in latentqa("ask", "--json", *files).stdout.splitlines()]
    assert all(list(row) == KEYS for row in found)
    assert [row["question"] for row in found] == QUESTIONS * 3
    keeper = {"answer": "A lighthouse keeper.", "verdict": "supported", "support": 1.0, "percentile": 100.0}
    assert found[0].items() >= ({"dialog": "first", "question": "Who?", "n_tokens": 3} | keeper).items()
    assert len({row["dialog"] for row in found}) == 3


def test_standard_input_is_read(latentqa: Callable[..., Result], decoder) -> None:
    finished = latentqa("ask", "--dialogs", "-", "--json", "Who?", input=json.dumps(DIALOGS[0]) + "\n\n")
    assert json.loads(finished.stdout)["dialog"] == "first"


def test_settings_reach_the_decoder(latentqa: Callable[..., Result], decoder) -> None:
    given = ("--max-new-tokens", "7", "--temperature", "0.5", "--reference", "shuffled", "--batch-size", "3")
    latentqa("ask", "--user", "Hi", *given, "--guidance", "0.5", "Who?")
    assert decoder.settings == {
        "max_new_tokens": 7,
        "temperature": 0.5,
        "reference": "shuffled",
        "batch_size": 3,
        "samples": 0,
        "specificity": False,
        "max_error": None,
        "guidance": 0.5,
    }
    latentqa("ask", "--user", "Hi", "--samples", "4", "--specificity", "--max-error", "0.2", "Who?")
    assert decoder.settings.items() >= {"samples": 4, "specificity": True, "max_error": 0.2}.items()
    assert len(decoder.queries) == 2


def test_what_was_computed_about_an_answer_is_shown(
    latentqa: Callable[..., Result], decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = decoder._answer
    signals = {"p_correct": 0.8125, "agreement": 0.75, "specificity": 0.9}
    monkeypatch.setattr(decoder, "_answer", lambda query: replace(plain(query), **signals))
    printed = latentqa("ask", "--user", "Hi", "Who?").stdout
    assert "p(correct) 0.81" in printed and "75% of samples agree" in printed
    assert "fits better than 90% of other dialogs" in printed
    row = json.loads(latentqa("ask", "--user", "Hi", "--json", "Who?").stdout)
    assert row.items() >= signals.items()


def test_explain_puts_the_question_to_controls_too(
    latentqa: Callable[..., Result], decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(name: str, context: object) -> FakeReader:
        return FakeReader({"Who?": f"{name} says"})

    monkeypatch.setattr("latentqa.baselines.make_reader", make)
    printed = latentqa("ask", "--user", "Hi", "--explain", "Who?").stdout
    said = [printed.index(f"{name} says") for name in ("no-activation", "shuffled", "text-given")]
    assert printed.index("A lighthouse keeper.") < said[0] < said[1] < said[2]
    row = json.loads(latentqa("ask", "--user", "Hi", "--explain", "--json", "Who?").stdout)
    assert row["controls"]["text-given"] == "text-given says"


@pytest.mark.parametrize("verb", [("ask", "--user", "Hi", "Who?"), ("evaluate",)])
def test_preset_and_read_layers_reach_the_loading_of_the_decoder(
    latentqa: Callable[..., Result], decoder, sample_dir: Path, monkeypatch: pytest.MonkeyPatch, verb
) -> None:
    monkeypatch.setattr("latentqa.cli.evaluate.data_folder", lambda *_: sample_dir)
    latentqa(*verb, "--decoder", "theirs", "--preset", "nla", "--read-layer", "3", "--read-layer", "5")
    assert decoder.loaded.items() >= {"decoder": "theirs", "preset": "nla", "read_layers": [3, 5]}.items()
    latentqa(*verb)
    assert decoder.loaded["preset"] is None and decoder.loaded["read_layers"] == ()


def test_the_presets_are_those_of_the_library() -> None:
    assert [preset.value for preset in options.Preset] == list(PRESETS)


def test_samples_are_drawn_with_their_own_seeds(latentqa: Callable[..., Result], decoder) -> None:
    options = ("--samples", "3", "--temperature", "1", "--json")
    found = [
        json.loads(line) for line in latentqa("ask", "--user", "Hi", *options, "Who?").stdout.splitlines()
    ]
    keeper = "A lighthouse keeper."
    assert [row["answer"] for row in found] == [keeper, f"{keeper} (1)", f"{keeper} (2)"]
    assert [row.get("sample") for row in found] == [None, 1, 2]


def test_an_interrupted_batch_resumes_where_it_stopped(
    latentqa: Callable[..., Result], decoder, files, tmp_path
) -> None:
    out = tmp_path / "answers.jsonl"
    decoder.fail_at = 4
    assert latentqa("ask", *files, "--out", str(out)).exit_code == 130
    assert len(rows(out)) == 4
    with out.open("a") as file:
        file.write('{"dialog": "first", "ques')
    decoder.fail_at = None
    finished = latentqa("ask", *files, "--out", str(out))
    assert finished.exit_code == 0 and finished.stdout == ""
    assert "cut short" in finished.stderr and "2 answers written, 4 were there already" in finished.stderr
    assert len(decoder.queries) == 6
    assert len({(row["dialog"], row["question"]) for row in rows(out)}) == 6
    latentqa("ask", *files, "--out", str(out))
    assert len(decoder.queries) == len(rows(out)) == 6


def test_resumed_samples_are_told_apart(latentqa: Callable[..., Result], decoder, tmp_path) -> None:
    command = (
        "ask",
        "--user",
        "Hi",
        "--temperature",
        "1",
        "--out",
        str(tmp_path / "out.jsonl"),
        "Who?",
        "--samples",
    )
    latentqa(*command, "2")
    latentqa(*command, "3")
    assert len(rows(tmp_path / "out.jsonl")) == len(decoder.queries) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json\n", "row 1: not JSON"),
        ('{"dialog": "a"}\n', "is no answer of `latentqa ask`"),
        ("[1]\n", "is no answer of `latentqa ask`"),
        (
            '{"dialog": "a", "question": "b", "decoder": "fake", "read_layers": [], "span": "all"}\n',
            "row 1 was answered with span 'all', and this run uses 'stimulus'",
        ),
        (
            '{"dialog": "a", "question": "b", "decoder": "other", "read_layers": [], "span": "stimulus"}\n',
            "row 1 was answered with decoder 'other'",
        ),
        (
            '{"dialog": "a", "question": "b", "decoder": "fake", "read_layers": [3], "span": "stimulus"}\n',
            "row 1 was answered with read_layers [3], and this run uses []",
        ),
    ],
)
def test_a_file_that_is_not_ours_is_left_as_it_is(
    latentqa: Callable[..., Result], decoder, tmp_path, content: str, message: str
) -> None:
    out = tmp_path / "answers.jsonl"
    out.write_text(content)
    finished = latentqa("ask", "--user", "Hi", "Who?", "--out", str(out))
    assert finished.exit_code == 1
    assert message in finished.stderr
    assert out.read_text() == content and decoder.queries == []


def test_a_missing_span_stops_the_batch_before_it_begins_and_names_the_dialog(
    latentqa: Callable[..., Result], decoder, files
) -> None:
    finished = latentqa("ask", *files, "--read", "nowhere")
    assert finished.exit_code == 1
    assert "Dialog first: There is no span 'nowhere'" in finished.stderr
    assert decoder.queries == []
