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


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One finding, with what is known of its exchange.

    `id` is the exchange and the place among the `findings` of its document. `opened_at` is in unix seconds, `at` in
    milliseconds after it. `direction` and `action` are as in `extproc.masking.finding`.
    """

    id: str
    exchange: str
    session: str
    opened_at: float
    user: str | None
    principal: str | None
    model: str | None
    repository: str | None
    rule: str
    direction: str
    where: str
    offset: int
    action: str
    at: float
    fingerprint: str


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

    def findings(
        self,
        *,
        rule: str | None = None,
        user: str | None = None,
        direction: str | None = None,
        action: str | None = None,
        session: str | None = None,
        fingerprint: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 100,
    ) -> list[FindingRow]:
        """Return the most recent findings that fit all that is given, the newest first.

        `rule` is a glob, `user` a name or an id. `since` and `until` are unix seconds and mean the opening of the
        exchange; `until` itself is not included.
        """
        ...
