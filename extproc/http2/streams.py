"""One stream: its states, its flow control both ways, and the gRPC messages in it (RFC 9113; gRPC over HTTP/2)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from struct import Struct

from extproc.carrier import MAX_MESSAGE_BYTES, Receiver, Service, Status
from extproc.http2 import frames, headers
from extproc.http2.frames import ErrorCode, StreamFault
from extproc.http2.outlet import Outlet

log = logging.getLogger("extproc.http2")

WINDOW = 262_144
"""The window of a stream: what a peer may send before its receiver took anything, and so what one holds at most
beside one message. As much output may wait for the peer's window before a stream takes no more messages."""

_PREFIX = Struct(">BL")
"""Compressed-flag and length of a message ("Length-Prefixed-Message")."""
_PREFIX_BYTES = 5

_DATA = Struct(">HBBBLBL")
"""The header of a DATA frame, and the prefix of the message in it."""


class Stream:
    """One call, between a connection and its receiver; to the receiver it is a `carrier.Stream`."""

    __slots__ = (
        "_buffer",
        "_has_ended",
        "_is_done",
        "_is_inside",
        "_is_ready",
        "_is_told",
        "_left",
        "_on_closed",
        "_outlet",
        "_queue",
        "_receiver",
        "_trailers",
        "_window_in",
        "_window_out",
        "has_answered",
        "metadata",
        "number",
    )

    def __init__(
        self, number: int, outlet: Outlet, request: headers.Request, on_closed: Callable[[int, bool], None]
    ) -> None:
        self.number = number
        self.metadata: Mapping[str, str] = request.metadata
        self._outlet = outlet
        self._on_closed = on_closed
        self._receiver: Receiver
        # What came and was not taken yet: whole messages, and the beginning of one.
        self._buffer = bytearray()
        self._window_in = WINDOW
        self._left = request.content_length
        self._has_ended = False
        self._is_ready = True
        # Within a call of the receiver, which may call us: it is told nothing meanwhile.
        self._is_inside = False
        self._is_told = False
        # The call is over for its receiver: it is told nothing, and what it says is not heard.
        self._is_done = False
        self.has_answered = False
        self._window_out = outlet.initial_window
        # Messages that wait for a window, in their frames of gRPC, and the trailers behind them.
        self._queue = bytearray()
        self._trailers: bytes | None = None

    # What the connection calls.

    def serve(self, service: Service, *, has_ended: bool) -> None:
        """Let the service take the call, of which no message comes where it has ended."""
        self._has_ended = has_ended
        self._is_inside = True
        try:
            self._receiver = service(self)
        except Exception as error:  # noqa: BLE001 - whatever went wrong in there must end this call, and only this
            _log_failure(error)
            self.abort(Status.INTERNAL, "the receiver failed")
        self._is_inside = False
        self._unpack()

    def check_not_ended(self) -> None:
        """Refuse a frame in the state "half-closed (remote)"."""
        if self._has_ended:
            raise StreamFault(self.number, ErrorCode.STREAM_CLOSED, "a frame after the end of its stream")

    def take(self, data: bytes, start: int, end: int, flow: int) -> None:
        """Take the content of a DATA frame, from `start` to `end`; `flow` is its size with the padding."""
        if self._has_ended:
            self.check_not_ended()
        self._window_in -= flow
        if self._window_in < 0:
            raise StreamFault(self.number, ErrorCode.FLOW_CONTROL_ERROR, "DATA beyond the window of its stream")
        size = end - start - _PREFIX_BYTES
        if self._left is not None:
            self._left -= end - start
        if size >= 0 and not self._buffer and self._may_deliver():
            flag, length = _PREFIX.unpack_from(data, start)
            # One frame with one message, nearly always: it is cut out once.
            if length == size and not flag:
                self._deliver(data[start + _PREFIX_BYTES : end])
                if self._window_in < WINDOW // 2:
                    self._replenish()
                return
        if not self._is_done:
            self._buffer += memoryview(data)[start:end]
            self._unpack()

    def end(self) -> None:
        """Take the end of what the peer sends."""
        if self._left:
            raise StreamFault(self.number, ErrorCode.PROTOCOL_ERROR, "content-length is not what was sent")
        self._has_ended = True
        self._unpack()

    def reset(self) -> None:
        """Learn that the stream is no more: the peer gave it up or broke a rule, or the connection is gone."""
        self._queue.clear()
        self._buffer.clear()
        self._outlet.stuck.pop(self.number, None)
        if not self._is_done:
            self._is_done = True
            self._tell(self._receiver.reset)

    def widen(self, increment: int) -> bool:
        """Widen, or narrow, the window for what we send; false past the largest."""
        self._window_out += increment
        return self._window_out <= frames.MAX_WINDOW

    def pump(self) -> None:
        """Send what waits, as far as the windows allow, and go on delivering once little enough waits."""
        self._send_queue()
        self.resume()

    def resume(self) -> None:
        """Go on delivering after something else than the receiver held it up."""
        if not self._is_inside and not self._is_done:
            self._unpack()

    # What the receiver calls.

    def send(self, message: bytes) -> None:
        """Send a message, when the peer takes it."""
        if self._is_done:
            return
        outlet = self._outlet
        if not self.has_answered:
            self.has_answered = True
            outlet.put_headers(self.number, headers.RESPONSE, ends=False)
        length = len(message)
        size = length + _PREFIX_BYTES
        if self._queue or size > self._window_out or size > outlet.window:
            self._queue += _PREFIX.pack(0, length)
            self._queue += message
            self._send_queue()
            return
        self._window_out -= size
        outlet.window -= size
        if size <= frames.MIN_FRAME:
            outlet.pieces += (_DATA.pack(size >> 8, size & 0xFF, frames.DATA, 0, self.number, 0, length), message)
        else:
            outlet.put_split(self.number, _PREFIX.pack(0, length), message)
        if not outlet.awake:
            outlet.wake()

    def more(self) -> None:
        """Say that the next message may come."""
        self._is_ready = True
        self.resume()

    def finish(self) -> None:
        """End the call with OK, behind all messages: the one place where that status is sent."""
        if self._is_done:
            return
        self._is_done = True
        if self._queue:
            self._trailers = headers.OK
        else:
            self._end(headers.OK)

    def abort(self, status: Status, text: str) -> None:
        """End the call with another status, before messages that still wait."""
        if self._is_done:
            return
        self._is_done = True
        self._queue.clear()
        self._outlet.stuck.pop(self.number, None)
        self._end(headers.trailers(status, text))

    # What only this class calls.

    def _may_deliver(self) -> bool:
        return self._is_ready and not self._is_done and not self._outlet.paused and len(self._queue) <= WINDOW

    def _deliver(self, message: bytes) -> None:
        self._is_ready = False
        self._is_inside = True
        try:
            # `more` may have been called meanwhile.
            if self._receiver.receive(message):
                self._is_ready = True
        except Exception as error:  # noqa: BLE001 - whatever went wrong in there must end this call, and only this
            self._fail(error)
        self._is_inside = False

    def _unpack(self) -> None:
        """Deliver the messages that are whole, and the end after them."""
        while self._buffer and self._may_deliver() and (message := self._cut()) is not None:
            self._deliver(message)
        if not self._has_ended:
            self._replenish()
        elif not self._is_told and self._may_deliver():
            if self._buffer:
                self._refuse(Status.INTERNAL, "the last message is not whole")
                return
            self._is_told = True
            self._tell(self._receiver.end)

    def _cut(self) -> bytes | None:
        """Cut the next message off what came; None where it is not whole, or where the call ends because of it."""
        buffer = self._buffer
        if len(buffer) < _PREFIX_BYTES:
            return None
        flag, length = _PREFIX.unpack_from(buffer)
        end = length + _PREFIX_BYTES
        if flag:
            self._refuse(Status.UNIMPLEMENTED, "compressed messages are not taken")
        elif length > MAX_MESSAGE_BYTES:
            self._refuse(Status.RESOURCE_EXHAUSTED, f"a message has at most {MAX_MESSAGE_BYTES} bytes")
        elif len(buffer) >= end:
            with memoryview(buffer) as view:
                message = bytes(view[_PREFIX_BYTES:end])
            del buffer[:end]
            return message
        return None

    def _replenish(self) -> None:
        """Give back the window for all that was taken: what waits for a receiver is not, the start of a message is."""
        if self._is_done or self._has_ended:
            return
        waiting = 0 if self._may_deliver() else len(self._buffer)
        taken = WINDOW - self._window_in - waiting
        if taken >= WINDOW // 2:
            self._window_in += taken
            self._outlet.put(frames.window_update(self.number, taken))

    def _send_queue(self) -> None:
        outlet, queue = self._outlet, self._queue
        while queue and (size := min(len(queue), self._window_out, outlet.window, frames.MIN_FRAME)) > 0:
            self._window_out -= size
            outlet.window -= size
            outlet.put_data(self.number, bytes(queue[:size]))
            del queue[:size]
        if queue:
            outlet.stuck[self.number] = None
            return
        outlet.stuck.pop(self.number, None)
        if self._trailers is not None:
            trailers, self._trailers = self._trailers, None
            self._end(trailers)

    def _end(self, trailers: bytes) -> None:
        block = trailers if self.has_answered else headers.RESPONSE + trailers
        self._outlet.put_headers(self.number, block, ends=True)
        if not self._has_ended:
            # We need nothing more from the peer, and the answer is whole (RFC 9113 section 8.1).
            self._outlet.put(frames.reset(self.number, ErrorCode.NO_ERROR))
        self._on_closed(self.number, not self._has_ended)

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever went wrong in there must end this call, and only this
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        _log_failure(error)
        self._refuse(Status.INTERNAL, "the receiver failed")

    def _refuse(self, status: Status, text: str) -> None:
        """End the call for a reason that its receiver does not know."""
        if not self._is_done:
            self.abort(status, text)
            self._tell(self._receiver.reset)


def _log_failure(error: Exception) -> None:
    # Its text could quote what must not be logged.
    log.error("a receiver failed", extra={"fields": {"fault": type(error).__name__}})
