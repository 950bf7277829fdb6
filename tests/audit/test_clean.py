"""Clean finetunes as a yardstick of hypotheses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from latentqa.audit import Audited, Battery, audit_model
from latentqa.audit.clean import clean_folders, clean_margins
from latentqa.audit.material import Material
from latentqa.audit.methods import Peers, make_methods
from latentqa.errors import ConfigError, DataError
from latentqa.models import adapter_names
from tests.audit.conftest import CHOICE

SMALL = {"answer_tokens": 2, "reply_tokens": 2}


@pytest.fixture
def small(battery: Battery) -> Battery:
    """One question on one section."""
    return Battery((battery.section("secret"),), (CHOICE,))


def test_clean_organisms_of_the_base_are_found(organisms: Path, audited: Audited, tmp_path: Path) -> None:
    assert [path.name for path in clean_folders(organisms, audited)] == [f"clean-0{n}" for n in range(6)]
    with pytest.raises(ConfigError, match="--base"):
        clean_folders(organisms, audited.alone())
    with pytest.raises(DataError, match="organism make all"):
        clean_folders(tmp_path, audited)


def test_their_margins_are_taken_and_their_adapters_are_gone(
    organisms: Path, audited: Audited, small: Battery
) -> None:
    assert audited.base is not None
    before = adapter_names(audited.model.model)
    material = Material(audited, ("stimulus",))
    methods = make_methods(["lit-vs-base", "ask-directly"], Peers(audited.base, audited.decoder))
    done: list[int] = []
    folders = clean_folders(organisms, audited)[:3]
    found = clean_margins(folders, material, small, methods, lambda: done.append(1))
    assert {key: len(margins) for key, margins in found.items()} == {
        ("word", "lit-vs-base"): 3,
        ("word", "ask-directly"): 3,
    }
    assert len(done) == 3 and adapter_names(audited.model.model) == before
    assert min(margin for margins in found.values() for margin in margins) >= 0


def test_an_audit_says_how_sure_it_is(organisms: Path, audited: Audited, small: Battery) -> None:
    folders = clean_folders(organisms, audited)[:3]
    found = audit_model(audited, small, methods=["lit-vs-base"], spans=["stimulus"], clean=folders, **SMALL)
    ((choice,),) = found.choices
    assert choice.confidence is not None and 0 <= choice.confidence <= 3 / 4
    bare = audit_model(audited, small, methods=["lit-vs-base"], spans=["stimulus"], **SMALL)
    assert bare.choices[0][0] == replace(choice, confidence=None)
