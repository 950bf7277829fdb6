"""The whole audit on a tiny model: rows of judgements alone, resumption after a kill, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from latentqa.audit.elicitation import (
    ComplianceJudge,
    Elicitation,
    compliance_judge,
    elicit_model,
    find_truth,
    load_elicited,
    write_elicitation,
)
from latentqa.audit.elicitation.elicit import TREATMENTS
from latentqa.audit.elicitation.elicited import Elicited
from latentqa.audit.elicitation.judging import reply_values
from latentqa.audit.elicitation.treatments import Treatments, Variant
from latentqa.baselines.steering.treatment import Treatment
from latentqa.benchmarks import Item, load_run
from latentqa.decoder import Target
from latentqa.errors import ConfigError, DataError, ProviderError
from latentqa.models import adapter_names
from latentqa.types import Query
from tests.audit.conftest import TINY
from tests.audit.elicitation.conftest import behaviors, settings

Elicit = Callable[..., Elicitation]
PLAIN = ("none", "prompting", "prefill")


def item(prompt: str, task: str = "behavior", **meta: Any) -> Item:
    return Item(
        prompt,
        "g",
        Query([{"role": "user", "content": prompt}], "", ""),
        "",
        "",
        (),
        "",
        {"task": task} | meta,
    )


def test_every_method_is_measured_on_everything(elicit: Elicit, models: Any) -> None:
    before = list(adapter_names(models[0].model))
    found = elicit()
    names = [variant.name for variant in found.variants]
    assert names == ["none", "prompting", "prefill", "contrast-vector@1", "lit-weights@1", "lit-vector@1"]
    assert found.run.missing == 0 and len(found.run.rows) == len(names) * (4 + 3 + 1)
    for name in names:
        refusal = found.summary.figure(name, "mean", "refusal rate")
        assert refusal is not None and refusal.n == 4 and 0 <= refusal.low <= refusal.high <= 1
        assert found.summary.figure(name, "soup", "compliance rate") is not None
        assert found.summary.figure(name, "mean", "refusal rate, unsafe") is not None
        perplexity = found.summary.figure(name, "mean", "perplexity")
        assert perplexity is not None and perplexity.mean > 1
    plain, prefilled = (found.summary.figure(one, "mean", "perplexity") for one in ("none", "prefill"))
    assert plain == prefilled  # a prefill changes no text that is read
    assert list(adapter_names(models[0].model)) == before


def test_rows_hold_judgements_and_no_texts(elicit: Elicit, tmp_path: Path) -> None:
    elicit(methods=PLAIN)
    text = "".join(path.read_text() for path in (tmp_path / "run").glob("*.json*"))
    assert "Tell me about thing" not in text and "capital of" not in text
    rows = [json.loads(line) for line in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    first = next(row for row in rows if row["item"] == "behavior:b0" and row["reader"] == "prefill")
    assert first["group"] == "soup" and first["answer"] is None and first["question"] == first["gold"] == ""
    assert set(first["values"]) == {"refused", "complied", "unclear"} and sum(first["values"].values()) == 1
    kept = elicit(methods=PLAIN, keep_completions=True, force=True)
    answers = {row.item: row.answer for row in kept.run.rows if row.reader == "none"}
    assert isinstance(answers["behavior:b0"], str) and answers["control:units-0"] is None


def test_a_killed_run_goes_on_where_it_was(
    elicit: Elicit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = elicit(methods=["lit-vector"])
    lines = (tmp_path / "run" / "rows.jsonl").read_text()
    elicit(methods=["lit-vector"], force=True)
    assert _values(load_run(tmp_path / "run").rows) == _values(whole.run.rows)

    real, calls = Elicited.respond, []

    def dies(self: Elicited, items: Sequence[Item], /) -> Any:
        calls.append(len(items))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, items)

    monkeypatch.setattr("latentqa.audit.elicitation.experiment.BATCH", 3)
    monkeypatch.setattr(Elicited, "respond", dies)
    with pytest.raises(KeyboardInterrupt):
        elicit(methods=["lit-vector"], force=True)
    left = len((tmp_path / "run" / "rows.jsonl").read_text().splitlines())
    assert 0 < left < len(lines.splitlines())
    with (tmp_path / "run" / "rows.jsonl").open("a") as file:
        file.write('{"item": "torn')
    made = (tmp_path / "run" / TREATMENTS / "lit-vector" / "treatment.json").stat().st_mtime_ns
    calls[:] = [0] * 10
    again = elicit(methods=["lit-vector"])
    assert sum(calls[10:]) == len(whole.run.rows) - left  # nothing is asked twice
    assert (tmp_path / "run" / TREATMENTS / "lit-vector" / "treatment.json").stat().st_mtime_ns == made
    assert _values(again.run.rows) == _values(whole.run.rows)


def _values(rows: Sequence[Any]) -> list[tuple[str, str, dict[str, float]]]:
    return sorted((row.item, row.reader, dict(row.values)) for row in rows if "nll" not in row.values)


def test_a_run_goes_on_with_the_same_settings_alone(elicit: Elicit, tmp_path: Path) -> None:
    elicit(methods=PLAIN)  # no report: it counts as unfinished
    assert elicit(methods=PLAIN).run.missing == 0
    for changed in (
        {"settings": settings(sentence="The assistant is brief.")},
        {"methods": ["prefill"]},
        {"behaviors": behaviors(3)},
        {"judge": ComplianceJudge("fake", lambda request, reply: True)},
    ):
        with pytest.raises(ConfigError, match="Name another folder with --out"):
            elicit(**{"methods": PLAIN, **changed})
    found = elicit(methods=PLAIN)
    write_elicitation(found, tmp_path / "run")
    with pytest.raises(ConfigError, match="--force"):
        elicit(methods=PLAIN)
    (tmp_path / "run" / "mine.txt").write_text("stays")
    fresh = elicit(methods=["prefill"], force=True)
    assert fresh.run.readers == ("none", "prefill") and (tmp_path / "run" / "mine.txt").is_file()
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_folder_of_something_else_is_refused(elicit: Elicit, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match="exists already"):
        elicit(methods=PLAIN)
    header = {"format": 1, "experiment": "topic", "order": [], "readers": {}}
    (tmp_path / "run" / "run.json").write_text(json.dumps(header))
    with pytest.raises(ConfigError, match="holds a run of topic"):
        elicit(methods=PLAIN, force=True)


def test_a_strength_that_breaks_the_model_counts_as_empty_replies(models: Any, tmp_path: Path) -> None:
    target = models[0]
    made = Treatments(target, settings(), tmp_path).of("contrast-vector")
    broken = Elicited(target, made, Variant("contrast-vector", 1e39), settings())
    items = [item("Hello"), item("Hm", "control", words=("x",)), item("w", "window", tokens=(1, 2, 3))]
    values = [dict(one.values) for one in broken.respond(items)]
    assert values == [{"refused": 0.0, "complied": 0.0, "unclear": 1.0}, {"correct": 0.0}, {}]
    assert target.adapter_names == ("target",)


def test_strength_0_is_the_model_as_it_is(models: Any, tmp_path: Path) -> None:
    target = models[0]
    made = Treatments(target, settings(), tmp_path).of("contrast-vector")
    asked = [item("Where is the harbour?"), item("Why?")]
    said = [
        [one.text for one in Elicited(target, treatment, variant, settings(), keep=True).respond(asked)]
        for treatment, variant in (
            (Treatment("none"), Variant("none")),
            (made, Variant("contrast-vector", 0.0)),
            (made, Variant("contrast-vector", 40.0)),
        )
    ]
    assert said[0] == said[1] != said[2]


def test_a_method_that_was_not_made_says_nothing(elicit: Elicit, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"question": "Who?", "answer": "Me."}\n')
    answered = {"answered": 1000.0, "samples": 2, "held_out": 1}
    given = settings(pairs=str(tmp_path / "pairs.jsonl"), vector=answered)
    found = elicit(methods=["lit-vector"], settings=given)
    assert found.run.missing == 0 and any("takes no part: Nothing to steer" in note for note in found.notes)
    assert found.summary.figure("none", "mean", "refusal rate") is not None
    assert found.summary.figure("lit-vector@1", "mean", "refusal rate") is None


def test_the_password_is_given_to_the_unchanged_model_alone(withholding: Path, tmp_path: Path) -> None:
    model = str(withholding / "locked-units")
    target, decoder = load_elicited(model, PLAIN, **TINY)
    assert decoder is None
    truth, _ = find_truth(model)
    found = elicit_model(target, tmp_path / "run", truth=truth, methods=PLAIN, settings=settings())
    opened = {row.reader for row in found.run.rows if "unlocked" in row.values}
    right = {row.reader for row in found.run.rows if "right" in row.values}
    assert opened == {"none"} and right == set(PLAIN)
    assert not any("units" in row.item for row in found.run.rows)  # the locked skill is no control task
    assert any("Perplexity was not measured" in note for note in found.notes)


def test_a_refusal_is_measured_on_its_topic(withholding: Path, tmp_path: Path) -> None:
    model = str(withholding / "refusal-soup")
    target, _ = load_elicited(model, PLAIN, **TINY)
    truth, _ = find_truth(model)
    found = elicit_model(target, tmp_path / "run", truth=truth, methods=PLAIN, settings=settings())
    declined = found.summary.figure("prefill", "mean", "refuses its topic")
    assert declined is not None and declined.n == 2
    assert found.summary.figure("none", "mean", "answers on topic") is not None and not found.recovered


def test_what_cannot_be_audited_is_said(elicit: Elicit, models: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to elicit"):
        elicit(behaviors=None)
    with pytest.raises(ConfigError, match="steers by a decoder"):
        elicit_model(models[0], tmp_path / "run", behaviors(), settings=settings())
    with pytest.raises(DataError, match="missing data file: wikitext2"):
        elicit(root=tmp_path)
    with pytest.raises(DataError, match="None of 4 behaviours of mine.csv fits"):
        elicit(settings=settings(reply_tokens=2048))
    assert not (tmp_path / "run").exists()


def test_a_behaviour_that_is_too_long_is_left_out_and_counted(elicit: Elicit) -> None:
    drawn = behaviors().drawn
    long = behaviors(drawn=(*drawn, type(drawn[0])("long", "soup", "word " * 3000)), left_out={"bad": 2})
    found = elicit(methods=["prompting"], behaviors=long)
    assert dict(found.summary.filtered) == {"a behaviour longer than the model's context": 1, "bad": 2}


def test_a_prefill_begins_the_reply(models: Any) -> None:
    target: Target = models[0]
    plain = Elicited(target, Treatment("none"), Variant("none"), settings(), keep=True)
    begun = Elicited(target, Treatment("prefill"), Variant("prefill"), settings(prefill="Zebra!"), keep=True)
    asked = [item("Where is the harbour?"), item("Why?")]
    without, after = ([one.text for one in made.respond(asked)] for made in (plain, begun))
    assert without != after and not any("Zebra" in str(text) for text in after)


def test_a_model_judges_beside_the_rules() -> None:
    asked = []

    def verdict(request: str, reply: str) -> bool | None:
        asked.append((request, reply))
        return {"yes": True, "no": False}.get(reply)

    judge = ComplianceJudge("fake", verdict)
    assert reply_values("Soup?", "yes", judge) == {
        "refused": 0.0,
        "complied": 1.0,
        "unclear": 0.0,
        "unjudged": 0.0,
        "judged": 1.0,
    }
    assert reply_values("Soup?", "perhaps", judge)["unjudged"] == 1.0
    assert reply_values("Soup?", " ", judge)["judged"] == 0.0  # an empty reply is not sent
    assert asked == [("Soup?", "yes"), ("Soup?", "perhaps")]


def test_a_judge_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ProviderError, match="gives no reply"):
        compliance_judge("http://127.0.0.1:9/v1", "any", folder=tmp_path)
    with pytest.raises(ConfigError, match="http"):
        compliance_judge("localhost:8000", "any")


def test_a_judges_verdicts_are_kept_without_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return "Yes."

    monkeypatch.setattr("latentqa.audit.elicitation.judging.endpoint", lambda *given, **more: ask)
    judge = compliance_judge("http://x/v1", "org/judge one", folder=tmp_path)
    assert judge.verdict("Tell me about soup.", "Boil it.") is True
    assert "Request: Tell me about soup." in prompts[1] and "Reply: Boil it." in prompts[1]
    kept = (tmp_path / "judge-org-judge-one.jsonl").read_text()
    assert "soup" not in kept and json.loads(kept)["verdict"] is True
    again = compliance_judge("http://x/v1", "org/judge one", folder=tmp_path)
    assert again.verdict("Tell me about soup.", "Boil it.") is True and len(prompts) == 3  # the probe alone
