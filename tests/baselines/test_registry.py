"""Every reader by its name: specs, errors, and that each one answers and ranks."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from latentqa.baselines import READERS, ReaderContext, ReaderError, make_reader, registry
from latentqa.decoder import Target
from latentqa.errors import ConfigError, LatentQAError
from latentqa.reader import Reader

NAMES = (
    "lit",
    "no-activation",
    "mean-activation",
    "shuffled",
    "text-given",
    "text-finetuned",
    "patchscopes",
    "selfie",
    "logit-lens",
    "linear-probe",
    "retrieval-probe",
)


def test_the_names_are_those_of_the_tables() -> None:
    assert tuple(READERS) == NAMES
    assert all(READERS[name].name == name for name in NAMES)


def test_importing_the_room_loads_no_torch() -> None:
    probe = "import sys, latentqa.baselines; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("name", NAMES)
def test_each_reader_answers_and_ranks(name: str, context: ReaderContext) -> None:
    reader = make_reader(name, context)
    assert isinstance(reader, Reader) and reader.name == name
    queries = [item.query for item in context.fit_items[:3]]
    candidates = [["a pirate", "a nurse", "a poet"]] * 3
    scores = reader.score(queries, candidates)
    for ranked in scores:
        assert sorted(score.answer for score in ranked) == sorted(candidates[0])
        supports = [score.support for score in ranked]
        assert supports == sorted(supports, reverse=True)
        assert all(math.isfinite(value) for s in ranked for value in (s.support, s.logprob))
    answers = reader.ask(queries)
    assert [answer.question for answer in answers] == [query.question for query in queries]
    assert all(answer.verdict == "not sure" for answer in answers)
    assert isinstance(reader.choices, dict) and reader.choices["tried"] <= context.budget  # pyright: ignore
    assert reader.score(queries, candidates) == scores


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_give_source_needs_and_limits(name: str, context: ReaderContext) -> None:
    spec = READERS[name]
    reader = make_reader(name, ReaderContext(context.target, context.decoder))
    text = " ".join((type(reader).__doc__ or "").split())
    for part in (f"Source: {spec.source}.", f"Needs: {spec.needs}.", f"Cannot: {spec.cannot}."):
        assert part in text


@pytest.mark.parametrize("name", NAMES)
def test_bad_queries_are_refused(name: str, context: ReaderContext) -> None:
    reader = make_reader(name, context)
    query = context.fit_items[0].query
    with pytest.raises(ReaderError, match="no candidate"):
        reader.score([query], [[]])
    with pytest.raises(ReaderError, match="one list a query"):
        reader.score([query], [])
    with pytest.raises(ReaderError, match="empty question"):
        reader.ask([type(query)(query.dialog, query.span, " ")])


@pytest.mark.parametrize("name", [name for name in NAMES if READERS[name].needs_decoder])
def test_readers_of_a_decoder_need_one(name: str, target: Target) -> None:
    with pytest.raises(ConfigError, match="needs a decoder"):
        make_reader(name, ReaderContext(target))


@pytest.mark.parametrize("name", [name for name in NAMES if READERS[name].needs_fit])
def test_unfitted_readers_say_so(name: str, context: ReaderContext) -> None:
    reader = make_reader(name, ReaderContext(context.target))
    with pytest.raises(ReaderError, match="has not been fitted"):
        reader.ask([context.fit_items[0].query])
    with pytest.raises(LatentQAError):
        reader.fit([])  # pyright: ignore[reportAttributeAccessIssue]


def test_an_unknown_name_suggests_the_nearest(target: Target) -> None:
    with pytest.raises(ConfigError, match="Did you mean patchscopes"):
        make_reader("patchscope", ReaderContext(target))


def test_readers_of_one_context_share_its_reads(context: ReaderContext) -> None:
    assert context.reads is context.reads
    assert set(registry._makers()) == set(READERS)
