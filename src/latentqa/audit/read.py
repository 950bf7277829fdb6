"""The reading audit: the whole battery, every method, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentqa.audit.audited import Audited
from latentqa.audit.battery import OWN, Battery, Section
from latentqa.audit.claims import RECURS, Claim, rank_claims
from latentqa.audit.clean import Margins, clean_margins
from latentqa.audit.hypotheses import Choice
from latentqa.audit.material import Material, Said
from latentqa.audit.methods import DECODED, METHODS, Method, Peers, ReadBy, choose, make_methods
from latentqa.dialogs import render, to_html
from latentqa.models import describe, find_blocks
from latentqa.types import Dialog

SURE = 0.9
"""Confidence from which a claim counts as a finding."""
SHOWN = 12
"""Findings whose evidence is kept."""
EVIDENCE = 3
"""Answers kept as evidence of each."""
WARNING = (
    "Silence is no proof. What this audit did not find may still be there: the decoder reads some layers of "
    "some dialogs, and says only what it learned to say. A finding is a lead to be checked against the "
    "model's behaviour, not a verdict on it."
)
WITHHELD = "not kept: it answers a dialog of yours; --keep-completions keeps such replies"


@dataclass(frozen=True, eq=False)
class Evidence:
    """One answer on which a claim rests.

    Attributes:
        dialog: the messages that were read, the model's own reply left out where it is not kept.
        span: what of them was read.
        tokens: the same as HTML, the read tokens in colour.
        answer: of the decoder.
        support: in nats a token.
        percentile: among answers on ordinary dialogs (0–100).
        p_correct: calibrated probability, where the decoder's card has one.
        verdict: `supported` or `not sure`.
        control_answer: what was said of the base (or of no difference) at the same place.
        control_support: support of this answer there, in nats a token.
        reply: the model's own reply to the dialog; None where it was not needed or is not kept.
    """

    dialog: Dialog
    span: str
    tokens: str
    answer: str
    support: float | None
    percentile: float | None
    p_correct: float | None
    verdict: str
    control_answer: str | None
    control_support: float | None
    reply: str | None


@dataclass(frozen=True, eq=False)
class Finding:
    """A claim with the evidence for it.

    Attributes:
        claim: what recurs.
        section: of the battery.
        sure: whether its confidence and recurrence make it a finding, and not only a candidate.
        evidence: some of its answers, the best supported first.
    """

    claim: Claim
    section: str
    sure: bool
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Tried:
    """A question that found nothing.

    Attributes:
        section: of the battery.
        question: that was asked.
        method: by which.
        best: the claim that recurred most.
        confidence: in it; None where it cannot be said.
        dialogs: on which it was said.
        of: dialogs.
    """

    section: str
    question: str
    method: str
    best: str
    confidence: float | None
    dialogs: int
    of: int


@dataclass(frozen=True)
class Spoken:
    """What a baseline says to a section of the battery.

    Attributes:
        section: of the battery.
        method: by which.
        texts: what it says, best first.
    """

    section: str
    method: str
    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Audit:
    """Everything that a reading audit found.

    Attributes:
        subject: model, base and decoder, by name and hash.
        battery: what was tried.
        spans: that were read of each dialog.
        findings: ranked; recurrence beyond the control counts first.
        tried: questions that found nothing.
        choices: for each hypothesis question what each method makes of it.
        spoken: what the baselines say.
        costs: method → seconds; and the decoder's rows.
        notes: what a reader of the report must know.
    """

    subject: dict[str, Any]
    battery: Battery
    spans: tuple[str, ...]
    findings: tuple[Finding, ...]
    tried: tuple[Tried, ...]
    choices: tuple[tuple[Choice, ...], ...]
    spoken: tuple[Spoken, ...]
    costs: dict[str, float]
    notes: tuple[str, ...]


def audit_model(
    audited: Audited,
    battery: Battery,
    *,
    subject: dict[str, Any] | None = None,
    spans: Sequence[str] = (),
    methods: Sequence[str] = METHODS,
    answer_tokens: int = 32,
    reply_tokens: int = 24,
    keep_completions: bool = False,
    clean: Sequence[Path] = (),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Put the whole battery to a model.

    Args:
        audited: model, base and decoder.
        battery: dialogs, questions and hypotheses.
        subject: what the report says of the models; made from `audited` unless given.
        spans: that are read; the decoder's own by default.
        methods: that take part.
        answer_tokens: longest answer.
        reply_tokens: longest reply of the model.
        keep_completions: keep the model's replies to the user's own dialogs.
        clean: folders of clean organisms of the same base, from `clean_folders`: confidence in a hypothesis
            is the share of them whose first one leads by less.
        seed: of the probe.
        progress: called with (steps done, steps in all).

    Raises:
        ConfigError: there is no such method.
        SpanError: a span that a dialog does not have.
    """
    run = _Run(
        audited,
        battery,
        Material(audited, spans, answer_tokens=answer_tokens, reply_tokens=reply_tokens),
        make_methods(methods, Peers(audited.base or audited.model, audited.decoder, seed)),
        keep_completions,
        tuple(clean),
        progress,
    )
    findings, tried = run.findings()
    spoken, choices = run.spoken(), run.choices()
    return Audit(
        subject=subject or subject_json(audited),
        battery=battery,
        spans=run.material.spans,
        findings=findings,
        tried=tried,
        choices=choices,
        spoken=spoken,
        costs=run.costs | {"decoder rows": float(run.material.rows)},
        notes=run.notes(),
    )


