"""RFC 9113, section 5: what may come in which state of a stream, identifiers, and how many may be open."""

from __future__ import annotations

import pytest

from tests.http2.conformance.serving import (
    HELLO,
    SILENT,
    Case,
    Echoed,
    Ignored,
    Served,
    eventually,
    goaway_with,
    reset_with,
    run,
    serving,
)
from tests.http2.wire import (
    END_HEADERS,
    PRIORITY,
    Code,
    Kind,
    Setting,
    block,
    data,
    field_line,
    frame,
    headers,
    indexed,
    message,
    opened,
    priority,
    request,
    reset,
    window_update,
)
from tests.http2.wire_client import connected

PROTOCOL, CLOSED = Code.PROTOCOL_ERROR, Code.STREAM_CLOSED
ENDED = opened(3, "/test.Silent/Call", end=True)
TRAILERS = headers(3, block([("x-checksum", "1")]), end=True)

STATES = [
    # --- 5.1 idle
    Case("5.1", "idle: DATA", data(99, message(b"")), goaway_with(PROTOCOL)),
    Case("5.1", "idle: RST_STREAM", reset(99), goaway_with(PROTOCOL)),
    Case("5.1", "idle: WINDOW_UPDATE", window_update(99, 1), goaway_with(PROTOCOL)),
    Case("5.1", "idle: PRIORITY", priority(99), Ignored()),
    Case("5.1", "idle, of the server: DATA", data(2, message(b"")), goaway_with(PROTOCOL)),
    Case("5.1", "idle, of the server: RST_STREAM", reset(2), goaway_with(PROTOCOL)),
    Case("5.1", "idle, of the server: WINDOW_UPDATE", window_update(2, 1), goaway_with(PROTOCOL)),
    Case("5.1", "idle, of the server: PRIORITY", priority(2), Ignored()),
    # --- 5.1 open
    Case("5.1", "open: HEADERS without END_STREAM", SILENT + headers(3, block([("x", "1")])), reset_with(PROTOCOL)),
    Case("5.1", "open: PRIORITY", opened(3) + priority(3, 1) + HELLO, Echoed()),
    # --- 5.1 half-closed (remote)
    Case("5.1", "half-closed: DATA", ENDED + data(3, message(b"")), reset_with(CLOSED)),
    Case("5.1", "half-closed: HEADERS", ENDED + headers(3, block(request()), end=True), reset_with(CLOSED, PROTOCOL)),
    Case("5.1", "half-closed: trailers", ENDED + TRAILERS, reset_with(CLOSED)),
    Case("5.1", "half-closed: CONTINUATION", ENDED + frame(9, END_HEADERS, 3, block(request())), goaway_with(PROTOCOL)),
    Case("5.1", "half-closed: WINDOW_UPDATE", ENDED + window_update(3, 1), Ignored()),
    Case("5.1", "half-closed: PRIORITY", ENDED + priority(3), Ignored()),
    Case("5.1", "half-closed: RST_STREAM", ENDED + reset(3), Ignored()),
    # --- 5.1 closed
    Case("5.1", "closed by RST_STREAM: DATA", SILENT + reset(3) + data(3, message(b"")), reset_with(CLOSED)),
    Case("5.1", "closed by RST_STREAM: HEADERS", SILENT + reset(3) + SILENT, reset_with(CLOSED, PROTOCOL)),
    Case("5.1", "closed by RST_STREAM: CONTINUATION", SILENT + reset(3) + frame(9, 4, 3), goaway_with(PROTOCOL)),
    Case("5.1", "closed by RST_STREAM: RST_STREAM", SILENT + reset(3) + reset(3), Ignored()),
    Case("5.1", "closed by RST_STREAM: WINDOW_UPDATE", SILENT + reset(3) + window_update(3, 1), Ignored()),
    Case("5.1", "closed by RST_STREAM: PRIORITY", SILENT + reset(3) + priority(3), Ignored()),
    # --- 5.1.1 identifiers
    Case("5.1.1", "a stream with an even number", opened(4), goaway_with(PROTOCOL)),
    Case("5.1.1", "a stream below one that was open",
         opened(7, "/test.Silent/Call") + SILENT, goaway_with(PROTOCOL, CLOSED)),
    Case("5.1.1", "numbers left out",
         opened(2**31 - 1) + data(2**31 - 1, message(b"hello"), end=True), Echoed(stream=2**31 - 1)),
    # --- 5.5 extensions
    Case("5.5", "unknown types between frames of a stream",
         frame(0xEE) + opened(3) + frame(0xEE, 1, 3) + HELLO, Echoed()),
    # --- 8.1 trailers
    Case("8.1", "trailers", opened(3) + data(3, message(b"hello")) + TRAILERS, Echoed()),
    Case("8.1", "DATA after trailers", SILENT + TRAILERS + data(3, message(b"")), reset_with(CLOSED)),
    Case("8.1", "trailers after trailers", SILENT + TRAILERS + TRAILERS, reset_with(CLOSED)),
    Case(
        "8.1",
        "trailers with priority",
        opened(3) + data(3, message(b"hello")) + frame(1, 4 | PRIORITY | 1, 3, bytes(5) + block([("x", "1")])),
        Echoed(),
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", STATES, ids=str)
async def test_state(case: Case, served: Served) -> None:
    await run(case, served)


@pytest.mark.parametrize(
    ("what", "late", "codes"),
    [
        ("DATA", data(1, message(b"")), {CLOSED}),
        ("HEADERS", headers(1, block(request()), end=True), {CLOSED, PROTOCOL}),
        ("CONTINUATION", frame(Kind.CONTINUATION, END_HEADERS, 1), {PROTOCOL}),
    ],
    ids=["data", "headers", "continuation"],
)
async def test_what_comes_after_both_sides_ended_a_stream_is_an_error(
    served: Served, what: str, late: bytes, codes: set[Code]
) -> None:
    async with connected(served.path) as client:
        await client.send(opened(), data(1, message(b"hello"), end=True))
        answer = await client.over()
        assert answer.status == "0"
        await client.send(late)
        await client.until(lambda: answer.reset is not None)
    assert {answer.reset} <= codes if answer.reset is not None else set(client.goaways) <= codes
    assert answer.reset is not None or client.goaways
    assert len(served.calls.made) == 1


async def test_what_may_be_under_way_when_a_stream_ends_is_ignored(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(), data(1, message(b"hello"), end=True))
        await client.over()
        await client.send(window_update(1, 5), reset(1), priority(1), window_update(1, 5))
        await client.echoed()
        assert (client.goaways, client.answer(1).reset) == ([], None)


@pytest.mark.parametrize("service", ["Once", "Refusing", "AtOnce", "Broken", "NoCall", "Unknown"])
async def test_what_is_under_way_when_the_service_ends_a_call_harms_no_other(served: Served, service: str) -> None:
    # The peer knows of it only later: it goes on sending, in many calls, more than any window.
    async with connected(served.path) as client:
        await client.send(window_update(0, 1 << 24))
        for number in range(1, 200, 2):
            await client.send(opened(number, f"/test.{service}/Call"))
            await client.send_data(number, *(message(bytes(8187)) for _ in range(6)))
            await client.send(headers(number, block([("x", "1")]), end=True))
            answer = await client.over(number)
            assert (answer.status == "0") == (service in {"Once", "AtOnce"})
            assert client.goaways == []
        await client.echoed()


async def test_resets_reach_their_call_and_no_other(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(*(opened(number, "/test.Silent/Call") for number in (1, 3, 5)), reset(3))
        await client.echoed()
        assert [call.resets for call in served.calls.made] == [0, 1, 0]
        await client.send(reset(1), reset(5, Code.NO_ERROR))
        await eventually(lambda: all(call.resets for call in served.calls.made))
        assert [answer.over for answer in client.answers.values() if answer.over] == []


async def test_a_stream_too_many_is_refused_and_the_others_live() -> None:
    async with serving(max_streams=3) as served, connected(served.path) as client:
        # What the refused one adds to the table of header fields counts, all the same.
        refused = block(request("/test.Echo/Call")) + field_line("x-name", "late", 0x40)
        await client.send(*(opened(number) for number in (1, 3, 5)), headers(7, refused))
        answer = await client.over(7)
        assert answer.reset == Code.REFUSED_STREAM
        assert len(served.calls.made) == 3
        await client.send(data(1, message(b"first"), end=True))
        assert (await client.over(1)).status == "0"
        await client.send(headers(9, block(request()) + indexed(62)), data(9, message(b"late"), end=True))
        assert (await client.over(9)).messages == [b"late"]
        assert served.calls.last.stream.metadata["x-name"] == "late"


async def test_the_calls_of_all_connections_count_together() -> None:
    async with serving(max_streams=2) as served, connected(served.path) as one, connected(served.path) as other:
        await one.send(opened(1), opened(3))
        await one.echoed()
        await other.send(opened(1))
        assert (await other.over(1)).reset == Code.REFUSED_STREAM
        one.abort()
        await eventually(lambda: all(call.resets for call in served.calls.made))
        await other.send(opened(3, end=True))
        assert (await other.over(3)).status == "0"


async def test_the_server_announces_how_many_streams_it_takes() -> None:
    async with serving(max_streams=3) as served, connected(served.path) as client:
        assert client.announced[Setting.MAX_CONCURRENT_STREAMS] >= 1


async def test_calls_that_are_over_make_room_for_others() -> None:
    async with serving(max_streams=2) as served, connected(served.path) as client:
        for number in range(1, 100, 6):
            await client.send(opened(number), data(number, message(b"hello"), end=True))
            assert (await client.over(number)).status == "0"
            await client.send(opened(number + 2, "/test.Silent/Call"), reset(number + 2))
            await client.send(opened(number + 4, "/test.Refusing/Call"), data(number + 4, message(b"8"), end=True))
            assert (await client.over(number + 4)).status == "8"
