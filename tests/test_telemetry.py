from __future__ import annotations

import gzip
import json
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.port import BadRequest
from extproc.telemetry import kept_answer, readable

LINES = b'{"event":"a"}\n{"event":"b"}\n'
PACKED = gzip.compress(LINES, mtime=0)


def test_a_client_that_asks_for_experiments_is_told_of_none_in_the_list_it_looks_for() -> None:
    answer = json.loads(kept_answer("GET"))
    assert answer["Configs"] == []
    assert answer["Features"] == []


def test_a_client_that_reports_is_told_that_all_was_taken_without_errors() -> None:
    assert json.loads(kept_answer("POST"))["errors"] == []


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (LINES, ""),
        (LINES, "identity"),
        (PACKED, "gzip"),
        (PACKED, "GZIP"),
        (PACKED, "x-gzip"),
        (zlib.compress(LINES), "deflate"),
        (b"", ""),
        (b"", "gzip"),
    ],
)
def test_a_body_is_decoded_as_it_says(body: bytes, encoding: str) -> None:
    assert readable(body, encoding, 1000) == (LINES if body else b"")


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (LINES, "gzip"),
        (PACKED, "deflate"),
        (PACKED[:-3], "gzip"),
        (PACKED + b"more", "gzip"),
        (LINES, "made-up"),
        (PACKED, "gzip, made-up"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(body: bytes, encoding: str) -> None:
    with pytest.raises(BadRequest, match="content-encoding") as caught:
        readable(body, encoding, 1000)
    assert "event" not in str(caught.value)


@pytest.mark.parametrize(("size", "limit"), [(1001, 1000), (10_000_000, 100_000_000)])
def test_a_body_that_grows_beyond_its_bounds_is_refused(size: int, limit: int) -> None:
    with pytest.raises(BadRequest):
        readable(gzip.compress(b"a" * size), "gzip", limit)


@given(st.binary(max_size=60), st.sampled_from(["", "gzip", "deflate", "br", "zstd", "gzip, br"]) | st.text(max_size=9))
def test_no_body_raises_anything_else(body: bytes, encoding: str) -> None:
    with suppress(BadRequest):
        assert len(readable(body, encoding, 1000)) <= 1000
