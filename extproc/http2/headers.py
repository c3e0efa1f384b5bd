"""Header blocks: those of requests, decoded and checked, and those of gRPC responses, made once (RFC 7541, 9113)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hpack import Decoder, HPACKError, OversizedHeaderListError

from extproc.carrier import Status
from extproc.http2.frames import ConnectionFault, ErrorCode

MAX_LIST_BYTES = 16_384
"""Most that a header list may be, counted as in RFC 9113 section 6.5.2; gRPC's own libraries take as much."""

_CACHED_BLOCKS = 64
"""An Envoy opens its streams with a few different blocks: one for each filter and health check."""

Fields = list[tuple[bytes, bytes]]


class Malformed(Exception):
    """Say that a request or its trailers are malformed (RFC 9113 section 8.1.1): an error of the stream."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a stream was opened with; `content_length` is None where it was not said."""

    method: str
    path: str
    content_type: str
    content_length: int | None
    metadata: Mapping[str, str]


class Blocks:
    """The decoder of one connection's header blocks.

    What a block means depends on the blocks before it. But one that changes nothing for those after it means the same
    for as long as none of them does: a neighbour that opens the same kind of stream over and over sends the same bytes.
    """

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=MAX_LIST_BYTES)
        self._requests: dict[bytes, Request] = {}
        self._changes = 0

    def request(self, block: bytes) -> Request:
        """Decode what opens a stream; raises Malformed and ConnectionFault."""
        known = self._requests.get(block)
        if known is not None:
            return known
        changes = self._changes
        request = request_of(self.decode(block))
        if self._changes == changes:
            if len(self._requests) >= _CACHED_BLOCKS:
                del self._requests[next(iter(self._requests))]
            self._requests[block] = request
        return request

    def decode(self, block: bytes | bytearray) -> Fields:
        """Decode any block; each must be, for what later ones refer to. Raises ConnectionFault."""
        entries = self._decoder.header_table.dynamic_entries
        newest = entries[0] if entries else None
        try:
            fields: Fields = [(name, value) for name, value in self._decoder.decode(bytes(block), raw=True)]
        except OversizedHeaderListError:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header list beyond the announced size") from None
        except HPACKError:
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR, "a header block that cannot be decoded") from None
        # Each field that is added is a new first entry; a change of the table's size is at the start of a block.
        resized = bool(block) and block[0] & 0xE0 == 0x20
        if resized or (entries[0] if entries else None) is not newest:
            self._changes += 1
            self._requests.clear()
        return fields


# RFC 9113 section 8.2.1.
_NAME = re.compile(rb"[\x21-\x39\x3b-\x40\x5b-\x7e]+")
_BAD_VALUE = re.compile(rb"[\0\r\n]")
_PSEUDO = frozenset({b":method", b":scheme", b":path", b":authority"})
# RFC 9113 section 8.2.2.
_OF_CONNECTIONS = frozenset({b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"})


def request_of(fields: Fields) -> Request:
    """Check the fields of a request (RFC 9113 sections 8.2 and 8.3); raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    metadata: dict[str, str] = {}
    for name, value in fields:
        if name.startswith(b":"):
            _check_value(value)
            if name not in _PSEUDO or name in pseudo or metadata:
                raise Malformed("a pseudo-header field that is unknown, repeated or late")
            pseudo[name] = value
        else:
            _check_field(name, value)
            metadata[name.decode("ascii")] = value.decode("latin-1")
    _check_pseudo(pseudo)
    authority = pseudo.get(b":authority", b"").decode("latin-1")
    if authority and metadata.get("host", authority) != authority:
        raise Malformed("a host that is not the authority")
    return Request(
        method=pseudo[b":method"].decode("latin-1"),
        path=pseudo.get(b":path", b"").decode("latin-1"),
        content_type=metadata.get("content-type", ""),
        content_length=_content_length([value for name, value in fields if name == b"content-length"]),
        metadata=MappingProxyType(metadata),
    )


def check_trailers(fields: Fields) -> None:
    """Check what ends a stream (RFC 9113 section 8.1); raises Malformed."""
    for name, value in fields:
        if name.startswith(b":"):
            raise Malformed("a pseudo-header field in trailers")
        _check_field(name, value)


def _check_field(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise Malformed("a field name with a character that is not allowed in one")
    _check_value(value)
    if name in _OF_CONNECTIONS or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed("a field that is about a connection")


def _check_value(value: bytes) -> None:
    if _BAD_VALUE.search(value) or value[:1] in {b" ", b"\t"} or value[-1:] in {b" ", b"\t"}:
        raise Malformed("a field value with a character that is not allowed there")


def _check_pseudo(pseudo: dict[bytes, bytes]) -> None:
    """Check which are there (RFC 9113 sections 8.3.1 and 8.5)."""
    method = pseudo.get(b":method")
    if method == b"CONNECT":
        if pseudo.keys() != {b":method", b":authority"}:
            raise Malformed("a CONNECT with other pseudo-header fields than its own")
        return
    path = pseudo.get(b":path", b"")
    if not method or not pseudo.get(b":scheme") or not path:
        raise Malformed("a request without its method, scheme or path")
    if not path.startswith(b"/") and (method, path) != (b"OPTIONS", b"*"):
        raise Malformed("a path that does not begin with a slash")


def _content_length(values: list[bytes]) -> int | None:
    if not values:
        return None
    # 19 digits are more than any body has; more of them are only there to cost time.
    if len(set(values)) > 1 or not values[0].isdigit() or len(values[0]) > 19:
        raise Malformed("a content-length that is not one number")
    return int(values[0])


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a field that enters no table (RFC 7541 section 6.2.2); the name has fewer than 127 bytes."""
    return bytes((0, len(name))) + name + _string(value)


def _string(value: bytes) -> bytes:
    size = len(value)
    if size < 127:
        return bytes((size,)) + value
    # An integer of more than 7 bits (RFC 7541 section 5.1); _MAX_TEXT keeps it in three bytes.
    return bytes((127, (size - 127) & 0x7F | 0x80, (size - 127) >> 7)) + value


_MAX_TEXT = 256
"""Characters of a status's text; it is for people, and one sentence."""

NO_TABLE = b"\x20"
"""Begins a connection's first block: we use no dynamic table, whatever the peer allows (RFC 7541 section 6.3)."""

# Field 8 of the static table is `:status: 200`, and a name too (RFC 7541 appendix A).
RESPONSE = b"\x88" + _literal(b"content-type", b"application/grpc")
"""The header block of a response."""

OK = _literal(b"grpc-status", b"0")
"""The trailers of a call that went well."""

METHOD_NOT_ALLOWED = b"\x08" + _string(b"405") + _literal(b"allow", b"POST")
UNSUPPORTED_MEDIA_TYPE = b"\x08" + _string(b"415")


def trailers(status: Status, text: str) -> bytes:
    """Return the trailers of a call that did not go well; `text` is percent-encoded (gRPC over HTTP/2, "Responses")."""
    # A call that nobody finished must never look as if it had gone well: Envoy would let its exchange pass unprocessed.
    number = Status.INTERNAL if status is Status.OK else status
    plain = text[:_MAX_TEXT].encode(errors="replace")
    message = "".join(chr(one) if 0x20 <= one <= 0x7E and one != 0x25 else f"%{one:02X}" for one in plain)
    return _literal(b"grpc-status", b"%d" % number) + _literal(b"grpc-message", message.encode("ascii"))
