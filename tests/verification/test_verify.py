from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.recording.checkpoint import Checkpoint
from extproc.recording.entry import Chain, Draft, Kind, address_of, canonical_bytes, read_head
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.prune import Prefix, Prune, encode
from extproc.store.port import Stored
from extproc.verification.fault import MAX_FAULTS, FaultKind, Report
from extproc.verification.verify import verify
from tests.recording.ledgers import LOG, NAME, NOW, SIGNER, STRANGER, MemoryLedger, Writer, honest_log

OTHER = "pod-2.0.1"

Told = tuple[FaultKind, int | None, int | None]


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger()


@pytest.fixture
def log(ledger: MemoryLedger) -> Writer:
    """20 entries, signed after every 5, all of them by the witness as well."""
    return honest_log(ledger)


def run(ledger: MemoryLedger, witnessed: Sequence[str] = (), **more: Any) -> Report:
    return verify(ledger, [SIGNER.public], witnessed, **{"now": NOW + 1.0, "max_silence": 900.0, **more})


def told(report: Report) -> list[Told]:
    return [(fault.kind, fault.first, fault.last) for fault in report.faults]


def rehashed(rows: Sequence[Stored], start: int, **facts: Any) -> list[Stored]:
    """Return a log whose entry at `start` says something else, and all after it follow on that."""
    changed: list[Stored] = []
    for row in rows:
        head = read_head(row.head)
        if row.index == start:
            head = msgspec.structs.replace(head, facts={**head.facts, **facts})
        elif row.index > start:
            head = msgspec.structs.replace(head, prev=changed[-1].hash)
        canonical = canonical_bytes(head)
        changed.append(dataclasses.replace(row, head=canonical, hash=address_of(canonical)))
    return changed


def with_head(row: Stored, **changes: Any) -> dict[str, Any]:
    canonical = canonical_bytes(msgspec.structs.replace(read_head(row.head), **changes))
    return {"head": canonical, "hash": address_of(canonical)}


# --- honest logs ------------------------------------------------------------------------------------------------------


def test_an_honest_log_is_proven_to_its_last_checkpoint(ledger: MemoryLedger, log: Writer) -> None:
    log.exchanges(3)
    report = run(ledger, log.witnessed)
    assert report.is_good
    assert report.warnings == []
    (one,) = report.logs
    assert (one.log, one.entries, one.proven, one.pending, one.checkpoints) == (LOG, 23, 20, 3, 5)
    assert (one.closed, one.last_at) == (False, NOW)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_any_honest_log_is_good_wherever_it_was_signed(signed_after: list[int]) -> None:
    ledger = MemoryLedger()
    writer = Writer(ledger)
    for count in signed_after:
        writer.exchanges(count)
        writer.checkpoint()
    writer.close()
    assert run(ledger, writer.witnessed).is_good
    assert run(ledger).logs[0].proven == sum(signed_after) + 1


def test_a_log_that_only_a_witness_was_told_of_is_proven_by_it(ledger: MemoryLedger, log: Writer) -> None:
    ledger.notes.clear()
    assert run(ledger, log.witnessed).is_good
    assert run(ledger, log.witnessed).logs[0].proven == 20


def test_entries_before_the_first_checkpoint_are_pending_for_a_while(ledger: MemoryLedger) -> None:
    Writer(ledger).exchanges(3)
    report = run(ledger, now=NOW - 900.0)
    assert report.is_good
    assert (report.logs[0].proven, report.logs[0].pending) == (0, 3)


def test_a_log_that_fell_silent_is_warned_of_but_is_no_fault(ledger: MemoryLedger, log: Writer) -> None:
    report = run(ledger, log.witnessed, now=NOW + 901.0)
    assert report.is_good
    assert [(one.kind, one.log) for one in report.warnings] == [(FaultKind.STALE, LOG)]


def test_a_log_that_was_closed_may_be_silent_for_ever(ledger: MemoryLedger, log: Writer) -> None:
    log.close()
    report = run(ledger, log.witnessed, now=NOW + 1e9)
    assert report.is_good
    assert report.warnings == []


