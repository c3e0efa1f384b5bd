"""The server on its sockets, asked by the gRPC library and by h2."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import h2.config
import h2.connection
import h2.events
import pytest

from extproc.carrier import Receiver, Status, Stream
from extproc.errors import ConfigError
from extproc.http2.server import Http2Server
from tests.http2.wire import PREFACE, Code, settings
from tests.http2.wire_client import connected, raw


class Echo:
    """Answer each message with itself, and the end with OK."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.is_reset = asyncio.Event()

    def receive(self, message: bytes) -> bool:
        self.stream.send(message)
        return True

    def end(self) -> None:
        self.stream.finish()

    def reset(self) -> None:
        self.is_reset.set()


class First(Echo):
    """End with OK at the first message."""

    def receive(self, message: bytes) -> bool:
        self.stream.send(message)
        self.stream.finish()
        return True


class Later(Echo):
    """Answer outside of any call of the transport."""

    def receive(self, message: bytes) -> bool:
        asyncio.get_running_loop().call_soon(self._answer, message)
        return False

    def _answer(self, message: bytes) -> None:
        self.stream.send(message)
        self.stream.more()


class Refusing(Echo):
    """Refuse the first message."""

    def receive(self, message: bytes) -> bool:
        self.stream.abort(Status.FAILED_PRECONDITION, "no, 50% of it\n")
        return True


class Served:
    def __init__(self, folder: Path) -> None:
        self.path = f"{folder}/s"
        self.made: list[Echo] = []
        kinds: dict[str, Callable[[Stream], Echo]] = {
            "/a.B/Echo": Echo,
            "/a.B/First": First,
            "/a.B/Later": Later,
            "/a.B/Refusing": Refusing,
        }
        self.server = Http2Server({path: self._service(kind) for path, kind in kinds.items()}, max_streams=50)

    def _service(self, kind: Callable[[Stream], Echo]) -> Callable[[Stream], Receiver]:
        def begin(stream: Stream) -> Receiver:
            self.made.append(kind(stream))
            return self.made[-1]

        return begin


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    await served.server.start([f"unix:{served.path}", "127.0.0.1:0"])
    yield served
    await served.server.stop()


def channel(served: Served, kind: str) -> grpc.aio.Channel:
    target = f"unix:{served.path}" if kind == "unix" else f"127.0.0.1:{served.server.ports[0]}"
    return grpc.aio.insecure_channel(target, options=[("grpc.max_receive_message_length", -1)])


def begun(to: grpc.aio.Channel, path: str, **options: Any) -> Any:
    return to.stream_stream(path)(**options)


@pytest.mark.parametrize("kind", ["unix", "tcp"])
@pytest.mark.parametrize("path", ["/a.B/Echo", "/a.B/Later"])
async def test_grpc_gets_its_messages_back(served: Served, kind: str, path: str) -> None:
    async with channel(served, kind) as to:
        call = begun(to, path, metadata=(("x-gateway-door", "proxy"),))
        for size in (0, 1, 16_379, 16_380, 300_000, 4 << 20):
            await call.write(bytes(size))
            assert await call.read() == bytes(size)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() == grpc.StatusCode.OK
    assert served.made[0].stream.metadata["x-gateway-door"] == "proxy"


async def test_many_calls_of_grpc_at_once_are_kept_apart(served: Served) -> None:
    async def ask(to: grpc.aio.Channel, number: int) -> None:
        call = begun(to, "/a.B/Later")
        for turn in range(5):
            await call.write(b"%d %d" % (number, turn))
            assert await call.read() == b"%d %d" % (number, turn)
        await call.done_writing()
        assert await call.code() == grpc.StatusCode.OK

    async with channel(served, "unix") as to:
        await asyncio.gather(*(ask(to, number) for number in range(40)))


async def test_a_status_reaches_grpc_before_it_has_said_all(served: Served) -> None:
    async with channel(served, "unix") as to:
        first = begun(to, "/a.B/First")
        await first.write(b"hello")
        assert await first.read() == b"hello"
        assert await first.code() == grpc.StatusCode.OK
        refused = begun(to, "/a.B/Refusing")
        await refused.write(b"hello")
        assert (await refused.code(), await refused.details()) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "no, 50% of it\n",
        )
        unknown = begun(to, "/a.B/Unknown")
        assert await unknown.code() == grpc.StatusCode.UNIMPLEMENTED
        large = begun(to, "/a.B/Echo")
        await large.write(bytes((4 << 20) + 1))
        assert await large.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_call_that_grpc_cancels_is_reset(served: Served) -> None:
    async with channel(served, "unix") as to:
        call = begun(to, "/a.B/Echo")
        await call.write(b"hello")
        await call.read()
        call.cancel()
        await asyncio.wait_for(served.made[0].is_reset.wait(), 10)


