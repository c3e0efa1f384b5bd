"""Read what is new in a ledger, a bounded batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from extproc.feed.cursor import Cursor
from extproc.feed.event import Event, event_of, is_closing
from extproc.store.port import Ledger

logger = logging.getLogger("extproc.feed")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is read and sent at a time at most: events, and bytes of their lines (the last one may go beyond)."""

    max_events: int = 500
    max_bytes: int = 1 << 20


@dataclass(slots=True)
class Batch:
    """What was read: the events, the cursor after them, and the log at which a limit was reached, if one was."""

    cursor: Cursor
    events: list[Event] = field(default_factory=list)
    size: int = 0
    stopped_at: str | None = None

    def is_full(self, limits: Limits) -> bool:
        """Say whether a limit is reached."""
        return len(self.events) >= limits.max_events or self.size >= limits.max_bytes


def gather(ledger: Ledger, cursor: Cursor, after: str | None, limits: Limits) -> Batch:
    """Return the next batch over all logs, beginning with the one after `after` so that none waits for ever.

    Logs that the ledger has no more are forgotten. Raises StoreUnavailable.
    """
    logs = ledger.logs()
    batch = Batch(Cursor(cursor.v, {log: cursor.next.get(log, 0) for log in logs}))
    if after is not None:
        logs = [log for log in logs if log > after] + [log for log in logs if log <= after]
    for log in logs:
        start = batch.cursor.next[log]
        for event in () if start is None else _ready(ledger, log, start):
            batch.events.append(event)
            batch.size += len(event.line) + 1
            batch.cursor.next[log] = None if is_closing(event) else event.index + 1
            if batch.is_full(limits):
                batch.stopped_at = log
                return batch
    return batch


def _ready(ledger: Ledger, log: str, start: int) -> Iterator[Event]:
    """Yield the events of a log as far as no entry can still arrive between them."""
    for stored in ledger.entries(log, start, bodies=False):
        if stored.index > start:
            if not _removed(ledger, log, start, stored.index):
                return
            fields = {"log": log, "from": start, "to": stored.index}
            logger.warning("entries were removed before they were told", extra={"fields": fields})
        event = event_of(stored)
        yield event
        if is_closing(event):
            return
        start = stored.index + 1


def _removed(ledger: Ledger, log: str, start: int, end: int) -> bool:
    """Say whether the entries from `start` to before `end`, which were not there, will not arrive any more."""
    # Entries may arrive in any order, but those below a checkpoint have arrived. Looked for again after the checkpoint:
    # they may have arrived just before it.
    if end > _checkpointed(ledger, log):
        return False
    first = next(iter(ledger.entries(log, start, bodies=False)), None)
    return first is not None and first.index >= end


def _checkpointed(ledger: Ledger, log: str) -> int:
    """Return the size of the newest checkpoint, which is the second line of its note (C2SP tlog-checkpoint), or 0."""
    notes = ledger.checkpoints(log)
    size = notes[-1].split("\n", 2)[1:2] if notes else []
    return int(size[0]) if size and size[0].isascii() and size[0].isdigit() else 0