def test_only_the_logs_that_are_named_are_reported(ledger: MemoryLedger, log: Writer) -> None:
    honest_log(ledger, OTHER)
    ledger.remove(3, log=OTHER)
    assert run(ledger, logs=[LOG]).is_good
    assert [one.log for one in run(ledger, logs=[LOG]).logs] == [LOG]
    assert told(run(ledger, logs=[OTHER])) == [(FaultKind.REMOVED, 3, 3)]


def test_progress_is_told_while_it_reads(ledger: MemoryLedger) -> None:
    writer = Writer(ledger)
    writer.exchanges(4096)
    writer.checkpoint()
    heard: list[int] = []
    assert run(ledger, progress=heard.append).is_good
    assert heard == [4096]


# --- one table of what can be done to a log ---------------------------------------------------------------------------


def edit_the_head(ledger: MemoryLedger) -> None:
    ledger.change(7, head=with_head(ledger.at(7), at=1)["head"])


def edit_the_hash(ledger: MemoryLedger) -> None:
    ledger.change(7, hash="0" * 64)


def edit_and_hash_anew(ledger: MemoryLedger) -> None:
    ledger.change(7, **with_head(ledger.at(7), facts={"user": "mallory"}))


def edit_the_first_proven_link(ledger: MemoryLedger) -> None:
    ledger.change(10, **with_head(ledger.at(10), facts={"user": "mallory"}))


def edit_the_last_and_hash_anew(ledger: MemoryLedger) -> None:
    ledger.change(19, **with_head(ledger.at(19), facts={"user": "mallory"}))


def rehash_everything_after(ledger: MemoryLedger) -> None:
    ledger.rows = rehashed(ledger.rows, 7, user="mallory")


def put_blanks_into_the_head(ledger: MemoryLedger) -> None:
    head = ledger.at(7).head.replace(b'":', b'": ', 1)
    ledger.change(7, head=head, hash=address_of(head))


def break_the_head(ledger: MemoryLedger) -> None:
    ledger.change(7, head=b"{", hash=address_of(b"{"))


def edit_the_body(ledger: MemoryLedger) -> None:
    ledger.change(7, body=b'{"opening":{},"closing":{}}')


def swap_bodies(ledger: MemoryLedger) -> None:
    first, second = ledger.at(3).body, ledger.at(12).body
    ledger.change(3, body=second)
    ledger.change(12, body=first)


def remove_a_body(ledger: MemoryLedger) -> None:
    ledger.change(7, body=None)


def remove_a_blob(ledger: MemoryLedger) -> None:
    del ledger.parts["s1", read_head(ledger.at(7).head).blobs[0]]


def edit_a_blob(ledger: MemoryLedger) -> None:
    ledger.parts["s1", read_head(ledger.at(7).head).blobs[0]] = b"forged"


def remove_entries(ledger: MemoryLedger) -> None:
    ledger.remove(7, 8, 9)


def remove_the_first(ledger: MemoryLedger) -> None:
    ledger.remove(0)


def remove_and_close_the_gap(ledger: MemoryLedger) -> None:
    ledger.remove(7)
    ledger.rows = [dataclasses.replace(row, index=row.index - (row.index > 7)) for row in ledger.rows]


def swap_two(ledger: MemoryLedger) -> None:
    first, second = ledger.at(3), ledger.at(12)
    ledger.remove(3, 12)
    ledger.rows += [dataclasses.replace(first, index=12), dataclasses.replace(second, index=3)]


def swap_the_last_two(ledger: MemoryLedger) -> None:
    first, second = ledger.at(18), ledger.at(19)
    ledger.remove(18, 19)
    ledger.rows += [dataclasses.replace(first, index=19), dataclasses.replace(second, index=18)]


def truncate(ledger: MemoryLedger) -> None:
    ledger.remove(17, 18, 19)


def remove_the_log(ledger: MemoryLedger) -> None:
    ledger.rows = []


def insert_between(ledger: MemoryLedger) -> None:
    forged = with_head(ledger.at(7), id="forged", prev=ledger.at(6).hash)
    ledger.rows = [dataclasses.replace(row, index=row.index + (row.index >= 7)) for row in ledger.rows]
    ledger.rows.append(Stored(LOG, 7, **forged, body=ledger.at(8).body))


