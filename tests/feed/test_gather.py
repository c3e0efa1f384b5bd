from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.feed.cursor import Cursor
from extproc.feed.gather import Batch, Limits, gather
from extproc.recording.entry import Kind
from extproc.store.port import Stored
from tests.feed.ledger import MemoryLedger, entries_of

START = Cursor(1, {})
LIMITS = Limits()


def places(batch: Batch) -> list[tuple[str, int]]:
    return [(event.log, event.index) for event in batch.events]


def test_everything_new_is_read_in_the_order_of_each_log() -> None:
    ledger = MemoryLedger()
    ledger.put(*entries_of("a", 3), *entries_of("b", 2))
    batch = gather(ledger, Cursor(1, {"a": 1}), None, LIMITS)
    assert places(batch) == [("a", 1), ("a", 2), ("b", 0), ("b", 1)]
    assert batch.cursor.next == {"a": 3, "b": 2}
    assert batch.stopped_at is None


def test_a_log_that_was_closed_is_not_read_again() -> None:
    ledger = MemoryLedger()
    ledger.put(*entries_of("a", [Kind.EXCHANGE, Kind.CLOSED]))
    batch = gather(ledger, START, None, LIMITS)
    assert places(batch) == [("a", 0), ("a", 1)]
    assert batch.cursor.next == {"a": None}
    reads = ledger.reads
    assert places(gather(ledger, batch.cursor, None, LIMITS)) == []
    assert ledger.reads == reads


def test_a_log_that_the_ledger_has_no_more_is_forgotten() -> None:
    ledger = MemoryLedger()
    ledger.put(*entries_of("b", 1))
    batch = gather(ledger, Cursor(1, {"a": None, "b": 1}), None, LIMITS)
    assert batch.cursor.next == {"b": 1}


def test_a_batch_ends_at_its_limit_and_the_next_begins_after_that_log_so_that_none_waits_for_ever() -> None:
    ledger = MemoryLedger()
    ledger.put(*entries_of("a", 9), *entries_of("b", 2), *entries_of("c", 2))
    first = gather(ledger, START, None, Limits(max_events=3))
    assert (places(first), first.stopped_at) == ([("a", 0), ("a", 1), ("a", 2)], "a")
    second = gather(ledger, first.cursor, first.stopped_at, Limits(max_events=3))
    assert (places(second), second.stopped_at) == ([("b", 0), ("b", 1), ("c", 0)], "c")
    third = gather(ledger, second.cursor, second.stopped_at, Limits(max_events=3))
    assert (places(third), third.stopped_at) == ([("a", 3), ("a", 4), ("a", 5)], "a")


def test_a_batch_ends_where_it_has_enough_bytes() -> None:
    ledger = MemoryLedger()
    ledger.put(*entries_of("a", 5, user="x" * 400))
    batch = gather(ledger, START, None, Limits(max_bytes=1000))
    assert places(batch) == [("a", 0), ("a", 1)]


def test_an_entry_that_may_still_arrive_is_waited_for() -> None:
    ledger = MemoryLedger()
    entries = entries_of("a", 5)
    ledger.put(entries[0], entries[2], entries[4])
    ledger.checkpoint("a", 1)
    batch = gather(ledger, START, None, LIMITS)
    assert places(batch) == [("a", 0)]
    ledger.put(entries[1])
    batch = gather(ledger, batch.cursor, None, LIMITS)
    assert places(batch) == [("a", 1), ("a", 2)]
    ledger.put(entries[3])
    assert places(gather(ledger, batch.cursor, None, LIMITS)) == [("a", 3), ("a", 4)]


def test_what_is_missing_below_a_checkpoint_was_removed_and_is_passed_over_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ledger = MemoryLedger()
    entries = entries_of("a", 5)
    ledger.put(entries[2], entries[4])
    ledger.checkpoint("a", 1)
    ledger.checkpoint("a", 2)
    batch = gather(ledger, START, None, LIMITS)
    assert places(batch) == [("a", 2)]
    assert [record.__dict__["fields"] for record in caplog.records] == [{"log": "a", "from": 0, "to": 2}]


def test_an_entry_that_arrives_together_with_the_checkpoint_over_it_is_not_passed_over() -> None:
    entries = entries_of("a", 3)

    class Racing(MemoryLedger):
        def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
            yield from list(super().entries(log, start, bodies=bodies))
            self.put(entries[1])

        def checkpoints(self, log: str, *, newest: int | None = None) -> list[str]:
            self.put(entries[1])
            self.checkpoint(log, 3)
            return super().checkpoints(log, newest=newest)

    ledger = Racing()
    ledger.put(entries[0], entries[2])
    batch = gather(ledger, START, None, LIMITS)
    assert places(batch) == [("a", 0)]
    assert places(gather(ledger, batch.cursor, None, LIMITS)) == [("a", 1), ("a", 2)]


@pytest.mark.parametrize("note", ["", "x", "a\n", "a\n-3\n", "a\n٣\nroot\n"])
def test_a_note_that_is_none_says_nothing(note: str) -> None:
    ledger = MemoryLedger()
    ledger.put(entries_of("a", 2)[1])
    ledger.notes["a"] = [note]
    assert places(gather(ledger, START, None, LIMITS)) == []


def test_a_log_with_checkpoints_alone_has_nothing_to_tell() -> None:
    ledger = MemoryLedger()
    ledger.checkpoint("a", 0)
    batch = gather(ledger, START, None, LIMITS)
    assert (places(batch), batch.cursor.next) == ([], {"a": 0})


@given(
    arrival=st.permutations([(log, index) for log in "abc" for index in range(4)]),
    steps=st.lists(st.integers(0, 4), max_size=8),
    max_events=st.integers(1, 5),
)
def test_whatever_order_entries_arrive_in_each_log_is_told_whole_and_in_order(
    arrival: list[tuple[str, int]], steps: list[int], max_events: int
) -> None:
    ledger, entries = MemoryLedger(), {log: entries_of(log, 4) for log in "abc"}
    cursor, stopped, told = START, None, []
    for step in [*steps, 12, *[0] * 15]:
        for log, index in arrival[:step]:
            ledger.put(entries[log][index])
        arrival = arrival[step:]
        batch = gather(ledger, cursor, stopped, Limits(max_events=max_events))
        cursor, stopped = batch.cursor, batch.stopped_at
        told += places(batch)
    for log in "abc":
        assert [index for one, index in told if one == log] == [0, 1, 2, 3]
