"""Put together again what `extproc.recording.packing` cut into pieces; trusts none of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec

from extproc.errors import ExtprocError
from extproc.recording.entry import address_of
from extproc.recording.packing import CUTS, Corrupt, identity

MAX_BYTES: Final = 128 * 1024 * 1024
"""Most bytes that one opening may be of. Forged rows that name each other a million times end here."""

KEPT_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of parts kept while a session is read."""

MAX_DEPTH: Final = 32
"""Most rows within rows; every row has at least two elements, so no list that fits into memory needs more."""

_ADDRESS: Final = re.compile(r"[0-9a-f]{64}")


class Missing(ExtprocError):
    """Say that blobs are not in the store; `addresses` names them."""

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__(f"{len(addresses)} of its parts are not in the store, the first is {addresses[0]}")
        self.addresses = addresses


class Parts:
    """Keep parts of one session's openings that were fetched and checked, while the session is read.

    The openings of an agent's session share nearly all of theirs, so each is fetched, hashed and decoded once. What is
    put together with the same `Parts` shares what it holds: nobody changes it.
    """

    __slots__ = ("_left", "_plain", "_values")

    def __init__(self) -> None:
        self._plain: dict[str, bytes] = {}
        self._values: dict[str, Any] = {}
        self._left = KEPT_BYTES

    def plain(self, address: str) -> bytes | None:
        """Return the bytes of a part that is kept."""
        return self._plain.get(address)

    def keep(self, address: str, plain: bytes) -> None:
        """Take a part that was checked; where there is no room, all that were kept before are let go."""
        self._left -= len(plain)
        if self._left < 0:
            self._plain.clear()
            self._values.clear()
            self._left = KEPT_BYTES - len(plain)
        self._plain[address] = plain

    def value(self, address: str, plain: bytes) -> Any:  # noqa: ANN401 - JSON
        """Return what a part says; raises Corrupt."""
        if address not in self._values:
            value = _read(plain, address)
            if address not in self._plain:
                return value
            self._values[address] = value
        return self._values[address]


def unpack(
    data: bytes,
    get: Callable[[Collection[str]], dict[str, bytes]],
    reveal: Callable[[bytes], bytes] = identity,
    *,
    max_bytes: int = MAX_BYTES,
    parts: Parts | None = None,
) -> dict[str, Any]:
    """Return the opening of which `data` is the packed form.

    `get` returns those of these blobs that the store has; it is called once per depth. `reveal` undoes `protect`, and
    what it raises passes. Raises `Missing`, and `Corrupt` where a blob is not what its address says or a reference
    does not make sense. `parts` is what is kept of openings of the same session.
    """
    opening = _read(data, "the opening")
    if not isinstance(opening, dict):
        raise Corrupt("the opening is no JSON object")
    request = opening.get("request")
    if isinstance(request, dict):
        cut = [name for name in CUTS if name in request]
        pieces = _Pieces(max_bytes - len(data), get, reveal, parts or Parts())
        pieces.fetch([request[name] for name in cut])
        for name in cut:
            value = request[name]
            request[name] = pieces.joined(value) if isinstance(value, list) else pieces.element(value)
    return opening


class _Pieces:
    """Hold the blobs of one opening, and put them together."""

    __slots__ = ("_get", "_left", "_parts", "_plain", "_reveal")

    def __init__(
        self,
        max_bytes: int,
        get: Callable[[Collection[str]], dict[str, bytes]],
        reveal: Callable[[bytes], bytes],
        parts: Parts,
    ) -> None:
        self._left = max_bytes
        self._get = get
        self._reveal = reveal
        self._parts = parts
        self._plain: dict[str, bytes] = {}

    def fetch(self, values: Sequence[Any]) -> None:
        """Get all blobs that members with these values refer to, depth by depth."""
        looked_into: set[str] = set()
        for _ in range(MAX_DEPTH + 1):
            references = [found for value in values for item in _items(value) if (found := _reference(item))]
            self._add(sorted({address for _, address in references} - self._plain.keys()))
            rows = {address for kind, address in references if kind == "$list"} - looked_into
            if not rows:
                return
            looked_into |= rows
            values = [self._row(address) for address in rows]
        raise Corrupt(f"the opening has more than {MAX_DEPTH} rows within each other")

    def element(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """Return what stands where this does."""
        reference = _reference(value)
        if reference is None:
            return value
        kind, address = reference
        if kind != "$blob":
            raise Corrupt(f"the opening refers to a row, {address}, where one element belongs")
        return self._parts.value(address, self._take(address))

    def joined(self, items: Sequence[Any]) -> list[Any]:
        """Return the elements of a list that may refer to rows."""
        result: list[Any] = []
        for item in items:
            reference = _reference(item)
            if reference is not None and reference[0] == "$list":
                result += self.joined(self._row(reference[1]))
            else:
                result.append(self.element(item))
        return result

    def _add(self, wanted: Sequence[str]) -> None:
        kept = {address: plain for address in wanted if (plain := self._parts.plain(address)) is not None}
        self._plain |= kept
        addresses = [address for address in wanted if address not in kept]
        stored = self._get(addresses) if addresses else {}
        if missing := [address for address in addresses if address not in stored]:
            raise Missing(missing)
        for address in addresses:
            if address_of(stored[address]) != address:
                raise Corrupt(f"the blob {address} has other bytes than its address says")
            self._plain[address] = plain = self._reveal(stored[address])
            self._parts.keep(address, plain)

    def _row(self, address: str) -> list[Any]:
        items = self._parts.value(address, self._take(address))
        if not isinstance(items, list):
            raise Corrupt(f"the blob {address} is no row")
        return items

    def _take(self, address: str) -> bytes:
        plain = self._plain[address]
        self._left -= len(plain)
        if self._left < 0:
            raise Corrupt("the opening is longer than any that was recorded")
        return plain


def _items(value: Any) -> list[Any]:  # noqa: ANN401 - JSON
    return value if isinstance(value, list) else [value]


def _reference(value: Any) -> tuple[str, str] | None:  # noqa: ANN401 - JSON
    """Return kind and address where a value is a reference."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((kind, address),) = value.items()
    if kind not in ("$blob", "$list"):
        return None
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise Corrupt("the opening has a reference that is no address")
    return kind, address


def _read(data: bytes, what: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Corrupt(f"{what} is no JSON") from None
