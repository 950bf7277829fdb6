"""`latentqa data context`, `classification`, `relations`, `facts`: training examples without any writer."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latentqa.cli import options
from latentqa.cli.inputs import check_place

if TYPE_CHECKING:
    from latentqa.data.tasks import ContextSettings, Passage, TaskReport, Text, Unseen
    from latentqa.decoder import Target

BATCH = 256  # prompts that the target writes on before their examples are made


class Form(StrEnum):
    """How the target is given a text."""

    TEXT = "text"
    CHAT = "chat"
    BOTH = "both"


Out = Annotated[Path, typer.Option("--out", help="JSONL file that is written.", metavar="FILE")]
Seed = Annotated[int, typer.Option("--seed", help="Of every draw.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after so many examples.")]


def context(
    out: Out,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            help="Text files, .jsonl or .parquet files, folders of them or of a saved data set, hf:NAME or "
            "hf:NAME@CONFIG. With --on-policy they are what the target writes on; left out: our own turns.",
            metavar="SOURCE",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="Model whose tokens are counted, or that writes.", metavar="NAME")
    ] = "builtin",
    on_policy: Annotated[
        bool, typer.Option("--on-policy", help="Let the target write the texts: replies and continuations.")
    ] = False,
    form: Annotated[
        Form, typer.Option("--form", help="Read as raw text, as a chat turn, or half of each.")
    ] = Form.BOTH,
    field: Annotated[str, typer.Option("--field", help="Field of a JSON row or data set.")] = "text",
    split: Annotated[str, typer.Option("--split", help="Split of a data set.")] = "train",
    window: Annotated[int, typer.Option("--window", min=8, help="Tokens of a text read at a time.")] = 64,
    per_text: Annotated[
        int, typer.Option("--per-text", min=0, help="Windows of one text; 0 is all of them.")
    ] = 4,
    span: Annotated[int, typer.Option("--span", min=1, help="Longest span, in tokens.")] = 32,
    most: Annotated[
        int, typer.Option("--most", min=1, max=100, help="Most tokens that a question asks for.")
    ] = 20,
    pairs: Annotated[int, typer.Option("--pairs", min=1, max=8, help="Questions on each span.")] = 2,
    share: Annotated[float, typer.Option("--share", help="Share of the texts, drawn by the seed.")] = 1.0,
    limit: Limit = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=8, help="Longest text that the target writes.")
    ] = 64,
    temperature: Annotated[
        float, typer.Option("--temperature", min=0, help="That the target writes at; 0 is greedy.")
    ] = 0.8,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Ask which tokens come before and after a span of any text.

    The texts are their own labels. A window that is read as a chat turn is the user's, as in the benchmarks.
    """
    from latentqa.data.tasks import ContextSettings, context_examples, local_path, text_passages, write_task
    from latentqa.errors import ConfigError

    check_place(out)
    if not sources and not on_policy:
        raise typer.BadParameter("no text. Name a SOURCE, or pass --on-policy.")
    if not 0 < share <= 1:
        raise ConfigError(f"Asked for a share of {share} of the texts; give one above 0, at most 1.")
    settings = ContextSettings(
        form=form.value,
        window=window,
        per_text=per_text,
        span=span,
        most=most,
        pairs=pairs,
        share=share,
        seed=seed,
    )
    left_out: Counter[str] = Counter()
    texts = _texts(sources or [], left_out, field, split)
    asked = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    if on_policy:
        from latentqa.decoder import load_target

        model = load_target(target)
        tokenizer = model.tokenizer
        passages = _written(texts if sources else None, model, settings, left_out, limit, asked)
    else:
        from latentqa.models import load_tokenizer

        tokenizer = load_tokenizer(target)
        passages = text_passages(texts, tokenizer, settings, left_out)
    report = write_task(
        out,
        "context",
        islice(context_examples(passages, tokenizer, settings, left_out), limit),
        left_out,
        settings={
            **settings.model_dump(),
            "sources": [Path(one).name if local_path(one) else one for one in sources or []],
            "tokenizer": target,
            "on_policy": asked if on_policy else None,
            "limit": limit,
        },
        inputs=[path for one in sources or [] if (path := local_path(one)) is not None],
    )
    _say(report, as_json)


