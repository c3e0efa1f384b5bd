"""Fuzz the HTTP/2 transport: connections as a client may make them, changed anyhow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from random import Random

import hpack
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame

from extproc.carrier import MAX_MESSAGE_BYTES, Status
from extproc.http2 import streams
from extproc.http2.connection import Connection
from extproc.http2.limits import Load
from tests.fuzz.mutate import cut, mutated
from tests.fuzz.texts import Note
from tests.http2.services import Call, Calls
from tests.http2.wire import (
    ACK,
    END_HEADERS,
    END_STREAM,
    PADDED,
    PREFACE,
    PRIORITY,
    Kind,
    data,
    frame,
    goaway,
    message,
    parsed,
    ping,
    priority,
    request,
    reset,
    settings,
    window_update,
)

_SERVICES = (
    *("Echo", "Echo", "Held", "Silent", "Large", "Once"),
    *("Refusing", "Broken", "BrokenEnd", "AtOnce", "NoCall", "Unknown"),
)
_MAX_STREAMS = 8
_FRAME_BYTES = 16_384

log = logging.getLogger("extproc.http2")


def http2(random: Random, note: Note) -> None:
    """Take anything: nothing raises, all that leaves is HTTP/2, and OK is said only where a service said so."""
    frames = _valid(random)
    is_valid = random.random() < 0.15
    if not is_valid:
        frames = _changed(frames, random)
    sent = b"".join(frames)
    if not is_valid and random.random() < 0.4:
        sent = mutated(sent, random)
    if is_valid or random.random() < 0.95:
        sent = PREFACE + settings({4: random.choice((0, 10, 65_535, 1 << 20))}) + sent
    note(sent)
    run = _Run(random)
    # Services that fail, fail here on purpose.
    log.disabled = True
    try:
        run.feed(sent)
        if is_valid:
            assert run.connection.fault is None, run.connection.fault
        run.over()
    finally:
        log.disabled = False


class _Run:
    """A connection, and services that act by chance."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.calls = Calls()
        self.load = Load(_MAX_STREAMS)
        self.time = 0.0
        self.woken = False
        self.connection = Connection(self.calls.services, self.load, wake=self._wake, now=lambda: self.time)
        self.out = bytearray(self.connection.outlet.drain())
        self.is_paused = False

    def feed(self, sent: bytes) -> None:
        # Byte by byte where it is short.
        pieces = cut(sent, self.random) if len(sent) < 3000 else _cut_in(sent, 100, self.random)
        for piece in pieces:
            self.connection.receive(piece)
            self.out += self.connection.outlet.drain()
            self.time += self.random.random() / 100
            if self.random.random() < 0.3:
                self._act()
            self._check_bounds()

    def over(self) -> None:
        """Break the connection; check what every call was told, and all that left."""
        if self.random.random() < 0.2:
            self.connection.leave()
        if self.random.random() < 0.2:
            self.connection.cut()
        self.connection.lost()
        self.out += self.connection.outlet.drain()
        self.calls.check()
        assert self.load.running == 0
        self._check_output()

    def _act(self) -> None:
        act = self.random.choice((self._pause, self._resume, *(3 * (self._any_call,))))
        self.woken = False
        act()
        if self.woken:
            self.out += self.connection.outlet.drain()
        assert not self.connection.outlet.pieces, "nobody was told to write"

    def _wake(self) -> None:
        self.woken = True

    def _pause(self) -> None:
        if not self.is_paused:
            self.is_paused = True
            self.connection.pause()

    def _resume(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self.connection.resume()

    def _any_call(self) -> None:
        running = [call for call in self.calls.made if not call.over]
        if running:
            call = self.random.choice(running)
            _acts: tuple[Callable[[Call], None], ...] = (
                *(4 * (Call.more,)), Call.finish, lambda one: one.send(b"m" * self.random.randint(0, 40_000)),
                lambda one: one.abort(Status.UNAVAILABLE, "é\n" * self.random.randint(0, 900)),
            )  # fmt: skip
            self.random.choice(_acts)(call)

    def _check_bounds(self) -> None:
        connection = self.connection
        assert len(connection._rest) <= _FRAME_BYTES + 9
        assert connection._block is None or len(connection._block.content) <= 4 * _FRAME_BYTES
        assert len(connection._streams) <= _MAX_STREAMS
        for stream in connection._streams.values():
            held = len(stream._buffer)
            assert held <= MAX_MESSAGE_BYTES + streams.WINDOW, f"{held} bytes wait for a receiver"

    def _check_output(self) -> None:
        """Check frames, states and messages of what left, read by another library."""
        decoder = hpack.Decoder()
        bodies: dict[int, bytes] = {}
        over: set[int] = set()
        ok: set[int] = set()
        for raw in parsed(bytes(self.out)):
            one, _ = Frame.parse_frame_header(memoryview(frame(raw.kind, raw.flags, raw.stream, raw.payload)[:9]))
            one.parse_body(memoryview(raw.payload))
            if isinstance(one, HeadersFrame):
                fields = [(str(name), str(value)) for name, value in decoder.decode(one.data)]
                if ("grpc-status", "0") in fields:
                    ok.add(one.stream_id)
                assert (fields[0][0] == ":status") == (one.stream_id not in bodies)
                bodies.setdefault(one.stream_id, b"")
            if isinstance(one, HeadersFrame | DataFrame):
                assert one.stream_id not in over, "it goes on after its end"
                over |= {one.stream_id} if "END_STREAM" in one.flags else set()
            if isinstance(one, DataFrame):
                bodies[one.stream_id] += one.data
            if isinstance(one, RstStreamFrame):
                over.add(one.stream_id)
        calls = {call.stream.number: call for call in self.calls.made}  # type: ignore[attr-defined]
        for number, call in calls.items():
            said = b"".join(map(message, call.sent))
            assert said.startswith(bodies.get(number, b""))
            if number in ok:
                assert call.ok, "OK, and the service did not say so"
                assert bodies[number] == said, "OK, and not all was sent"
        assert ok <= set(calls)


def _cut_in(data: bytes, count: int, random: Random) -> list[bytes]:
    at = sorted(random.choices(range(len(data)), k=count))
    return [data[start:end] for start, end in pairwise((0, *at, len(data)))]


# --- Connections -----------------------------------------------------------------------------------------------------


def _valid(random: Random) -> list[bytes]:
    """Return the frames of a few calls, woven, and frames of the connection among them."""
    encoder = hpack.Encoder()
    parts = [_call(number, random) for number in range(1, 2 * random.randint(1, 12), 2)]
    woven: list[bytes] = []
    running: list[list[Callable[[], list[bytes]]]] = []
    while parts or running:
        if parts and (not running or random.random() < 0.4):
            number, more = parts.pop(0)
            # Blocks are encoded in the order in which they are sent.
            woven += _opened(number, encoder, random, end=not more)
            running += [more] if more else []
        else:
            one = random.choice(running)
            woven += one.pop(0)()
            if not one:
                running.remove(one)
        if random.random() < 0.2:
            woven.append(_aside(random))
    return woven


def _call(number: int, random: Random) -> tuple[int, list[Callable[[], list[bytes]]]]:
    if random.random() < 0.1:
        return number, []
    texts = [_text(random) for _ in range(random.choice((0, 1, 2, 5)))]
    body = b"".join(map(message, texts))
    large = [body[at : at + 9000] for at in range(0, len(body), 9000)]
    pieces = cut(body, random)[:60] if len(body) < 16_000 else large
    steps: list[Callable[[], list[bytes]]] = [partial(_data, number, piece, random) for piece in pieces]
    last = random.random()
    if last < 0.7:
        steps.append(lambda: [data(number, b"", end=True)])
    elif last < 0.8:
        steps.append(lambda: [reset(number, random.choice((0, 7, 8, 99)))])
    return number, steps


def _text(random: Random) -> bytes:
    return random.choice(
        (b"", b"13", b"3 10", b"2 30000", b"20 5000", random.randbytes(random.randint(0, 300)), b"z" * 40_000)
    )


def _opened(number: int, encoder: hpack.Encoder, random: Random, *, end: bool) -> list[bytes]:
    fields = request(f"/test.{random.choice(_SERVICES)}/Call", ("x-request-id", f"{random.randrange(3)}"))
    if random.random() < 0.2:
        encoder.header_table_size = random.choice((0, 100, 4096))
    block = encoder.encode(fields, huffman=random.random() < 0.5)
    flags = END_STREAM if end else 0
    if random.random() < 0.2:
        at = random.randint(0, len(block))
        return [frame(Kind.HEADERS, flags, number, block[:at]), frame(9, END_HEADERS, number, block[at:])]
    if random.random() < 0.2:
        return [frame(Kind.HEADERS, flags | END_HEADERS | PRIORITY, number, b"\x80\0\0\0\x07" + block)]
    return [frame(Kind.HEADERS, flags | END_HEADERS, number, block)]


def _data(number: int, piece: bytes, random: Random) -> list[bytes]:
    if random.random() < 0.1:
        size = random.randint(0, 30)
        return [frame(Kind.DATA, PADDED, number, bytes((size,)) + piece + bytes(size))]
    return [data(number, piece)]


def _aside(random: Random) -> bytes:
    return random.choice(
        (
            ping(random.randbytes(8), flags=random.randrange(2)),
            settings({4: random.choice((0, 1, 100, 65_535, 1 << 24))}),
            settings({5: random.choice((16_384, 20_000)), 1: random.choice((0, 4096)), 0x99: 7}),
            settings(flags=ACK),
            window_update(0, random.choice((1, 100, 100_000))),
            priority(2 * random.randrange(20) + 1, 0),
            frame(0x42, random.randrange(256), random.randrange(30), random.randbytes(random.randrange(20))),
        )
    )


def _changed(frames: list[bytes], random: Random) -> list[bytes]:
    """Change a few frames: their order, number, header, or content."""
    frames = list(frames)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(frames)) if frames else 0
        kind = random.randrange(8)
        if not frames or len(frames[at]) < 9 or kind == 0:
            frames.insert(at, _strange(random))
        elif kind == 1:
            frames.insert(random.randrange(len(frames)), frames.pop(at))
        elif kind == 2:
            frames.insert(random.randrange(len(frames)), frames[at])
        elif kind == 3:
            del frames[at]
        elif kind == 4:
            frames[at] = _with_byte(frames[at], random.randrange(9), random)
        elif kind == 5:
            frames[at] = _with_byte(frames[at], random.randrange(len(frames[at])), random)
        elif kind == 6:
            frames[at] = frames[at][: random.randrange(len(frames[at]) + 1)]
        else:
            frames[at] = frames[at][:9] + mutated(frames[at][9:], random)
            frames[at] = len(frames[at][9:]).to_bytes(3) + frames[at][3:]
    return frames


def _with_byte(raw: bytes, at: int, random: Random) -> bytes:
    value = random.choice((0, 1, 255, raw[at] ^ 1 << random.randrange(8), random.randrange(256)))
    return raw[:at] + bytes((value,)) + raw[at + 1 :]


def _strange(random: Random) -> bytes:
    """Return a frame of any kind with few bytes, on a stream that may well be in use."""
    number = random.choice((0, 1, 2, 3, 5, 7, 99, 2**31 - 1, 2**31, 2**32 - 1))
    payload = random.choice((b"", bytes(4), bytes(5), bytes(6), bytes(8), b"\xff" * 8, random.randbytes(20)))
    flags = random.choice((0, 1, 4, 5, 8, 0x20, 0x2D, random.randrange(256)))
    return random.choice(
        (frame(random.randrange(11), flags, number, payload), goaway(1, 2), window_update(number, 2**31 - 1))
    )
