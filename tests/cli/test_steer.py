"""`latentqa steer`, `chat` and `generate`, for real on a tiny model, and their bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from latentqa.cli.main import app
from latentqa.decoder import Target
from latentqa.models import load_model, tiny_model, tiny_tokenizer
from latentqa.steering import Steering, read_pairs
from tests.steering.conftest import make_decoder

QUICK = ("samples=4", "held_out=2", "batch=2", "pairs_per_sample=1")
STEPS = ("steps=2", "evaluate_every=1")
CONTROL = "Talk about lighthouses whenever you can."
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in `model`, another in `other`, and a random decoder of the first in `decoder`."""
    root = tmp_path_factory.mktemp("steer")
    for name, seed in (("model", 0), ("other", 1)):
        tiny_model(seed=seed).save_pretrained(root / name)
        tiny_tokenizer().save_pretrained(root / name)
    target = Target(load_model(root / "model", device="cpu", dtype="float32"), read_layers=(1, 2))
    make_decoder(target).save_pretrained(root / "decoder")
    (root / "pairs.jsonl").write_text(
        '{"question": "Who is the assistant?", "answer": "A lighthouse keeper."}\n'
        '{"question": "Who is the assistant?", "answer": "A pirate.", "wanted": false}\n'
    )
    (root / "prompts.txt").write_text("Where is the harbour?\nWho speaks here?\nTell me about soup.\n")
    return root


def run(*arguments: object, input: str | None = None) -> Result:
    finished = CliRunner().invoke(app, [str(one) for one in arguments], input=input, prog_name="latentqa")
    assert finished.exit_code == 0, (finished.output, finished.exception)
    return finished


def fails(*arguments: object, code: int = 1, input: str | None = None) -> str:
    finished = CliRunner().invoke(app, [str(one) for one in arguments], input=input, prog_name="latentqa")
    assert finished.exit_code == code, (finished.output, finished.exception)
    assert finished.stdout == ""
    return finished.stderr.strip()


@pytest.fixture
def make(folder: Path) -> Run:
    """A function that makes a steering in a way that works."""

    def made(*arguments: object) -> Result:
        return run("steer", "make", "--decoder", folder / "decoder", "--device", "cpu", *arguments, *QUICK)

    return made


@pytest.fixture(scope="module")
def steerings(folder: Path) -> dict[str, Path]:
    """One steering of each method, made by the command."""
    paths = {}
    for method in ("vector", "weights", "closed-form"):
        paths[method] = folder / f"made-{method}"
        steps = () if method == "closed-form" else STEPS
        strong = () if method == "weights" else ("norm=2",)
        given = ("--qa", folder / "pairs.jsonl", "--control", CONTROL, "--method", method)
        command = ("steer", "make", "--decoder", folder / "decoder", "--device", "cpu", *given)
        run(*command, "--out", paths[method], *QUICK, *steps, *strong, "layers=[1]")
    return paths


@pytest.mark.parametrize("method", ["vector", "weights", "closed-form"])
def test_every_method_makes_a_folder_with_its_card(steerings: dict[str, Path], method: str) -> None:
    card = Steering.load(steerings[method]).card
    assert (card.name, card.method, card.control) == (f"made-{method}", method, CONTROL)
    assert card.layers == (1,) and card.loss_after is not None and card.unwanted_after is not None
    assert [pair.wanted for pair in card.pairs] == [True, False]
    shown = run("steer", "show", steerings[method]).stdout
    for text in (method, CONTROL, "decoder's loss on wanted answers", "on unwanted answers", "2 pairs"):
        assert text in shown
    assert json.loads(run("steer", "show", steerings[method], "--json").stdout)["method"] == method


def test_a_control_becomes_pairs_that_are_shown_and_kept(make: Run, tmp_path: Path) -> None:
    finished = make("--control", CONTROL, "--out", tmp_path / "keeper", *STEPS, "--json")
    row = json.loads(finished.stdout)
    assert row["folder"] == str(tmp_path / "keeper") and row["control"] == CONTROL
    assert len(row["pairs"]) == 12 and "derived from the sentence by rules" in row["notes"][0]
    assert row["notes"][0] in finished.stderr
    assert all(f"+ {pair['question']}  {pair['answer']}" in finished.stderr for pair in row["pairs"])


