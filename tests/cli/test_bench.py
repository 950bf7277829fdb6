"""`latentqa bench`: names, data, JSON, resuming, on scripted readers and a tiny target."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from latentqa.models.tiny import tiny_model, tiny_tokenizer
from latentqa.reader import FakeReader
from tests.benchmarks.conftest import relation_rows

READERS = "text-given,linear-probe"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bench") / "model"
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer("chatml").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """Every reader that was made, with its context; all answer Euro."""
    found: list[tuple[str, object]] = []

    def make_reader(name: str, context: object) -> FakeReader:
        found.append((name, context))
        return FakeReader({"What is the official currency of the country?": "Euro"})

    monkeypatch.setattr("latentqa.baselines.make_reader", make_reader)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "relations" / "factual" / "country_currency.tsv"
    path.parent.mkdir(parents=True)
    path.write_text(relation_rows(24))
    return tmp_path / "data"


@pytest.fixture
def bench(latentqa: Callable[..., Result], root: Path, model: str, tmp_path: Path) -> Callable[..., Result]:
    """A function that runs the relations of the small file."""

    def run(*more: str) -> Result:
        given = ("--data", str(root), "--readers", READERS, "--target", model, "--device", "cpu")
        out = ("--out", str(tmp_path / "run"))
        return latentqa("bench", "run", "relations", "files=[country_currency]", *given, *out, *more)

    return run


def test_list_names_every_experiment_and_reader(latentqa: Callable[..., Result]) -> None:
    finished = latentqa("bench", "list")
    assert finished.exit_code == 0, finished.output
    for name in ("relations", "hidden-prompts", "yes-no", "content", "layer-map", "scaling", "ablations"):
        assert f"  {name}" in finished.stdout
    listed = json.loads(latentqa("bench", "list", "--json").stdout)
    assert {one["name"] for one in listed["experiments"]} >= {"calibration", "topic", "audit"}
    assert {one["name"] for one in listed["readers"]} >= {"lit", "patchscopes", "retrieval-probe"}


def test_the_json_is_as_documented_and_alone_on_stdout(bench: Callable[..., Result], made) -> None:
    finished = bench("--json", "--seed", "2")
    assert finished.exit_code == 0, finished.output
    found = json.loads(finished.stdout)
    assert list(found) == ["experiment", "data", "seed", "rows", "tests", "filtered"]
    assert found["experiment"] == "relations" and found["seed"] == 2
    assert {row["reader"] for row in found["rows"]} == {"text-given", "linear-probe", "majority"}
    assert {row["group"] for row in found["rows"]} == {"country_currency", "mean"}
    assert {(test["a"], test["b"]) for test in found["tests"]} == {("text-given", "linear-probe")}
    assert "kept in" in finished.stderr


def test_probes_are_fitted_once_a_fold_without_its_subjects(bench: Callable[..., Result], made) -> None:
    bench()
    contexts = [context for name, context in made if name == "linear-probe"]
    assert len(contexts) == 2
    subjects = [{item.query.dialog[0]["content"] for item in context.fit_items} for context in contexts]
    assert all(subjects) and not subjects[0] & subjects[1]
    chosen = [context for name, context in made if name == "text-given"]
    assert all(not context.fit_items and context.validation for context in chosen)
    assert contexts[0].reads is chosen[0].reads and contexts[0].answer_tokens == 20


def test_a_second_run_makes_no_reader_and_a_limit_is_marked(
    bench: Callable[..., Result], made, tmp_path: Path
) -> None:
    assert bench().exit_code == 0
    count = len(made)
    assert bench().exit_code == 0 and len(made) == count
    refused = bench("--limit", "4")
    assert refused.exit_code == 1 and "--out" in refused.stderr
    limited = bench("--limit", "4", "--out", str(tmp_path / "other"))
    assert "LIMITED to 4 items" in limited.stdout
    assert (tmp_path / "other" / "summary.json").is_file() and (tmp_path / "other" / "table.md").is_file()


def test_a_report_is_written_beside_the_run(
    bench: Callable[..., Result], latentqa: Callable[..., Result], made, tmp_path: Path
) -> None:
    bench()
    finished = latentqa("bench", "report", str(tmp_path / "run"))
    assert finished.exit_code == 0, finished.output
    page, table = map(Path, finished.stdout.split())
    assert "data:image/png" in page.read_text() and "| linear-probe |" in table.read_text()
    assert json.loads(latentqa("bench", "report", str(tmp_path / "run"), "--json").stdout)["runs"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("relatons",), 'no experiment "relatons". Did you mean "relations"'),
        (("relations", "--readers", "linear-prob"), 'no reader "linear-prob". Did you mean "linear-probe"'),
        (("relations", "--readers", ","), "No reader is named"),
        (("relations", "fold=3"), "Did you mean 'folds'"),
        (("yes-no", "--readers", "text-given"), "missing data file: classification"),
    ],
)
def test_what_does_not_exist_is_said_before_anything_is_loaded(
    latentqa: Callable[..., Result], root: Path, made, arguments: tuple[str, ...], said: str
) -> None:
    finished = latentqa("bench", "run", *arguments, "--data", str(root))
    assert finished.exit_code == 1 and said in finished.stderr, finished.output
    assert not made


def test_a_named_probe_without_training_split_is_refused(
    latentqa: Callable[..., Result], published: Path, model: str, made
) -> None:
    given = ("bench", "run", "content", "--data", str(published), "--target", model, "--device", "cpu")
    refused = latentqa(*given, "--readers", "linear-probe", "distractors=1")
    assert refused.exit_code == 1 and "no training split" in refused.stderr, refused.output


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published" / "latentqa" / "eval"
    folder.mkdir(parents=True)
    rows = [{"control_user": f"Anna saw {n} geese.", "label": f"sqa-x-{n}"} for n in range(3)]
    (folder / "control.json").write_text(json.dumps(rows))
    pairs = {f"sqa-x-{n}": [["How many geese?", f"{n} geese"]] for n in range(3)}
    (folder / "qa.json").write_text(json.dumps(pairs))
    return tmp_path / "published"


def test_help_has_examples(latentqa: Callable[..., Result]) -> None:
    for verb in ("run", "report"):
        assert "latentqa bench report runs/bench/" in latentqa("bench", verb, "--help").stdout


@pytest.fixture
def steering_root(tmp_path: Path) -> Path:
    path = tmp_path / "steering" / "wikitext2" / "valid.txt"
    path.parent.mkdir(parents=True)
    path.write_text("The harbour is at the end of the street , behind the church . \n" * 400)
    return tmp_path / "steering"


def test_a_steering_experiment_runs_on_the_same_options(
    latentqa: Callable[..., Result], steering_root: Path, model: str, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({"control": "Talk about tea.", "keywords": ["tea"]}) + "\n")
    given = ("bench", "run", "topic", "prompts=2", "windows=1", "neutral=1", "readings=0", "strengths=[]")
    where = (
        "--data",
        str(steering_root),
        "--target",
        model,
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "run"),
    )
    methods = ("--methods", "no-control,prompting", "--controls", str(mine), "--json")
    finished = latentqa(*given, *where, *methods)
    assert finished.exit_code == 0, finished.output
    found = json.loads(finished.stdout)
    assert list(found) == ["experiment", "data", "seed", "rows", "tests", "filtered"]
    assert {row["reader"] for row in found["rows"]} == {"no-control", "prompting"}
    assert {row["group"] for row in found["rows"]} == {"tea", "mean"}
    assert "| method |" in (tmp_path / "run" / "table.md").read_text()
    report = latentqa("bench", "report", str(tmp_path / "run"))
    assert report.exit_code == 0 and "Steering" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("topic", "--methods", "vektor"), 'no method "vektor". Did you mean "vector"'),
        (("topic", "--readers", ","), "No method is named"),
        (("sentiment", "--controls", "mine.jsonl"), "sentiment takes no controls"),
        (("debias", "organisms=true"), "Did you mean 'organism'"),
        (("debias", "--methods", "no-control"), "missing data file: crows_pairs"),
        (("topic", "--methods", "no-control", "--judge", "http://127.0.0.1:1"), "no free answers to judge"),
    ],
)
def test_bad_input_of_steering_is_said_before_anything_is_loaded(
    latentqa: Callable[..., Result], steering_root: Path, arguments: tuple[str, ...], said: str
) -> None:
    finished = latentqa("bench", "run", *arguments, "--data", str(steering_root))
    assert finished.exit_code == 1 and said in finished.stderr, finished.output


def test_methods_are_listed(latentqa: Callable[..., Result]) -> None:
    assert "  principal-component" in latentqa("bench", "list").stdout
    listed = json.loads(latentqa("bench", "list", "--json").stdout)
    assert [one["name"] for one in listed["methods"]][:2] == ["no-control", "prompting"]
