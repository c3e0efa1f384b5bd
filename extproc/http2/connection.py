"""One connection: bytes come in, streams are told, and frames go out; without input or output (RFC 9113)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from extproc.carrier import Service
from extproc.http2 import blocks, frames
from extproc.http2.calls import Calls
from extproc.http2.frames import ConnectionFault, ErrorCode, Setting, StreamFault
from extproc.http2.headers import MAX_LIST_BYTES
from extproc.http2.limits import QUESTIONS, RESETS, UNREAD, Load, Rate
from extproc.http2.outlet import Outlet
from extproc.http2.streams import WINDOW

_WINDOW = 16 << 20
"""What all streams together may have in flight. It is given back as it comes, so it bounds no memory (the windows of
streams do); it is far more than a socket holds, so that a stream that nobody reads never stops another."""

_DRAIN_PING = b"draining"


class Connection:
    """The server's side of a connection.

    Whoever runs it hands in what came (`receive`), and that nothing more comes (`lost`); it writes what
    `outlet.drain` returns after each of these and whenever `wake` was called, and then closes where `ended` is true.
    `fault` says which rule the peer broke, if it did. `now` is in seconds.
    """

    def __init__(
        self, services: Mapping[str, Service], load: Load, *, wake: Callable[[], None], now: Callable[[], float]
    ) -> None:
        self.outlet = Outlet(wake)
        self.fault: ConnectionFault | None = None
        self.ended = False
        self._calls = Calls(services, load, self.outlet, self._on_closed)
        self._streams = self._calls.streams
        self._rest = b""
        self._has_preface = False
        # Any frame may come: the first SETTINGS did, and no header block waits for its end.
        self._is_plain = False
        self._block: blocks.Block | None = None
        self._window = _WINDOW
        self._is_leaving = False
        self._resets = Rate(RESETS + load.most, now)
        self._questions = Rate(QUESTIONS, now)
        self._most_unread = UNREAD + 4 * load.most
        announced = {
            Setting.MAX_CONCURRENT_STREAMS: load.most,
            Setting.INITIAL_WINDOW_SIZE: WINDOW,
            Setting.MAX_HEADER_LIST_SIZE: MAX_LIST_BYTES,
        }
        self.outlet.put(frames.settings(announced))
        self.outlet.put(frames.window_update(0, _WINDOW - frames.DEFAULT_WINDOW))

    def receive(self, data: bytes) -> None:
        """Take what the peer sent, cut in any way."""
        if self.ended:
            return
        # Whoever calls this writes after it.
        self.outlet.awake = True
        try:
            self._rest = self._consume(self._rest + data if self._rest else data)
        except ConnectionFault as fault:
            self._end(fault)

    def check_greeted(self) -> None:
        """End the connection if the preface and the first SETTINGS have not come by now; whoever runs it says when."""
        # Where no header block is open, other frames must not come only before the first SETTINGS.
        if not self.ended and not self._is_plain and self._block is None:
            self._end(ConnectionFault(ErrorCode.SETTINGS_TIMEOUT, "no preface and SETTINGS in time"))

    def lost(self) -> None:
        """Learn that the connection is gone."""
        self.ended = True
        self._calls.give_up_all()

    def pause(self) -> None:
        """Deliver nothing more until `resume`: the peer does not read what is written."""
        self.outlet.paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self.outlet.paused = False
        self.outlet.unread = 0
        for stream in list(self._streams.values()):
            stream.resume()

    def leave(self) -> None:
        """Ask the peer for a new connection; this one ends with its last stream (RFC 9113 section 6.8)."""
        if not self._is_leaving and not self.ended:
            self._is_leaving = True
            # Streams may be under way to us. When the answer to this ping comes, none is any more.
            self.outlet.put(frames.goaway(frames.MAX_WINDOW, ErrorCode.NO_ERROR))
            self.outlet.put(frames.frame(frames.PING, 0, 0, _DRAIN_PING))

    def cut(self) -> None:
        """End the connection and all its streams now; none ends with a status, so none ends with OK."""
        if not self.ended:
            self._end()

    def _end(self, fault: ConnectionFault | None = None) -> None:
        self.ended, self.fault = True, fault
        code = ErrorCode.NO_ERROR if fault is None else fault.code
        self.outlet.put(frames.goaway(self._calls.last, code))
        self._calls.give_up_all()

    def _on_closed(self) -> None:
        if self._is_leaving and not self._streams and self._calls.last_taken != frames.MAX_WINDOW:
            self.ended = True

    def _consume(self, data: bytes) -> bytes:
        """Take the frames that are whole, and return what is left."""
        at, size = 0, len(data)
        if not self._has_preface:
            at = len(frames.PREFACE)
            if data[:at] != frames.PREFACE[:size]:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the connection does not begin with HTTP/2's preface")
            if size < at:
                return data
            self._has_preface = True
        while size - at >= frames.HEADER_BYTES:
            high, low, kind, flags, number = frames.HEADER.unpack_from(data, at)
            start = at + frames.HEADER_BYTES
            length = high << 8 | low
            if length > frames.MIN_FRAME:
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a frame larger than we take")
            if start + length > size:
                break
            at = start + length
            try:
                if kind == frames.DATA and self._is_plain:
                    self._data(flags, number & frames.MAX_WINDOW, data, start, at)
                else:
                    self._other(kind, flags, number & frames.MAX_WINDOW, data[start:at])
            except StreamFault as fault:
                self._calls.give_up(fault.number, is_ours=True)
                self.outlet.put(frames.reset(fault.number, fault.code))
                self._check_unread()
            if self.ended:
                return b""
        return data[at:]

    def _data(self, flags: int, number: int, data: bytes, start: int, end: int) -> None:
        flow = end - start
        self._window -= flow
        if self._window < _WINDOW // 2:
            self.outlet.put(frames.window_update(0, _WINDOW - self._window))
            self._window = _WINDOW
        stream = self._streams.get(number)
        if flags & frames.PADDED:
            data = frames.unpadded(flags, data[start:end])
            start, end = 0, len(data)
        if stream is None:
            self._calls.stray_data(number)
            return
        stream.take(data, start, end, flow)
        # What it brought may have ended the call.
        if flags & frames.END_STREAM and number in self._streams:
            stream.end()

    def _other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if not self._is_plain:
            self._check_expected(kind, number)
        # Others are extensions that we do not know (RFC 9113 section 5.5).
        if (taken := self._TAKEN.get(kind)) is not None:
            taken(self, flags, number, payload)
        self._check_unread()

    def _check_expected(self, kind: int, number: int) -> None:
        if self._block is not None:
            if kind != frames.CONTINUATION or number != self._block.number:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "another frame within a header block")
        elif kind != frames.SETTINGS:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def _count_question(self) -> None:
        if self._questions.is_over():
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many frames to answer")

    def _check_unread(self) -> None:
        if self.outlet.unread > self._most_unread:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many answers that the peer does not read")

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        block = blocks.begun(flags, number, payload)
        if block.is_whole:
            self._calls.headers(block)
        else:
            self._block = block
            self._is_plain = False

    def _continuation(self, flags: int, _number: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block.add(flags, payload)
        if block.is_whole:
            self._block = None
            self._is_plain = True
            self._calls.headers(block)

    def _priority(self, _flags: int, number: int, payload: bytes) -> None:
        if number == 0:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PRIORITY on no stream")
        if (fault := frames.priority_fault(number, payload)) is not None:
            # A stream that was never opened cannot be reset.
            raise fault if number <= self._calls.last else ConnectionFault(fault.code, str(fault))

    def _reset(self, _flags: int, number: int, payload: bytes) -> None:
        frames.check_size(payload, 4, "RST_STREAM")
        self._calls.check_not_idle(number)
        stream = self._streams.get(number)
        self._calls.give_up(number, is_ours=False)
        if stream is not None and not stream.has_answered and self._resets.is_over():
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "too many streams that are opened and reset")

    def _settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "SETTINGS on a stream")
        is_first = not self._is_plain
        self._is_plain = True
        if flags & frames.ACK:
            frames.check_size(payload, 0, "the acknowledgement of SETTINGS")
            if is_first:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the first frame acknowledges SETTINGS")
            return
        self._count_question()
        window = frames.announced_window(payload)
        # Before anything that the new values allow: the peer may hold us to the old ones until it sees this.
        self.outlet.put(frames.frame(frames.SETTINGS, frames.ACK, 0))
        if window is not None:
            increment = window - self.outlet.initial_window
            self.outlet.initial_window = window
            if not all(stream.widen(increment) for stream in self._streams.values()):
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE widens a window too far")
            self._pump()

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        frames.check_size(payload, 8, "PING")
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PING on a stream")
        self._count_question()
        if not flags & frames.ACK:
            self.outlet.put(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif self._is_leaving and payload == _DRAIN_PING:
            self._calls.last_taken = self._calls.last
            self.outlet.put(frames.goaway(self._calls.last, ErrorCode.NO_ERROR))
            self._on_closed()

    def _goaway(self, _flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "GOAWAY of fewer than 8 bytes")
        # We open no streams, so there is nothing to stop. The peer closes when it is done.

    def _window_update(self, _flags: int, number: int, payload: bytes) -> None:
        frames.check_size(payload, 4, "WINDOW_UPDATE")
        increment = frames.WORD.unpack(payload)[0] & frames.MAX_WINDOW
        if number == 0:
            self._widen(increment)
            return
        self._calls.check_not_idle(number)
        if (stream := self._streams.get(number)) is None:
            return
        if not increment:
            raise StreamFault(number, ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        if not stream.widen(increment):
            raise StreamFault(number, ErrorCode.FLOW_CONTROL_ERROR, "WINDOW_UPDATE beyond the largest window")
        stream.pump()

    def _widen(self, increment: int) -> None:
        if not increment:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
        self.outlet.window += increment
        if self.outlet.window > frames.MAX_WINDOW:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "WINDOW_UPDATE beyond the largest window")
        self._pump()

    def _pump(self) -> None:
        for stream in [self._streams[number] for number in self.outlet.stuck]:
            stream.pump()

    def _push_promise(self, _flags: int, _number: int, _payload: bytes) -> None:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE of a client")

    _TAKEN: ClassVar[dict[int, Callable[[Connection, int, int, bytes], None]]] = {
        frames.HEADERS: _headers,
        frames.PRIORITY: _priority,
        frames.RST_STREAM: _reset,
        frames.SETTINGS: _settings,
        frames.PUSH_PROMISE: _push_promise,
        frames.PING: _ping,
        frames.GOAWAY: _goaway,
        frames.WINDOW_UPDATE: _window_update,
        frames.CONTINUATION: _continuation,
    }
