from __future__ import annotations

import json
from itertools import islice

import pytest

from bench.client import REQUEST_BODY_BYTES, question, request
from bench.turns import turns
from bench.upstream import encoded


def compact(body: bytes) -> bytes:
    """Return the body as JSON.stringify and the SDKs write it."""
    return json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()


def body_of(asked: bytes) -> bytes:
    return asked.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("size", [REQUEST_BODY_BYTES, 4096])
@pytest.mark.parametrize("stream", [False, True])
def test_a_question_has_the_size_that_is_asked_for_and_is_written_as_clients_do(size: int, *, stream: bool) -> None:
    body = question(size, stream=stream)
    assert (len(body), json.loads(body)["stream"]) == (size, stream)
    assert body == compact(body)


def test_characters_beyond_ascii_go_as_they_are() -> None:
    assert encoded({"content": "naïve 💡"}) == '{"content":"naïve 💡"}'.encode()


def test_a_request_says_how_long_its_body_is() -> None:
    asked = request("plain", "token")
    assert f"content-length: {REQUEST_BODY_BYTES}\r\n".encode() in asked
    assert len(body_of(asked)) == REQUEST_BODY_BYTES


def test_turns_are_about_200_kb_each_longer_than_the_one_before_and_written_as_clients_do() -> None:
    bodies = [body_of(asked) for asked in islice(turns("burst", "token", client=0), 12)]
    sizes = [len(body) for body in bodies]
    assert sizes == sorted(set(sizes))
    assert 200_000 <= sizes[0] < 210_000
    assert bodies == [compact(body) for body in bodies]
