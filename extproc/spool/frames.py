"""The frames of a segment file: length, CRC-32, payload; a torn tail is recognised. Pure.

A frame is 4 bytes of length and 4 bytes of CRC-32 (zlib's polynomial) over the payload, both big-endian, and the
payload. What a process was writing when it died is a frame that is cut off or whose CRC is wrong, and nothing after it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Final

_HEADER: Final = struct.Struct(">II")

HEADER_BYTES: Final = _HEADER.size

MAX_FRAME_BYTES: Final = 256 << 20
"""Longest payload; a larger length is taken for damage. Requests and answers are bounded far below this."""


def framed(payload: bytes) -> bytes:
    """Return the frame of a payload."""
    return _HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def frames(data: bytes | memoryview) -> Iterator[tuple[bytes, int]]:
    """Yield the payloads of whole, undamaged frames with the offset after each; stop at the first other bytes."""
    at, end = 0, len(data)
    view = memoryview(data)
    while end - at >= HEADER_BYTES:
        size, crc = _HEADER.unpack_from(view, at)
        start = at + HEADER_BYTES
        # A file system may leave zeros where a write was under way; the empty payload would have their CRC.
        if not 0 < size <= MAX_FRAME_BYTES or start + size > end:
            return
        payload = bytes(view[start : start + size])
        if zlib.crc32(payload) != crc:
            return
        at = start + size
        yield payload, at


def needed(data: bytes | memoryview) -> int:
    """Return how many bytes the first frame takes, as far as its header says so; 0 where that is no header."""
    if len(data) < HEADER_BYTES:
        return 0
    size = int(_HEADER.unpack_from(data, 0)[0])
    return HEADER_BYTES + size if size <= MAX_FRAME_BYTES else 0