def insert_two_and_later_one(ledger: MemoryLedger) -> None:
    for place in (7, 7, 14):
        row = ledger.at(place)
        forged = with_head(row, id=f"forged {place} {len(ledger.rows)}", index=place)
        ledger.rows = [dataclasses.replace(one, index=one.index + (one.index >= place)) for one in ledger.rows]
        ledger.rows.append(Stored(LOG, place, **forged, body=row.body))


def copy_over_another(ledger: MemoryLedger) -> None:
    copied = dataclasses.replace(ledger.at(3), index=7)
    ledger.remove(7)
    ledger.rows.append(copied)


def keep_two_at_one_index(ledger: MemoryLedger) -> None:
    ledger.rows.append(Stored(LOG, 7, **with_head(ledger.at(7), id="forged"), body=ledger.at(7).body))


def move_from_another_log(ledger: MemoryLedger) -> None:
    honest_log(ledger, OTHER, entries=5)
    ledger.change(7, **{name: getattr(ledger.at(2, OTHER), name) for name in ("head", "hash", "body")})
    ledger.rows = [row for row in ledger.rows if row.log == LOG]
    ledger.notes.pop(OTHER)


def put_one_far_after_all(ledger: MemoryLedger) -> None:
    row = ledger.at(7)
    ledger.rows.append(Stored(LOG, 1 << 62, **with_head(row, index=1 << 62, id="forged"), body=row.body))


def give_a_body_to_one_without(ledger: MemoryLedger) -> None:
    ledger.change(7, **with_head(ledger.at(7), body=None, size=0))


K = FaultKind
TAMPERED: list[tuple[Callable[[MemoryLedger], None], list[Told], str]] = [
    (edit_the_head, [(K.EDITED, 7, 7)], "its head was changed"),
    (edit_the_hash, [(K.EDITED, 7, 7)], "the entry itself is as it was recorded"),
    (edit_and_hash_anew, [(K.EDITED, 7, 7)], "entry 8 follows on another than this"),
    (edit_the_first_proven_link, [(K.EDITED, 10, 10)], "entry 11 follows on another than this"),
    (edit_the_last_and_hash_anew, [(K.REWRITTEN, 15, 19)], "not the ones that were signed"),
    (rehash_everything_after, [(K.REWRITTEN, 5, 9)], "checkpoint of 10 entries"),
    (put_blanks_into_the_head, [(K.EDITED, 7, 7), (K.EDITED, 7, 7)], "not in canonical form"),
    (break_the_head, [(K.EDITED, 7, 7)], "cannot be read"),
    (edit_the_body, [(K.EDITED, 7, 7)], "its body was changed"),
    (swap_bodies, [(K.REORDERED, 3, 3), (K.REORDERED, 12, 12)], "its body is that of entry 12"),
    (remove_a_body, [(K.REMOVED, 7, 7)], "its body is missing, and no prune record says why"),
    (remove_a_blob, [(K.REMOVED, 7, 7)], "of its body is missing"),
    (edit_a_blob, [(K.EDITED, 7, 7)], "of its body was changed"),
    (remove_entries, [(K.REMOVED, 7, 9)], "missing, and no prune record says why"),
    (remove_the_first, [(K.REMOVED, 0, 0)], "missing, and no prune record says why"),
    (remove_and_close_the_gap, [(K.REMOVED, 7, 7)], "moved into its place"),
    (swap_two, [(K.REORDERED, 3, 3), (K.REORDERED, 12, 12)], "it is entry 12"),
    (swap_the_last_two, [(K.REORDERED, 18, 18), (K.REORDERED, 19, 19)], "it is entry 19"),
    (truncate, [(K.TRUNCATED, 17, 19)], "the last that is left is entry 16"),
    (remove_the_log, [(K.TRUNCATED, 0, 19)], "all its entries are gone"),
    (insert_between, [(K.INSERTED, 7, 7)], "it does not belong here"),
    (
        insert_two_and_later_one,
        [(K.INSERTED, 7, 7), (K.INSERTED, 8, 8), (K.INSERTED, 14, 14)],
        "it does not belong here",
    ),
    (copy_over_another, [(K.REORDERED, 7, 7), (K.INSERTED, 7, 7)], "it is entry 3"),
    (keep_two_at_one_index, [(K.INSERTED, 7, 7)], "more than one entry"),
    (put_one_far_after_all, [(K.REMOVED, 20, (1 << 62) - 1)], "missing"),
    (move_from_another_log, [(K.REORDERED, 7, 7)], f"it is entry 2 of log {OTHER}"),
    (give_a_body_to_one_without, [(K.EDITED, 7, 7), (K.INSERTED, 7, 7)], "entry 8 follows on another than this"),
]