async def test_a_goaway_leaves_running_calls_alone(served: Served) -> None:
    async with channel(served, "unix") as to:
        call = begun(to, "/a.B/Echo")
        await call.write(b"before")
        assert await call.read() == b"before"
        served.server.goaway()
        await call.write(b"after")
        assert await call.read() == b"after"
        await call.done_writing()
        assert await call.code() == grpc.StatusCode.OK


async def test_a_connection_that_comes_after_the_goaway_is_told_too(served: Served) -> None:
    served.server.goaway()
    async with raw(served.path) as client:
        await client.send(PREFACE, settings())
        async with asyncio.timeout(10):
            await client.until(lambda: client.goaways)
    assert client.goaways == [0]


async def test_a_server_that_stops_tells_its_calls_and_grpc_hears_no_ok(served: Served) -> None:
    async with channel(served, "unix") as to:
        call = begun(to, "/a.B/Echo")
        await call.write(b"hello")
        await call.read()
        await served.server.stop()
        assert served.made[0].is_reset.is_set()
        assert await call.code() == grpc.StatusCode.UNAVAILABLE


async def test_what_is_said_when_the_peer_has_just_gone_harms_nothing(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(20):
        async with channel(served, "unix") as to:
            call = begun(to, "/a.B/Later")
            await call.write(b"hello")
            await call.read()
            served.made[-1].stream.send(bytes(1 << 20))
        served.made[-1].stream.send(b"late")
        await asyncio.wait_for(served.made[-1].is_reset.wait(), 10)
        served.made[-1].stream.send(b"later")
        served.made[-1].stream.more()
        served.made[-1].stream.finish()
    assert caplog.records == []


async def test_h2_finds_nothing_wrong_with_what_we_send(served: Served) -> None:
    reader, writer = await asyncio.open_unix_connection(served.path)
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/a.B/Echo"), (":authority", "x")]
    for number in (1, 3):
        client.send_headers(number, [*fields, ("content-type", "application/grpc"), ("te", "trailers")])
        client.send_data(number, b"\0\0\0\0\x05hello", end_stream=True)
    writer.write(client.data_to_send())
    bodies: dict[int, bytes] = {}
    ends: dict[int, dict[bytes, bytes]] = {}
    while len(ends) < 2:
        for event in client.receive_data(await asyncio.wait_for(reader.read(65_536), 10)):
            if isinstance(event, h2.events.DataReceived):
                bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
            if isinstance(event, h2.events.TrailersReceived):
                ends[event.stream_id] = dict(event.headers)
        writer.write(client.data_to_send())
    assert bodies == dict.fromkeys((1, 3), b"\0\0\0\0\x05hello")
    assert ends == {number: {b"grpc-status": b"0"} for number in (1, 3)}
    writer.close()
    await writer.wait_closed()


async def test_a_peer_that_breaks_a_rule_is_told_and_logged_once(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_unix_connection(served.path)
    writer.write(b"GET / HTTP/1.1\r\nauthorization: a secret\r\n\r\n")
    # GOAWAY with PROTOCOL_ERROR is the last that comes.
    assert (await reader.read()).endswith(b"\x07\0\0\0\0\0" + bytes(4) + b"\0\0\0\x01")
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert "PROTOCOL_ERROR" in record.getMessage()
    assert "secret" not in record.getMessage()
    writer.close()
    await writer.wait_closed()


async def test_a_peer_that_says_nothing_is_cut_and_one_that_greeted_may_be_idle_for_ever(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Http2Server({}, max_streams=1, greeting_seconds=0.05)
    await server.start([f"unix:{tmp_path}/s"])
    async with connected(f"{tmp_path}/s") as idle, raw(f"{tmp_path}/s") as silent, raw(f"{tmp_path}/s") as slow:
        await slow.send(PREFACE)
        # The time of the idle one is over before theirs.
        await asyncio.gather(silent.closed(), slow.closed())
        assert silent.goaways == slow.goaways == [Code.SETTINGS_TIMEOUT]
        await idle.echoed()
    await server.stop()
    assert caplog.text.count("connection closed: SETTINGS_TIMEOUT") == 2


@pytest.mark.parametrize("address", ["unix:/nowhere/at/all", "127.0.0.1:no", "127.0.0.1:99999", "192.0.2.1:1"])
async def test_an_address_that_cannot_be_listened_on_is_said(address: str) -> None:
    with pytest.raises(ConfigError, match="listen: cannot listen on"):
        await Http2Server({}, max_streams=1).start([address])


async def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="listen: cannot listen on"):
            await Http2Server({}, max_streams=1).start([address])
