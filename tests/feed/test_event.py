from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.feed.event import event_of, is_closing
from extproc.recording.entry import Kind
from extproc.store.port import Stored
from tests.feed.ledger import AT, entries_of

FACTS = {"user": "alice", "status": 200, "code": None, "paths": ["a" * 400] * 10, "findings": [{"rule": "npm-token"}]}


def test_an_entry_is_told_by_its_head() -> None:
    (entry,) = entries_of("pod-1.0.7", 1, **FACTS)
    event = event_of(entry)
    assert json.loads(event.line) == {
        "kind": "exchange",
        "id": "pod-1.0.7-0",
        "session": "s1",
        "log": "pod-1.0.7",
        "index": 0,
        "hash": entry.hash,
        "at": "2025-10-09T08:53:20.000001Z",
        "facts": FACTS,
    }
    assert (event.log, event.index, event.kind, event.at) == ("pod-1.0.7", 0, "exchange", "2025-10-09T08:53:20.000001Z")


@given(st.dictionaries(st.text(alphabet=st.characters(codec="utf-8")), st.text(alphabet=st.characters(codec="utf-8"))))
def test_a_line_is_ascii_without_a_line_end_whatever_the_facts_are(facts: dict[str, str]) -> None:
    (entry,) = entries_of("l", 1)
    head = {**json.loads(entry.head), "facts": facts}
    line = event_of(replace(entry, head=msgspec.json.encode(head))).line
    assert line.isascii()
    assert not {10, 13} & set(line)
    assert json.loads(line)["facts"] == facts


@given(st.binary())
def test_any_bytes_for_a_head_are_told_as_unreadable(head: bytes) -> None:
    event = event_of(Stored("l", 7, head, "ab", None))
    named = {"kind": "unreadable", "log": "l", "index": 7, "hash": "ab"}
    assert json.loads(event.line) == named | dict.fromkeys(("id", "session", "at", "facts"))


@pytest.mark.parametrize("change", [{"at": 1 << 62}, {"at": "now"}, {"kind": "other"}, {"facts": []}])
def test_a_head_with_an_impossible_value_is_unreadable(change: dict[str, object]) -> None:
    (entry,) = entries_of("l", 1)
    head = msgspec.json.encode({**json.loads(entry.head), **change})
    assert event_of(replace(entry, head=head)).kind == "unreadable"


def test_facts_nested_beyond_reading_are_unreadable() -> None:
    (entry,) = entries_of("l", 1)
    deep = b'{"facts":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"," + entry.head[1:]
    assert event_of(replace(entry, head=deep)).kind == "unreadable"


@pytest.mark.parametrize(
    ("max_bytes", "expected"),
    [
        (10_000, FACTS),
        (400, {"user": "alice", "status": 200, "code": None}),
        (230, None),
    ],
)
def test_a_line_that_is_too_long_loses_lists_first_and_then_all_facts(
    max_bytes: int, expected: dict[str, object] | None
) -> None:
    (entry,) = entries_of("pod-1.0.7", 1, **FACTS)
    line = event_of(entry).within(max_bytes)
    assert len(line) <= max_bytes
    told = json.loads(line)
    assert told["facts"] == expected
    assert told.get("cut", False) is (expected is not FACTS)
    assert (told["id"], told["hash"]) == ("pod-1.0.7-0", entry.hash)


def test_however_little_room_there_is_the_entry_is_named() -> None:
    (entry,) = entries_of("pod-1.0.7", 1, **FACTS)
    told = json.loads(event_of(entry).within(0))
    assert told == {"kind": "exchange", "log": "pod-1.0.7", "index": 0, "hash": entry.hash, "cut": True}


def test_only_the_closing_entry_ends_a_log() -> None:
    events = [event_of(entry) for entry in entries_of("l", list(Kind))]
    assert [is_closing(event) for event in events] == [event.index == 4 for event in events]
    assert [event.kind for event in events] == ["exchange", "access", "prune", "legal-hold", "closed"]
    assert events[0].at == "2025-10-09T08:53:20.000001Z"
    assert AT == 1_760_000_000_000_001