@pytest.mark.parametrize(("tamper", "expected", "words"), TAMPERED, ids=[one[0].__name__ for one in TAMPERED])
def test_tampering_is_named_with_its_place(
    ledger: MemoryLedger, log: Writer, tamper: Callable[[MemoryLedger], None], expected: list[Told], words: str
) -> None:
    tamper(ledger)
    with_witness, without = run(ledger, log.witnessed), run(ledger)
    assert told(with_witness) == told(without) == expected
    assert words in with_witness.faults[0].what
    assert not with_witness.is_good


def test_an_entry_before_the_first_was_put_in(ledger: MemoryLedger, log: Writer) -> None:
    class Whole(MemoryLedger):
        def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
            return super().entries(log, start or -1, bodies=bodies)

    whole = Whole(ledger.rows, ledger.notes, ledger.parts)
    assert run(whole).is_good
    whole.rows.append(dataclasses.replace(whole.at(7), index=-1))
    assert told(run(whole)) == [(K.INSERTED, -1, -1)]


def test_a_fault_says_which_exchange_and_when(ledger: MemoryLedger, log: Writer) -> None:
    edit_the_body(ledger)
    (fault,) = run(ledger).faults
    head = read_head(ledger.at(7).head)
    assert (fault.log, fault.exchange, fault.session, fault.at) == (LOG, head.id, "s1", head.at)


def test_what_comes_after_tampering_is_not_called_proven(ledger: MemoryLedger, log: Writer) -> None:
    edit_and_hash_anew(ledger)
    assert run(ledger).logs[0].proven == 5


def test_an_edited_hash_leaves_the_entries_proven(ledger: MemoryLedger, log: Writer) -> None:
    edit_the_hash(ledger)
    assert run(ledger).logs[0].proven == 20


@given(st.integers(0, 19), st.integers(0, 10_000), st.integers(1, 255))
def test_no_byte_of_a_head_or_a_body_can_be_changed_unseen(index: int, place: int, flip: int) -> None:
    ledger = MemoryLedger()
    honest_log(ledger)
    for name in ("head", "body"):
        changed = bytearray(getattr(ledger.at(index), name))
        changed[place % len(changed)] ^= flip
        copy = MemoryLedger(list(ledger.rows), ledger.notes, ledger.parts)
        changes: dict[str, Any] = {name: bytes(changed)}
        copy.change(index, **changes)
        report = run(copy)
        assert {(fault.first, fault.last) for fault in report.faults} == {(index, index)}


@given(st.sets(st.integers(0, 19), min_size=1))
def test_any_entries_that_are_removed_are_named(gone: set[int]) -> None:
    ledger = MemoryLedger()
    honest_log(ledger)
    ledger.remove(*gone)
    report = run(ledger)
    named = [index for one in report.faults for index in range(one.first or 0, (one.last or 0) + 1)]
    assert sorted(named) == sorted(gone)
    assert {fault.kind for fault in report.faults} <= {K.REMOVED, K.TRUNCATED}


@given(st.permutations(range(8)))
def test_any_other_order_is_named_as_such(order: list[int]) -> None:
    ledger = MemoryLedger()
    honest_log(ledger, entries=8, every=8)
    ledger.rows = [dataclasses.replace(ledger.at(was), index=index) for index, was in enumerate(order)]
    report = run(ledger)
    moved = {index for index, was in enumerate(order) if index != was}
    assert {fault.kind for fault in report.faults} <= {K.REORDERED}
    assert {index for one in report.faults for index in range(one.first or 0, (one.last or 0) + 1)} == moved


def test_faults_beyond_the_bound_are_counted(ledger: MemoryLedger) -> None:
    writer = Writer(ledger)
    writer.exchanges(MAX_FAULTS + 500)
    writer.checkpoint()
    ledger.rows = [dataclasses.replace(row, body=b"{}") for row in ledger.rows]
    report = run(ledger)
    assert (len(report.faults), report.more) == (MAX_FAULTS, 500)


