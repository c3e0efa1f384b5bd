"""Walk one log from its first entry to its last: places, hashes, chain, tree and parts. Pure.

What one entry alone cannot tell (was the head edited, or the hash that is kept with it?) is decided at the end, when it
is known how far signed checkpoints prove the log. In memory is never more than a batch of entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeVar

from extproc.recording.entry import GENESIS, VERSION, Head, Kind, canonical_bytes, read_head
from extproc.recording.prune import Prefix, Prune
from extproc.recording.prune import decode as read_prune
from extproc.store.port import Ledger, Stored
from extproc.verification.fault import MAX_FAULTS, Fault, FaultKind, Faults
from extproc.verification.known_checkpoints import Signatures
from extproc.verification.parts_check import PartsCheck, fault_at
from extproc.verification.ranges import Ranges
from extproc.verification.seen import Seen
from extproc.verification.tree_check import TreeCheck

_Note = TypeVar("_Note")


@dataclass(slots=True)
class _Run:
    """Entries in a row that are kept as many places (`by`) after the one that their heads name."""

    by: int
    first: int
    last: int
    head: Head


class LogCheck:
    """Check the entries of one log, given in order, then `end`.

    `prefix` says which first entries were removed by rule. `gone` are the indexes between entries at which there is
    none; what was removed by rule is among them. `prunes` are what the log's entries say was removed, by index. Ids of
    entries are put into `seen`. The rest is read after `end`.
    """

    def __init__(
        self, log: str, ledger: Ledger, signatures: Signatures, prefix: Prefix | None = None, seen: Seen | None = None
    ) -> None:
        self.log = log
        self.signatures = signatures
        self.prefix = prefix
        self.faults = Faults()
        self.parts = PartsCheck(log, ledger)
        self.tree = TreeCheck(signatures)
        self.gone = Ranges()
        self.prunes: list[tuple[int, Prune]] = []
        self.entries = 0
        self.next = 0
        self.closed: int | None = None
        self.last: Head | None = None
        self._seen = seen
        self._resume_at = -1 if prefix is None else prefix.below
        # Where the entries in a row begin that are there although the prefix covers them.
        self._left_from: int | None = None
        # What the next entry may name as the one before it: two where it is not known which is right, None for any.
        self._prev: str | None = GENESIS
        self._prev_too = GENESIS
        self._unlike: list[tuple[int, Head]] = []
        self._unlinked: list[tuple[int, Head, Head | None]] = []
        self._runs: list[_Run] = []
        self._moved = 0
        self._breaks: list[int] = []
        self._after_closed: Fault | None = None

    def add(self, stored: Stored) -> None:
        """Check the next entry that the store has."""
        index = stored.index
        self.entries += 1
        if (index != self.next or index == self._resume_at) and not self._jump(index):
            return
        if index < self._resume_at and self._left_from is None:
            self._left_from = index
        self.next = index + 1
        self.tree.append(stored.head)
        digest = sha256(stored.head).hexdigest()
        head = self._read(index, stored.head)
        if head is None:
            self._prev = self.last = None
            return
        if digest != stored.hash:
            self._note(self._unlike, (index, head), index)
            self._prev, self._prev_too = digest, stored.hash
        elif head.index != index or head.log != self.log:
            self._misplaced(index, head)
            self._prev = None
        else:
            if head.prev not in {self._prev, self._prev_too} and self._prev is not None:
                self._note(self._unlinked, (index, head, self.last), index - 1)
            self._prev = self._prev_too = digest
        self.last = head
        if self._seen is not None:
            self._seen.add(head.id)
        is_whole = self.parts.check(index, head, stored.head, stored.body)
        if head.kind is not Kind.EXCHANGE or self.closed is not None:
            self._special(index, head, stored.body if is_whole else None)

    def end(self) -> None:
        """Find what only shows when all entries are seen."""
        if self.next <= self._resume_at:
            self._jump(self._resume_at)
        self.parts.end()
        self._judge_unlike()
        self._judge_links()
        shift = self._judge_places()
        if self._after_closed is not None:
            self.faults.add(self._after_closed)
        for fault in self.tree.faults(self.log, self._breaks):
            self.faults.add(fault)
        largest, left = self.signatures.largest, self.next - shift
        if largest is not None and largest.size > left:
            gone = "all its entries are gone" if left == 0 else f"the last that is left is entry {left - 1}"
            what = f"the end of the log is missing: {gone}, and there is {largest}"
            self.faults.add(Fault(FaultKind.TRUNCATED, self.log, what, left, largest.size - 1))

    def proves(self, index: int) -> bool:
        """Return whether a checkpoint proves an entry that did not go by rule."""
        return (0 if self.prefix is None else self.prefix.below) <= index < self.tree.proven

    def _read(self, index: int, canonical: bytes) -> Head | None:
        try:
            head = read_head(canonical)
            is_canonical = canonical_bytes(head) == canonical
        except (ValueError, RecursionError):
            self._edited(index, Fault(FaultKind.EDITED, self.log, "its head cannot be read", index, index))
            return None
        if not is_canonical or head.v != VERSION:
            what = "its head is not in canonical form" if head.v == VERSION else f"its head has version {head.v}"
            self._edited(index, fault_at(FaultKind.EDITED, self.log, index, head, what))
        return head

    def _jump(self, index: int) -> bool:
        """Go to an index that is not the next one; return whether the entry there is to be checked."""
        if index < self.next:
            what = "more than one entry is kept at this index" if index >= 0 else "no entry has such an index"
            self.faults.add(Fault(FaultKind.INSERTED, self.log, what, index, index))
            return False
        prefix = self.prefix
        if prefix is not None and self.next <= prefix.below <= index:
            self._skip(prefix.below)
            self._judge_left(is_linked=prefix.prev == self._prev)
            self.tree.resume(prefix)
            if self._prev is None:
                self._prev = self._prev_too = prefix.prev
            self._resume_at = -1
        self._skip(index)
        return True

    def _skip(self, index: int) -> None:
        if self.next < index:
            self._judge_left(is_linked=False)
            self.gone.add(self.next, index)
            self.next = index
            self.tree.lose()
            self._prev = self.last = None

    # A removal that was not finished leaves the last of what it lists, and these lead to what remains. Nothing proves
    # any others: the tree goes on behind them.
    def _judge_left(self, *, is_linked: bool) -> None:
        first, self._left_from = self._left_from, None
        if first is not None and not is_linked:
            what = "a prune record says that what was here is removed, and what is here does not lead to what follows"
            self.faults.add(Fault(FaultKind.INSERTED, self.log, what, first, self.next - 1))

    def _special(self, index: int, head: Head, body: bytes | None) -> None:
        if self.closed is not None:
            first = self.closed + 1
            what = "there are entries after the one that closed the log"
            self._after_closed = Fault(FaultKind.INSERTED, self.log, what, first, index)
        elif head.kind is Kind.CLOSED:
            self.closed = index
        if head.kind is Kind.PRUNE and body is not None:
            try:
                self.prunes.append((index, read_prune(body)))
            except (ValueError, RecursionError):
                what = "it is a prune record that cannot be read"
                self.faults.add(fault_at(FaultKind.EDITED, self.log, index, head, what))

    def _misplaced(self, index: int, head: Head) -> None:
        by = index - head.index
        if head.log != self.log:
            what = f"it is entry {head.index} of log {head.log}"
            self._edited(index, fault_at(FaultKind.REORDERED, self.log, index, head, what))
            return
        self._moved += by
        if self._runs and self._runs[-1].by == by and self._runs[-1].last == index - 1:
            self._runs[-1].last = index
        else:
            self._note(self._runs, _Run(by, index, index, head), index)
            # An entry that was put in is before what it moved.
            self._breaks.append(index - by)

    def _edited(self, index: int, fault: Fault) -> None:
        self.faults.add(fault)
        if len(self._breaks) < MAX_FAULTS:
            self._breaks.append(index)

    def _note(self, notes: list[_Note], note: _Note, index: int) -> None:
        if len(notes) < MAX_FAULTS:
            notes.append(note)
            self._breaks.append(index)
        else:
            self.faults.more += 1

    def _judge_unlike(self) -> None:
        for index, head in self._unlike:
            if self.proves(index):
                what = "the hash that is kept with it was changed; the entry itself is as it was recorded"
            else:
                what = "its head was changed: it does not have the hash that is kept with it"
            self.faults.add(fault_at(FaultKind.EDITED, self.log, index, head, what))

    def _judge_links(self) -> None:
        for index, head, before in self._unlinked:
            if index <= self.tree.proven or before is None:
                what = "it does not follow on what is before it: it was replaced, hash and all"
                self.faults.add(fault_at(FaultKind.EDITED, self.log, index, head, what))
            else:
                what = f"entry {index} follows on another than this: it was replaced, hash and all"
                self.faults.add(fault_at(FaultKind.EDITED, self.log, index - 1, before, what))

    def _judge_places(self) -> int:
        """Name what is not in its place; return by how many places the end of the log has moved."""
        shifted = self._shifted()
        before = 0
        for number, run in enumerate(self._runs):
            if number >= len(self._runs) - shifted:
                self.faults.add(_shift(self.log, run, run.by - before))
                before = run.by
            else:
                self.faults.add(_moved(self.log, run))
        return before

    # Where entries only changed places, as many moved down as up. Else the last run goes to the end of the log, and
    # each of those before it moved less.
    def _shifted(self) -> int:
        runs = self._runs
        if not runs or self._moved == 0 or runs[-1].last != self.next - 1 or abs(runs[-1].by) > _length(runs[-1]):
            return 0
        shifted = 1
        while shifted < len(runs) and 0 < runs[-shifted - 1].by / runs[-shifted].by < 1:
            shifted += 1
        return shifted


def _length(run: _Run) -> int:
    return run.last - run.first + 1


def _shift(log: str, run: _Run, by: int) -> Fault:
    if by > 0:
        what = f"it does not belong here: what was recorded here is kept from entry {run.first} on"
        return Fault(FaultKind.INSERTED, log, what, run.first - by, run.first - 1)
    what = "it is missing, and what came after it was moved into its place"
    return Fault(FaultKind.REMOVED, log, what, run.first, run.first - by - 1)


def _moved(log: str, run: _Run) -> Fault:
    if run.first == run.last:
        return fault_at(FaultKind.REORDERED, log, run.first, run.head, f"it is entry {run.first - run.by}")
    what = f"they are entries {run.first - run.by} to {run.last - run.by}"
    return Fault(FaultKind.REORDERED, log, what, run.first, run.last)
