"""The whole reading audit on a tiny model, and its report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latentqa.audit import (
    METHODS,
    Audit,
    Audited,
    Battery,
    audit_json,
    audit_model,
    check_report_place,
    load_battery,
    write_audit,
)
from latentqa.audit.read import WARNING, WITHHELD
from latentqa.errors import ConfigError

SHORT: dict[str, Any] = {"answer_tokens": 3, "reply_tokens": 2}
SPEECH = "<script>alert(1)</script> & so on"


@pytest.fixture(scope="module")
def whole(organisms: Path, decoder_folder: Path) -> tuple[Audit, list[tuple[int, int]]]:
    """An audit of the organism with a dialog of the user's own, and what was told on the way."""
    from latentqa.audit import load_audited
    from tests.audit.conftest import TINY

    audited = load_audited(str(organisms / "secret-word-honey"), decoder=str(decoder_folder), **TINY)
    battery = load_battery([[{"role": "user", "content": SPEECH}]], ["What is it?"]).limited(1, 1)
    told: list[tuple[int, int]] = []
    return audit_model(audited, battery, progress=lambda *now: told.append(now), **SHORT), told


@pytest.fixture
def page(whole: tuple[Audit, Any], tmp_path: Path) -> str:
    found, data = write_audit(whole[0], tmp_path / "report", command="latentqa audit read x")
    assert json.loads(data.read_text())["command"] == "latentqa audit read x"
    return found.read_text()


def test_everything_that_was_tried_is_in_the_result(whole: tuple[Audit, Any]) -> None:
    audit, told = whole
    sections = [section.name for section in audit.battery.sections]
    asked = {(tried.section, tried.method) for tried in audit.tried} | {
        (finding.section, "lit-vs-base" if finding.claim.mode == "model" else "lit-difference")
        for finding in audit.findings
        if finding.sure
    }
    assert asked == {(name, method) for name in sections for method in ("lit-vs-base", "lit-difference")}
    assert len(audit.choices) == 3
    assert {choice.method for choice in audit.choices[0]} == set(METHODS)
    assert {spoken.method for spoken in audit.spoken} == {
        "ask-directly",
        "prefill",
        "text-given",
        "logit-lens",
    }
    assert set(audit.costs) == {*METHODS, "decoder rows"} and audit.costs["decoder rows"] > 50
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == sorted(done for done, _ in told)


def test_findings_carry_their_evidence(whole: tuple[Audit, Any]) -> None:
    audit, _ = whole
    assert audit.findings and all(finding.claim.excess > 0 for finding in audit.findings)
    for finding in audit.findings:
        assert finding.evidence and len({repr(one.dialog) for one in finding.evidence}) == len(
            finding.evidence
        )
        for one in finding.evidence:
            assert one.control_answer is not None and one.verdict in ("supported", "not sure")
            assert "<span" in one.tokens
        assert not finding.sure  # one dialog a section: nothing recurs


def test_the_json_is_whole(whole: tuple[Audit, Any]) -> None:
    found = json.loads(json.dumps(audit_json(whole[0])))
    assert found["warning"] == WARNING and found["subject"]["base_hash"] == found["subject"]["weights_hash"]
    assert {
        "findings",
        "hypotheses",
        "baselines",
        "found_nothing",
        "battery",
        "cost",
        "notes",
    } <= found.keys()
    ranking = found["hypotheses"][0]["methods"][0]["ranking"]
    assert {one["option"] for one in ranking} == set(found["hypotheses"][0]["options"])
    assert set(found["findings"][0]["evidence"][0]) >= {
        "dialog",
        "span",
        "answer",
        "support",
        "control_answer",
    }


def test_the_page_needs_nothing_else_and_escapes_what_models_say(page: str) -> None:
    assert page.lstrip().startswith("<!doctype html>") and "@media print" in page
    assert not any(sign in page for sign in ("http://", "https://", "<link", "<script", "@import", "src="))
    assert "&lt;script&gt;alert(1)" in page
    assert "Silence is no proof" in page and "Tried, and found nothing" in page
    assert page.count("<h2") == page.count("</h2>") and page.count("<details") == page.count("</details>")
    assert page.count("<table") == page.count("</table>")


def test_replies_to_own_dialogs_are_kept_only_if_asked_for(audited: Audited) -> None:
    own = load_battery([[{"role": "user", "content": "Mine"}]], ["What?"]).section("own")
    given: dict[str, Any] = {"spans": ["stimulus+completion"], "methods": ["lit"], **SHORT}
    hidden = audit_model(audited.alone(), Battery((own,)), **given)
    kept = audit_model(audited.alone(), Battery((own,)), keep_completions=True, **given)
    assert hidden.findings and len(hidden.findings) == len(kept.findings)
    for one, other in zip(hidden.findings, kept.findings, strict=True):
        (without,), (whole,) = one.evidence, other.evidence
        assert [turn["role"] for turn in without.dialog] == ["user"] and without.reply == WITHHELD
        assert [turn["role"] for turn in whole.dialog] == ["user", "assistant"]
        assert whole.reply == whole.dialog[-1]["content"] and len(without.tokens) < len(whole.tokens)


def test_without_a_base_the_model_is_read_alone(audited: Audited, battery: Battery, tmp_path: Path) -> None:
    found = audit_model(audited.alone(), battery, methods=["lit", "lit-vs-base"], **SHORT)
    assert found.subject["base"] is None and "No base is known" in found.notes[0]
    assert all(finding.claim.mode == "model" for finding in found.findings)
    assert all(one.control_answer is None for finding in found.findings for one in finding.evidence)
    page, _ = write_audit(found, tmp_path)
    assert "Read alone: no base is known." in page.read_text()


def test_a_finetune_that_changes_nothing_is_said_to(audited: Audited, battery: Battery) -> None:
    same = replace(audited, model=audited.base)
    found = audit_model(same, battery, methods=["lit-vs-base", "lit-difference"], **SHORT)
    assert any("changes nothing at the read layers (2)" in note for note in found.notes)
    assert found.findings == () and {tried.method for tried in found.tried} == {"lit-vs-base"}


def test_a_report_is_not_written_over(tmp_path: Path) -> None:
    check_report_place(tmp_path / "new")
    check_report_place(tmp_path)  # an empty folder
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        check_report_place(tmp_path)
    check_report_place(tmp_path, force=True)
    with pytest.raises(ConfigError, match="is a file"):
        check_report_place(tmp_path / "report.html", force=True)
