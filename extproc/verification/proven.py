"""Read the heads of logs as far as signed checkpoints prove them, and what is there about removals and holds.

For those who rely on heads to remove or to export something; `extproc verify` says more about what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from extproc.errors import ExtprocError
from extproc.recording import prune
from extproc.recording.checkpoint import Checkpoint, PublicKey, open_note
from extproc.recording.entry import GENESIS, Head, Kind, address_of, read_head
from extproc.recording.merkle import Frontier, leaf_hash
from extproc.recording.prune import Prune
from extproc.retention.plan import Removed, Seen
from extproc.store.port import Ledger, Stored


class Unproved(ExtprocError):
    """Say which log is not what its checkpoints say, and where."""

    def __init__(self, log: str, why: str) -> None:
        super().__init__(f"log {log}: {why}; `extproc verify` says more")


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint, and the note that it is from."""

    note: str
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Record:
    """An entry of kind `prune`: its head, its body, and what that says."""

    head: Head
    body: bytes
    prune: Prune


@dataclass(frozen=True, slots=True)
class Book:
    """What a store has about removals, in the order in which they were recorded, and about holds."""

    records: list[Record]
    holds: list[Head]

    def removed(self) -> Removed:
        """Return what the records list."""
        return Removed(one.prune for one in self.records)


def book(ledger: Ledger, keys: Sequence[PublicKey]) -> Book:
    """Return what a store has about removals and holds.

    Whoever may write to the store could put a record there that asks for removals, or one that releases a hold: such
    entries count only where a checkpoint proves them. One that places a hold always counts. Raises Unproved for what
    cannot be understood, and where a log that has such entries is not what was signed; BadCheckpoint.
    """
    found = [(log, list(_heads_of(ledger, log, Kind.PRUNE, Kind.LEGAL_HOLD))) for log in ledger.logs()]
    records = [_record(ledger, head) for _, some in found for head in some if head.kind is Kind.PRUNE]
    records.sort(key=lambda one: (one.head.at, one.head.log, one.head.index))
    removed = Removed(one.prune for one in records)
    proved = {place for log, some in found if some for place in _proved(ledger, log, keys, removed)}
    if lost := [one.head for one in records if one.head.index < removed.frontier(one.head.log).size]:
        raise Unproved(lost[0].log, f"entry {lost[0].index} is a prune record, and another record says that it went")
    holds = [
        head
        for _, some in found
        for head in some
        if head.kind is Kind.LEGAL_HOLD and ((head.log, head.index) in proved or head.facts.get("state") == "on")
    ]
    return Book([one for one in records if (one.head.log, one.head.index) in proved], holds)


def newest(ledger: Ledger, log: str, keys: Sequence[PublicKey]) -> Signed | None:
    """Return the newest checkpoint of a log that is in the store; raises BadCheckpoint, Unproved."""
    notes = ledger.checkpoints(log)
    if not notes:
        return None
    checkpoint = open_note(notes[-1], keys)
    if checkpoint.log != log:
        raise Unproved(log, f"the checkpoint that is stored for it is of log {checkpoint.log}")
    return Signed(notes[-1], checkpoint)


def heads(ledger: Ledger, log: str, signed: Signed | None, removed: Removed) -> Iterator[Seen]:
    """Yield the entries of a log that did not go whole, proved by the checkpoint or behind it.

    What was yielded may be relied on when the iterator has ended: only then the root was compared. Raises Unproved.
    """
    frontier = removed.frontier(log)
    prefix = removed.prefixes.get(log)
    prev = GENESIS if prefix is None else prefix.prev
    size = 0 if signed is None else signed.checkpoint.size
    if size < frontier.size:
        raise Unproved(log, f"{frontier.size} entries were removed, but the newest checkpoint has only {size}")
    for stored in ledger.entries(log, frontier.size, bodies=False):
        if frontier.size == size:
            _compare_root(log, frontier, signed)
        head = _checked(stored, log, frontier.size, prev)
        frontier.append(leaf_hash(stored.head))
        prev = stored.hash
        yield Seen(head, stored.head, stored.hash, frontier.size <= size)
    if frontier.size < size:
        raise Unproved(log, f"it ends at {frontier.size} entries, and its checkpoint says {size}")
    if frontier.size == size:
        _compare_root(log, frontier, signed)


def _compare_root(log: str, frontier: Frontier, signed: Signed | None) -> None:
    if signed is not None and frontier.root() != signed.checkpoint.root:
        raise Unproved(log, f"its first {frontier.size} entries have another root than their checkpoint")


def _proved(ledger: Ledger, log: str, keys: Sequence[PublicKey], removed: Removed) -> list[tuple[str, int]]:
    """Return the places of the entries of a log that a checkpoint proves and that can be about removals or holds."""
    entries = heads(ledger, log, newest(ledger, log, keys), removed)
    return [(log, one.head.index) for one in entries if one.covered and one.head.kind is not Kind.EXCHANGE]


def _checked(stored: Stored, log: str, index: int, prev: str) -> Head:
    head = _read(stored)
    if (stored.index, head.index, head.log) != (index, index, log):
        raise Unproved(log, f"expected entry {index}, and found entry {head.index} of {head.log} at {stored.index}")
    if stored.hash != address_of(stored.head) or head.prev != prev:
        raise Unproved(log, f"entry {index} is not what it was, or does not follow the one before")
    return head


def _heads_of(ledger: Ledger, log: str, *kinds: Kind) -> Iterator[Head]:
    # A look at the bytes spares decoding nearly every head. Text cannot have these bytes, as its quotes are escaped.
    marks = [f'"kind":"{kind.value}"'.encode() for kind in kinds]
    for stored in ledger.entries(log, bodies=False):
        if any(mark in stored.head for mark in marks) and (head := _read(stored)).kind in kinds:
            yield head


def _record(ledger: Ledger, head: Head) -> Record:
    stored = next(ledger.entries(head.log, head.index), None)
    body = None if stored is None else stored.body
    if body is None or address_of(body) != head.body:
        raise Unproved(head.log, f"entry {head.index} is a prune record, and its body is gone or another one")
    try:
        return Record(head, body, prune.decode(body))
    except ValueError:
        raise Unproved(head.log, f"entry {head.index} is a prune record that cannot be understood") from None


def _read(stored: Stored) -> Head:
    try:
        return read_head(stored.head)
    except ValueError:
        raise Unproved(stored.log, f"entry {stored.index} has no head that can be read") from None
