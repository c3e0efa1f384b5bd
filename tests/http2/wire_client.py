"""A client of an HTTP/2 server that says exactly what it is told to, and keeps what comes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import hpack

from tests.http2.wire import (
    ACK,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    PADDED,
    PREFACE,
    WINDOW,
    Code,
    Frame,
    Kind,
    Setting,
    Settings,
    data,
    frame,
    ping,
    settings,
    taken_apart,
)

SECONDS = 10.0
"""What does not come in this time does not come."""


@dataclass(slots=True)
class Answer:
    """What came on a stream."""

    blocks: list[dict[str, str]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> str | None:
        """Return `grpc-status`, of the trailers or of a response that has only these."""
        return self.blocks[-1].get("grpc-status") if self.blocks else None

    @property
    def messages(self) -> list[bytes]:
        return taken_apart(self.body)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


# --- The connection --------------------------------------------------------------------------------------------------


class WireClient:
    """A connection: `answers` has what came on each stream, `goaways` the error codes of GOAWAY frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = hpack.Decoder()
        self.frames: list[Frame] = []
        self.answers: dict[int, Answer] = {}
        self.announced: dict[int, int] = {}
        self.given: dict[int, int] = {}
        self.spent: dict[int, int] = {}
        self.goaways: list[int] = []
        self.pongs: list[bytes] = []
        self.acks = 0

    async def send(self, *parts: bytes) -> None:
        """Send; a connection that the server broke meanwhile is no error here, reading shows it."""
        self._writer.write(b"".join(parts))
        with suppress(ConnectionError):
            await asyncio.wait_for(self._writer.drain(), SECONDS)

    def send_end(self) -> None:
        """Close our direction; the other stays open."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    @property
    def is_broken(self) -> bool:
        """Whether sending has failed."""
        return self._writer.transport.is_closing()

    async def flood(self, part: bytes, most: int) -> int:
        """Send again and again until nobody takes it for a second, at most so many bytes; return how many went."""
        sent = 0
        while sent < most and not self.is_broken and await self.offered(part):
            sent += len(part)
        return sent

    async def offered(self, part: bytes) -> bool:
        """Send, and return whether somebody took it within a second."""
        self._writer.write(part)
        try:
            async with asyncio.timeout(1):
                await self._writer.drain()
        except (TimeoutError, ConnectionError):
            return False
        return True

    def pause(self) -> None:
        """Read nothing from now on, so that the server's writes pile up."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def answer(self, stream: int = 1) -> Answer:
        return self.answers.setdefault(stream, Answer())

    async def read(self) -> Frame | None:
        """Return the next frame, or None at the end of the connection."""
        try:
            head = await asyncio.wait_for(self._reader.readexactly(9), SECONDS)
            payload = await asyncio.wait_for(self._reader.readexactly(int.from_bytes(head[:3])), SECONDS)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        got = Frame(head[3], head[4], int.from_bytes(head[5:9]), payload)
        self.frames.append(got)
        self._take(got)
        return got

    async def until(self, condition: Callable[[], object]) -> bool:
        """Read until the condition is true; return false where the connection ended before."""
        while not condition():
            if await self.read() is None:
                return bool(condition())
        return True

    async def closed(self) -> None:
        """Read until the server has closed the connection."""
        while await self.read() is not None:
            pass

    async def over(self, stream: int = 1) -> Answer:
        """Read until the stream is over, which the connection's end would not make it."""
        answer = self.answer(stream)
        assert await self.until(lambda: answer.over), f"the connection ended, GOAWAY {self.goaways}"
        return answer

    async def echoed(self, opaque: bytes = b"are you?") -> None:
        """Wait for the answer to a PING: the server has taken all that was sent before, and still serves."""
        before = self.pongs.count(opaque)
        await self.send(ping(opaque))
        alive = await self.until(lambda: self.pongs.count(opaque) > before)
        assert alive, f"the connection ended, GOAWAY {[Code(one).name for one in self.goaways]}"

    def _take(self, got: Frame) -> None:
        assert len(got.payload) <= FRAME_BYTES, "larger than anything we ever allowed"
        match got.kind:
            case Kind.HEADERS | Kind.CONTINUATION:
                # No response of a gRPC server that we serve is so long that it needs a CONTINUATION.
                assert got.kind == Kind.HEADERS, "CONTINUATION"
                assert got.flags & END_HEADERS
                fields = [(str(name), str(value)) for name, value in self._decoder.decode(got.payload)]
                assert len(dict(fields)) == len(fields), f"a field came twice: {fields}"
                self.answer(got.stream).blocks.append(dict(fields))
            case Kind.DATA:
                self.answer(got.stream).body += got.payload
            case Kind.RST_STREAM:
                self.answer(got.stream).reset = got.code
            case Kind.SETTINGS if got.flags & ACK:
                self.acks += 1
            case Kind.SETTINGS:
                self.announced |= dict(struct.iter_unpack("!HI", got.payload))
            case Kind.PING if got.flags & ACK:
                self.pongs.append(got.payload)
            case Kind.GOAWAY:
                self.goaways.append(got.code)
            case Kind.WINDOW_UPDATE:
                self.given[got.stream] = self.given.get(got.stream, 0) + int.from_bytes(got.payload)
        if got.kind in {Kind.DATA, Kind.HEADERS} and got.flags & END_STREAM:
            assert not self.answer(got.stream).ended, "ended twice"
            self.answer(got.stream).ended = True

    # --- What the server lets us send --------------------------------------------------------------------------------

    def window(self, stream: int) -> int:
        """Return what we may send in all on a stream, or on the connection (RFC 9113, section 6.9.2)."""
        first = self.announced.get(Setting.INITIAL_WINDOW_SIZE, WINDOW) if stream else WINDOW
        return first + self.given.get(stream, 0)

    def left(self, stream: int) -> int:
        """Return what we may send now, after what `send_data` sent."""
        return min(self.window(one) - self.spent.get(one, 0) for one in (0, stream))

    async def send_data(self, stream: int, *payloads: bytes, end: bool = False) -> None:
        """Send DATA frames as the windows allow; END_STREAM goes with the last one."""
        for at, payload in enumerate(payloads):
            await self._room(stream, len(payload))
            self._spend(stream, len(payload))
            await self.send(data(stream, payload, end=end and at == len(payloads) - 1))

    async def send_body(self, stream: int, body: bytes) -> None:
        """Send a body in frames as large as they may be."""
        at = 0
        while at < len(body):
            assert await self.until(lambda: self.left(stream) > 0), "closed"
            size = min(self.left(stream), FRAME_BYTES)
            await self.send_data(stream, body[at : at + size])
            at += size

    async def send_padded(self, stream: int, payload: bytes, padding: int) -> None:
        """Send a DATA frame; padding and its length count, too (RFC 9113, section 6.9.1)."""
        whole = bytes((padding,)) + payload + bytes(padding)
        await self._room(stream, len(whole))
        self._spend(stream, len(whole))
        await self.send(frame(Kind.DATA, PADDED, stream, whole))

    async def _room(self, stream: int, size: int) -> None:
        assert await self.until(lambda: self.left(stream) >= size), "closed"

    def _spend(self, stream: int, size: int) -> None:
        for one in (0, stream):
            self.spent[one] = self.spent.get(one, 0) + size


@asynccontextmanager
async def raw(path: str) -> AsyncIterator[WireClient]:
    """Connect to a unix socket, and say nothing."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        yield WireClient(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def connected(path: str, values: Settings = ()) -> AsyncIterator[WireClient]:
    """Connect, and exchange settings."""
    async with raw(path) as client:
        await client.send(PREFACE, settings(values))
        assert await client.until(lambda: client.acks)
        await client.send(settings(flags=ACK))
        yield client
