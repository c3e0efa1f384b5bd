"""The streams of one connection: which are open, which were, and what a new one gets (RFC 9113 section 5.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from extproc.carrier import Service, Status
from extproc.http2 import frames, headers
from extproc.http2.blocks import Block
from extproc.http2.frames import ConnectionFault, ErrorCode, StreamFault
from extproc.http2.limits import Load
from extproc.http2.outlet import Outlet
from extproc.http2.streams import Stream

_MAX_CLOSED = 1_000
"""How many closed streams are remembered, for frames that were under way when they closed."""


class Calls:
    """The streams of a connection, by their number; `on_closed` is called when one is gone."""

    def __init__(
        self, services: Mapping[str, Service], load: Load, outlet: Outlet, on_closed: Callable[[], None]
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self.last = 0
        """The highest number that the peer used."""
        self.last_taken = frames.MAX_WINDOW
        """The highest number that a new stream may have, lower once the peer was told to go."""
        self._services = services
        self._load = load
        self._outlet = outlet
        self._on_closed = on_closed
        self._blocks = headers.Blocks()
        # Those that closed lately: true where it was a reset of ours, which frames of the peer may cross.
        self._closed: dict[int, bool] = {}

    def headers(self, block: Block) -> None:
        """Take a whole header block."""
        number = block.number
        stream = self.streams.get(number)
        try:
            if stream is not None:
                self._trailers(stream, block)
            elif number > self.last:
                self._open(block)
            elif self._closed.get(number):
                self._blocks.decode(block.content)
            else:
                code = ErrorCode.STREAM_CLOSED if number in self._closed else ErrorCode.PROTOCOL_ERROR
                raise ConnectionFault(code, "HEADERS on a stream that is closed")
        except headers.Malformed as malformed:
            raise StreamFault(number, ErrorCode.PROTOCOL_ERROR, str(malformed)) from None

    def check_not_idle(self, number: int) -> None:
        """Refuse a frame on a stream that was never opened (RFC 9113 section 5.1, "idle")."""
        if number > self.last or not number & 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "a frame on a stream that is idle")

    def stray_data(self, number: int) -> None:
        """Take DATA on a stream that is not open."""
        self.check_not_idle(number)
        # The peer may not know yet that we reset the stream. One that knows it as closed breaks a rule, and is told so.
        if not self._closed.get(number):
            raise StreamFault(number, ErrorCode.STREAM_CLOSED, "DATA on a stream that is closed")

    def give_up(self, number: int, *, is_ours: bool) -> None:
        """End a stream that was reset, by us or by the peer."""
        stream = self.streams.get(number)
        if stream is not None:
            self._forget(number, is_ours)
            stream.reset()
        elif is_ours:
            self._remember(number, is_ours=True)

    def give_up_all(self) -> None:
        """End all streams with the connection."""
        for number in list(self.streams):
            self.give_up(number, is_ours=True)

    def _trailers(self, stream: Stream, block: Block) -> None:
        fields = self._blocks.decode(block.content)
        stream.check_not_ended()
        headers.check_trailers(fields)
        if not block.ends_stream:
            raise headers.Malformed("trailers that do not end their stream")
        stream.end()

    def _open(self, block: Block) -> None:
        self.last = number = block.number
        request = self._blocks.request(bytes(block.content))
        if not block.is_sound:
            raise headers.Malformed("a stream that depends on itself")
        if block.ends_stream and request.content_length:
            raise headers.Malformed("a content-length that is not what was sent")
        if number > self.last_taken:
            # The peer knows from our GOAWAY that nobody works on it (RFC 9113 section 6.8).
            self._remember(number, is_ours=True)
            return
        if len(self.streams) >= self._load.most or self._load.running >= self._load.most:
            raise StreamFault(number, ErrorCode.REFUSED_STREAM, "more streams than were announced")
        answer = _answer(request, self._services)
        if isinstance(answer, bytes):
            self._outlet.put_headers(number, answer, ends=True)
            if not block.ends_stream:
                self._outlet.put(frames.reset(number, ErrorCode.NO_ERROR))
            self._remember(number, is_ours=not block.ends_stream)
            return
        stream = Stream(number, self._outlet, request, self._forget)
        self.streams[number] = stream
        self._load.running += 1
        stream.serve(answer, has_ended=block.ends_stream)

    def _forget(self, number: int, is_ours: bool) -> None:  # noqa: FBT001 - called once for each stream, by position
        del self.streams[number]
        self._load.running -= 1
        self._remember(number, is_ours=is_ours)
        self._on_closed()

    def _remember(self, number: int, *, is_ours: bool) -> None:
        self._closed[number] = is_ours
        if len(self._closed) > _MAX_CLOSED:
            del self._closed[next(iter(self._closed))]


def _answer(request: headers.Request, services: Mapping[str, Service]) -> Service | bytes:
    """Return who serves a request, or the header block of the answer where nobody does."""
    if request.method != "POST":
        return headers.METHOD_NOT_ALLOWED
    # "application/grpc", with a suffix or parameters; "application/grpc-web" is another protocol.
    if request.content_type[:16] != "application/grpc" or request.content_type[16:17] not in {"", "+", ";"}:
        return headers.UNSUPPORTED_MEDIA_TYPE
    service = services.get(request.path)
    if service is None:
        return headers.RESPONSE + headers.trailers(Status.UNIMPLEMENTED, "unknown method")
    return service
