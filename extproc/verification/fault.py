"""What verification finds: faults are values. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

MAX_FAULTS: Final = 1000
"""Most faults of one log that are named; more are counted."""


class FaultKind(StrEnum):
    """What was done to the record."""

    EDITED = "edited"  # something is not what it was
    REMOVED = "removed"  # something is not there, and no prune record says why
    INSERTED = "inserted"  # something is there that was not recorded
    REORDERED = "reordered"  # something is kept in another place than its own
    TRUNCATED = "truncated"  # the end of a log is not there
    REWRITTEN = "rewritten"  # a log fits together, but is not the one that was signed
    FORKED = "forked"  # two signed checkpoints of a log contradict each other
    UNSIGNED = "unsigned"  # a checkpoint is signed by none of the keys
    STALE = "stale"  # a log has not ended and says nothing any more: a warning


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, in words: `what` is a sentence without its place.

    `first` and `last` (included) are the indexes of the entries it is about, None where it is about the log, which is
    empty where no log can be named. `exchange` and `session` are those of the entry at `first`, where it is an
    exchange's, and `at` its time in microseconds of unix time: as it is kept now.
    """

    kind: FaultKind
    log: str
    what: str
    first: int | None = None
    last: int | None = None
    exchange: str | None = None
    session: str | None = None
    at: int | None = None


@dataclass(slots=True)
class Faults:
    """Faults in the order they were found, at most `MAX_FAULTS`; `more` counts the others."""

    found: list[Fault] = field(default_factory=list)
    more: int = 0

    def add(self, fault: Fault) -> None:
        """Keep a fault, or count it."""
        if len(self.found) < MAX_FAULTS:
            self.found.append(fault)
        else:
            self.more += 1


@dataclass(frozen=True, slots=True)
class LogReport:
    """How one log stands.

    It has `entries`; all with an index below `proven` are what a signed checkpoint says. `pending` are those that no
    checkpoint covers yet, which is no fault. `checkpoints` counts the sizes with a valid one; the last was signed
    at unix second `last_at`. `pruned` counts entries that were removed by rule, heads and all, `bodies_pruned` bodies.
    """

    log: str
    entries: int
    proven: int
    pending: int
    checkpoints: int
    last_at: int | None
    closed: bool
    pruned: int
    bodies_pruned: int


@dataclass(frozen=True, slots=True)
class Report:
    """What verification found, over all logs; `more` faults were found that are not among `faults`.

    `witnessed` counts the notes of witnesses that one of the keys signed.
    """

    logs: list[LogReport]
    faults: list[Fault]
    warnings: list[Fault]
    more: int
    witnessed: int

    @property
    def is_good(self) -> bool:
        """Whether no fault was found; warnings are none."""
        return not self.faults and not self.more


def moment(at: float) -> str:
    """Return unix seconds as text."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {at:.0f}"
