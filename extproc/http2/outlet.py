"""What a connection has to say: the frames of all its streams, and how much of them its peer takes (RFC 9113)."""

from __future__ import annotations

from collections.abc import Callable

from extproc.http2 import frames, headers


class Outlet:
    """The frames that leave a connection with its next write, and the peer's limits for them.

    `wake` is called once when frames are put in while `awake` is false; whoever is called writes what `drain` returns.
    """

    __slots__ = (
        "_is_first",
        "_wake",
        "awake",
        "initial_window",
        "paused",
        "pieces",
        "stuck",
        "unread",
        "window",
    )

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._is_first = True
        self.pieces: list[bytes | memoryview] = []
        self.awake = False
        self.window = frames.DEFAULT_WINDOW
        self.initial_window = frames.DEFAULT_WINDOW
        self.paused = False
        """The transport holds more than it should: receivers get nothing until the peer has read."""
        self.unread = 0
        """Frames other than DATA that were put in since."""
        self.stuck: dict[int, None] = {}
        """The streams, by number, whose messages wait for a window."""

    def put(self, frame: bytes) -> None:
        """Let a frame other than DATA leave."""
        self.pieces.append(frame)
        if self.paused:
            self.unread += 1
        if not self.awake:
            self.wake()

    def put_headers(self, number: int, block: bytes, *, ends: bool) -> None:
        """Let a HEADERS frame leave; ours are far smaller than what every peer takes."""
        if self._is_first:
            self._is_first = False
            block = headers.NO_TABLE + block
        flags = frames.END_HEADERS | frames.END_STREAM if ends else frames.END_HEADERS
        self.put(frames.frame(frames.HEADERS, flags, number, block))

    def put_data(self, number: int, content: bytes) -> None:
        """Let a DATA frame leave, which the windows and the peer's largest frame allow."""
        self.pieces.append(frames.frame(frames.DATA, 0, number, content))
        if not self.awake:
            self.wake()

    def put_split(self, number: int, prefix: bytes, message: bytes) -> None:
        """Put in a message that the windows allow, in several frames; the caller wakes."""
        view = memoryview(message)
        first = frames.MIN_FRAME - len(prefix)
        self.pieces += (self._data_header(number, frames.MIN_FRAME), prefix, view[:first])
        for start in range(first, len(message), frames.MIN_FRAME):
            piece = view[start : start + frames.MIN_FRAME]
            self.pieces += (self._data_header(number, len(piece)), piece)

    @staticmethod
    def _data_header(number: int, size: int) -> bytes:
        return frames.HEADER.pack(size >> 8, size & 0xFF, frames.DATA, 0, number)

    def wake(self) -> None:
        """See to it that what was put in is written."""
        self.awake = True
        self._wake()

    def drain(self) -> bytes:
        """Return what is to be written now."""
        self.awake = False
        written = b"".join(self.pieces)
        self.pieces.clear()
        return written
