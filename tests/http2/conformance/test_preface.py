"""RFC 9113, section 3.4: how a connection begins; and 6.5.3, 6.7, 6.8: what both sides say to each other then."""

from __future__ import annotations

import pytest

from tests.http2.conformance.serving import Served, eventually
from tests.http2.wire import PREFACE, Code, Kind, Setting, data, goaway, message, opened, ping, priority, settings
from tests.http2.wire_client import connected, raw


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        PREFACE[:-1] + b"\r" + settings(),
        b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n" + settings(),
        PREFACE.lower() + settings(),
        b"\r\n" + PREFACE + settings(),
        settings(),
        bytes(100),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
    ],
    ids=["http/1.1", "last byte", "version", "case", "line before", "settings alone", "zeros", "tls"],
)
async def test_a_wrong_preface_closes_the_connection(served: Served, sent: bytes) -> None:
    async with raw(served.path) as client:
        await client.send(sent, opened(), data(1, message(b"hello"), end=True))
        await client.closed()
    # GOAWAY may be left out, because the peer may not speak HTTP/2.
    assert set(client.goaways) <= {Code.PROTOCOL_ERROR}
    assert served.calls.made == []


async def test_a_preface_that_cannot_become_right_is_not_waited_for(served: Served) -> None:
    async with raw(served.path) as client:
        await client.send(b"GET")
        await client.closed()


@pytest.mark.parametrize("cut", [0, 1, 23, 24, 30])
async def test_a_preface_that_is_cut_off_closes_the_connection(served: Served, cut: int) -> None:
    async with raw(served.path) as client:
        await client.send((PREFACE + settings())[:cut])
        client.send_end()
        await client.closed()
    assert served.calls.made == []


@pytest.mark.parametrize(
    "first", [ping(), opened(), priority(1), goaway()], ids=["ping", "headers", "priority", "goaway"]
)
async def test_the_first_frame_must_be_settings(served: Served, first: bytes) -> None:
    async with raw(served.path) as client:
        await client.send(PREFACE, first)
        await client.closed()
    assert set(client.goaways) <= {Code.PROTOCOL_ERROR}
    assert served.calls.made == []


async def test_the_server_begins_with_settings_and_acknowledges_ours(served: Served) -> None:
    async with raw(served.path) as client:
        await client.send(PREFACE, settings({Setting.INITIAL_WINDOW_SIZE: 100}), ping())
        assert await client.until(lambda: client.pongs)
    assert (client.frames[0].kind, client.frames[0].flags, client.frames[0].stream) == (Kind.SETTINGS, 0, 0)
    assert client.acks == 1
    # Frames are answered in their order: the acknowledgement first.
    kinds = [one.kind for one in client.frames if one.flags & 1]
    assert kinds == [Kind.SETTINGS, Kind.PING]


async def test_what_the_server_announces_is_legal(served: Served) -> None:
    async with connected(served.path) as client:
        pass
    assert client.announced.get(Setting.ENABLE_PUSH, 0) == 0
    assert client.announced.get(Setting.MAX_CONCURRENT_STREAMS, 1) >= 1
    assert 2**14 <= client.announced.get(Setting.MAX_FRAME_SIZE, 2**14) < 2**24
    assert client.announced.get(Setting.INITIAL_WINDOW_SIZE, 0) < 2**31
    assert client.window(0) < 2**31


async def test_each_settings_frame_is_acknowledged_once(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(*(settings({Setting.MAX_FRAME_SIZE: 20_000 + number}) for number in range(10)))
        await client.echoed()
        assert client.acks == 11


async def test_a_connection_that_comes_byte_by_byte_is_served(served: Served) -> None:
    async with raw(served.path) as client:
        for byte in PREFACE + settings() + opened() + data(1, message(b"hello"), end=True):
            await client.send(bytes((byte,)))
        answer = await client.over()
    assert (answer.messages, answer.status) == ([b"hello"], "0")


async def test_everything_may_come_in_one_piece(served: Served) -> None:
    async with raw(served.path) as client:
        calls = [opened(number) + data(number, message(b"%d" % number), end=True) for number in range(1, 100, 2)]
        await client.send(PREFACE, settings(), *calls)
        for number in range(1, 100, 2):
            answer = await client.over(number)
            assert (answer.messages, answer.status) == ([b"%d" % number], "0")


async def test_a_ping_is_answered_with_its_bytes_and_an_answer_is_not_answered(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(ping(b"\0\1\2\3\4\5\6\xff"), ping(b"answered", flags=1), ping(b"one more"))
        await client.until(lambda: len(client.pongs) == 2)
        await client.echoed()
    assert client.pongs == [b"\0\1\2\3\4\5\6\xff", b"one more", b"are you?"]


async def test_a_goaway_of_the_client_lets_open_streams_end(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(), goaway(0, Code.NO_ERROR, b"good bye"), data(1, message(b"hello"), end=True))
        answer = await client.over()
    assert (answer.messages, answer.status) == ([b"hello"], "0")


@pytest.mark.parametrize("how", ["end", "abort"])
async def test_a_connection_that_breaks_resets_each_open_call_once(served: Served, how: str) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Silent/Call"), data(1, message(b"here")))
        await client.send(opened(3, "/test.Silent/Call", end=True), opened(5, "/test.Held/Call"))
        await client.send(opened(7), data(7, message(b"hello"), end=True))
        await client.over(7)
        client.send_end() if how == "end" else client.abort()
        silent, ended, held, echoed = served.calls.made
        await eventually(lambda: silent.resets and ended.resets and held.resets)
    assert (ended.ends, echoed.ends, echoed.resets) == (1, 1, 0)


async def test_a_stopped_server_says_goaway_and_resets_each_open_call_once(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1, "/test.Silent/Call"), data(1, message(b"here")))
        await client.echoed()
        await served.server.stop()
        await client.closed()
    (call,) = served.calls.made
    assert call.resets == 1
    assert client.answer(1).status != "0"
    assert client.goaways == [Code.NO_ERROR]


async def test_a_server_that_says_goaway_lets_calls_end_and_takes_those_that_are_under_way(served: Served) -> None:
    async with connected(served.path) as client:
        await client.send(opened(1))
        await client.echoed()
        served.server.goaway()
        assert await client.until(lambda: client.goaways)
        # RFC 9113, section 6.8: the first GOAWAY says that streams may be under way.
        assert client.frames[-1].payload == (2**31 - 1).to_bytes(4) + bytes(4)
        await client.send(opened(3), data(3, message(b"late"), end=True))
        assert (await client.over(3)).messages == [b"late"]
        (asked,) = [one for one in client.frames if one.kind == Kind.PING and not one.flags]
        await client.send(ping(asked.payload, flags=1))
        assert await client.until(lambda: len(client.goaways) == 2)
        assert client.frames[-1].payload == (3).to_bytes(4) + bytes(4)
        # Whoever opens another one knows that nobody works on it; the open ones go on.
        await client.send(opened(5), data(5, message(b"too late"), end=True))
        await client.send(data(1, message(b"last"), end=True))
        assert ((await client.over(1)).messages, client.answer(1).status) == ([b"last"], "0")
        await client.closed()
    assert not client.answer(5).blocks
    assert len(served.calls.made) == 2