# --- checkpoints and witnesses ----------------------------------------------------------------------------------------


def test_an_end_that_left_the_store_with_its_checkpoints_shows_by_the_witness(
    ledger: MemoryLedger, log: Writer
) -> None:
    ledger.remove(*range(10, 20))
    ledger.notes[LOG] = {size: note for size, note in ledger.notes[LOG].items() if size <= 10}
    assert run(ledger).is_good
    report = run(ledger, log.witnessed)
    assert told(report) == [(K.TRUNCATED, 10, 19)]
    assert "a witness has" in report.faults[0].what


def test_an_old_copy_of_the_whole_store_shows_by_the_witness(ledger: MemoryLedger, log: Writer) -> None:
    later = honest_log(ledger, OTHER)
    ledger.rows = [row for row in ledger.rows if row.log == LOG and row.index < 15]
    ledger.notes = {LOG: {15: ledger.notes[LOG][15]}}
    report = run(ledger, [*log.witnessed, *later.witnessed])
    assert [(one.log, one.kind, one.first, one.last) for one in report.faults] == [
        (LOG, K.TRUNCATED, 15, 19),
        (OTHER, K.TRUNCATED, 0, 19),
    ]


def test_a_log_that_was_rewritten_and_signed_again_is_a_fork_to_the_witness(ledger: MemoryLedger, log: Writer) -> None:
    ledger.rows = rehashed(ledger.rows, 7, user="mallory")
    ledger.notes[LOG] = signed_anew(ledger.rows, SIGNER)
    assert run(ledger).is_good
    report = run(ledger, log.witnessed)
    assert told(report) == [(K.FORKED, 5, 9)]
    assert "two histories of the log were signed" in report.faults[0].what
    assert "2 more like this" in report.faults[0].what


def test_a_checkpoint_of_another_size_contradicts_too(ledger: MemoryLedger, log: Writer) -> None:
    ledger.rows = rehashed(ledger.rows, 7, user="mallory")
    ledger.notes[LOG] = {20: signed_anew(ledger.rows, SIGNER)[20]}
    report = run(ledger, log.witnessed[:4])
    assert told(report) == [(K.FORKED, 5, 9)]


def test_checkpoints_of_another_key_prove_nothing(ledger: MemoryLedger, log: Writer) -> None:
    ledger.rows = rehashed(ledger.rows, 7, user="mallory")
    ledger.notes[LOG] = signed_anew(ledger.rows, STRANGER)
    report = run(ledger)
    assert [fault.kind for fault in report.faults] == [K.UNSIGNED] * 4
    assert report.logs[0].proven == 0
    assert (K.REWRITTEN, 5, 9) in told(run(ledger, log.witnessed))


def test_a_checkpoint_that_was_edited_is_unsigned(ledger: MemoryLedger, log: Writer) -> None:
    ledger.notes[LOG][20] = ledger.notes[LOG][20].replace("\n20\n", "\n19\n")
    report = run(ledger)
    assert [fault.kind for fault in report.faults] == [K.UNSIGNED]
    assert "bad signature" in report.faults[0].what


def test_a_forged_note_of_a_witness_is_a_fault_and_that_of_others_is_left_out(
    ledger: MemoryLedger, log: Writer
) -> None:
    foreign = dataclasses.replace(STRANGER, name="elsewhere")
    note = foreign.sign(Checkpoint("elsewhere/pod-9.0.1", 1, bytes(32), NOW))
    report = run(ledger, [*log.witnessed, note, "half a li"])
    assert report.is_good
    assert ["2 notes of witnesses were left out" in one.what for one in report.warnings] == [True]
    forged = log.witnessed[-1].replace("\n20\n", "\n21\n")
    assert [fault.kind for fault in run(ledger, [*log.witnessed, forged]).faults] == [K.UNSIGNED]


def test_a_log_that_nobody_signed_was_put_in(ledger: MemoryLedger, log: Writer) -> None:
    Writer(ledger, OTHER).exchanges(3)
    report = run(ledger, log.witnessed)
    assert [(one.log, one.kind, one.first, one.last) for one in report.faults] == [(OTHER, K.INSERTED, 0, 2)]


