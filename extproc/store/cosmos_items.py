"""Entries, blobs, keys and checkpoints as items of Cosmos DB, and back. Pure.

An item of type `entry` has the members of its head at the top level, so what is searched is what was hashed: whoever
reads it as evidence makes the canonical bytes again from these very members (`stored`). Only the head's `id` has
another name, `entry`, because an item's own `id` is its place: `<log>.<index>`. Beside them it has `hash`, `lines` and,
as `data`, the body, as text where it is UTF-8 (JSON is, so people can read it in the portal), else in base64. What is
longer than `PART_BYTES` is cut into items of type `part`, which are to be created before what they are parts of: an
entry that is there has all of its parts.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from extproc.recording.entry import Blob, Head, Sealed, WrappedKey, canonical_bytes
from extproc.store.port import Stored

Item = dict[str, Any]

PART_BYTES: Final = 256 * 1024
"""Longest body kept in one item. A write's cost grows faster than its size above this (Microsoft's table: 98 RU for
256 KB, 625 RU for 1 MB), and JSON may take six characters for one, which must stay below the 2 MB of an item."""

_BODY: Final = {"data", "encoding", "parts"}
_IN_BASE64: Final = PART_BYTES * 3 // 4

HEAD_MEMBERS: Final = tuple("entry" if name == "id" else name for name in Head.__struct_fields__)
"""Members of an item of type `entry` that are the head's."""

# Cosmos DB forbids / \ ? # in ids; every other sign beyond these is trouble with some client ("Resource.Id" remarks).
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:@+=~-]{1,200}")


def entry_id(log: str, index: int) -> str:
    """Return the id of an entry's item; raises ValueError for a log that an id cannot have."""
    return f"{_plain(log)}.{index:012d}"


def blob_id(address: str) -> str:
    """Return the id of a blob's item."""
    return f"b.{_plain(address)}"


def key_id(name: str) -> str:
    """Return the id of a data key's item."""
    return f"k.{_plain(name)}"


def checkpoints_of(log: str) -> str:
    """Return the partition key of the checkpoints of a log; entries are with their session."""
    return f"log:{log}"


def entry_items(sealed: Sealed) -> list[Item]:
    """Return the items of an entry, its own last."""
    head = msgspec.json.decode(sealed.head)
    item = {**head, "id": entry_id(head["log"], head["index"]), "entry": head["id"], "type": "entry"}
    item |= {"hash": sealed.hash, "lines": sealed.lines}
    return [item] if sealed.body is None else _with_data(item, sealed.body)


def blob_items(blob: Blob) -> list[Item]:
    """Return the items of a blob, its own last."""
    return _with_data({"id": blob_id(blob.address), "session": blob.session, "type": "blob"}, blob.data)


def key_item(key: WrappedKey) -> Item:
    """Return the item of a data key."""
    wrapped = base64.b64encode(key.wrapped).decode()
    return {"id": key_id(key.id), "session": key.session, "type": "key", "key": key.id, "data": wrapped}


def key_of(item: Item) -> WrappedKey:
    """Return the data key of an item."""
    return WrappedKey(str(item.get("key")), item["session"], _from_base64(item.get("data")))


def checkpoint_item(log: str, size: int, note: str) -> Item:
    """Return the item of a checkpoint; it is in a partition of its log."""
    name = f"c.{_plain(log)}.{size:016d}"
    return {"id": name, "session": checkpoints_of(log), "type": "checkpoint", "log": log, "size": size, "note": note}


def named(item: Item) -> str:
    """Return what people call what an item holds."""
    match item.get("type"):
        case "entry":
            return f"entry {item['index']} of log {item['log']}"
        case "checkpoint":
            return f"the checkpoint of log {item['log']} at size {item['size']}"
        case _:
            # Ids name address, key or part.
            return f"{item.get('type')} {item['id']} of session {item['session']}"


def is_same(put: Item, there: Item) -> bool:
    """Say whether what is in the store already is what is put.

    `lines` are no evidence and may be gone, and so may the body of an entry, by rule; its hash stays.
    """
    if put["type"] == "entry" and there.get("type") == "entry":
        kept = there.keys() & _BODY
        return _head(there) == _head(put) and there.get("hash") == put["hash"] and _same(put, there, kept)
    return _same(put, there, put.keys() | {name for name in there if not name.startswith("_")})


