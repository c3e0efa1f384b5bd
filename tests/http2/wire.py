"""Frames, header blocks and gRPC messages, right or wrong (RFC 9113, RFC 7541, gRPC over HTTP/2).

Frames are built from their parts, without any check. Header blocks are literals without indexing and without Huffman
coding unless a test encodes otherwise, so that what is sent does not depend on an encoder's state.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65_535
"""RFC 9113, section 6.9.2: every window's size at first."""
LARGEST_WINDOW = 2**31 - 1
FRAME_BYTES = 16_384
"""RFC 9113, section 4.2: the largest frame that every peer takes."""


class Kind(IntEnum):
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


END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20


class Code(IntEnum):
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
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


Settings = Mapping[Setting, int] | Mapping[int, int] | Iterable[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Return the error code of RST_STREAM or GOAWAY."""
        return int.from_bytes(self.payload[4:8] if self.kind == Kind.GOAWAY else self.payload[:4])


# --- Frames ----------------------------------------------------------------------------------------------------------


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"", *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return size.to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def settings(values: Settings = (), *, flags: int = 0) -> bytes:
    pairs = values.items() if isinstance(values, Mapping) else values
    return frame(Kind.SETTINGS, flags, 0, b"".join(struct.pack("!HI", *pair) for pair in pairs))


def data(stream: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(Kind.DATA, END_STREAM * end, stream, payload)


def headers(stream: int, block: bytes, *, end: bool = False) -> bytes:
    return frame(Kind.HEADERS, END_HEADERS | END_STREAM * end, stream, block)


def ping(opaque: bytes = b"12345678", *, flags: int = 0) -> bytes:
    return frame(Kind.PING, flags, 0, opaque)


def reset(stream: int, code: int = Code.CANCEL) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, code.to_bytes(4))


def window_update(stream: int, increment: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, increment.to_bytes(4))


def priority(stream: int, depends_on: int = 0, weight: int = 15) -> bytes:
    return frame(Kind.PRIORITY, 0, stream, depends_on.to_bytes(4) + bytes((weight,)))


def goaway(last: int = 0, code: int = Code.NO_ERROR, debug: bytes = b"", *, stream: int = 0) -> bytes:
    return frame(Kind.GOAWAY, 0, stream, last.to_bytes(4) + code.to_bytes(4) + debug)


def parsed(stream: bytes) -> Iterator[Frame]:
    """Take whole frames apart; what is cut off at the end is an AssertionError."""
    at = 0
    while at < len(stream):
        assert len(stream) - at >= 9, "a frame's header is cut off"
        size = int.from_bytes(stream[at : at + 3])
        assert len(stream) - at >= 9 + size, "a frame is cut off"
        yield Frame(
            stream[at + 3], stream[at + 4], int.from_bytes(stream[at + 5 : at + 9]), stream[at + 9 : at + 9 + size]
        )
        at += 9 + size


# --- Header blocks (RFC 7541) ----------------------------------------------------------------------------------------


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Encode as in RFC 7541, section 5.1; `first` has the bits before the prefix."""
    largest = (1 << bits) - 1
    if value < largest:
        return bytes((first | value,))
    out = bytearray((first | largest,))
    value -= largest
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def literal(text: bytes) -> bytes:
    return integer(len(text), 7) + text


def indexed(index: int) -> bytes:
    return integer(index, 7, 0x80)


def field_line(name: str | bytes, value: str | bytes, first: int = 0x00) -> bytes:
    """Return a literal with a new name: 0x00 without indexing, 0x10 never indexed, 0x40 with incremental indexing."""
    raw = [one.encode() if isinstance(one, str) else one for one in (name, value)]
    return bytes((first,)) + literal(raw[0]) + literal(raw[1])


def block(fields: Iterable[tuple[str, str]], first: int = 0x00) -> bytes:
    return b"".join(field_line(name, value, first) for name, value in fields)


def table_size(size: int) -> bytes:
    """Return a dynamic table size update (RFC 7541, section 6.3)."""
    return integer(size, 5, 0x20)


# --- gRPC ------------------------------------------------------------------------------------------------------------


def request(path: str = "/test.Echo/Call", *more: tuple[str, str], **changed: str | None) -> list[tuple[str, str]]:
    """Return the fields of a gRPC request; `method`, `scheme`, `path`, `authority`, `te`, `content_type` change one."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "ext_proc",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    for name, value in changed.items():
        key = name.replace("_", "-") if name in {"te", "content_type"} else f":{name}"
        if value is None:
            del fields[key]
        else:
            fields[key] = value
    return [*fields.items(), *more]


def opened(stream: int = 1, path: str = "/test.Echo/Call", *more: tuple[str, str], end: bool = False) -> bytes:
    """Return the HEADERS frame of a gRPC request."""
    return headers(stream, block(request(path, *more)), end=end)


def message(body: bytes, compressed: int = 0) -> bytes:
    """Return a length-prefixed message (gRPC over HTTP/2, "Length-Prefixed-Message")."""
    return bytes((compressed,)) + len(body).to_bytes(4) + body


def taken_apart(body: bytes) -> list[bytes]:
    """Take apart what was sent in DATA frames; what is cut off at the end is an AssertionError."""
    found, at = [], 0
    while at < len(body):
        assert body[at] == 0, "compressed, and nobody asked for it"
        size = int.from_bytes(body[at + 1 : at + 5])
        assert at + 5 + size <= len(body), "a message is cut off"
        found.append(body[at + 5 : at + 5 + size])
        at += 5 + size
    return found
