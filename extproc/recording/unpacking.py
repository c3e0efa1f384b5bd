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

MAX_DEPTH: Final = 32
"""Most rows within rows; every row has at least two elements, so no list that fits into memory needs more."""

_ADDRESS: Final = re.compile(r"[0-9a-f]{64}")


class Missing(ExtprocError):
    """Say that blobs are not in the store; `addresses` names them."""

    def __init__(self, addresses: Sequence[str]) -> None:
        super().__init__(f"{len(addresses)} of its parts are not in the store, the first is {addresses[0]}")
        self.addresses = addresses


def unpack(
    data: bytes,
    get: Callable[[Collection[str]], dict[str, bytes]],
    reveal: Callable[[bytes], bytes] = identity,
    *,
    max_bytes: int = MAX_BYTES,
) -> dict[str, Any]:
    """Return the opening of which `data` is the packed form.

    `get` returns those of these blobs that the store has; it is called once per depth. `reveal` undoes `protect`, and
    what it raises passes. Raises `Missing`, and `Corrupt` where a blob is not what its address says or a reference
    does not make sense.
    """
    opening = _read(data, "the opening")
    if not isinstance(opening, dict):
        raise Corrupt("the opening is no JSON object")
    request = opening.get("request")
    if isinstance(request, dict):
        cut = [name for name in CUTS if name in request]
        pieces = _Pieces(max_bytes - len(data), get, reveal)
        pieces.fetch([request[name] for name in cut])
        for name in cut:
            value = request[name]
            request[name] = pieces.joined(value) if isinstance(value, list) else pieces.element(value)
    return opening


class _Pieces:
    """Hold the blobs of one opening, and put them together."""

    __slots__ = ("_get", "_left", "_plain", "_reveal")

    def __init__(
        self, max_bytes: int, get: Callable[[Collection[str]], dict[str, bytes]], reveal: Callable[[bytes], bytes]
    ) -> None:
        self._left = max_bytes
        self._get = get
        self._reveal = reveal
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
        return _read(self._take(address), address)

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

    def _add(self, addresses: Sequence[str]) -> None:
        stored = self._get(addresses) if addresses else {}
        if missing := [address for address in addresses if address not in stored]:
            raise Missing(missing)
        for address in addresses:
            if address_of(stored[address]) != address:
                raise Corrupt(f"the blob {address} has other bytes than its address says")
            self._plain[address] = self._reveal(stored[address])

    def _row(self, address: str) -> list[Any]:
        items = _read(self._take(address), address)
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