def is_bare(item: Item) -> bool:
    """Say whether an item of an entry has no body (any more)."""
    return not item.keys() & _BODY


def bare(item: Item) -> Item:
    """Return the item of an entry without body and lines, to be put in its place."""
    kept = {name: value for name, value in item.items() if name not in _BODY and not name.startswith("_")}
    return {**kept, "lines": []}


def _same(one: Item, other: Item, names: Iterable[str]) -> bool:
    return all(_whole(one.get(name)) == _whole(other.get(name)) for name in names)


def part_ids(item: Item) -> list[str]:
    """Return the ids of the parts of what an item holds."""
    # Whoever altered the number must not make us read without end: no body has more parts than this.
    return [_part_id(item["id"], n) for n in range(1, min(number_of(item, "parts"), 9999) + 1)]


def data_of(item: Item, parts: Mapping[str, Item]) -> bytes | None:
    """Return the body or blob of an item, given its parts by id, None where it has none.

    A part that is missing is left out, so that what is returned is not what was hashed.
    """
    found = [parts[name] for name in part_ids(item) if name in parts]
    pieces = [item["data"]] if "data" in item else [part.get("data", "") for part in found]
    if not pieces:
        return None
    if item.get("encoding") == "base64":
        return b"".join(map(_from_base64, pieces))
    return "".join(map(str, pieces)).encode("utf-8", "surrogatepass")


def stored(item: Item, body: bytes | None) -> Stored:
    """Return the entry of an item, its head made again of its members."""
    lines = item.get("lines")
    return Stored(
        log=str(item.get("log")),
        index=number_of(item, "index"),
        head=_head(item),
        hash=str(item.get("hash")),
        body=body,
        lines=[str(line) for line in lines] if isinstance(lines, list) else [],
    )


def number_of(item: Item, name: str) -> int:
    """Return a member that is a number, -1 where somebody made it something else."""
    value = item.get(name)
    return int(value) if isinstance(value, int | float) else -1


def _head(item: Item) -> bytes:
    members = {name: _whole(item[name]) for name in HEAD_MEMBERS if name in item}
    if "entry" in members:
        members["id"] = members.pop("entry")
    try:
        return canonical_bytes(members)
    except UnicodeEncodeError:
        # Half a character: no head of ours has any, so whatever is returned must only be different, and readable.
        return json.dumps(members, sort_keys=True).encode()


def _whole(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a value with integers as such: Cosmos DB has only doubles and may write 1.5e15 for one of them."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case list():
            return [_whole(one) for one in value]
        case dict():
            return {name: _whole(one) for name, one in value.items()}
    return value


def _with_data(item: Item, data: bytes) -> list[Item]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        encoding = "base64"
        cuts = [data[at : at + _IN_BASE64] for at in range(0, len(data), _IN_BASE64)]
        pieces = [base64.b64encode(one).decode() for one in cuts]
    else:
        encoding, pieces = "utf-8", [text] if len(data) <= PART_BYTES else _cut(data)
    if len(pieces) == 1:
        return [{**item, "encoding": encoding, "data": pieces[0]}]
    parts = [
        {"id": _part_id(item["id"], n), "session": item["session"], "type": "part", "data": piece}
        for n, piece in enumerate(pieces, 1)
    ]
    return [*parts, {**item, "encoding": encoding, "parts": len(parts)}]


def _cut(data: bytes) -> list[str]:
    """Cut UTF-8 into pieces of `PART_BYTES` at most, between characters."""
    pieces, start = [], 0
    while start < len(data):
        end = min(start + PART_BYTES, len(data))
        # A byte 10xxxxxx continues a character (RFC 3629 section 3).
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        pieces.append(data[start:end].decode())
        start = end
    return pieces


def _part_id(owner: str, number: int) -> str:
    return f"{owner}.p{number:04d}"


def _from_base64(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=True)
    except ValueError:
        # Somebody altered it; what is returned is not what was hashed.
        return str(text).encode("utf-8", "surrogatepass")


def _plain(name: str) -> str:
    if _PLAIN.fullmatch(name) is None:
        raise ValueError(f"{name!r} cannot be part of an id in Cosmos DB: expected letters, digits and . _ : @ + = ~ -")
    return name
