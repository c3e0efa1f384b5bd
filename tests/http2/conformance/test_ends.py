"""gRPC over HTTP/2: how calls end, and OK only where the service said so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from extproc.carrier import Status
from tests.http2.conformance.serving import Served, check_no_false_ok, eventually
from tests.http2.services import Call
from tests.http2.wire import (
    END_STREAM,
    Kind,
    block,
    data,
    frame,
    headers,
    message,
    opened,
    reset,
)
from tests.http2.wire_client import connected


@pytest.mark.parametrize(
    "service", ["Echo", "Silent", "Held", "Once", "AtOnce", "Refusing", "Broken", "BrokenEnd", "NoCall"]
)
@pytest.mark.parametrize(
    "sent",
    [b"", data(1, message(b"13")), data(1, message(b"13")[:4]), data(1, end=True), data(1, message(b"13"), end=True),
     data(1, message(b"13") + message(b"13"), end=True), data(1, message(b"13") + b"\0", end=True), reset(1),
     data(1, message(b"13")) + reset(1), data(1, message(b"13"), end=True) + reset(1), data(1, b"\1\0\0\0\0"),
     data(0, b"x"), headers(1, b"\x80", end=True), headers(1, block([("X", "1")]), end=True),
     headers(1, block([("x", "1")]), end=True), data(1, message(b"13")) + b"\0\0\1\6\0\0\0\0\0\0"],
    ids=["nothing", "one", "half", "end", "one and end", "two and end", "half and end", "reset", "one and reset",
         "end and reset", "compressed", "illegal data", "illegal block", "malformed trailers", "trailers",
         "illegal ping"],
)  # fmt: skip
async def test_ok_is_said_where_the_service_said_so_and_nowhere_else(served: Served, service: str, sent: bytes) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, f"/test.{service}/Call"), sent)
        await client.send(b"" if client.goaways else opened(3, end=True))
        # The other call is served after all that the first one caused; or there is no connection any more.
        await client.until(lambda: client.answer(3).over)
        ok = {1, 3} & {number for number, answer in client.answers.items() if answer.status == "0"}
        calls = {call.path: call for call in served.calls.made[:1]}
        refusals = {"refusing", "broken", "broken end"}
        meant = {1} if calls and next(iter(calls.values())).finished and not refusals & set(calls) else set()
        assert ok - {3} <= meant
        check_no_false_ok(client, served.calls)


@pytest.mark.parametrize(
    ("service", "sent"),
    [("Broken", data(1, message(b""))), ("BrokenEnd", data(1, end=True)), ("NoCall", b"")],
    ids=["receive", "end", "service"],
)
async def test_a_service_that_raises_fails_its_call_alone(served: Served, service: str, sent: bytes) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, f"/test.{service}/Call"), sent)
        answer = await client.over()
        assert answer.status == "13"
        assert "made by a test" not in answer.blocks[-1].get("grpc-message", "")
        await client.send(opened(3, end=True))
        assert (await client.over(3)).status == "0"


@pytest.mark.parametrize("status", [3, 4, 8, 9, 12, 13, 14])
async def test_a_refusal_has_its_status_and_its_text(served: Served, status: int) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Refusing/Call"), data(1, message(b"%d" % status), end=True))
        answer = await client.over()
    # gRPC over HTTP/2, "Status-Message": percent-encoded.
    assert (answer.status, answer.blocks[-1]["grpc-message"]) == (str(status), "no, 50%25%09of it")


async def test_a_call_that_ends_itself_is_told_nothing_more(served: Served) -> None:
    async with connected(served.path) as client:
        for number, service in ((1, "Once"), (3, "AtOnce"), (5, "Refusing")):
            more = [data(number, message(b"7")) for _ in range(5)]
            await client.send(opened(number, f"/test.{service}/Call"), *more, data(number, end=True))
            await client.over(number)
        await client.echoed()
        assert [call.ends for call in served.calls.made] == [0, 0, 0]


async def test_what_a_call_does_after_its_end_does_nothing(served: Served) -> None:
    async with connected(served.path) as client:

        def everything(call: Call) -> None:
            call.stream.send(b"late")
            call.stream.more()
            call.stream.finish()
            call.stream.abort(Status.INTERNAL, "late")

        await client.send(opened(1, "/test.Once/Call"), data(1, message(b"a")))
        answer = await client.over()
        everything(served.calls.last)
        await client.send(opened(3, "/test.Silent/Call"), reset(3))
        await client.echoed()
        everything(served.calls.last)
        await client.echoed()
        assert (answer.messages, answer.status) == ([b"a"], "0")
        assert not client.answer(3).blocks
        await client.send(opened(5, "/test.Silent/Call"))
        await client.echoed()
    call = served.calls.last
    await eventually(lambda: call.resets)
    everything(call)


LATER: dict[str, tuple[Callable[[Call], None], bytes, str | None]] = {
    "send": (lambda call: call.send(b"later"), message(b"later"), None),
    "finish": (Call.finish, b"", "0"),
    "abort": (lambda call: call.abort(Status.INTERNAL, ""), b"", "13"),
}


@pytest.mark.parametrize("what", LATER)
async def test_what_a_call_says_when_nothing_comes_leaves_at_once(served: Served, what: str) -> None:
    say, body, status = LATER[what]
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Silent/Call"), data(1, message(b"nothing to answer")))
        await eventually(lambda: served.calls.made and served.calls.last.messages)
        say(served.calls.last)
        await client.until(lambda: client.answer().body or client.answer().over)
        assert (client.answer().body, client.answer().status) == (body, status)


async def test_a_call_may_end_before_its_peer_did(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Once/Call"), data(1, message(b"a")))
        answer = await client.over()
        assert (answer.messages, answer.status, answer.ended) == ([b"a"], "0", True)
        # RFC 9113, section 8.1: the rest of the request is not needed, which is no error.
        await client.echoed()
        assert answer.reset in {None, 0}


async def test_the_end_of_the_request_may_be_a_frame_without_bytes(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(), data(1, message(b"a")), frame(Kind.DATA, END_STREAM, 1))
        assert (await client.over()).messages == [b"a"]
