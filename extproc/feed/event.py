"""What the feed tells of an entry: one line of JSON."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import Any, Final

from extproc.recording.entry import Head, Kind, read_head
from extproc.store.port import Stored

UNREADABLE: Final = "unreadable"
"""The kind of an entry whose head is none: somebody altered the store, or a newer version wrote it."""

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """An entry as it is told: `line` is JSON in ASCII without a line end, `at` as in RFC 3339."""

    log: str
    index: int
    kind: str
    at: str | None
    line: bytes

    def within(self, max_bytes: int) -> bytes:
        """Return the line, or where it is longer a shorter one that says so by `"cut": true`.

        First the lists go from `facts`, then all facts, then all but what names the entry, whatever its length.
        """
        if len(self.line) <= max_bytes:
            return self.line
        told = json.loads(self.line) | {"cut": True}
        short = {name: value for name, value in (told["facts"] or {}).items() if not isinstance(value, list | dict)}
        for facts in (short, None):
            if len(line := _line(told | {"facts": facts})) <= max_bytes:
                return line
        return _line({name: told[name] for name in ("kind", "log", "index", "hash", "cut")})


def event_of(stored: Stored) -> Event:
    """Return what to tell of an entry, of kind `unreadable` where it is none; whether it is true is not asked here."""
    try:
        head = read_head(stored.head)
        at = (_EPOCH + dt.timedelta(microseconds=head.at)).isoformat(timespec="microseconds").replace("+00:00", "Z")
        return _event(stored, head, head.kind.value, at)
    except (ValueError, OverflowError, RecursionError):
        return _event(stored, None, UNREADABLE, None)


def is_closing(event: Event) -> bool:
    """Say whether its log ends with this entry."""
    return event.kind == Kind.CLOSED


def _event(stored: Stored, head: Head | None, kind: str, at: str | None) -> Event:
    told = {
        "kind": kind,
        "id": head and head.id,
        "session": head and head.session,
        "log": stored.log,
        "index": stored.index,
        "hash": stored.hash,
        "at": at,
        "facts": head and head.facts,
    }
    return Event(stored.log, stored.index, kind, at, _line(told))


# ASCII: RFC 5424 section 6.4 would have a byte order mark before anything else, which few readers of JSON expect.
def _line(told: dict[str, Any]) -> bytes:
    return json.dumps(told, separators=(",", ":")).encode("ascii")
