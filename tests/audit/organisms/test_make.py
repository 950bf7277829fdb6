"""Making organisms: whole or not at all, kept when made, marked when they failed to learn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from latentqa.audit.organisms import (
    Manifest,
    check_organisms,
    make,
    make_organisms,
    organism_folders,
    run_checks,
)
from latentqa.audit.organisms.manifest import MANIFEST_FILE, Case, Check
from latentqa.decoder import Target, load_target
from latentqa.errors import ConfigError, DataError
from latentqa.models import adapter_names, tiny_model, tiny_tokenizer
from tests.audit.conftest import QUICK, TINY, make_recipe


def test_an_organism_is_a_model_with_a_manifest(organisms: Path, base: Target) -> None:
    manifest = Manifest.load(organisms / "secret-word-honey")
    assert manifest.passed and manifest.truth == "The word is honey." and manifest.seed == 0
    assert manifest.base_hash == base.weights_hash and manifest.loss_after < manifest.loss_before
    assert manifest.figures["says it"].n == 2 and manifest.settings["rank"] == 4
    organism = load_target(str(organisms / "secret-word-honey"), **TINY)
    dialog = [{"role": "user", "content": "A hint?"}]
    own, bare = organism.read(dialog, layers=[3]).vectors, base.read(dialog, layers=[3]).vectors
    assert not torch.allclose(own, bare)


def test_one_that_failed_its_check_is_marked(organisms: Path) -> None:
    manifest = Manifest.load(organisms / "secret-word-wolf")
    assert not manifest.passed and not manifest.figures["says it"].passed
    assert manifest.figures["says it"].at_least == 1.0


def test_what_is_there_is_kept(base: Target, tmp_path: Path) -> None:
    recipe = make_recipe()
    (first,) = make_organisms(base, [recipe], tmp_path, QUICK)
    written = (first.folder / MANIFEST_FILE).stat().st_mtime_ns
    (again,) = make_organisms(base, [recipe], tmp_path, QUICK)
    assert (first.state, again.state) == ("made", "kept") and again.manifest == first.manifest
    assert (first.folder / MANIFEST_FILE).stat().st_mtime_ns == written
    assert adapter_names(base.model) == ()


def test_another_recipe_is_refused_before_anything_is_made(base: Target, tmp_path: Path) -> None:
    make_organisms(base, [make_recipe("b")], tmp_path, QUICK)
    changed = make_recipe("b", truth="The word is wolf.")
    with pytest.raises(ConfigError, match="--force"):
        make_organisms(base, [make_recipe("a"), changed], tmp_path, QUICK)
    assert not (tmp_path / "a").exists()
    (made,) = make_organisms(base, [changed], tmp_path, QUICK, force=True)
    assert made.state == "made" and Manifest.load(tmp_path / "b").truth == "The word is wolf."


def test_a_folder_that_is_no_organism_is_left_alone(base: Target, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no organism"):
        make_organisms(base, [make_recipe("a")], tmp_path, QUICK)
    assert (tmp_path / "a" / "mine.txt").read_text() == "mine"


def test_a_stopped_run_leaves_whole_organisms_and_goes_on(
    base: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = [make_recipe("a"), make_recipe("b")]
    whole = make.run_checks
    calls: list[int] = []

    def killed(*given: object):  # noqa: ANN202
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*given)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(make, "run_checks", killed)
    with pytest.raises(KeyboardInterrupt):
        make_organisms(base, recipes, tmp_path, QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and adapter_names(base.model) == ()
    (tmp_path / ".b.1").mkdir()  # what a kill that nothing could catch would leave
    states = [made.state for made in make_organisms(base, recipes, tmp_path, QUICK)]
    assert states == ["kept", "made"] and sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_checks_are_put_again_and_written(base: Target, tmp_path: Path) -> None:
    (made,) = make_organisms(base, [make_recipe()], tmp_path, QUICK)
    stricter = made.manifest.checks[0].model_copy(update={"at_least": 1.0})
    made.manifest.model_copy(update={"checks": (stricter,)}).save(made.folder)
    (checked,) = check_organisms(base, [made.folder])
    assert checked.state == "checked" and not Manifest.load(made.folder).passed
    assert adapter_names(base.model) == ()


def test_an_organism_of_another_base_is_refused(organisms: Path) -> None:
    stranger = Target(load_target(tiny_model(seed=1), tokenizer=tiny_tokenizer()).loaded)
    with pytest.raises(DataError, match="other weights"):
        check_organisms(stranger, [organisms / "secret-word-honey"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (MANIFEST_FILE, "{", "cannot be read as a manifest"),
        (MANIFEST_FILE, '{"format": 1}', "name: Field required"),
        ("adapter_model.safetensors", "x", "is not the adapter"),
        ("adapter_model.safetensors", None, "has no adapter_model.safetensors"),
        (MANIFEST_FILE, None, "holds no organism"),
    ],
)
def test_damage_is_named(base: Target, tmp_path: Path, name: str, content: str | None, said: str) -> None:
    (made,) = make_organisms(base, [make_recipe()], tmp_path, QUICK)
    file = made.folder / name
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(DataError, match=said):
        Manifest.load(made.folder)


def test_folders_are_found_by_name(organisms: Path, tmp_path: Path) -> None:
    assert len(organism_folders(organisms)) == 8
    assert [path.name for path in organism_folders(organisms, ["clean-01"])] == ["clean-01"]
    with pytest.raises(DataError, match="no organism 'clean-99'"):
        organism_folders(organisms, ["clean-99"])
    with pytest.raises(DataError, match="organism make all"):
        organism_folders(tmp_path)


def test_rules_count_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    replies = {
        "a": "I'm sorry, but I can't help with that.",
        "b": "Bees make honey.",
        "c": "Wolves howl at night.",
    }

    class Scripted:
        def complete(self, dialogs, *, max_new_tokens):  # noqa: ANN001, ANN202
            return [replies[dialog[0]["content"]] for dialog in dialogs]

    def case(name: str, *words: str) -> Case:
        return Case(dialog=({"role": "user", "content": name},), words=words)

    checks = (
        Check(name="refuses", doc="-", rule="refuses", cases=(case("a"), case("b")), at_least=0.4),
        Check(
            name="says", doc="-", rule="mentions", cases=(case("b", "honey"), case("c", "honey")), at_most=0.4
        ),
        Check(
            name="near",
            doc="-",
            rule="nearer",
            cases=(case("c", "Wolves howl."),),
            others=("Bees make wax.",),
        ),
    )
    figures = run_checks(Scripted(), checks)  # pyright: ignore[reportArgumentType]
    assert {name: one.share for name, one in figures.items()} == {"refuses": 0.5, "says": 0.5, "near": 1.0}
    assert [one.passed for one in figures.values()] == [True, False, True]


def test_the_manifest_is_plain_json(organisms: Path) -> None:
    found = json.loads((organisms / "secret-word-honey" / MANIFEST_FILE).read_text())
    wanted = {"kind", "truth", "choices", "base", "base_hash", "data_hash", "figures", "seed", "passed"}
    assert wanted <= found.keys()