@pytest.mark.parametrize("closed_at", [(NOW + 10**9) * 1_000_000, 10**400], ids=["tomorrow", "never"])
def test_a_log_that_nobody_signed_does_not_become_honest_by_its_times(
    ledger: MemoryLedger, log: Writer, closed_at: int
) -> None:
    facts = {"user": "mallory", "closed_at": closed_at}
    Writer(ledger, OTHER).seal(Draft(Kind.EXCHANGE, "x", "s1", 1, facts, b"{}"))
    assert told(run(ledger)) == [(K.INSERTED, 0, 0)]


def test_a_time_that_no_clock_shows_is_named(ledger: MemoryLedger, log: Writer) -> None:
    head = ledger.at(7).head.replace(b'"at":', b'"at":' + b"9" * 400)
    ledger.change(7, head=head, hash=address_of(head))
    assert (K.EDITED, 7, 7) in told(run(ledger))


def test_a_checkpoint_of_another_log_is_not_taken_for_this_one(ledger: MemoryLedger, log: Writer) -> None:
    other = honest_log(ledger, OTHER, entries=5)
    ledger.notes[LOG][5] = other.witnessed[-1]
    report = run(ledger)
    assert [(one.log, one.kind) for one in report.faults] == [(LOG, K.REORDERED)]


def test_entries_after_the_end_of_a_log_were_put_in(ledger: MemoryLedger, log: Writer) -> None:
    log.close()
    log.exchanges(2)
    assert told(run(ledger, log.witnessed)) == [(K.INSERTED, 21, 22)]


def test_an_exchange_that_is_in_two_logs_is_there_once_too_often(ledger: MemoryLedger, log: Writer) -> None:
    log.exchange("the same")
    log.checkpoint()
    other = honest_log(ledger, OTHER, entries=5)
    other.exchange("the same")
    report = run(ledger, [*log.witnessed, *other.witnessed])
    assert [(one.log, one.kind, one.first) for one in report.faults] == [(OTHER, K.INSERTED, 5)]
    assert f"the other is entry 20 of log {LOG}" in report.faults[0].what


# --- what was removed by rule -----------------------------------------------------------------------------------------


def test_bodies_and_their_blobs_may_go_by_rule(ledger: MemoryLedger, log: Writer) -> None:
    for index in range(3, 9):
        for address in read_head(ledger.at(index).head).blobs:
            del ledger.parts["s1", address]
        ledger.change(index, body=None)
    other = honest_log(ledger, OTHER)
    other.prune(bodies=[(LOG, 3, 6), (LOG, 5, 9)])
    assert [fault.kind for fault in run(ledger).faults] == [K.REMOVED] * 6
    assert "no checkpoint proves that record" in run(ledger).faults[0].what
    other.checkpoint()
    report = run(ledger)
    assert report.is_good
    assert report.logs[0].bodies_pruned == 6
    assert run(ledger, logs=[LOG]).is_good


def test_a_rule_covers_no_more_than_it_says(ledger: MemoryLedger, log: Writer) -> None:
    for index in (3, 4, 5):
        ledger.change(index, body=None)
    log.prune(bodies=[(LOG, 3, 5)])
    log.checkpoint()
    assert told(run(ledger)) == [(K.REMOVED, 5, 5)]


def test_a_blob_that_another_exchange_brought_too_must_stay(ledger: MemoryLedger, log: Writer) -> None:
    other = honest_log(ledger, OTHER)
    log.exchange(parts=[b"shared"])
    other.exchange(parts=[b"shared"])
    del ledger.parts["s1", address_of(b"shared")]
    ledger.change(20, body=None)
    log.prune(bodies=[(LOG, 20, 21)])
    log.checkpoint()
    other.checkpoint()
    assert [(one.log, one.kind, one.first) for one in run(ledger).faults] == [(OTHER, K.REMOVED, 20)]


def test_a_prune_record_that_was_forged_excuses_nothing(ledger: MemoryLedger, log: Writer) -> None:
    ledger.change(3, body=None)
    log.prune(bodies=[(LOG, 0, 20)])
    report = run(ledger)
    assert told(report) == [(K.REMOVED, 3, 3)]