def test_pairs_can_be_written_edited_and_used(make: Run, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    make("--control", CONTROL, "--pairs", "rules", "--only-pairs", path)
    pairs = read_pairs(path)
    assert len(pairs) == 12 and all("lighthouses" in pair.answer.lower() for pair in pairs)
    path.write_text(path.read_text().replace("lighthouses", "harbours"))
    make("--qa", path, "--out", tmp_path / "harbour", *STEPS)
    printed = run("steer", "show", tmp_path / "harbour", "--pairs").stdout
    assert printed == path.read_text() and "harbours" in printed
    assert Steering.load(tmp_path / "harbour").card.control is None


def test_a_steering_that_is_there_is_replaced_only_if_asked(make: Run, folder: Path, tmp_path: Path) -> None:
    given = ("--qa", folder / "pairs.jsonl", "--out", tmp_path / "gate")
    make(*given, *STEPS, "--name", "first")
    message = fails("steer", "make", "--decoder", folder / "decoder", *given)
    assert "holds a steering already. Name another folder, or pass --overwrite" in message
    make(*given, "--overwrite", *STEPS, "--name", "second")
    assert Steering.load(tmp_path / "gate").name == "second"


def test_a_killed_make_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "gate"
    command = ["steer", "make", "--decoder", folder / "decoder", "--qa", folder / "pairs.jsonl", "--out", out]
    endless = ("steps=100000", "patience=0", "evaluate_every=1")
    process = subprocess.Popen(
        [sys.executable, "-m", "latentqa", *map(str, command), *QUICK, *endless, "--device", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:  # the pairs are shown last before the first step
        if "A pirate." in line:
            break
    time.sleep(1)
    assert process.poll() is None
    process.kill()
    process.wait(timeout=20)
    process.stderr.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_exports(steerings: dict[str, Path], tmp_path: Path) -> None:
    import gguf
    from peft import PeftModel

    run("steer", "export", steerings["vector"], "--out", tmp_path / "a.gguf", "--strength", 0.5)
    assert [tensor.name for tensor in gguf.GGUFReader(tmp_path / "a.gguf").tensors] == ["direction.1"]
    run("steer", "export", steerings["closed-form"], "--to", "safetensors", "--out", tmp_path / "b.bin")
    assert (tmp_path / "b.bin").is_file()
    run("steer", "export", steerings["weights"], "--to", "peft", "--out", tmp_path / "c")
    PeftModel.from_pretrained(tiny_model(), str(tmp_path / "c"))
    message = fails("steer", "export", steerings["weights"], "--out", tmp_path / "d.gguf")
    assert "is a LoRA and cannot be exported as a control vector" in message and "PEFT adapter" in message
    assert "has no adapter" in fails("steer", "export", steerings["vector"], "--out", tmp_path / "e")
    assert "does not say what to write" in fails(
        "steer", "export", steerings["vector"], "--out", tmp_path / "f.txt", code=2
    )
    assert "there is no folder" in fails(
        "steer", "export", steerings["vector"], "--out", tmp_path / "nowhere" / "a.gguf"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "b.bin", "c"]


def test_a_sweep_prints_the_trade_off(steerings: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The assistant will adopt the persona of a lighthouse keeper. " * 20)
    command = ("steer", "sweep", steerings["vector"], "--decoder", folder / "decoder", "--device", "cpu")
    few = ("--strengths", "0.5,2", "--max-new-tokens", "4", "--prompts", folder / "prompts.txt")
    finished = run(*command, *few, "--text", text, "--tokens", "60", "--keywords", "a, b")
    head = finished.stdout.splitlines()[0]
    for title in ("strength", "mentions", "control ratio", "decoder loss", "perplexity", "KL", "repetition"):
        assert title in head
    assert "strength 0.5" in finished.stdout
    report = json.loads(run(*command, *few, "--text", text, "--tokens", "60", "--json").stdout)
    assert [row["strength"] for row in report["rows"]] == [0.0, 0.5, 2.0]
    assert report["rows"][0]["decoder_loss"] != report["rows"][2]["decoder_loss"]


def test_a_sweep_without_text_or_decoder(
    steerings: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LATENTQA_DATA", raising=False)
    few = ("--strengths", "1", "--max-new-tokens", "4", "--prompts", folder / "prompts.txt")
    finished = run("steer", "sweep", steerings["weights"], "--decoder", "none", "--device", "cpu", *few)
    assert "perplexity" not in finished.stdout and "decoder loss" not in finished.stdout
    assert "No perplexity: pass --text FILE" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("--out", "OUT"), 2, "nothing to steer towards"),
        (("--control", CONTROL), 2, "pass --out DIR for the steering, or --only-pairs FILE"),
        (("--control", "  ", "--out", "OUT"), 1, "The control is empty. Say what the target should do"),
        (("--qa", "EMPTY", "--out", "OUT"), 1, "holds no question-answer pair"),
        (("--qa", "nowhere.jsonl", "--out", "OUT"), 1, "cannot be read from nowhere.jsonl"),
        (("--qa", "PAIRS", "--out", "OUT", "--stimuli", "EMPTY"), 1, "has no usable prompt"),
        (
            ("--qa", "PAIRS", "--out", "OUT", "layers=[40]"),
            1,
            "Block 40 cannot be steered: model has 4 blocks",
        ),
        (
            ("--qa", "PAIRS", "--out", "OUT", "layers=[3]"),
            1,
            "Block 3 lies above the last layer that decoder",
        ),
        (("--qa", "PAIRS", "--out", "OUT", "layrs=[1]"), 1, "no setting 'layrs'. Did you mean 'layers'?"),
        (("--qa", "PAIRS", "--out", "OUT", "rank=4"), 1, "There is no setting 'rank'"),
        (("--qa", "PAIRS", "--out", "OUT", "norm=0"), 1, "norm: input should be greater than 0"),
        (
            ("--qa", "WANTED", "--out", "OUT", "answered=100"),
            1,
            "Nothing to steer: decoder tiny already gives",
        ),
        (("--qa", "PAIRS", "--out", "PAIRS"), 1, "pairs.jsonl is a file. Name a folder"),
        (("--qa", "PAIRS", "--out", "MODEL"), 1, "holds something else than a steering"),
        (("--qa", "PAIRS", "--only-pairs", "OUT"), 2, "--qa has them already"),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    folder: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "wanted.jsonl").write_text('{"question": "Who?", "answer": "A nurse."}\n')
    places = {
        "OUT": tmp_path / "out",
        "EMPTY": tmp_path / "empty.jsonl",
        "WANTED": tmp_path / "wanted.jsonl",
        "PAIRS": folder / "pairs.jsonl",
        "MODEL": folder / "model",
    }
    given = [places.get(one, one) for one in arguments]
    message = fails("steer", "make", "--decoder", folder / "decoder", "--device", "cpu", *given, code=code)
    assert sentence in message
    assert not (tmp_path / "out").exists()


def test_a_steering_for_another_model_and_a_damaged_one(
    steerings: dict[str, Path], folder: Path, tmp_path: Path
) -> None:
    command = ("chat", "--steer", steerings["vector"], "--user", "Hi", "--device", "cpu")
    message = fails(*command, "--target", folder / "other")
    assert "Steering made-vector was made for" in message and "with weights hash" in message
    assert "holds no steering" in fails("chat", "--steer", tmp_path, "--user", "Hi")
    assert "holds no steering" in fails("steer", "show", tmp_path)
    assert "is not a finite number" in fails(*command, "--strength", "nan")
    assert "not finite in torch" in fails(*command, "--strength", "1e39")
    assert "1 steerings were given with 2 strengths" in fails(*command, "--strength", 1, "--strength", 2)
    assert "--strength needs a steering" in fails("chat", "--strength", 1, code=2)
    assert "--compare needs a steering" in fails("chat", "--compare", code=2)


def test_a_strength_that_makes_nan_is_one_sentence(steerings: dict[str, Path]) -> None:
    command = (
        "chat",
        "--steer",
        steerings["weights"],
        "--user",
        "Hi",
        "--device",
        "cpu",
        "--dtype",
        "float32",
    )
    message = fails(*command, "--strength", "1e27")
    assert "logits are not finite" in message and "lower the strength" in message


def test_chat_prints_one_reply_or_compares_two(steerings: dict[str, Path], folder: Path) -> None:
    common = ("--user", "Where is the harbour?", "--max-new-tokens", 6, "--device", "cpu")
    plain = run("chat", "--target", folder / "model", *common).stdout
    steered = run("chat", "--steer", steerings["vector"], "--strength", 4, *common).stdout
    assert plain != steered
    both = run("chat", "--steer", steerings["vector"], "--strength", 4, "--compare", *common).stdout
    assert both == f"unsteered\n{plain}steered\n{steered}"
    off = run("chat", "--steer", steerings["vector"], "--strength", 0, *common).stdout
    assert off == plain


def test_a_talk_keeps_its_turns_and_takes_commands(steerings: dict[str, Path], folder: Path) -> None:
    command = ("chat", "--steer", steerings["vector"], "--max-new-tokens", 5, "--device", "cpu")
    lines = "Hi\n/strength 0\nHi\n/new\nHi\n/strength much\n/colour\n\n/strength nan\n/quit\nHi\n"
    finished = run(*command, input=lines)
    first, second, third = finished.stdout.splitlines()
    plain = run("chat", "--target", folder / "model", "--max-new-tokens", 5, input="Hi\n").stdout
    assert third == plain.strip()
    assert second != third  # the second turn has the first before it
    for text in ("'much' is none", "There is no command /colour", "Strength nan is not a finite number"):
        assert text in finished.stderr


def test_generate_writes_and_goes_on(steerings: dict[str, Path], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "replies.jsonl"
    steer = (
        "--steer",
        steerings["vector"],
        "--steer",
        steerings["weights"],
        "--strength",
        2,
        "--strength",
        1,
    )
    command = ("generate", *steer, "--max-new-tokens", 4, "--device", "cpu", "--batch-size", 2)
    run(*command, "--prompts", folder / "prompts.txt", "--out", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 3 and rows[0]["steer"] == ["made-vector", "made-weights"]
    assert rows[0]["strength"] == [2.0, 1.0]
    whole = out.read_text()
    out.write_text(whole[: len(whole) - 5])
    finished = run(*command, "--prompts", folder / "prompts.txt", "--out", out)
    assert "1 replies written, 2 were there already" in finished.stderr and "cut short" in finished.stderr
    assert sorted(out.read_text().splitlines()) == sorted(whole.splitlines())
    printed = run(*command, "--prompts", folder / "prompts.txt", "--json").stdout.splitlines()
    assert {json.loads(line)["reply"] for line in printed} == {row["reply"] for row in rows}
    message = fails(*command[:-4], "--strength", 1, "--prompts", folder / "prompts.txt", "--out", out)
    assert "2 steerings were given with 3 strengths" in message
    other = ("generate", "--target", folder / "model", "--prompts", folder / "prompts.txt", "--device", "cpu")
    assert "row 1 was generated with steer ['made-vector', 'made-weights']" in fails(*other, "--out", out)


def test_generate_takes_dialogs_texts_and_samples(folder: Path, tmp_path: Path) -> None:
    dialogs = tmp_path / "dialogs.jsonl"
    dialogs.write_text('{"id": "one", "dialog": [{"role": "user", "content": "Hi"}]}\n')
    common = ("--target", folder / "model", "--max-new-tokens", 4, "--device", "cpu", "--json")
    (row,) = (json.loads(line) for line in run("generate", "--dialogs", dialogs, *common).stdout.splitlines())
    assert row["dialog"] == "one" and row["steer"] == [] and row["strength"] == []
    drawn = ("--texts", folder / "prompts.txt", "--samples", 2, "--temperature", 1)
    rows = [json.loads(line) for line in run("generate", *drawn, *common).stdout.splitlines()]
    assert len(rows) == 6 and [row.get("sample", 0) for row in rows] == [0, 0, 0, 1, 1, 1]
    assert rows[0]["dialog"] == "Where is the harbour?"
    assert rows[0]["reply"] != rows[3]["reply"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), 2, "give the input once"),
        (("--prompts", "a", "--texts", "b"), 2, "give the input once"),
        (("--prompts", "a", "--samples", 2), 2, "2 greedy replies are all the same"),
        (("--prompts", "a", "--strength", 2), 2, "--strength needs a steering"),
        (("--dialogs", "-", "--system", "x"), 2, "--system goes with --prompts"),
        (("--prompts", "nowhere.txt"), 1, "cannot be read from nowhere.txt"),
        (("--dialogs", "-"), 1, "ends with a turn of the assistant"),
    ],
)
def test_what_cannot_be_generated(arguments: tuple[object, ...], code: int, sentence: str) -> None:
    ended = '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]\n'
    assert sentence in fails("generate", *arguments, code=code, input=ended)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[1]\n", "is no reply of `latentqa generate`"),
        ("{\n", "row 1: not JSON"),
        ('{"a": 1}\n', "is no reply"),
    ],
)
def test_a_damaged_file_of_replies_is_left_alone(
    folder: Path, tmp_path: Path, content: str, sentence: str
) -> None:
    out = tmp_path / "replies.jsonl"
    out.write_text(content)
    command = (
        "generate",
        "--target",
        folder / "model",
        "--prompts",
        folder / "prompts.txt",
        "--device",
        "cpu",
    )
    assert sentence in fails(*command, "--out", out)
    assert out.read_text() == content


def test_the_methods_of_the_command_are_those_of_the_library() -> None:
    from typing import get_args

    from latentqa.cli.steer import Format, PairsFrom
    from latentqa.steering import control
    from latentqa.steering.export import FORMATS

    assert [source.value for source in PairsFrom] == list(get_args(control.Source))
    assert [form.value for form in Format] == list(FORMATS)
