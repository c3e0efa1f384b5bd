"""What either transport promises: the same calls, asked by grpc.aio, over our own HTTP/2 and over grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from extproc.carrier import MAX_MESSAGE_BYTES, Service, Status, Stream
from extproc.errors import ConfigError
from extproc.grpc_transport import GrpcServer
from extproc.http2.server import Http2Server

Transport = type[Http2Server] | type[GrpcServer]
Call = Any  # grpc.aio.StreamStreamCall is generic in its stubs alone


class Echo:
    """Say everything again, and end with OK when the peer has."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        # grpc.aio tells of a peer that gave up as of one that has said all.
        self.is_over = asyncio.Event()

    def receive(self, message: bytes) -> bool:
        self.stream.send(message)
        return True

    def end(self) -> None:
        self.is_over.set()
        self.stream.finish()

    def reset(self) -> None:
        self.is_over.set()


class Slow(Echo):
    """Take the next message only when it is told to."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self.taken: list[bytes] = []
        self.has_one = asyncio.Event()

    def receive(self, message: bytes) -> bool:
        self.taken.append(message)
        self.has_one.set()
        return False

    def end(self) -> None:
        self.stream.send(b"%d" % len(self.taken))
        self.stream.finish()


class Refusing(Echo):
    def receive(self, _message: bytes) -> bool:
        self.stream.abort(Status.FAILED_PRECONDITION, "not this")
        return False


class Failing(Echo):
    def receive(self, _message: bytes) -> bool:
        raise RuntimeError("a secret")


class Served:
    def __init__(self, transport: Transport, folder: Path) -> None:
        self.address = f"unix:{folder}/s"
        self.made: list[Any] = []
        self.begins = asyncio.Event()
        kinds: list[type[Echo]] = [Echo, Slow, Refusing, Failing]
        self.server = transport({f"/t/{kind.__name__}": self._service(kind) for kind in kinds}, max_streams=9)

    def _service(self, kind: type[Echo]) -> Service:
        def serve(stream: Stream) -> Echo:
            self.made.append(kind(stream))
            self.begins.set()
            return self.made[-1]  # type: ignore[no-any-return]

        return serve


@pytest.fixture(params=[Http2Server, GrpcServer])
def transport(request: pytest.FixtureRequest) -> Transport:
    found: Transport = request.param
    return found


@pytest.fixture
async def served(transport: Transport, tmp_path: Path) -> AsyncIterator[Served]:
    one = Served(transport, tmp_path)
    await one.server.start([one.address])
    async with asyncio.timeout(60):
        yield one
        await one.server.stop()


@pytest.fixture
async def channel(served: Served) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(served.address) as one:
        yield one


def begun(channel: grpc.aio.Channel, method: str) -> Call:
    return channel.stream_stream(f"/t/{method}")(metadata=(("x-said", "by the peer"),))


async def test_messages_go_both_ways_until_the_receiver_ends_with_ok(served: Served, channel: grpc.aio.Channel) -> None:
    call = begun(channel, "Echo")
    for message in (b"one", b"", bytes(300_000)):
        await call.write(message)
        assert await call.read() == message
    assert served.made[0].stream.metadata["x-said"] == "by the peer"
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_receiver_that_takes_no_more_gets_no_more_until_it_says_so(
    served: Served, channel: grpc.aio.Channel
) -> None:
    call = begun(channel, "Slow")
    for message in (b"one", b"two", b"three"):
        await call.write(message)
    await call.done_writing()
    for count in (1, 2, 3):
        await served.begins.wait()
        slow: Slow = served.made[0]
        await slow.has_one.wait()
        slow.has_one.clear()
        assert len(slow.taken) == count
        slow.stream.more()
    assert await call.read() == b"3"
    assert await call.code() is grpc.StatusCode.OK


async def test_what_is_said_outside_of_a_message_arrives(served: Served, channel: grpc.aio.Channel) -> None:
    call = begun(channel, "Echo")
    await call.write(b"one")
    await call.read()
    served.made[0].stream.send(b"by itself")
    assert await call.read() == b"by itself"
    served.made[0].stream.abort(Status.UNAVAILABLE, "that was it")
    assert await call.code() is grpc.StatusCode.UNAVAILABLE
    assert await call.details() == "that was it"


@pytest.mark.parametrize(
    ("method", "code"),
    [
        ("Refusing", grpc.StatusCode.FAILED_PRECONDITION),
        ("Failing", grpc.StatusCode.INTERNAL),
        ("Nobody", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
async def test_no_end_but_that_of_the_receiver_is_ok(
    channel: grpc.aio.Channel, method: str, code: grpc.StatusCode
) -> None:
    call = begun(channel, method)
    # Nobody takes a message: where it is written after the end, grpc.aio tells of that in place of the end.
    if method != "Nobody":
        await call.write(b"hello")
    assert await call.code() is code
    assert "secret" not in (await call.details() or "")


async def test_a_message_that_is_too_long_fails_the_call(channel: grpc.aio.Channel) -> None:
    call = begun(channel, "Echo")
    with suppress(grpc.aio.AioRpcError):
        await call.write(bytes(MAX_MESSAGE_BYTES + 1))
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_receiver_learns_that_its_peer_gave_up(served: Served, channel: grpc.aio.Channel) -> None:
    call = begun(channel, "Echo")
    await call.write(b"hello")
    await call.read()
    call.cancel()
    await served.made[0].is_over.wait()
    served.made[0].stream.send(b"late")
    served.made[0].stream.finish()


async def test_running_calls_survive_a_goaway_and_not_a_stop(served: Served, channel: grpc.aio.Channel) -> None:
    call = begun(channel, "Echo")
    await call.write(b"before")
    assert await call.read() == b"before"
    served.server.goaway()
    await call.write(b"after")
    assert await call.read() == b"after"
    await served.server.stop()
    assert await call.code() not in {grpc.StatusCode.OK, None}
    await served.made[0].is_over.wait()


@pytest.mark.parametrize("address", ["unix:/nowhere/at/all/s", "no address"])
async def test_an_address_that_cannot_be_used_is_a_fault_of_the_configuration(
    transport: Transport, address: str
) -> None:
    server = transport({}, max_streams=1)
    with pytest.raises(ConfigError, match="cannot listen on"):
        await server.start([address])
    await server.stop()
