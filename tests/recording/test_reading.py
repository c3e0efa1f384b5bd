from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec
import pytest

from extproc.errors import StoreUnavailable
from extproc.keys.wrapping_key import WrappingKey
from extproc.recording.document import merged
from extproc.recording.entry import Chain, Draft, Head, Kind, WrappedKey, read_head
from extproc.recording.envelope import Envelope
from extproc.recording.packing import body_of, identity, pack
from extproc.recording.reading import document

OPENING: dict[str, Any] = {
    "v": 1,
    "id": "x1",
    "session": "s1",
    "opened_at": 1700000000.25,
    "request": {"model": "m", "messages": [{"role": "user", "content": "long " * 1000}, {"role": "user"}], "tools": []},
    "findings": [],
    "masking": None,
}
CLOSING = {"v": 1, "id": "x1", "closed_at": 1700000001.0, "outcome": "completed", "findings": [], "masking": None}
FACTS = {"user": "alice", "model": "m"}

MASTER = WrappingKey(b"M" * 32)
ENVELOPE = Envelope(MASTER.wrap, MASTER.unwrap, lambda size: b"R" * size)


class Kept:
    """One entry as a store has it, with its parts."""

    def __init__(self, *, encrypted: bool = False, kind: Kind = Kind.EXCHANGE) -> None:
        key = ENVELOPE.new_key("s1", "k1") if encrypted else None
        protect = key.protect if key else identity
        packed = pack(OPENING, protect=protect, is_known=lambda _: False)
        self.blobs = {("s1", address): data for address, data in packed.blobs}
        self.keys = {("s1", "k1"): WrappedKey(key.id, key.session, key.wrapped)} if key else {}
        self.body: bytes | None = protect(body_of(packed.data, CLOSING))
        draft = Draft(kind, "x1", "s1", 1700000000250000, FACTS, self.body, key=key.id if key else None)
        self.head: Head = read_head(Chain("r.0.1", 7).seal(draft)[0].head)

    def document(self, envelope: Envelope | None = None) -> dict[str, Any]:
        def blobs(session: str, addresses: Collection[str]) -> dict[str, bytes]:
            return {one: self.blobs[session, one] for one in addresses if (session, one) in self.blobs}

        def key(session: str, key_id: str) -> WrappedKey | None:
            return self.keys.get((session, key_id))

        return document(self.head, self.body, blobs=blobs, key=key, envelope=envelope)

    def removed(self, envelope: Envelope | None = None) -> str:
        """Return why there is no content, after a look at what is there instead."""
        shown = self.document(envelope)
        why: str = shown.pop("removed")
        assert shown == SHORT
        return why


SHORT = {
    "id": "x1",
    "session": "s1",
    "opened_at": 1700000000.25,
    "kind": "exchange",
    "facts": FACTS,
    "entry": {"log": "r.0.1", "index": 7},
}


def test_an_exchange_is_its_merged_document_and_its_place() -> None:
    assert Kept().document() == {**merged(OPENING, CLOSING), "entry": {"log": "r.0.1", "index": 7}}


def test_an_encrypted_exchange_is_the_same_with_the_key_to_it() -> None:
    kept = Kept(encrypted=True)
    assert kept.body is not None
    assert b"long" not in kept.body + b"".join(kept.blobs.values())
    assert kept.document(ENVELOPE) == Kept().document()


def test_an_entry_that_is_no_exchange_is_its_facts() -> None:
    assert Kept(kind=Kind.ACCESS).document() == {**SHORT, "kind": "access"}


def test_an_exchange_without_a_body_says_so() -> None:
    kept = Kept()
    kept.body = None
    assert kept.removed() == "its content was removed from the store"
    draft = Draft(Kind.EXCHANGE, "x1", "s1", 1700000000250000, FACTS)
    kept.head = read_head(Chain("r.0.1", 7).seal(draft)[0].head)
    assert kept.removed() == "only these facts of it were recorded"


def test_a_body_that_is_not_the_one_recorded_is_not_shown() -> None:
    kept = Kept()
    assert kept.body is not None
    kept.body = kept.body.replace(b"completed", b"denied")
    assert "not what was recorded" in kept.removed()


def test_a_body_of_another_exchange_is_not_shown() -> None:
    kept = Kept()
    kept.head = msgspec.structs.replace(kept.head, id="x2")
    assert "another exchange" in kept.document()["removed"]


def test_parts_that_are_gone_or_changed_are_told() -> None:
    kept = Kept()
    place, data = kept.blobs.popitem()
    assert kept.removed() == f"1 of its parts are not in the store, the first is {place[1]}"
    kept.blobs[place] = data.replace(b"long", b"evil")
    assert kept.removed() == f"the blob {place[1]} has other bytes than its address says"


def test_an_erased_data_key_is_told() -> None:
    kept = Kept(encrypted=True)
    kept.keys.clear()
    assert "was erased" in kept.removed(ENVELOPE)
    assert "was erased" in kept.removed()


def test_a_missing_or_a_wrong_key_encryption_key_is_told() -> None:
    kept = Kept(encrypted=True)
    assert kept.removed() == "its content is encrypted, and the key to it is not configured here"
    other = WrappingKey(b"O" * 32)
    why = kept.removed(Envelope(other.wrap, other.unwrap, lambda size: b"R" * size))
    assert why.startswith("data key k1 of session s1 cannot be opened: ")


def test_a_data_key_that_is_another_sessions_is_told() -> None:
    kept = Kept(encrypted=True)
    other = Envelope(MASTER.wrap, MASTER.unwrap, lambda size: b"Q" * size).new_key("s2", "k1")
    kept.keys["s1", "k1"] = WrappedKey("k1", "s1", other.wrapped)
    assert "cannot be opened" in kept.removed(ENVELOPE)


def test_a_store_that_is_away_is_not_taken_for_content_that_is_gone() -> None:
    kept = Kept()

    def away(session: str, addresses: Collection[str]) -> dict[str, bytes]:
        raise StoreUnavailable("away")

    with pytest.raises(StoreUnavailable, match="away"):
        document(kept.head, kept.body, blobs=away, key=lambda *_: None, envelope=None)
