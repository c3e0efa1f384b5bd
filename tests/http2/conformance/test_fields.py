"""RFC 9113, section 8: what makes a request malformed, and what does not."""

from __future__ import annotations

import pytest

from tests.http2.conformance.serving import HELLO, Case, Echoed, Malformed, Outcome, Served, run
from tests.http2.wire import block, data, field_line, headers, message, request
from tests.http2.wire_client import connected

Fields = list[tuple[str, str]]


def after(*more: tuple[str, str]) -> Fields:
    return request("/test.Echo/Call", *more)


def instead(**changed: str | None) -> Fields:
    path = changed.pop("path", "/test.Echo/Call")
    fields = request(path or "", **changed)
    return fields if path is not None else [one for one in fields if one[0] != ":path"]


def first(*fields: tuple[str, str]) -> Fields:
    return [*fields, *request()]


FIELDS: list[tuple[str, str, Fields, Outcome]] = [
    ("8.2", "a name in upper case", after(("X-Test", "ok")), Malformed()),
    ("8.2", "one letter in upper case", after(("x-tesT", "ok")), Malformed()),
    ("8.2.1", "a blank in a name", after(("x test", "ok")), Malformed()),
    ("8.2.1", "a colon in a name", after(("x:test", "ok")), Malformed()),
    ("8.2.1", "NUL in a name", after(("x\0test", "ok")), Malformed()),
    ("8.2.1", "DEL in a name", after(("x\x7ftest", "ok")), Malformed()),
    ("8.2.1", "no ASCII in a name", after(("x-é", "ok")), Malformed()),
    ("8.2.1", "an empty name", after(("", "ok")), Malformed()),
    ("8.2.1", "NUL in a value", after(("x-test", "a\0b")), Malformed()),
    ("8.2.1", "LF in a value", after(("x-test", "a\nb")), Malformed()),
    ("8.2.1", "CR in a value", after(("x-test", "a\rb")), Malformed()),
    ("8.2.1", "a blank before a value", after(("x-test", " a")), Malformed()),
    ("8.2.1", "a tabulator after a value", after(("x-test", "a\t")), Malformed()),
    ("8.2.1", "an empty value", after(("x-test", "")), Echoed()),
    ("8.2.2", "connection", after(("connection", "keep-alive")), Malformed()),
    ("8.2.2", "proxy-connection", after(("proxy-connection", "keep-alive")), Malformed()),
    ("8.2.2", "keep-alive", after(("keep-alive", "timeout=5")), Malformed()),
    ("8.2.2", "transfer-encoding", after(("transfer-encoding", "chunked")), Malformed()),
    ("8.2.2", "upgrade", after(("upgrade", "h2c")), Malformed()),
    ("8.2.2", "te: gzip", instead(te="gzip"), Malformed()),
    ("8.2.2", "te: trailers and more", instead(te="trailers, deflate"), Malformed()),
    ("8.2.2", "te: trailers", instead(te="trailers"), Echoed()),
    ("8.3", "an unknown pseudo-header", first((":test", "ok")), Malformed()),
    ("8.3", ":status in a request", first((":status", "200")), Malformed()),
    ("8.3", ":protocol, and we did not offer it", first((":protocol", "websocket")), Malformed()),
    ("8.3", "a pseudo-header after a field", [("x-test", "ok"), *request()], Malformed()),
    ("8.3", "the last pseudo-header after a field", [*request()[:3], *request()[4:], request()[3]], Malformed()),
    *(("8.3", f"{one[0]} twice", first(one), Malformed()) for one in request()[:4]),
    *(("8.3", f"{one[0]} twice, with another value", first((one[0], "a")), Malformed()) for one in request()[:4]),
    ("8.3.1", "no :method", instead(method=None), Malformed()),
    ("8.3.1", "no :scheme", instead(scheme=None), Malformed()),
    ("8.3.1", "no :path", instead(path=None), Malformed()),
    ("8.3.1", "an empty :path", instead(path=""), Malformed()),
    ("8.3.1", "nothing at all", [], Malformed()),
    ("8.1.1", "content-length as it is", after(("content-length", "10")), Echoed()),
    ("8.1.1", "content-length too small", after(("content-length", "9")), Malformed()),
    ("8.1.1", "content-length too large", after(("content-length", "11")), Malformed()),
    ("8.1.1", "content-length is no number", after(("content-length", "ten")), Malformed()),
    ("8.1.1", "content-length is negative", after(("content-length", "-10")), Malformed()),
    ("8.1.1", "content-length with a sign", after(("content-length", "+10")), Malformed()),
    ("8.1.1", "content-length in other digits", after(("content-length", "\u0661\u0660")), Malformed()),
    ("8.1.1", "content-length twice", after(("content-length", "10"), ("content-length", "11")), Malformed()),
]  # fmt: skip
CASES = [Case(section, what, headers(3, block(fields)) + HELLO, outcome) for section, what, fields, outcome in FIELDS]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_request(case: Case, served: Served) -> None:
    await run(case, served)
    if isinstance(case.outcome, Malformed):
        # Only what is known at the end reaches the service, which is told that it is over; the end, it is not told.
        others = served.calls.made[1:]
        assert others == [] or "content-length" in case.what
        assert [call.ends for call in others] == [0] * len(others)


TRAILERS = {
    "a pseudo-header in trailers": [(":path", "/")],
    "a pseudo-header in trailers, last": [("x", "1"), (":method", "POST")],
    "a name in upper case": [("X-Test", "1")],
    "a connection-specific field": [("connection", "close")],
    "LF in a value": [("x", "1\n2")],
}


@pytest.mark.parametrize("what", TRAILERS)
async def test_malformed_trailers_end_no_call(served: Served, what: str) -> None:
    async with connected(served.path) as client:
        await client.send(headers(3, block(request("/test.Echo/Call"))), data(3, message(b"hello")))
        await client.send(headers(3, block(TRAILERS[what]), end=True))
        answer = await client.over(3) if await client.until(lambda: client.answer(3).over) else client.answer(3)
        assert (answer.reset or client.goaways[-1]) == 1
        assert answer.status != "0"
    (call,) = served.calls.made
    assert (call.ends, call.resets) == (0, 1)


async def test_what_a_call_came_with_is_its_metadata(served: Served) -> None:
    more = (("x-one", "1"), ("x-two", "a"), ("x-two", "b"), ("x-blank", "a b, c"), ("x-empty", ""))
    async with connected(served.path) as client:
        await client.send(headers(1, block(request("/test.Echo/Call", *more))), data(1, message(b"a"), end=True))
        await client.over()
    metadata = served.calls.last.stream.metadata
    expected = {"x-one": "1", "x-two": "b", "x-blank": "a b, c", "x-empty": ""}
    assert {name: metadata.get(name) for name in expected} == expected


@pytest.mark.parametrize("first_byte", [0x00, 0x10, 0x40])
async def test_each_kind_of_literal_is_read(served: Served, first_byte: int) -> None:
    async with connected(served.path) as client:
        fields = b"".join(field_line(*one, first_byte) for one in request("/test.Echo/Call", ("x-name", "value")))
        await client.send(headers(1, fields), data(1, message(b"a"), end=True))
        assert (await client.over()).status == "0"
    assert served.calls.last.stream.metadata["x-name"] == "value"
