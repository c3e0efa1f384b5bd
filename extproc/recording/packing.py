"""Pack the body of an exchange so that what its session has stored already is referred to, not repeated. Pure.

Agents resend the whole conversation each turn. So the lists `request.messages` and `request.tools` are cut, and their
parts become blobs, named by the SHA-256 of their stored bytes: a large element `{"$blob": address}`, some elements in a
row, in a JSON array that may refer on, `{"$list": address}`. Where a row ends depends on nothing but the element there,
so that lists with equal stretches have equal blobs; an appended or a changed element costs a few new ones, about the
logarithm of the list's length. The format is described for readers in docs/recording.md.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from extproc.errors import ExtprocError
from extproc.recording.entry import address_of

_REFERENCES: Final = (b'{"$blob":', b'{"$list":')


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a list is cut; all in bytes of JSON.

    An element of `alone` is a blob of its own. A list longer than `whole` is cut into rows of `row` on average. What
    follows the last place to cut at stays as it is where a list `grows`: it would be another row in the next turn.
    """

    alone: int
    whole: int
    row: int
    grows: bool


# Messages are many, and more each turn. Tools stay the same for long: few large blobs, whose names are short.
CUTS: Final = {
    "messages": _Cut(alone=1024, whole=2048, row=1280, grows=True),
    "tools": _Cut(alone=16 * 1024, whole=1024, row=8 * 1024, grows=False),
}
_LONGEST: Final = 4
"""A row ends after so many times its average size: nobody can choose elements that are never cut."""


class Corrupt(ExtprocError):
    """Say which stored bytes cannot be what was stored."""


@dataclass(frozen=True, slots=True)
class Packed:
    """An opening in pieces.

    `data` is its JSON, with references. `blobs` are those that are not known yet, (address, stored bytes), each after
    those it refers to. `used` are the addresses of all blobs it needs, known or not.
    """

    data: bytes
    blobs: list[tuple[str, bytes]]
    used: list[str]


def identity(data: bytes) -> bytes:
    """Return the same bytes: blobs that are stored in the clear."""
    return data


def pack(
    opening: dict[str, Any],
    *,
    protect: Callable[[bytes], bytes] = identity,
    is_known: Callable[[str], bool],
) -> Packed:
    """Cut an opening (`extproc.recording.document.opening`) into pieces.

    `protect` gives the bytes that are stored of a blob, the same for the same (`DataKey.protect`); `data` is not
    protected here. `is_known` says whether the session has a blob with this address.
    """
    try:
        return _packed(opening, _Shelf(protect, is_known))
    except UnicodeEncodeError:
        return _packed(_mended(opening), _Shelf(protect, is_known))


def body_of(packed_opening: bytes, closing: dict[str, Any]) -> bytes:
    """Return the body of an entry: a packed opening, and a closing."""
    return b'{"opening":%b,"closing":%b}' % (packed_opening, encoded(closing))


def parts_of(body: bytes) -> tuple[bytes, dict[str, Any]]:
    """Return the packed opening and the closing that a body has; raises Corrupt."""
    try:
        parts = _body_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Corrupt("the body is no JSON object with an opening and a closing") from None
    return bytes(parts.opening), parts.closing


def encoded(value: Any) -> bytes:  # noqa: ANN401 - JSON
    """Return a value as JSON. Halves of characters: two that came apart become one again, a lone one is replaced."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(_mended(value))


class _Body(msgspec.Struct):
    opening: msgspec.Raw
    closing: dict[str, Any]


_encoder: Final = msgspec.json.Encoder()
_body_decoder: Final = msgspec.json.Decoder(_Body)


class _Shelf:
    """Give blobs their addresses, and gather those that are new."""

    __slots__ = ("_is_known", "_protect", "new", "used")

    def __init__(self, protect: Callable[[bytes], bytes], is_known: Callable[[str], bool]) -> None:
        self._protect = protect
        self._is_known = is_known
        self.new: list[tuple[str, bytes]] = []
        self.used: dict[str, None] = {}

    def put(self, plain: bytes) -> bytes:
        """Return the address of a blob."""
        stored = self._protect(plain)
        address = address_of(stored)
        if address not in self.used:
            self.used[address] = None
            if not self._is_known(address):
                self.new.append((address, stored))
        return address.encode()

    def element(self, value: Any, alone: int) -> bytes:  # noqa: ANN401 - JSON
        """Return the JSON of an element, or a reference to it."""
        plain = _encoder.encode(value)
        # What looks like a reference, and came from a client, must not be taken for one.
        if len(plain) >= alone or plain.startswith(_REFERENCES):
            return b'{"$blob":"%b"}' % self.put(plain)
        return plain

    def row(self, items: Sequence[bytes]) -> bytes:
        """Return a reference to some elements in a row."""
        return b'{"$list":"%b"}' % self.put(b"[%b]" % b",".join(items))


def _packed(opening: dict[str, Any], shelf: _Shelf) -> Packed:
    request = opening.get("request")
    if isinstance(request, dict):
        pieces = {name: msgspec.Raw(_piece(request[name], cut, shelf)) for name, cut in CUTS.items() if name in request}
        opening = {**opening, "request": {**request, **pieces}}
    return Packed(_encoder.encode(opening), shelf.new, list(shelf.used))


def _piece(value: Any, cut: _Cut, shelf: _Shelf) -> bytes:  # noqa: ANN401 - JSON
    """Return the JSON that stands for a member of the request."""
    if not isinstance(value, list):
        return shelf.element(value, cut.alone)
    items = [shelf.element(one, cut.alone) for one in value]
    unfinished: list[bytes] = []
    while sum(map(len, items)) + len(items) > cut.whole:
        rows, rest = _rows(items, cut.row)
        if rest and not cut.grows:
            rows, rest = [*rows, rest], []
        items, unfinished = [shelf.row(row) for row in rows], rest + unfinished
    return b"[%b]" % b",".join(items + unfinished)


def _rows(items: Sequence[bytes], size: int) -> tuple[list[list[bytes]], list[bytes]]:
    """Return rows of about `size` bytes, of two elements or more, and what is left after the last place to cut at."""
    rows: list[list[bytes]] = []
    row: list[bytes] = []
    length = 0
    for item in items:
        row.append(item)
        length += len(item)
        # The chance to be the last of a row is the element's share of the size, drawn by its checksum.
        last = zlib.crc32(item) * size < len(item) << 32
        if len(row) >= 2 and (last or length >= _LONGEST * size):
            rows.append(row)
            row, length = [], 0
    return rows, row


def _mended(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value without halves of characters."""
    text = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