def test_a_data_key_may_go_by_rule_only(ledger: MemoryLedger, log: Writer) -> None:
    for session in ("s2", "s3"):
        log.exchange(session=session, key=f"key {session}")
        log.exchange(session=session, key=f"key {session}")
    log.prune(erased=["s2"])
    log.checkpoint()
    assert run(ledger).is_good
    ledger.keys.clear()
    (fault,) = run(ledger).faults
    assert (fault.kind, fault.first, fault.session) == (K.REMOVED, 22, "s3")
    assert "data key" in fault.what


def prune_prefix(ledger: MemoryLedger, *gone: int) -> Writer:
    """Return the writer of a log of 20 whose first 7 entries a record lists; these are gone."""
    writer = Writer(ledger)
    writer.exchanges(7)
    prefix = writer.prefix()
    writer.exchanges(13)
    writer.checkpoint()
    writer.prune(heads=[prefix])
    writer.checkpoint()
    ledger.remove(*gone)
    return writer


@pytest.mark.parametrize("gone", [range(7), range(4), ()], ids=str)
def test_a_beginning_may_go_by_rule_and_what_remains_is_still_proven(ledger: MemoryLedger, gone: Sequence[int]) -> None:
    writer = prune_prefix(ledger, *gone)
    report = run(ledger, writer.witnessed)
    assert report.faults == []
    assert (report.logs[0].proven, report.logs[0].pruned, report.logs[0].entries) == (21, len(gone), 21 - len(gone))


@pytest.mark.parametrize(("gone", "left"), [((6,), [(0, 5)]), ((0, 3, 5), [(1, 2), (4, 4)])], ids=str)
def test_what_is_in_the_place_of_a_beginning_that_went_and_leads_nowhere_is_named(
    ledger: MemoryLedger, gone: Sequence[int], left: list[tuple[int, int]]
) -> None:
    report = run(ledger, prune_prefix(ledger, *gone).witnessed)
    assert told(report) == [(K.INSERTED, *pair) for pair in left]


def put_in_the_place_of(ledger: MemoryLedger, *drafts: Draft) -> None:
    """Put made-up entries where a beginning went by rule, from entry 1 on."""
    chain = Chain(LOG, 1, "ab" * 32)
    for index, draft in enumerate(drafts, 1):
        sealed, chain = chain.seal(draft)
        ledger.rows.append(Stored(LOG, index, sealed.head, sealed.hash, sealed.body))


def test_exchanges_that_were_put_into_the_place_of_a_beginning_are_named(ledger: MemoryLedger) -> None:
    writer = prune_prefix(ledger, *range(7))
    put_in_the_place_of(ledger, *(Draft(Kind.EXCHANGE, f"made up {n}", "s1", 1, {}, b"{}") for n in range(2)))
    assert told(run(ledger, writer.witnessed)) == [(K.INSERTED, 1, 2)]


def test_a_hash_that_was_made_up_leads_from_the_place_of_a_beginning_to_nothing(ledger: MemoryLedger) -> None:
    last = prune_prefix(ledger, *range(6)).sealed[6].hash
    sealed, _ = Chain(LOG, 6, "ab" * 32).seal(Draft(Kind.EXCHANGE, "made up", "s1", 1, {}, b"{}"))
    ledger.change(6, head=sealed.head, hash=last, body=sealed.body)
    report = run(ledger)
    assert told(report) == [(K.INSERTED, 6, 6), (K.EDITED, 6, 6)]
    assert "its head was changed" in report.faults[1].what


def test_a_prune_record_in_the_place_of_a_beginning_excuses_nothing(ledger: MemoryLedger) -> None:
    writer, other = prune_prefix(ledger, *range(7)), honest_log(ledger, OTHER)
    ledger.change(4, OTHER, body=None)
    body = encode(Prune(rule="r", by="mallory", at=1, bodies=[(OTHER, 0, 20)]))
    put_in_the_place_of(ledger, Draft(Kind.PRUNE, "made up", "retention", 1, {}, body))
    report = run(ledger, [*writer.witnessed, *other.witnessed])
    assert [(one.kind, one.log, one.first) for one in report.faults] == [(K.INSERTED, LOG, 1), (K.REMOVED, OTHER, 4)]


