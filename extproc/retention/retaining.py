"""Carry out the retention rules: plan, record what will be removed, remove it, record that this is done.

Each step may be the last one of a process that dies: the next run removes what earlier records list and no record calls
finished. Removing again what is gone does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from extproc.errors import ExtprocError
from extproc.recording import prune
from extproc.recording.checkpoint import PublicKey
from extproc.recording.entry import Draft, Head, Kind, read_head
from extproc.recording.facts import MAX_LISTED
from extproc.recording.prune import Prune
from extproc.retention import legal_hold
from extproc.retention.legal_hold import Hold
from extproc.retention.plan import Plan, Removed, Rules, Sessions, plan_log
from extproc.store.port import Eraser, Ledger
from extproc.verification.proven import Book, Signed, book, heads, newest

SESSION: Final = "retention"
"""Where prune records belong in a store."""

BATCH: Final = 500
"""Bodies that are removed with one call."""

QUIET_SECONDS: Final = 2 * 3600
"""How long after an exchange began no gateway uses its session's data key, or counts on the parts that the session has
stored: both are given up after an hour (`extproc.spool.sealing.SESSION_SECONDS`), and an exchange may take another."""

Record = Callable[[Sequence[Draft]], None]
"""Write entries; return only when they are in the store and below a checkpoint."""


@dataclass(slots=True)
class Done:
    """How much was removed; `held` are sessions that stay although a record lists them, as a hold came later."""

    bodies: int = 0
    blobs: int = 0
    keys: int = 0
    entries: int = 0
    held: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Retention:
    """The record, and who removes from it. `now` is in microseconds of unix time; `new_id` gives a fresh id."""

    ledger: Ledger
    keys: Sequence[PublicKey]
    now: int
    new_id: Callable[[], str]

    def holds(self) -> list[Hold]:
        """Return the holds that stand."""
        return legal_hold.active(book(self.ledger, self.keys).holds)

    def plan(self, rules: Rules) -> Plan:
        """Return what would go; raises Unproved, and BadCheckpoint, where the record is not what was signed."""
        known = book(self.ledger, self.keys)
        removed = known.removed()
        sessions = Sessions(rules, legal_hold.active(known.holds), legal_hold.placed(known.holds), self.now)
        logs = self._signed()
        for log, signed in logs:
            sessions.see(heads(self.ledger, log, signed, removed))
        plan = Plan()
        for log, signed in logs:
            plan_log(plan, heads(self.ledger, log, signed, removed), log, sessions, removed)
        return plan

    def apply(self, plan: Plan, rules: Rules, eraser: Eraser, record: Record, by: str) -> Done:
        """Remove what a plan of just now has, and what earlier runs did not finish."""
        return self._remove(list(plan.prunes(digest=rules.digest, by=by, at=self.now)), eraser, record, by)

    def erase(
        self, session: str, eraser: Eraser, record: Record, *, by: str, reason: str, in_use: bool = False
    ) -> Done:
        """Make the content of a session unreadable for good: its data keys go, and bodies that have none.

        Raises ExtprocError where the session is not known, or is held, or was used within `QUIET_SECONDS`, unless
        `in_use` says that this is meant: gateways go on with its key for a while, and refer to parts that it stored, so
        what they record then cannot be read either.
        """
        known = book(self.ledger, self.keys)
        removed, holds = known.removed(), legal_hold.active(known.holds)
        ranges: list[tuple[str, int, int]] = []
        exchanges = encrypted = 0
        for log, signed in self._signed():
            for one in heads(self.ledger, log, signed, removed):
                head = one.head
                if head.session != session or head.kind is not Kind.EXCHANGE:
                    continue
                if any(hold.covers(head) for hold in holds):
                    raise ExtprocError(f"session {session} is under legal hold: nothing of it may be removed")
                if not one.covered:
                    raise ExtprocError(f"session {session} goes on: no checkpoint covers its last exchange; try again")
                if not in_use and self.now - head.at < QUIET_SECONDS * 1_000_000:
                    raise ExtprocError(
                        f"session {session} was used less than {QUIET_SECONDS // 3600} hours ago: gateways may go on"
                        " with its data key, and refer to parts that it stored. Erase it later; or now with --in-use,"
                        " and what it says within the next hour cannot be read either"
                    )
                exchanges += 1
                encrypted += head.key is not None
                if head.key is None and head.body is not None and not removed.has_body(log, head.index):
                    ranges.append((log, head.index, head.index + 1))
        if not exchanges:
            raise ExtprocError(f"no session has the id {session!r}")
        erased = [session] if encrypted else []
        return self._remove([Prune(f"erase: {reason}", by, self.now, bodies=ranges, erased=erased)], eraser, record, by)

    def _signed(self) -> list[tuple[str, Signed | None]]:
        return [(log, newest(self.ledger, log, self.keys)) for log in self.ledger.logs()]

    def _remove(self, prunes: Iterable[Prune], eraser: Eraser, record: Record, by: str) -> Done:
        pending = [(self.new_id(), one) for one in prunes]
        if pending:
            record([_draft(entry_id, one, self.now) for entry_id, one in pending])
        # Read again: a hold may have come since the plan was made.
        known = book(self.ledger, self.keys)
        ours = {entry_id for entry_id, _ in pending}
        earlier = [one for one in _unfinished(known) if one[0] not in ours]
        removal = _Removal(self.ledger, eraser, legal_hold.active(known.holds), [*earlier, *pending])
        finished = removal.run()
        for start in range(0, len(finished), MAX_LISTED):
            names = finished[start : start + MAX_LISTED]
            nothing = prune.encode(Prune("finished", by, self.now))
            record([Draft(Kind.PRUNE, self.new_id(), SESSION, self.now, {"by": by, "finished": names}, nothing)])
        return removal.done


def _draft(entry_id: str, one: Prune, now: int) -> Draft:
    facts = {
        "rule": one.rule,
        "by": one.by,
        "bodies": sum(end - first for _, first, end in one.bodies),
        "erased": len(one.erased),
        "logs": len(one.heads),
    }
    return Draft(Kind.PRUNE, entry_id, SESSION, now, facts, prune.encode(one))


def _unfinished(known: Book) -> list[tuple[str, Prune]]:
    finished = {name for one in known.records for name in one.head.facts.get("finished") or ()}
    return [(one.head.id, one.prune) for one in known.records if one.head.id not in finished and not _empty(one.prune)]


def _empty(one: Prune) -> bool:
    return not (one.bodies or one.erased or one.heads)


class _Removal:
    """Remove what prune records list, but for what is held by now."""

    def __init__(
        self, ledger: Ledger, eraser: Eraser, holds: Sequence[Hold], pending: Sequence[tuple[str, Prune]]
    ) -> None:
        self._ledger = ledger
        self._eraser = eraser
        self._holds = holds
        self._pending = pending
        self._claimed: dict[str, set[str]] = {}
        self._held: set[str] = set()
        self.done = Done()

    def run(self) -> list[str]:
        """Remove; return the ids of the records that were carried out in full."""
        if not self._pending:
            return []
        self._look_around()
        finished = []
        for entry_id, one in self._pending:
            held = self._bodies(one), self._keys(one), self._heads(one)
            if not any(held):
                finished.append(entry_id)
        return finished

    def _look_around(self) -> None:
        """Find what is held, and which blobs of sessions that lose bodies belong to exchanges that stay."""
        for _, one in self._pending:
            self._claimed.update((head.session, set()) for head in self._listed(one))
        listed = Removed(one for _, one in self._pending)
        for log in self._ledger.logs():
            for head in self._all(log):
                if head.kind is not Kind.EXCHANGE:
                    continue
                if any(hold.covers(head) for hold in self._holds):
                    self._held.add(head.session)
                if head.session in self._claimed and not listed.has_body(log, head.index):
                    self._claimed[head.session].update(head.blobs)

    def _bodies(self, one: Prune) -> bool:
        """Remove bodies, and the blobs that came with them; return whether some are held."""
        batch: list[Head] = []
        any_held = False
        for head in self._listed(one):
            if head.session in self._held:
                self.done.held.add(head.session)
                any_held = True
                continue
            batch.append(head)
            if len(batch) == BATCH:
                self._remove_batch(batch)
                batch = []
        self._remove_batch(batch)
        return any_held

    def _remove_batch(self, batch: Sequence[Head]) -> None:
        if not batch:
            return
        self.done.bodies += self._eraser.remove_bodies([(head.log, head.index) for head in batch])
        blobs: dict[str, set[str]] = {}
        for head in batch:
            blobs.setdefault(head.session, set()).update(head.blobs)
        for session, addresses in blobs.items():
            if going := sorted(addresses - self._claimed[session]):
                self.done.blobs += self._eraser.remove_blobs(session, going)

    def _keys(self, one: Prune) -> bool:
        held = [session for session in one.erased if session in self._held]
        self.done.held.update(held)
        for session in one.erased:
            if session not in self._held:
                self.done.keys += self._eraser.remove_keys(session)
        return bool(held)

    def _heads(self, one: Prune) -> bool:
        any_held = False
        for prefix in one.heads:
            held = {head.session for head in self._all(prefix.log, prefix.below) if head.session in self._held}
            if held:
                self.done.held |= held
                any_held = True
            else:
                self.done.entries += self._eraser.remove_entries(prefix.log, prefix.below)
        return any_held

    def _listed(self, one: Prune) -> Iterator[Head]:
        """Yield the heads whose bodies a record lists, as far as they are still there."""
        listed = Removed([one])
        bounds: dict[str, tuple[int, int]] = {}
        for log, first, end in one.bodies:
            lowest, highest = bounds.get(log, (first, end))
            bounds[log] = min(lowest, first), max(highest, end)
        for log, (first, end) in bounds.items():
            yield from (head for head in self._all(log, end, first) if listed.has_body(log, head.index))

    def _all(self, log: str, below: int | None = None, start: int = 0) -> Iterator[Head]:
        for stored in self._ledger.entries(log, start, bodies=False):
            if below is not None and stored.index >= below:
                return
            yield read_head(stored.head)
