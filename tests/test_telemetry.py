from __future__ import annotations

import gzip
import json
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.port import BadRequest
from extproc.telemetry import MAX_AT_ONCE, MAX_BYTES, Slots, kept_answer, readable

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
    assert readable(body, encoding) == (LINES if body else b"")


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
        readable(body, encoding)
    assert "event" not in str(caught.value)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip"])
def test_a_body_may_decode_to_so_much_and_to_no_more(encoding: str) -> None:
    def packed(size: int) -> bytes:
        once = gzip.compress(b"a" * size)
        return once if encoding == "gzip" else gzip.compress(once)

    assert len(readable(packed(MAX_BYTES), encoding)) == MAX_BYTES
    for size in (MAX_BYTES + 1, 40 * MAX_BYTES):
        with pytest.raises(BadRequest, match=str(MAX_BYTES)):
            readable(packed(size), encoding)


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "cp500"])
def test_a_body_in_another_charset_is_refused_with_and_without_a_mark(charset: str) -> None:
    body = LINES.decode().encode(charset)
    for sent, encoding in ((body, ""), (gzip.compress(body), "gzip")):
        with pytest.raises(BadRequest, match="UTF-8"):
            readable(sent, encoding)


def test_a_body_may_have_any_character_of_utf8() -> None:
    body = '{"name":"Jürgen 日本 🙂"}'.encode()
    assert readable(body, "") == body


@given(st.binary(max_size=60), st.sampled_from(["", "gzip", "deflate", "br", "zstd", "gzip, br"]) | st.text(max_size=9))
def test_no_body_raises_anything_else_and_what_passes_is_text(body: bytes, encoding: str) -> None:
    with suppress(BadRequest):
        assert "\0" not in readable(body, encoding).decode()


def test_no_more_exchanges_run_than_may_and_each_that_ends_makes_room_for_one() -> None:
    slots = Slots()
    assert [slots.take() for _ in range(MAX_AT_ONCE + 1)] == [True] * MAX_AT_ONCE + [False]
    slots.give()
    assert [slots.take(), slots.take()] == [True, False]
