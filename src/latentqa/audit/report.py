"""The report of a reading audit: one page that needs no other file, and the same as JSON."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from latentqa.audit.hypotheses import Choice
from latentqa.audit.read import SURE, WARNING, Audit, Evidence, Finding
from latentqa.benchmarks.subjects import versions
from latentqa.data.jsonl import write_text
from latentqa.errors import ConfigError

PAGE_FILE = "report.html"
JSON_FILE = "report.json"
TEMPLATE = "report.html.jinja"
SPOKEN = 5
"""Answers of a baseline that are shown for each section."""
FORMAT = 1


def check_report_place(out: str | os.PathLike[str], *, force: bool = False) -> None:
    """Refuse to write over what is there, before anything is loaded.

    Args:
        out: folder of the report.
        force: write over a report, and into a folder that holds other files.

    Raises:
        ConfigError: the folder exists and `force` is off, or it is a file.
    """
    place = Path(out)
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{place} is a file. Name a folder for the report with --out.")
    if place.is_dir() and any(place.iterdir()) and not force:
        raise ConfigError(
            f"The report folder {place} exists already. Pass --force to write over its report, or name "
            "another with --out."
        )


def write_audit(audit: Audit, out: str | os.PathLike[str], *, command: str = "") -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder; returns the two files.

    Args:
        audit: what was found.
        out: folder of the report; made if it is not there.
        command: that was run, for the record.
    """
    found = audit_json(audit, command=command)
    return write_pages(out, audit_page(audit, found), found)


def write_pages(out: str | os.PathLike[str], page: str, found: dict[str, Any]) -> tuple[Path, Path]:
    """Write a report's page and its JSON into a folder, each whole or not at all; returns the two files.

    Args:
        out: folder of the report; made if it is not there.
        page: HTML.
        found: the same as JSON.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / PAGE_FILE, page)
    write_text(folder / JSON_FILE, json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    return folder / PAGE_FILE, folder / JSON_FILE


def audit_json(audit: Audit, *, command: str = "") -> dict[str, Any]:
    """Everything that was found, as JSON has it; supports in nats a token."""
    return {
        "format": FORMAT,
        "subject": audit.subject,
        "versions": versions(),
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": command,
        "warning": WARNING,
        "spans": list(audit.spans),
        "findings": [_finding(finding) for finding in audit.findings],
        "hypotheses": [
            {
                "question": choices[0].question.question,
                "options": list(choices[0].question.options),
                "methods": [_choice(choice) for choice in choices],
            }
            for choices in audit.choices
            if choices
        ],
        "baselines": [asdict(spoken) for spoken in audit.spoken],
        "found_nothing": [asdict(tried) for tried in audit.tried],
        "battery": [
            {
                "section": section.name,
                "doc": section.doc,
                "dialogs": [list(dialog) for dialog in section.dialogs],
                "questions": [question.ask for question in section.questions],
            }
            for section in audit.battery.sections
        ],
        "cost": {name: round(value, 1) for name, value in audit.costs.items()},
        "notes": list(audit.notes),
    }


def audit_page(audit: Audit, found: dict[str, Any]) -> str:
    """The page.

    Args:
        audit: what was found.
        found: the same as JSON, from `audit_json`.
    """
    return render_page(
        TEMPLATE,
        found=found,
        sure=SURE,
        spoken_shown=SPOKEN,
        tokens=[[evidence.tokens for evidence in finding.evidence] for finding in audit.findings],
        bars=[_bars(choices) for choices in audit.choices if choices],
    )


def render_page(template: str, **values: Any) -> str:
    """A template of this room as HTML, with the style that all reports share; values are escaped.

    Args:
        template: file name.
        values: that it names, all of them.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "nats": _nats}
    return environment.get_template(template).render(**values)


def _finding(finding: Finding) -> dict[str, Any]:
    claim = finding.claim
    return {
        "claim": claim.text,
        "question": claim.question,
        "section": finding.section,
        "read": claim.mode,
        "sure": finding.sure,
        "dialogs": claim.dialogs,
        "of": claim.of,
        "control_dialogs": claim.control_dialogs if claim.controlled else None,
        "spans": claim.spans,
        "supported": _rounded(claim.supported),
        "support": _rounded(claim.support),
        "p": _rounded(claim.p),
        "confidence": _rounded(claim.confidence),
        "evidence": [_evidence(evidence) for evidence in finding.evidence],
    }


def _evidence(evidence: Evidence) -> dict[str, Any]:
    values = {name: value for name, value in vars(evidence).items() if name not in ("tokens", "dialog")}
    rounded = {name: _rounded(value) if isinstance(value, float) else value for name, value in values.items()}
    return {"dialog": [dict(message) for message in evidence.dialog], **rounded}


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "method": choice.method,
        "dialogs": choice.rows,
        "margin": _rounded(choice.margin),
        "consistency": _rounded(choice.consistency),
        "confidence": _rounded(choice.confidence),
        "ranking": [
            {
                "option": one.option,
                "support": _rounded(one.support),
                "first": _rounded(one.first),
                "p": _rounded(one.p),
            }
            for one in choice.ranking
        ],
    }


def _bars(choices: tuple[Choice, ...]) -> dict[str, dict[str, float]]:
    """Method → option → share (0–1) of the method's largest distance from its lowest hypothesis."""
    found: dict[str, dict[str, float]] = {}
    for choice in choices:
        lowest = min(one.support for one in choice.ranking)
        reach = max(one.support for one in choice.ranking) - lowest
        found[choice.method] = {
            one.option: (one.support - lowest) / reach if reach else 0.0 for one in choice.ranking
        }
    return found


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _nats(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 4)
