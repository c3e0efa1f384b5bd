from __future__ import annotations

from typing import Any

import pytest

from extproc.recording.document import merged
from extproc.recording.entry import Chain, address_of, read_head
from extproc.recording.facts import facts_of
from extproc.recording.packing import parts_of
from extproc.spool import records, sealing
from extproc.spool.records import Entry, Opened, decoded
from extproc.spool.sealing import SESSION_SECONDS, Sealer
from tests.recording_of import NOW, exchange
from tests.spool.crashing import envelope

LONG = [{"role": "user", "content": "word " * 1000}]


def record(sealer: Sealer, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> Opened | Entry:
    """Have something recorded, and say that it was written."""
    frames = sealer.begin()
    sealer.add(frames, opening, closing)
    sealer.commit(frames)
    (payload,) = frames.payloads
    found = decoded(payload)
    assert isinstance(found, Opened | Entry)
    return found


def test_an_exchange_becomes_an_entry_with_facts_lines_and_body() -> None:
    sealer = Sealer(Chain("log"), lines=lambda document: [f"line of {document['response']['text']}"])
    opening, closing = exchange("x", messages=LONG)
    opened = record(sealer, opening, None)
    assert isinstance(opened, Opened)
    assert opened.listed == [address for address, _ in opened.blobs] == [address_of(opened.blobs[0][1])]
    entry = record(sealer, None, closing)
    assert isinstance(entry, Entry)
    head = read_head(entry.head)
    assert (head.id, head.session, head.index, head.at) == ("x", "s1", 0, 1_760_000_000_000_000)
    assert head.facts == facts_of(merged(opening, closing))
    assert head.blobs == opened.listed
    assert entry.blobs == []
    assert entry.lines == ["line of Hello"]
    assert parts_of(entry.body or b"") == (opened.opening, closing)
    assert sealer.chain == Chain("log", 1, entry.hash)


def test_what_was_not_written_changed_nothing() -> None:
    sealer = Sealer(Chain("log"))
    frames = sealer.begin()
    sealer.add(frames, exchange("x", messages=LONG)[0], None)
    sealer.add(frames, *exchange("y", messages=LONG))
    assert sealer.open_count == 0
    assert sealer.chain == Chain("log")
    # What they stored first is stored first by the next.
    assert len(record(sealer, *exchange("y", messages=LONG)).blobs) == 1


def test_parts_are_stored_once_per_session() -> None:
    sealer = Sealer(Chain("log"))
    counts = [
        len(record(sealer, *exchange(f"{session}{turn}", session=session, messages=LONG)).blobs)
        for turn in range(2)
        for session in ("s1", "s2")
    ]
    assert counts == [1, 1, 0, 0]


def test_parts_are_stored_once_in_entries_that_are_written_together() -> None:
    sealer = Sealer(Chain("log"))
    frames = sealer.begin()
    for one in "abc":
        sealer.add(frames, *exchange(one, messages=LONG))
    stored = [decoded(payload) for payload in frames.payloads]
    assert [len(one.blobs) for one in stored if isinstance(one, Entry)] == [1, 0, 0]
    heads = [read_head(one.head) for one in stored if isinstance(one, Entry)]
    assert [head.prev for head in heads[1:]] == [one.hash for one in stored[:-1] if isinstance(one, Entry)]


def test_parts_of_the_session_used_longest_ago_are_forgotten_and_stored_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MAX_KNOWN", 2)
    sealer = Sealer(Chain("log"))

    def blobs(session: str) -> list[tuple[str, bytes]]:
        return record(sealer, *exchange("x", session=session, messages=LONG)).blobs

    first = blobs("s1")
    blobs("s2")
    assert blobs("s1") == []
    blobs("s3")
    assert blobs("s1") == []
    assert blobs("s2") == first
    assert sealer._known_count == sum(len(one.known) for one in sealer._sessions.values()) <= 3


def test_an_entry_that_fails_adds_nothing() -> None:
    sealer = Sealer(Chain("log"))
    frames = sealer.begin()
    for opening, closing in [(None, None), (None, exchange("unknown")[1]), (exchange("x", tools=object())[0], None)]:
        with pytest.raises((ValueError, KeyError, TypeError)):
            sealer.add(frames, opening, closing)
    opening, closing = exchange("x", messages=LONG)
    with pytest.raises(TypeError):
        sealer.add(frames, opening, {**closing, "response": {"text": object()}})
    assert (frames.payloads, frames.opened, frames.sealed, frames.chain) == ([], {}, set(), Chain("log"))
    assert not any(frames.known.values())


def test_what_is_too_long_to_be_read_back_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_FRAME_BYTES", 4000)
    sealer = Sealer(Chain("log"))
    frames = sealer.begin()
    sealer.add(frames, exchange("short")[0], None)
    for entries in [(exchange("x", messages=LONG)[0], None), exchange("x", messages=LONG)]:
        with pytest.raises(ValueError, match="longer than a frame"):
            sealer.add(frames, *entries)
    assert (len(frames.payloads), list(frames.opened)) == (1, ["short"])


def test_an_exchange_is_sealed_once() -> None:
    sealer = Sealer(Chain("log"))
    opening, closing = exchange("x")
    frames = sealer.begin()
    sealer.add(frames, opening, None)
    sealer.add(frames, None, closing)
    with pytest.raises(ValueError, match="closed already"):
        sealer.add(frames, None, closing)
    sealer.commit(frames)
    assert sealer.open_count == 0
    with pytest.raises(KeyError):
        sealer.add(sealer.begin(), None, closing)


def test_everything_of_a_session_is_encrypted_with_its_key() -> None:
    sealer = Sealer(Chain("log"), new_key=envelope(bytes(32)).new_key)
    opening, closing = exchange("x", messages=[{"role": "user", "content": "confidential " * 200}])
    opened = record(sealer, opening, None)
    assert isinstance(opened, Opened)
    placed = sealer.place("x", b"confidential piece")
    assert placed is not None
    assert placed[0] == 0
    entry = record(sealer, None, {**closing, "response": {"text": "confidential"}})
    assert isinstance(entry, Entry)
    key = sealer._sessions["s1"].key
    assert key is not None
    assert b"confidential" not in opened.opening + opened.blobs[0][1] + placed[1] + (entry.body or b"")
    assert opened.key == entry.key == (key.id, key.wrapped)
    assert read_head(entry.head).key == key.id
    assert key.reveal(placed[1]) == b"confidential piece"
    assert parts_of(key.reveal(entry.body or b""))[0] == key.reveal(opened.opening)
    assert sealer.place("x", b"late") is None


def test_a_key_that_is_made_again_has_another_name_and_what_runs_keeps_its_own() -> None:
    sealer = Sealer(Chain("log"), new_key=envelope(bytes(32)).new_key)
    opening, closing = exchange("runs", messages=LONG)
    runs = record(sealer, opening, None)
    same = record(sealer, *exchange("same", at=NOW + SESSION_SECONDS))
    again = record(sealer, *exchange("again", at=NOW + SESSION_SECONDS + 1, messages=LONG))
    ended = record(sealer, None, closing)
    assert runs.key is not None
    assert again.key is not None
    assert same.key == ended.key == runs.key
    assert runs.key[0] != again.key[0]
    # Another key makes other bytes of the same part.
    assert len(again.blobs) == 1
    assert again.blobs != runs.blobs


def test_parts_of_a_session_count_as_stored_for_a_while() -> None:
    sealer = Sealer(Chain("log"))
    times = [0.0, SESSION_SECONDS, SESSION_SECONDS + 1, SESSION_SECONDS + 2]
    stored = [record(sealer, *exchange(f"x{at}", at=NOW + at, messages=LONG)).blobs for at in times]
    assert [len(one) for one in stored] == [1, 0, 1, 0]
    assert stored[2] == stored[0]
    assert sealer._known_count == 1


def test_sessions_used_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "MAX_SESSIONS", 2)
    sealer = Sealer(Chain("log"))
    for session in ("s1", "s2", "s1", "s3"):
        record(sealer, *exchange("x", session=session, messages=LONG))
    assert list(sealer._sessions) == ["s1", "s3"]
    assert sealer._known_count == 2


def test_places_are_offsets_in_the_answer() -> None:
    sealer = Sealer(Chain("log"))
    record(sealer, exchange("x")[0], None)
    assert [sealer.place("x", piece) for piece in (b"one", b"", b"two")] == [(0, b"one"), (3, b""), (3, b"two")]


def test_a_log_is_ended_by_an_entry_of_its_own() -> None:
    sealer = Sealer(Chain("pod.0.1"))
    frames = sealer.begin()
    sealer.end(frames, NOW, "stopped")
    (entry,) = [one for payload in frames.payloads if isinstance(one := decoded(payload), Entry)]
    head = read_head(entry.head)
    assert (head.kind, head.id, head.session) == ("closed", "pod.0.1.closed", "log:pod.0.1")
    assert (head.body, entry.body, head.facts) == (None, None, {"reason": "stopped"})