def classification(
    file: Annotated[
        Path, typer.Argument(help="CSV, TSV or JSONL file with a text and a label.", metavar="FILE")
    ],
    out: Out,
    text: Annotated[str, typer.Option("--text", help="Column of the text.", metavar="COLUMN")] = "text",
    label: Annotated[str, typer.Option("--label", help="Column of the label.", metavar="COLUMN")] = "label",
    name: Annotated[
        str, typer.Option("--name", help="What the label is: topic, tense, sentiment.")
    ] = "label",
    called: Annotated[
        list[str] | None,
        typer.Option("--called", help="What a question calls a label.", metavar="LABEL=NAME"),
    ] = None,
    question: Annotated[
        list[str] | None,
        typer.Option(
            "--question",
            help="Yes/no question of your own, with {label} where a label goes, or with --yes. Repeat it for "
            "paraphrases.",
        ),
    ] = None,
    yes: Annotated[
        str | None, typer.Option("--yes", help="Label whose answer to --question is yes.", metavar="LABEL")
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option("--choice", help="Multiple-choice question of your own, with {choices} in it."),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=1, max=12, help="Questions on each text.")] = 3,
    limit: Limit = None,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Ask yes/no and multiple-choice questions on labelled texts.

    Do not train on what you test on: the yes-no benchmark reads the files below classification.
    """
    from latentqa.data.tasks import ClassificationSettings, classification_examples, write_task

    check_place(out)
    settings = ClassificationSettings(
        text=text,
        label=label,
        name=name,
        names=_called(called or []),
        questions=tuple(question or ()),
        yes=yes,
        choices=tuple(choice or ()),
        pairs=pairs,
        seed=seed,
    )
    left_out: Counter[str] = Counter()
    examples = islice(classification_examples(file, settings, left_out), limit)
    kept = {**settings.model_dump(), "limit": limit}
    _say(write_task(out, "classification", examples, left_out, settings=kept, inputs=[file]), as_json)


def relations(
    out: Out,
    tables: Annotated[
        list[str] | None,
        typer.Argument(
            help="Tables: .yaml of ours, .tsv with subject and object, or folders of them. Left out: the "
            "tables that ship.",
            metavar="TABLE",
        ),
    ] = None,
    contexts: Annotated[int, typer.Option("--contexts", min=1, help="Texts per subject.")] = 8,
    questions: Annotated[int, typer.Option("--questions", min=1, help="Wordings asked on each.")] = 3,
    vary: Annotated[
        bool, typer.Option("--vary/--no-vary", help="Put sentences around the tables' own, and cut them.")
    ] = True,
    test_out: Annotated[
        Path | None,
        typer.Option("--test-out", help="JSONL file for relations that are not trained on.", metavar="FILE"),
    ] = None,
    test_share: Annotated[
        float, typer.Option("--test-share", help="Share of the relations that go there.")
    ] = 0.1,
    unseen: Annotated[
        Path | None,
        typer.Option(
            "--unseen",
            help="Data root whose benchmark relations, and all their pairs, are kept out. Left out: "
            "$LATENTQA_DATA.",
            metavar="DIR",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Ask for the object that belongs to a subject, read inside a text.

    The six relations of the benchmark are never trained on, nor any of their pairs.
    """
    from latentqa.cli.progress import note
    from latentqa.data.tasks import RelationSettings, read_tables, relation_examples, write_task
    from latentqa.errors import ConfigError

    check_place(out)
    if test_out is not None:
        check_place(test_out)
        if test_out.absolute() == out.absolute():
            raise ConfigError(f"--out and --test-out both name {out}. Give the test file a name of its own.")
        if not 0 < test_share < 1:
            raise ConfigError(f"Asked for a test share of {test_share}; give one between 0 and 1.")
    settings = RelationSettings(
        contexts=contexts,
        questions=questions,
        vary=vary,
        test_share=0.0 if test_out is None else test_share,
        seed=seed,
    )
    kept_out = _unseen(unseen)
    if not kept_out.known:
        note(
            "The benchmark's pairs are not at hand: its six relations are kept out by name alone. Set "
            "LATENTQA_DATA, or pass --unseen DIR."
        )
    found = read_tables(tables or [])
    inputs = [Path(one).expanduser() for one in tables or []]
    for path, test in ((out, False), (test_out, True)):
        if path is None:
            continue
        left_out: Counter[str] = Counter()
        report = write_task(
            path,
            "relations",
            relation_examples(found, settings, kept_out, left_out, test=test),
            left_out,
            settings={
                **settings.model_dump(),
                "tables": [table.name for table in found if settings.is_test(table.name) == test],
                "benchmark_pairs_kept_out": kept_out.known,
            },
            inputs=inputs,
        )
        _say(report, as_json)