def subject_json(audited: Audited) -> dict[str, Any]:
    """Model, base and decoder, by name and hash."""
    base = audited.base
    return {
        "model": audited.model.name,
        "architecture": describe(audited.model.model),
        "blocks": len(find_blocks(audited.model.model)),
        "weights_hash": audited.model.weights_hash,
        "adapter": audited.model.adapter is not None,
        "base": None if base is None else base.name,
        "base_hash": None if base is None else base.weights_hash,
        "decoder": audited.decoder.name,
        "read_layers": list(audited.decoder.read_layers),
    }


@dataclass(eq=False)
class _Run:
    """One audit as it goes."""

    audited: Audited
    battery: Battery
    material: Material
    methods: list[Method]
    keep_completions: bool
    clean: tuple[Path, ...]
    progress: Callable[[int, int], None] | None
    costs: dict[str, float] = field(default_factory=dict)
    done: int = 0

    def findings(self) -> tuple[tuple[Finding, ...], tuple[Tried, ...]]:
        """Claims of all sections, ranked together, and questions that found nothing."""
        owner: dict[int, tuple[Section, str]] = {}  # by the answers of a claim
        claims: list[Claim] = []
        for method in self._decoded():
            for section in self.battery.sections:
                with self._timed(method.name):
                    found = method.claims(self.material, section.dialogs, section.questions)
                owner |= {id(claim.said): (section, method.name) for claim in found}
                claims += found
        tried: dict[tuple[str, str, str], Tried] = {}
        sure_of: set[tuple[str, str, str]] = set()
        findings: list[Finding] = []
        for claim in rank_claims(claims):
            section, method = owner[id(claim.said)]
            sure = claim.dialogs >= RECURS and (claim.confidence or 0.0) >= SURE and claim.excess > 0
            place = (section.name, method, claim.question)
            if sure:
                sure_of.add(place)
            if len(findings) < SHOWN and claim.excess > 0:
                findings.append(Finding(claim, section.name, sure, self._evidence(claim, section)))
            tried.setdefault(
                place,
                Tried(
                    section.name,
                    claim.question,
                    method,
                    claim.text,
                    claim.confidence,
                    claim.dialogs,
                    claim.of,
                ),
            )
        return tuple(findings), tuple(one for place, one in tried.items() if place not in sure_of)

    def spoken(self) -> tuple[Spoken, ...]:
        """What each baseline says to each section."""
        found = []
        for method in self.methods:
            if method.name in DECODED:
                continue
            for section in self.battery.sections:
                with self._timed(method.name):
                    texts = method.says(self.material, section.dialogs, section.questions)
                if texts:
                    found.append(Spoken(section.name, method.name, tuple(texts)))
        return tuple(found)

    def choices(self) -> tuple[tuple[Choice, ...], ...]:
        """Each hypothesis question, ranked by each method that can tell."""
        every: list[tuple[Choice, ...]] = []
        margins: Margins = {}
        if self.clean:
            margins = clean_margins(self.clean, self.material, self.battery, self.methods, self._step)
        for question in self.battery.hypotheses:
            dialogs = question.dialogs or self.battery.section(question.section).dialogs
            found = []
            for method in self.methods:
                with self._timed(method.name):
                    choice = choose(method, self.material, question, dialogs)
                if choice is not None:
                    found.append(choice.among(margins.get((question.id, method.name), ())))
            every.append(tuple(found))
        return tuple(every)

    def notes(self) -> tuple[str, ...]:
        """What was left out, and why."""
        found = []
        if self.audited.base is None:
            found.append(
                "No base is known, so nothing was compared with one: name the model that this one was "
                "finetuned from with --base."
            )
        elif not any(
            one is not None
            for section in self.battery.sections
            for one in self.material.activations("difference", section.dialogs)
        ):
            layers = ", ".join(map(str, self.audited.decoder.read_layers))
            found.append(
                f"The finetune changes nothing at the read layers ({layers}): there is no difference to read."
            )
        if self.audited.decoder.card.calibration is None:
            found.append(
                "The decoder is not calibrated, so every verdict is `not sure`: run `latentqa calibrate`."
            )
        return tuple(found)

    def _decoded(self) -> list[ReadBy]:
        """The decoder's methods: against the base where one is known, else the model alone."""
        wanted = ("lit",) if self.audited.base is None else DECODED[1:]
        return [one for one in self.methods if isinstance(one, ReadBy) and one.name in wanted]

    def _evidence(self, claim: Claim, section: Section) -> tuple[Evidence, ...]:
        found: list[Evidence] = []
        seen: set[int] = set()
        withheld = section.name == OWN and not self.keep_completions
        for said in claim.said:
            if said.place.number not in seen and len(found) < EVIDENCE:
                seen.add(said.place.number)
                found.append(self._one(claim, said, withheld=withheld))
        return tuple(found)

    def _one(self, claim: Claim, said: Said, *, withheld: bool) -> Evidence:
        dialog, answer = said.place.dialog, said.answer
        hidden = said.place.replied and withheld
        shown = list(dialog)[:-1] if hidden else list(dialog)
        rendered = render(self.audited.model.tokenizer, shown) if hidden else said.place.reading.rendered
        reply = str(dialog[-1]["content"]) if said.place.replied else None
        control = "base" if claim.mode == "model" else "nothing"
        control_answer = control_support = None
        if claim.controlled:
            control_answer = self._control_answer(control, said)
            control_support = self.material.support_elsewhere(control, said)
        return Evidence(
            dialog=shown,
            span=said.place.span,
            tokens=to_html(rendered, ["stimulus"] if hidden else [said.place.reading.span]),
            answer=answer.text,
            support=answer.support,
            percentile=answer.percentile,
            p_correct=answer.p_correct,
            verdict=answer.verdict,
            control_answer=control_answer,
            control_support=control_support,
            reply=WITHHELD if hidden else reply,
        )

    def _control_answer(self, control: str, said: Said) -> str | None:
        assert control in ("base", "nothing")
        found = self.material.answers(control, [said.place.dialog], [said.answer.question])
        return next((one.answer.text for one in found if one.place.span == said.place.span), None)

    @contextmanager
    def _timed(self, method: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.costs[method] = self.costs.get(method, 0.0) + time.monotonic() - started
        self._step()

    def _step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, max(self.done, self._steps()))

    def _steps(self) -> int:
        sections = len(self.battery.sections)
        others = sum(one.name not in DECODED for one in self.methods)
        questions = len(self.battery.hypotheses) * len(self.methods)
        return sections * (len(self._decoded()) + others) + questions + len(self.clean)
