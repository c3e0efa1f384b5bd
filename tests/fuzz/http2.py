"""Fuzz the HTTP/2 transport: connections as a client may make them, changed anyhow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from random import Random

import hpack
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame

from extproc.carrier import MAX_MESSAGE_BYTES, Status
from extproc.http2 import streams
from extproc.http2.connection import Connection
from extproc.http2.limits import Load
from tests.fuzz.http2_frames import changed, valid
from tests.fuzz.mutate import cut, mutated
from tests.fuzz.texts import Note
from tests.http2.services import Call, Calls
from tests.http2.wire import PREFACE, frame, message, parsed, settings

_MAX_STREAMS = 8
_FRAME_BYTES = 16_384

log = logging.getLogger("extproc.http2")


def http2(random: Random, note: Note) -> None:
    """Take anything: nothing raises, all that leaves is HTTP/2, and OK is said only where a service said so."""
    frames = valid(random)
    is_valid = random.random() < 0.15
    if not is_valid:
        frames = changed(frames, random)
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
            run.connection.check_greeted()
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
