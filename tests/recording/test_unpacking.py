from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.entry import address_of
from extproc.recording.packing import Corrupt, Packed, pack
from extproc.recording.unpacking import MAX_DEPTH, Missing, unpack

HEX = "0123456789abcdef" * 4


class Shelf:
    """The blobs of one session, as a store keeps them, and which were asked for together."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.asked: list[list[str]] = []

    def pack(self, opening: dict[str, Any]) -> Packed:
        packed = pack(opening, is_known=self.blobs.__contains__)
        self.blobs.update(packed.blobs)
        return packed

    def get(self, addresses: Collection[str]) -> dict[str, bytes]:
        self.asked.append(list(addresses))
        return {one: self.blobs[one] for one in addresses if one in self.blobs}

    def unpack(self, packed: Packed) -> dict[str, Any]:
        return unpack(packed.data, self.get)


def opening(messages: list[Any], tools: list[Any] | None = None) -> dict[str, Any]:
    return {"id": "x", "request": {"messages": messages, "tools": tools}}


def message(seed: int, size: int) -> dict[str, Any]:
    return {"role": "user", "content": f"{seed}:" + f"{seed * 7919} " * (size // 5)}


def test_reading_asks_the_store_once_per_depth() -> None:
    shelf = Shelf()
    packed = shelf.pack(opening([message(n, 600) for n in range(1500)], [message(n, 900) for n in range(40)]))
    shelf.unpack(packed)
    assert 2 <= len(shelf.asked) <= 5
    assert sorted(one for asked in shelf.asked for one in asked) == sorted(packed.used)


def test_blobs_that_are_gone_are_named() -> None:
    shelf = Shelf()
    packed = shelf.pack(opening([message(1, 2000), message(2, 2000), message(3, 2000)]))
    gone = sorted(packed.used[:2])
    for address in gone:
        del shelf.blobs[address]
    with pytest.raises(Missing, match=f"2 of its parts .* {gone[0]}") as caught:
        shelf.unpack(packed)
    assert caught.value.addresses == gone


def test_a_blob_that_was_changed_is_named() -> None:
    shelf = Shelf()
    packed = shelf.pack(opening([message(1, 2000)]))
    shelf.blobs[packed.used[0]] += b" "
    with pytest.raises(Corrupt, match=f"blob {packed.used[0]} has other bytes"):
        shelf.unpack(packed)


def forged(*items: bytes) -> tuple[Shelf, bytes]:
    """Return a shelf of these blobs, and an opening that refers to the last one as a row."""
    shelf = Shelf()
    shelf.blobs = {address_of(one): one for one in items}
    return shelf, b'{"request":{"messages":[%b]}}' % row(items[-1])


def row(item: bytes) -> bytes:
    return b'{"$list":"%b"}' % address_of(item).encode()


def test_rows_too_deep_or_too_many_are_refused() -> None:
    deep = [b"[]"]
    for _ in range(MAX_DEPTH):
        deep.append(b"[%b]" % row(deep[-1]))
    shelf, data = forged(*deep)
    with pytest.raises(Corrupt, match="more than 32 rows within each other"):
        unpack(data, shelf.get)
    shelf, data = forged(*deep[:-1])
    assert unpack(data, shelf.get) == {"request": {"messages": []}}
    wide = [b"[%b]" % (b"0," * 1000 + b"0")]
    for _ in range(10):
        wide.append(b"[%b]" % b",".join([row(wide[-1])] * 50))
    shelf, data = forged(*wide)
    with pytest.raises(Corrupt, match="longer than any"):
        unpack(data, shelf.get, max_bytes=1_000_000)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "opening is no JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 5000, "opening is no JSON"),
        (b'{"request":{"messages":[{"$blob":1}]}}', "no address"),
        (b'{"request":{"tools":[{"$list":"../secret"}]}}', "no address"),
        (b'{"request":{"tools":{"$blob":"%b\\n"}}}' % HEX.encode(), "no address"),
    ],
)
def test_an_opening_that_cannot_be_one_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(Corrupt, match=message):
        unpack(data, lambda _: {})


def test_a_row_that_is_none_and_a_row_in_the_place_of_an_element_are_refused() -> None:
    shelf, data = forged(b'{"a":1}')
    with pytest.raises(Corrupt, match="is no row"):
        unpack(data, shelf.get)
    shelf, data = forged(b"[1]")
    with pytest.raises(Corrupt, match="where one element belongs"):
        unpack(data.replace(b"[", b"").replace(b"]", b""), shelf.get)


REFERENCES = st.builds(lambda kind, at: {kind: at}, st.sampled_from(["$blob", "$list"]), st.sampled_from([HEX, "", 1]))
LISTS = st.recursive(REFERENCES | st.integers() | st.text(), st.lists)
requests = LISTS.map(lambda tree: msgspec.json.encode({"request": {"messages": tree, "tools": tree}}))


@given(st.binary() | requests)
def test_no_stored_bytes_raise_anything_but_the_errors_named(data: bytes) -> None:
    with contextlib.suppress(Corrupt, Missing):
        assert isinstance(unpack(data, lambda _: {}), dict)