def facts(
    out: Out,
    dialogs: Annotated[int, typer.Option("--dialogs", min=1, help="How many.")] = 5000,
    most: Annotated[int, typer.Option("--facts", min=1, help="Most facts that a user states.")] = 3,
    exchanges: Annotated[
        int, typer.Option("--exchanges", min=1, help="Most exchanges between the first turn and the last.")
    ] = 3,
    unknown: Annotated[
        float, typer.Option("--unknown", help="Share of dialogs asked for what was never said.")
    ] = 0.3,
    texts: Annotated[
        Path | None,
        typer.Option(
            "--texts", help="YAML with attributes, statements and exchanges of your own.", metavar="FILE"
        ),
    ] = None,
    seed: Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Ask what the user said of themselves, read from a later turn.

    Attributes such as name, job, city, mood and language are stated early and asked for at the end.
    """
    from latentqa.data.tasks import FactSettings, fact_examples, read_fact_texts, write_task
    from latentqa.errors import ConfigError

    check_place(out)
    if not 0 <= unknown <= 1:
        raise ConfigError(f"Asked for a share of {unknown} unknown facts; give one from 0 to 1.")
    settings = FactSettings(dialogs=dialogs, facts=most, exchanges=exchanges, unknown=unknown, seed=seed)
    made = fact_examples(settings, read_fact_texts(texts))
    inputs = [] if texts is None else [texts]
    _say(write_task(out, "facts", made, Counter(), settings=settings.model_dump(), inputs=inputs), as_json)


def _texts(sources: list[str], left_out: Counter[str], field: str, split: str) -> Iterator[Text]:
    """Texts of all sources; those of a second source are named apart."""
    from latentqa.data.tasks import Text, read_texts

    for number, source in enumerate(sources):
        for text in read_texts(source, left_out, field=field, split=split):
            yield text if number == 0 else Text(f"{number + 1}/{text.name}", text.text)


def _written(
    texts: Iterator[Text] | None,
    model: Target,
    settings: ContextSettings,
    left_out: Counter[str],
    limit: int | None,
    asked: dict[str, Any],
) -> Iterator[Passage]:
    """Passages as the target writes them, some prompts at a time."""
    from latentqa.cli.progress import progress
    from latentqa.data.tasks import on_policy_passages, on_policy_prompt, own_prompts

    prompts = iter(own_prompts() if texts is None else texts)
    done = 0
    with progress("writing on policy") as advance:
        while batch := list(islice(prompts, BATCH)):
            given = [on_policy_prompt(prompt, settings) for prompt in batch]
            replies = model.generate(given, **asked)
            done += len(batch)
            advance(done, max(done, limit or 0))
            yield from on_policy_passages(batch, replies, settings, model.name, left_out)


def _called(given: list[str]) -> dict[str, str]:
    names = {}
    for one in given:
        label, equals, name = one.partition("=")
        if not (label and equals and name):
            raise typer.BadParameter(f"{one!r} is no name for a label. Write --called LABEL=NAME.")
        names[label] = name
    return names


def _unseen(root: Path | None) -> Unseen:
    """What the benchmark tests; a data root that only the environment names may lack the relations."""
    from latentqa.data import DATA_VARIABLE
    from latentqa.data.tasks import benchmark_unseen

    named = os.environ.get(DATA_VARIABLE)
    if root is None and named and (Path(named) / "relations").is_dir():
        root = Path(named)
    return benchmark_unseen(root)


def _say(report: TaskReport, as_json: bool) -> None:
    typer.echo(report.to_json() if as_json else str(report))
