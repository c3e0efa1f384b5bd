"""Header blocks out of their frames: HEADERS, and the CONTINUATION frames after it (RFC 9113 section 4.3)."""

from __future__ import annotations

from dataclasses import dataclass

from extproc.http2 import frames
from extproc.http2.frames import ConnectionFault, ErrorCode
from extproc.http2.headers import MAX_LIST_BYTES

_MAX_BYTES = 2 * MAX_LIST_BYTES
_MAX_FRAMES = 16
"""A header block in more bytes or frames than any list that we take needs is an attack (CVE-2024-27316)."""


@dataclass(slots=True)
class Block:
    """A header block; it is not sound where its frame has a fault that is the stream's alone."""

    number: int
    content: bytes | bytearray
    ends_stream: bool
    is_sound: bool
    is_whole: bool
    frames: int = 1

    def add(self, flags: int, payload: bytes) -> None:
        """Take a CONTINUATION frame."""
        self.content = bytearray(self.content) if isinstance(self.content, bytes) else self.content
        self.content += payload
        self.frames += 1
        if len(self.content) > _MAX_BYTES or self.frames > _MAX_FRAMES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block in too many frames or bytes")
        self.is_whole = bool(flags & frames.END_HEADERS)


def begun(flags: int, number: int, payload: bytes) -> Block:
    """Return the block that a HEADERS frame begins, and mostly is (RFC 9113 section 6.2)."""
    if not number & 1:
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "HEADERS on a stream that a client cannot open")
    content = frames.unpadded(flags, payload)
    is_sound = True
    if flags & frames.PRIORITIZED:
        if len(content) < 5:
            raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "HEADERS without their priority")
        is_sound = frames.priority_fault(number, content[:5]) is None
        content = content[5:]
    return Block(number, content, bool(flags & frames.END_STREAM), is_sound, bool(flags & frames.END_HEADERS))
