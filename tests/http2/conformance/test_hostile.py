"""A peer that wants to cost much: bounded memory and work, whatever it sends and does not read (RFC 9113, 10.5)."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.http2.conformance.serving import HELLO, Served, check_no_false_ok, eventually
from tests.http2.wire import (
    END_HEADERS,
    Code,
    Kind,
    Setting,
    block,
    data,
    field_line,
    frame,
    indexed,
    message,
    opened,
    ping,
    priority,
    request,
    reset,
    settings,
    window_update,
)
from tests.http2.wire_client import connected

MOST_TAKEN = 16 << 20
"""Of a flood; sockets and buffers on the way hold far less."""
MOST_MEMORY = 12 << 20


@contextmanager
def bounded(most: int = MOST_MEMORY) -> Iterator[None]:
    """Check that no more than so many bytes are allocated at any time, of all in this process."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak} bytes"


FLOODS = {
    "PING": ping() * 1000,
    "SETTINGS": settings({Setting.MAX_FRAME_SIZE: 16_384}) * 1000,
    "SETTINGS of many values": settings([(Setting.INITIAL_WINDOW_SIZE, 65_535)] * 2730) * 10,
}


@pytest.mark.parametrize("what", FLOODS)
async def test_answers_that_nobody_reads_do_not_pile_up(served: Served, what: str) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Silent/Call"))
        await client.echoed()
        client.pause()
        with bounded():
            taken = await client.flood(FLOODS[what], MOST_TAKEN)
        assert taken < MOST_TAKEN or what == "SETTINGS of many values"
        client.abort()
        await eventually(lambda: served.calls.last.resets)


@pytest.mark.parametrize("service", ["Unknown", "Refusing", "AtOnce", "Echo"])
async def test_calls_whose_answers_nobody_reads_do_not_pile_up(served: Served, service: str) -> None:
    async with connected(served.path) as client:
        client.pause()
        with bounded():
            for number in range(1, 40_000, 200):
                part = b"".join(
                    opened(one, f"/test.{service}/Call", end=True) for one in range(number, number + 200, 2)
                )
                if client.is_broken or not await client.offered(part):
                    break
                # What they keep is ours, not the server's.
                served.calls.made = [call for call in served.calls.made if not call.over]
        client.abort()


async def test_messages_that_nobody_reads_do_not_pile_up(served: Served) -> None:
    # The window allows it: only the socket says that nobody reads.
    async with connected(served.path, {Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}) as client:
        await client.send(window_update(0, 2**30), opened())
        client.pause()
        part = data(1, message(bytes(1000))) * 16
        with bounded():
            # No more than our windows, which grow with what is taken; we do not see it, and would be cut for more.
            taken = await client.flood(part, min(MOST_TAKEN, client.left(1)) - len(part))
        assert taken < MOST_TAKEN
        client.abort()


async def test_a_peer_that_resets_what_it_opened_at_once_is_cut(served: Served) -> None:
    # CVE-2023-44487. Envoy resets the calls of clients that hang up: some are no attack.
    async with connected(served.path) as client:
        with bounded():
            for number in range(1, 40_000, 200):
                calls = [opened(one, "/test.Silent/Call") + reset(one) for one in range(number, number + 200, 2)]
                client.pongs.clear()
                await client.send(*calls, ping())
                # No more is sent before it has read what the server says: a broken connection would take it back.
                await client.until(lambda: client.goaways or client.pongs)
                assert all(call.resets == 1 for call in served.calls.made)
                served.calls.made.clear()
                if client.goaways:
                    break
            await client.closed()
    assert client.goaways == [Code.ENHANCE_YOUR_CALM]


async def test_some_resets_are_no_attack(served: Served) -> None:
    async with connected(served.path) as client:
        for number in range(1, 200, 2):
            await client.send(opened(number, "/test.Silent/Call"), reset(number))
        await client.echoed()
        assert len(served.calls.made) == 100


