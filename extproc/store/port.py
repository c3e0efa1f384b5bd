"""What recording asks of a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol


class Recorder(Protocol):
    """Keep the entries of exchanges, append-only.

    An exchange has one opening and at most one closing entry; neither is ever changed. `append` returns only when the
    entries are durable (they survive a power cut), and raises `StoreUnavailable` when that is not so or not known.
    Both entries of one call become durable together. Safe for many concurrent callers on one event loop; a cancelled
    caller does not undo the write. Entries are JSON objects; the caller does not change them after the call.
    """

    async def append(self, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> None:
        """Make the entries durable."""
        ...


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One line of a session list; times in unix seconds."""

    id: str
    user: str | None
    principal: str | None
    started_at: float
    ended_at: float
    exchanges: int
    models: list[str]
    outcomes: dict[str, int]
    client: str | None


class Archive(Protocol):
    """Read what was recorded. A document merges an exchange's entries; before the second its `outcome` is `open`."""

    def sessions(self, *, user: str | None = None, limit: int = 100) -> list[SessionRow]:
        """Return the most recent sessions, the newest first."""
        ...

    def session(self, session_id: str) -> Iterator[dict[str, Any]]:
        """Yield the documents of a session in the order they were opened; nothing for an unknown one."""
        ...

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        """Return the document of an exchange."""
        ...
