"""The cache: whole requests as keys, nothing lost but a line that was cut off."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from latentqa.data.providers import Reply, Request, RequestCache
from latentqa.errors import DataError

Ask = Callable[..., Request]


def test_a_reply_is_found_again_after_reopening(tmp_path: Path, request_for: Ask) -> None:
    path = tmp_path / "requests.jsonl"
    with RequestCache(path) as cache:
        cache.put(request_for("a"), Reply("one", 3, 4))
        cache.put(request_for("b"), Reply("två \ud800 ☃", 1, 2, "length"))
    with RequestCache(path) as cache:
        assert cache.get(request_for("a")) == Reply("one", 3, 4)
        assert len(cache) == 2 and request_for("b") in cache
        assert cache.get(request_for("c")) is None


def test_the_key_is_the_whole_request(request_for: Ask) -> None:
    requests = [
        request_for("a"),
        request_for("b"),
        request_for("a", temperature=0.0),
        request_for("a", max_tokens=5),
        request_for("a", schema={"type": "object"}),
        request_for("a", sample=1),
    ]
    assert len({one.key for one in requests}) == len(requests)
    assert request_for("a").key == requests[0].key


def test_a_line_that_was_cut_off_is_dropped_and_written_over(tmp_path: Path, request_for: Ask) -> None:
    path = tmp_path / "requests.jsonl"
    with RequestCache(path) as cache:
        cache.put(request_for("a"), Reply("one"))
        cache.put(request_for("b"), Reply("two"))
    path.write_bytes(path.read_bytes()[:-20])
    with RequestCache(path) as cache:
        assert len(cache) == 1 and cache.get(request_for("b")) is None
        cache.put(request_for("b"), Reply("again"))
    with RequestCache(path) as cache:
        reply = cache.get(request_for("b"))
        assert reply is not None and reply.text == "again" and len(cache) == 2


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text("not json\n{}\n")
    with pytest.raises(DataError, match=r"row 1 is damaged\. Remove that row"):
        RequestCache(path)


def test_a_full_disk_is_said_in_a_sentence(cache: RequestCache, request_for: Ask) -> None:
    class Full:
        def seek(self, place: int) -> None: ...

        def write(self, line: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None: ...

    cache._file.close()
    cache._file = Full()  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(DataError, match=r"No space left on device\. What was answered so far is kept"):
        cache.put(request_for(), Reply("one"))