@pytest.mark.parametrize("part", [b"", b"\x00\x01x\x01y" * 100, b"\x82" * 1000], ids=["empty", "literals", "indexed"])
async def test_a_header_block_without_an_end_closes_the_connection(served: Served, part: bytes) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Silent/Call"), frame(Kind.HEADERS, 0, 3, block(request())))
        with bounded():
            for _ in range(1000):
                await client.send(frame(Kind.CONTINUATION, 0, 3, part) * 20)
                if client.is_broken:
                    break
            await client.closed()
        # 20,000 frames are more than any header block has.
        assert set(client.goaways) <= {Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR, Code.COMPRESSION_ERROR}
    await eventually(lambda: served.calls.last.resets)


LARGE = {
    "one large field": field_line("x", "v" * 200_000),
    "many fields": field_line("x", "v") * 30_000,
    "one entry of the table again and again": field_line("x", "v" * 3900, 0x40) + indexed(62) * 14_000,
    "empty fields": field_line("", "") * 50_000,
}


@pytest.mark.parametrize("what", LARGE)
@pytest.mark.parametrize("trailers", [False, True], ids=["request", "trailers"])
async def test_a_header_list_that_is_too_large_is_refused(served: Served, what: str, *, trailers: bool) -> None:
    whole = LARGE[what] if trailers else block(request()) + LARGE[what]
    pieces = [whole[at : at + 16_000] for at in range(0, len(whole), 16_000)]
    frames = [
        frame(Kind.CONTINUATION if at else Kind.HEADERS, END_HEADERS * (piece is pieces[-1]), 3, piece)
        for at, piece in enumerate(pieces)
    ]
    async with connected(served.path) as client:
        if trailers:
            await client.send(opened(3), data(3, message(b"hello")))
        with bounded():
            await client.send(*frames)
            await client.send(HELLO)
            await client.until(lambda: client.answer(3).over)
        answer = client.answer(3)
        assert answer.status != "0"
        # Where the server closes the connection while we send, we may see nothing of its reason.
        assert not await client.until(lambda: answer.over) or answer.reset or answer.blocks[0][":status"] == "431"
        check_no_false_ok(client, served.calls)
    assert [call.ends for call in served.calls.made] == [0] * trailers


@pytest.mark.parametrize(
    "part",
    [data(1), window_update(1, 1), priority(1), priority(9999, 1)],
    ids=["data", "window", "priority", "priority of an idle stream"],
)
async def test_frames_that_do_nothing_cost_no_memory(served: Served, part: bytes) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Silent/Call"))
        with bounded(2 << 20):
            for _ in range(200):
                await client.send(part * 100)
                await asyncio.sleep(0)
                if client.is_broken:
                    break
        await client.send(ping())
        assert await client.until(lambda: client.pongs) or client.goaways == [Code.ENHANCE_YOUR_CALM]


async def test_a_message_that_never_ends_holds_no_more_than_its_bytes(served: Served) -> None:
    async with connected(served.path) as client:
        with bounded():
            for number in range(1, 200, 2):
                # Each says that it is long, and sends nothing of it.
                await client.send(opened(number, "/test.Silent/Call"), data(number, b"\0" + (4 << 20).to_bytes(4)))
            await client.echoed()


async def test_thousands_of_streams_leave_nothing_behind(served: Served) -> None:
    async with connected(served.path) as client:
        number = 1

        async def some(count: int) -> None:
            nonlocal number
            for _ in range(count):
                await client.send(opened(number), data(number, message(b"hello"), end=True))
                assert (await client.over(number)).status == "0"
                number += 2
            client.answers.clear()
            client.frames.clear()
            served.calls.made.clear()

        await some(100)
        gc.collect()
        tracemalloc.start()
        try:
            await some(100)
            gc.collect()
            before, _ = tracemalloc.get_traced_memory()
            await some(700)
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert after - before < 100_000, "more than 130 bytes of each stream stay"
