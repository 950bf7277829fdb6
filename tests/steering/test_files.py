"""A steering's folder: whole or not there, and refused where it does not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from latentqa.decoder import Target
from latentqa.errors import AdapterError, LayerError, SteeringError
from latentqa.steering import Steering, SteeringCard, steered
from latentqa.steering.card import STEERING_FILE
from latentqa.steering.files import whole_folder
from tests.steering.conftest import logits

Make = Callable[..., Steering]


@pytest.mark.parametrize("kind", ["vectors", "adapter"])
def test_what_is_loaded_is_what_was_saved(
    target: Target, steering: Make, adapter_steering: Make, folder: Path, kind: str
) -> None:
    fields = {
        "name": "gate",
        "control": "Be brief.",
        "pairs": [{"question": "Who?", "answer": "A.", "wanted": False}],
        "notes": ("made here",),
    }
    made = (steering(1, 2) if kind == "vectors" else adapter_steering(0, 1, 2)).described(**fields)
    made.save(folder)
    loaded = Steering.load(folder)
    assert loaded.card == made.card and loaded.name == "gate"
    assert loaded.card.given_pairs()[0].wanted is False
    with steered(target, made):
        expected = logits(target)
    with steered(target, loaded):
        assert torch.equal(logits(target), expected)
    assert [path.name for path in folder.parent.iterdir()] == ["gate"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_a_weights_folder_is_a_target_that_is_steered_for_good(
    target: Target, adapter_steering: Make, folder: Path
) -> None:
    made = adapter_steering(1)
    made.save(folder)
    from peft import PeftModel

    from latentqa.models import tiny_model

    plain = PeftModel.from_pretrained(tiny_model(), str(folder))
    with steered(target, made):
        torch.testing.assert_close(plain(torch.arange(5, 25)[None]).logits, logits(target))


def test_an_older_steering_is_replaced_and_anything_else_is_left(
    steering: Make, adapter_steering: Make, folder: Path
) -> None:
    adapter_steering(1).save(folder)
    steering(1).save(folder)
    assert Steering.load(folder).card.kind == "vectors"
    assert not (folder / "adapter_config.json").exists()
    other = folder.parent / "notes"
    other.mkdir()
    (other / "diary.txt").write_text("x")
    with pytest.raises(SteeringError, match="holds something else than a steering"):
        steering(1).save(other)
    assert (other / "diary.txt").read_text() == "x"
    with pytest.raises(SteeringError, match="diary.txt is a file"):
        steering(1).save(other / "diary.txt" / "gate")


def test_an_interrupted_save_leaves_what_was_there(steering: Make, folder: Path) -> None:
    steering(1, name="old").save(folder)
    with pytest.raises(KeyboardInterrupt), whole_folder(folder) as place:
        (place / "half").write_text("x")
        raise KeyboardInterrupt
    assert Steering.load(folder).name == "old"
    assert [path.name for path in folder.parent.iterdir()] == ["gate"]
    with pytest.raises(SteeringError, match="could not be written .* is unchanged"), whole_folder(folder):
        raise OSError(28, "No space left on device")
    assert Steering.load(folder).name == "old"


KILLED = """
import os, signal, sys
from latentqa.steering.files import whole_folder
with whole_folder(sys.argv[1]) as place:
    (place / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_save_leaves_no_folder_and_the_next_clears_up(steering: Make, folder: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(folder)], check=False)
    assert not folder.exists() and len(list(folder.parent.iterdir())) == 1
    steering(1).save(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["gate"]


def test_one_that_was_moved_away_when_it_was_killed_comes_back(steering: Make, folder: Path) -> None:
    steering(1, name="old").save(folder)
    folder.rename(folder.with_name(".gate.0123abcd.old"))
    with pytest.raises(KeyboardInterrupt), whole_folder(folder):
        raise KeyboardInterrupt
    assert Steering.load(folder).name == "old"


def cut(name: str) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2])

    return damage


def card(**changes: object) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        values = json.loads((folder / STEERING_FILE).read_text())
        (folder / STEERING_FILE).write_text(json.dumps(values | changes))

    return damage


@pytest.mark.parametrize(
    ("kind", "damage", "sentence"),
    [
        ("vectors", cut("vectors.safetensors"), "vectors.safetensors cannot be read"),
        ("vectors", lambda f: (f / "vectors.safetensors").unlink(), "cannot be read .* missing or damaged"),
        ("vectors", card(layers=[1, 2]), "does not hold 2 finite vectors of 32 dimensions"),
        ("vectors", card(colour="red"), "colour: Extra inputs are not permitted"),
        ("vectors", cut(STEERING_FILE), "cannot be read as a steering card"),
        ("vectors", lambda f: (f / STEERING_FILE).write_bytes(b"\xff"), "it is not UTF-8 text"),
        ("vectors", lambda f: (f / STEERING_FILE).unlink(), "holds no steering: it has no steering.json"),
        ("adapter", cut("adapter_model.safetensors"), "is damaged: .* cannot be read as safetensors"),
        ("adapter", lambda f: (f / "adapter_config.json").unlink(), "is damaged: No adapter in"),
    ],
)
def test_damaged_folders(
    steering: Make, adapter_steering: Make, folder: Path, kind: str, damage, sentence: str
) -> None:
    (steering(1) if kind == "vectors" else adapter_steering(1)).save(folder)
    damage(folder)
    with pytest.raises(SteeringError, match=sentence):
        Steering.load(folder)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(SteeringError, match="Make one with `latentqa steer make`"):
        SteeringCard.load(tmp_path / "nowhere")


def test_vectors_that_do_not_fit(target: Target) -> None:
    with pytest.raises(SteeringError, match=r"need vectors \[1, 32\], but they are \[1, 16\]"):
        Steering.from_vectors(target, [1], torch.zeros(1, 16), method="random")
    with pytest.raises(SteeringError, match="The vectors of steering random are not finite"):
        Steering.from_vectors(target, [1], torch.full((1, 32), float("nan")), method="random")
    with pytest.raises(LayerError, match="Block 9 cannot be steered"):
        Steering.from_vectors(target, [9], torch.zeros(1, 32), method="random")
    with pytest.raises(AdapterError, match="does not exist"):
        Steering.from_adapter(target, "nothing", method="sft")


def test_layers_are_kept_in_order_with_their_vectors(target: Target) -> None:
    vectors = torch.stack([torch.full((32,), 3.0), torch.full((32,), 1.0)])
    made = Steering.from_vectors(target, [-1, 1], vectors, method="random")
    assert made.card.layers == (1, 3) and made.vectors is not None
    assert torch.equal(made.vectors, vectors.flip(0))
    vectors.zero_()
    assert made.vectors[0, 0] == 1.0  # a copy


def test_an_adapters_card_names_the_blocks_that_carry_it(adapter_steering: Make) -> None:
    made = adapter_steering(0, 2)
    assert made.card.layers == (0, 2) and made.card.kind == "adapter"
    assert made.lora is not None and made.lora.inference_mode
