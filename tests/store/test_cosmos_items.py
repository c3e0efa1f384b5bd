from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.entry import Blob, Chain, Draft, Kind, Sealed, WrappedKey, read_head
from extproc.store import cosmos_items
from extproc.store.cosmos_items import PART_BYTES, Item

FACTS = {"user": "é", "groups": ["a"], "findings": [{"rule": "r", "at": 2**53 - 1}], "model": None}


def sealed(body: bytes | None = b'{"a": 1}', *, lines: tuple[str, ...] = ("l",)) -> Sealed:
    draft = Draft(Kind.EXCHANGE, "x", "s", 1_760_000_000_123_456, FACTS, body, ["b"], None, list(lines))
    return Chain("a.0.1", 7).seal(draft)[0]


def body_of(items: list[Item]) -> bytes | None:
    return cosmos_items.data_of(items[-1], {item["id"]: item for item in items})


def through_json(item: Item) -> Item:
    return dict(json.loads(json.dumps(item)))


@pytest.mark.parametrize("lines", [(), ("one", "two")])
@pytest.mark.parametrize("body", [None, b"", b"{}", b"\xff\0"])
def test_an_entry_comes_back_from_its_item(body: bytes | None, lines: tuple[str, ...]) -> None:
    entry = sealed(body, lines=lines)
    items = [through_json(item) for item in cosmos_items.entry_items(entry)]
    there = cosmos_items.stored(items[-1], body_of(items))
    assert (there.head, there.hash, there.body, there.lines) == (entry.head, entry.hash, body, list(lines))
    assert (there.log, there.index) == ("a.0.1", 7)


def test_what_is_searched_is_what_was_hashed() -> None:
    (item,) = cosmos_items.entry_items(sealed())
    item["facts"]["user"] = "mallory"
    assert read_head(cosmos_items.stored(item, None).head).facts["user"] == "mallory"


@given(st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)), st.integers(1, 40))
def test_data_comes_back_however_it_is_cut(data: bytes, part_bytes: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cosmos_items, "PART_BYTES", part_bytes + 3)
        patch.setattr(cosmos_items, "_IN_BASE64", part_bytes)
        items = [through_json(item) for item in cosmos_items.blob_items(Blob("s", "address", data))]
    assert body_of(items) == data
    assert [item["id"] for item in items[:-1]] == cosmos_items.part_ids(items[-1])


@pytest.mark.parametrize("data", ["日本".encode() * PART_BYTES, b"\xff" * 3 * PART_BYTES, b'"' * 2 * PART_BYTES])
def test_no_item_comes_near_the_limit_of_two_megabytes(data: bytes) -> None:
    items = cosmos_items.entry_items(sealed(data))
    assert len(items) > 2
    assert max(len(json.dumps(item, ensure_ascii=False).encode()) for item in items) < 2.2 * PART_BYTES
    assert items[-1]["type"] == "entry"
    assert body_of(items) == data


def test_text_is_kept_readable() -> None:
    (item,) = cosmos_items.entry_items(sealed('{"é": 1}'.encode()))
    assert item["data"] == '{"é": 1}'


def test_a_missing_part_leaves_other_bytes_and_no_part_leaves_none() -> None:
    items = cosmos_items.entry_items(sealed(b"x" * 3 * PART_BYTES))
    assert body_of([*items[1:-1], items[-1]]) == b"x" * 2 * PART_BYTES
    assert body_of(items[-1:]) is None


def test_numbers_may_come_back_as_doubles_are_written() -> None:
    entry = sealed()
    (item,) = cosmos_items.entry_items(entry)
    doubled = {
        **item,
        "at": float(item["at"]),
        "index": 7.0,
        "facts": {**FACTS, "findings": [{"rule": "r", "at": 9.0}]},
    }
    there = cosmos_items.stored(doubled, None)
    assert there.index == 7
    assert read_head(there.head).at == 1_760_000_000_123_456
    same = {**item, "at": float(item["at"]), "v": 1.0}
    assert cosmos_items.stored(same, None).head == entry.head
    assert cosmos_items.is_same(item, same)


@pytest.mark.parametrize(
    "change",
    [
        {"hash": "0" * 64},
        {"data": "other"},
        {"facts": {}},
        {"prev": "1" * 64},
        {"encoding": "base64"},
        {"session": "other"},
        {"entry": "y"},
        {"facts": {"user": "\ud800"}},
    ],
)
def test_an_entry_that_was_altered_is_another(change: dict[str, Any]) -> None:
    (item,) = cosmos_items.entry_items(sealed())
    assert not cosmos_items.is_same(item, {**item, **change})
    if change.keys() & set(cosmos_items.HEAD_MEMBERS):
        assert cosmos_items.stored({**item, **change}, None).head != sealed().head


def test_an_entry_without_its_body_and_lines_is_the_same_and_so_are_the_services_own_members() -> None:
    (item,) = cosmos_items.entry_items(sealed())
    bare = {name: value for name, value in item.items() if name not in {"data", "encoding", "parts", "lines"}}
    assert cosmos_items.is_same(item, {**bare, "_etag": "x", "_ts": 1})
    blob = cosmos_items.blob_items(Blob("s", "a", b"x"))[0]
    assert cosmos_items.is_same(blob, {**blob, "_etag": "x"})
    assert not cosmos_items.is_same(blob, {**blob, "parts": 2})
    assert not cosmos_items.is_same(blob, {name: value for name, value in blob.items() if name != "data"})


def test_a_key_comes_back_from_its_item_and_one_that_was_altered_is_another() -> None:
    key = WrappedKey("k1", "s", b"\0\xff")
    item = cosmos_items.key_item(key)
    assert cosmos_items.key_of(item) == key
    assert cosmos_items.key_of({**item, "data": "no base64!"}).wrapped != key.wrapped


@pytest.mark.parametrize("name", ["a/b", "a?b", "a#b", "a\\b", "", "a b", "é", "x" * 201])
def test_ids_that_the_service_does_not_take_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="id in Cosmos DB"):
        cosmos_items.entry_id(name, 1)


def test_a_number_of_parts_that_somebody_wrote_is_bounded() -> None:
    assert len(cosmos_items.part_ids({"id": "x", "parts": 1e300})) == 9999
    assert cosmos_items.part_ids({"id": "x", "parts": "many"}) == []


@pytest.mark.parametrize("name", [*cosmos_items.HEAD_MEMBERS, "hash", "lines", "data", "encoding", "parts"])
@pytest.mark.parametrize("value", [None, "text", -1, 1.5, [], {}, [{"a": "\ud800"}]])
def test_whatever_somebody_writes_can_be_read(name: str, value: Any) -> None:
    items = cosmos_items.entry_items(sealed(b"x" * 2 * PART_BYTES))
    altered = {**items[-1], name: value}
    body = cosmos_items.data_of(altered, {item["id"]: item for item in items[:-1]})
    assert isinstance(cosmos_items.stored(altered, body).index, int)
    assert isinstance(cosmos_items.is_same(items[-1], altered), bool)
