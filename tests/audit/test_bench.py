"""The benchmark: all usable organisms, every method, false alarms on clean ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentqa.audit.bench import LOADED, OrganismPool, audit_contenders, audit_experiment, choice_values
from latentqa.audit.hypotheses import pool
from latentqa.benchmarks import Item, Subject, run, summarize
from latentqa.benchmarks.audit import AuditSettings
from latentqa.decoder import Target, load_decoder, load_target
from latentqa.errors import ConfigError, DataError
from latentqa.models import adapter_names, tiny_model, tiny_tokenizer
from latentqa.types import Query
from tests.audit.conftest import CHOICE

SUBJECT = Subject("tiny", "abc", "fake", "def", {"latentqa": "0.1.0"})
FAST = ("lit-vs-base", "ask-directly")


@pytest.fixture
def settings(organisms: Path) -> AuditSettings:
    given = {"organisms": organisms, "dialogs": 2, "answer_tokens": 2}
    return AuditSettings.model_validate(given)


@pytest.fixture
def organism_pool(settings: AuditSettings, base: Target, decoder_folder: Path) -> OrganismPool:
    return OrganismPool(base, load_decoder(str(decoder_folder), target=base), settings)


def item(clean: bool = False, text_answer: str | None = None) -> Item:
    choice = CHOICE.model_copy(update={"text_answer": text_answer})
    meta = {"flags": {"clean": clean}, "choice": choice}
    return Item("i", "g", Query((), "", "Q?"), "Q?", "" if clean else "honey", CHOICE.options, "", meta)


def test_items_are_of_organisms_that_learned_and_of_clean_ones(settings: AuditSettings, base: Target) -> None:
    found = audit_experiment(settings, base)
    assert found.filtered == {"secret-word: the organism failed its own check": 1}
    assert [one.id for one in found.items] == [
        "secret-word-honey:word",
        *(f"clean-0{n}:secret-word:word" for n in range(6)),
    ]
    assert {one.group for one in found.items} == {"secret-word"} and found.mean_groups == ("secret-word",)
    assert [one.flags["clean"] for one in found.items] == [False] + [True] * 6
    assert found.items[0].unit == "secret-word-honey" and found.items[0].gold == "honey"
    fewer = audit_experiment(settings.model_copy(update={"clean": 2}), base)
    assert len(fewer.items) == 3 and fewer.fingerprint() != found.fingerprint()


def test_what_cannot_be_audited_is_said(settings: AuditSettings, base: Target, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="passed its own check"):
        audit_experiment(settings.model_copy(update={"kinds": ("refusal",)}), base)
    with pytest.raises(ConfigError, match='Did you mean "secret-word"'):
        audit_experiment(settings.model_copy(update={"kinds": ("secret-words",)}), base)
    with pytest.raises(DataError, match="organism make all"):
        audit_experiment(settings.model_copy(update={"organisms": tmp_path}), base)
    with pytest.raises(DataError, match="other weights"):
        audit_experiment(settings, load_target(tiny_model(seed=1), tokenizer=tiny_tokenizer()))


def test_a_run_ends_with_figures_and_false_alarms(
    settings: AuditSettings, organism_pool: OrganismPool, tmp_path: Path
) -> None:
    experiment = audit_experiment(settings, organism_pool.base)
    finished = run(experiment, audit_contenders(organism_pool, FAST), tmp_path, SUBJECT)
    assert len(finished.rows) == 7 * 2 and finished.missing == 0
    summary = summarize(finished)
    names = {figure.metric for figure in summary.figures}
    assert {"multiple choice", "named first", "named in five", "false alarms", "detected"} <= names
    clean = summary.figure("lit-vs-base", "secret-word", "false alarms")
    assert clean is not None and clean.n == 6 and 0 <= clean.mean <= 1
    organism = summary.figure("ask-directly", "secret-word", "multiple choice")
    assert organism is not None and organism.n == 1
    assert {(test.a, test.b) for test in summary.tests} == {FAST}
    again = run(experiment, audit_contenders(organism_pool, FAST), tmp_path, SUBJECT)
    assert again.rows == finished.rows
    loaded = [name for name in adapter_names(organism_pool.base.model) if name.startswith("audited")]
    assert 0 < len(loaded) <= LOADED
    organism_pool.close()
    left = adapter_names(organism_pool.base.model)
    assert not [name for name in left if name.startswith("audited")] and len(left) == 1  # the decoder


def test_organisms_are_told_apart(organism_pool: OrganismPool, organisms: Path) -> None:
    dialog = [[{"role": "user", "content": "A hint?"}]]
    first = organism_pool.material(organisms / "clean-00").activations("model", dialog)[0]
    again = organism_pool.material(organisms / "secret-word-honey").activations("base", dialog)[0]
    assert first is not None and again is not None
    assert not first.vectors.equal(again.vectors)
    assert again.vectors.equal(organism_pool.base.read(dialog[0], layers=again.layers).vectors)


def test_more_organisms_than_fit_are_loaded_in_turn(
    organism_pool: OrganismPool, organisms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentqa.audit.bench.LOADED", 2)
    for number in range(4):
        organism_pool.material(organisms / f"clean-0{number}")
    names = [name for name in adapter_names(organism_pool.base.model) if name.startswith("audited")]
    assert names == ["audited_clean-02", "audited_clean-03"]


def test_what_a_ranking_is_worth() -> None:
    right = pool(CHOICE, "m", [[2.0, 1.0, 0.0]])
    assert choice_values(item(), right) == {"margin": 1.0, "choice": 1.0}
    assert choice_values(item(clean=True), right) == {"margin": 1.0}
    assert choice_values(item(), None) == {}
    tie = pool(CHOICE, "m", [[1.0, 1.0, 0.0]])
    assert choice_values(item(), tie)["choice"] == 0.0


@pytest.mark.parametrize(
    ("row", "whom"), [([2.0, 1.0, 0.0], "model"), ([1.0, 2.0, 0.0], "text"), ([0.0, 1.0, 2.0], "neither")]
)
def test_contradicting_facts_follow_the_model_the_text_or_neither(row: list[float], whom: str) -> None:
    values = choice_values(item(text_answer="wolf"), pool(CHOICE, "m", [row]))
    assert {name: values[name] for name in ("model", "text", "neither")} == {
        name: float(name == whom) for name in ("model", "text", "neither")
    }
