"""HTTP/2 frames: their layout, the codes in them, and what breaks a stream or a connection (RFC 9113)."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client's connection begins with (RFC 9113 section 3.4)."""

HEADER = Struct(">HBBBL")
"""Length in 16 and 8 bits, type, flags, and stream id with its reserved bit (RFC 9113 section 4.1)."""

HEADER_BYTES = 9

SETTING = Struct(">HL")

WORD = Struct(">L")

MAX_WINDOW = 2**31 - 1
"""The largest flow-control window (RFC 9113 section 6.9.1), and the largest stream id."""

MIN_FRAME = 16_384
"""The largest payload that everybody takes (RFC 9113 section 4.2): the largest that we take, and send."""

MAX_FRAME = 2**24 - 1
"""The largest payload that a peer may say it takes."""

DEFAULT_WINDOW = 65_535
"""What a window is before anybody says otherwise (RFC 9113 section 6.9.2)."""

# Types, as plain numbers: they are compared for each frame (RFC 9113 section 6).
DATA = 0
HEADERS = 1
PRIORITY = 2
RST_STREAM = 3
SETTINGS = 4
PUSH_PROMISE = 5
PING = 6
GOAWAY = 7
WINDOW_UPDATE = 8
CONTINUATION = 9

# Flags.
ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITIZED = 0x20


class Setting(IntEnum):
    """What an endpoint says of itself (RFC 9113 section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class ErrorCode(IntEnum):
    """Why a stream or a connection ended (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


class ConnectionFault(Exception):
    """Say that the peer broke a rule, and that the connection must end (RFC 9113 section 5.4.1)."""

    def __init__(self, code: ErrorCode, rule: str) -> None:
        super().__init__(f"{code.name}: {rule}")
        self.code = code


class StreamFault(Exception):
    """Say that the peer broke a rule, and that the stream must end (RFC 9113 section 5.4.2)."""

    def __init__(self, number: int, code: ErrorCode, rule: str) -> None:
        super().__init__(f"{code.name}: {rule}")
        self.number = number
        self.code = code


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    """Return a frame; `number` is the stream's, 0 for the connection."""
    size = len(payload)
    return HEADER.pack(size >> 8, size & 0xFF, kind, flags, number) + payload


def settings(values: dict[Setting, int]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(name, value) for name, value in values.items()))


def reset(number: int, code: ErrorCode) -> bytes:
    """Return a RST_STREAM frame."""
    return frame(RST_STREAM, 0, number, WORD.pack(code))


def goaway(last: int, code: ErrorCode) -> bytes:
    """Return a GOAWAY frame; `last` is the highest stream id that was or may yet be worked on."""
    return frame(GOAWAY, 0, 0, WORD.pack(last) + WORD.pack(code))


def window_update(number: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, number, WORD.pack(increment))


def unpadded(flags: int, payload: bytes) -> bytes:
    """Take the padding off the payload of a DATA or HEADERS frame (RFC 9113 section 6.1)."""
    if not flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "a padded frame without the length of its padding")
    if payload[0] >= len(payload):
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "the padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def check_size(payload: bytes, size: int, name: str) -> None:
    """Refuse a frame whose payload has not this size, with a connection error."""
    if len(payload) != size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, f"{name} that has not {size} bytes")


def announced_window(payload: bytes) -> int | None:
    """Check the values of a SETTINGS frame, and return the window of streams that it sets (RFC 9113 section 6.5.2).

    Of several the last one counts. The others allow what we do not do.
    """
    if len(payload) % SETTING.size:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR, "SETTINGS that have not 6 bytes each")
    window = None
    for name, value in SETTING.iter_unpack(payload):
        if name == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1")
        if name == Setting.MAX_FRAME_SIZE and not MIN_FRAME <= value <= MAX_FRAME:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR, "MAX_FRAME_SIZE out of its range")
        if name == Setting.INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE beyond the largest window")
            window = value
    return window


def priority_fault(number: int, priority: bytes) -> StreamFault | None:
    """Say what is wrong with the payload of a PRIORITY frame, which means nothing any more (RFC 9113 section 5.3)."""
    if len(priority) != 5:
        return StreamFault(number, ErrorCode.FRAME_SIZE_ERROR, "PRIORITY that has not 5 bytes")
    if WORD.unpack_from(priority)[0] & MAX_WINDOW == number:
        return StreamFault(number, ErrorCode.PROTOCOL_ERROR, "a stream that depends on itself")
    return None