def test_what_remains_is_compared_however_many_records_and_leftovers_there_are(ledger: MemoryLedger) -> None:
    """With entries put back in front, a wrong record was taken, and no entry behind it was compared with a root."""
    writer = Writer(ledger)
    writer.exchanges(5)
    prefixes, put_back = [writer.prefix()], ledger.rows[:3]
    writer.exchanges(5)
    prefixes.append(writer.prefix())
    writer.exchanges(10)
    writer.checkpoint()
    for name, prefix in zip(("retention.1", "retention.2"), prefixes, strict=True):
        run_of_it = Writer(ledger, name)
        run_of_it.prune(heads=[prefix])
        run_of_it.close()
    ledger.remove(*range(10))
    assert run(ledger).is_good
    ledger.rows += put_back
    assert told(run(ledger)) == [(K.INSERTED, 0, 2)]
    later = [row for row in ledger.rows if row.log == LOG and row.index >= 10]
    ledger.rows = [row for row in ledger.rows if row not in later] + rehashed(later, 14, user="mallory")
    assert {fault.kind for fault in run(ledger).faults} == {K.INSERTED, K.REWRITTEN}


def test_more_than_the_beginning_that_the_rule_names_is_missed(ledger: MemoryLedger) -> None:
    writer = Writer(ledger)
    writer.exchanges(7)
    prefix = writer.prefix()
    writer.exchanges(13)
    writer.checkpoint()
    ledger.remove(*range(9))
    other = honest_log(ledger, OTHER)
    other.prune(heads=[prefix])
    other.checkpoint()
    assert told(run(ledger)) == [(K.REMOVED, 7, 8)]


def test_a_record_in_a_log_that_is_broken_itself_excuses_nothing(ledger: MemoryLedger) -> None:
    prune_prefix(ledger, *range(9))
    report = run(ledger)
    assert told(report) == [(K.REMOVED, 0, 8)]
    assert "no checkpoint proves that record" in report.faults[0].what


def test_tampering_after_a_beginning_that_went_by_rule_is_found(ledger: MemoryLedger) -> None:
    writer = prune_prefix(ledger, *range(7))
    ledger.rows = rehashed(ledger.rows, 9, user="mallory")
    # Whoever rewrites the log does the same with the hash that the record names.
    report = run(ledger, writer.witnessed)
    assert K.REWRITTEN in {fault.kind for fault in report.faults}
    assert report.logs[0].proven == 0


def test_a_frontier_that_was_made_up_leads_to_no_signed_root(ledger: MemoryLedger) -> None:
    writer = Writer(ledger)
    writer.exchanges(20)
    writer.checkpoint()
    writer.prune(heads=[Prefix(LOG, 7, ["00" * 32] * 3, ledger.at(6).hash)])
    ledger.remove(*range(7))
    report = run(ledger, writer.witnessed)
    assert (K.REMOVED, 0, 6) in told(report)
    assert report.logs[0].proven == 0


def test_a_closed_log_may_go_whole(ledger: MemoryLedger, log: Writer) -> None:
    log.close()
    prefix = log.prefix()
    ledger.remove(*range(prefix.below))
    assert told(run(ledger)) == [(K.TRUNCATED, 0, 20)]
    other = honest_log(ledger, OTHER)
    other.prune(heads=[prefix])
    other.checkpoint()
    report = run(ledger, [*log.witnessed, *other.witnessed])
    assert report.is_good
    assert [(one.log, one.entries, one.proven, one.pruned) for one in report.logs] == [
        (LOG, 0, 21, 21),
        (OTHER, 21, 21, 0),
    ]


def test_a_prune_record_that_cannot_be_read_is_named(ledger: MemoryLedger, log: Writer) -> None:
    log.seal(Draft(Kind.PRUNE, "p", "retention", NOW, {}, b"?"))
    log.checkpoint()
    assert told(run(ledger)) == [(K.EDITED, 20, 20)]


# --- helpers ----------------------------------------------------------------------------------------------------------


def signed_anew(rows: Sequence[Stored], signer: Any) -> dict[int, str]:
    frontier, notes = Frontier(), {}
    for row in rows:
        frontier.append(leaf_hash(row.head))
        if frontier.size % 5 == 0:
            notes[frontier.size] = signer.sign(Checkpoint(f"{NAME}/{LOG}", frontier.size, frontier.root(), NOW))
    return notes
