"""What commands ask of a console in place of the local store; the console decides who may see what."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import quote

from extproc.approval.approval import Scope, State
from extproc.console.api.shapes import (
    MAX_ROWS,
    Answer,
    ApprovalDetail,
    ApprovalRow,
    Approvals,
    Findings,
    Session,
    Sessions,
    Trace,
    Traced,
)
from extproc.errors import ConfigError, ExtprocError
from extproc.remote.server import Connection, Declined, talk
from extproc.secret import Secret
from extproc.store.port import FindingRow, FindingSearch, Search, SessionRow
from extproc.tracing.trace import Range, Target

DOCUMENTS: Final = 50
"""Documents that are asked for at a time; each holds a whole conversation."""

T = TypeVar("T")
Row = TypeVar("Row")
Query = dict[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Remote:
    """The console at `url`. Every method raises Declined for what it refuses, ConfigError where it does not answer."""

    url: str
    token: Secret
    tls: ssl.SSLContext

    def sessions(self, search: Search, limit: int) -> list[SessionRow]:
        """Return sessions as `Archive.sessions` does, page by page."""
        asked = {
            "user": search.user,
            "group": search.group,
            "model": search.model,
            "outcome": search.outcome,
            "repository": search.repository,
            "path": search.path,
            "finding": search.finding,
            "session": search.session,
            "text": search.text,
        }

        async def page(api: Connection, query: Query) -> tuple[list[SessionRow], str | None]:
            found = await api.get("/sessions", Sessions, {**asked, **_span(search), **query})
            return found.sessions, found.after

        return self._talk(lambda api: _all(lambda query: page(api, query), limit))

    def documents(self, target: str) -> list[dict[str, Any]]:
        """Return the documents of a session, or that of one exchange; raises ExtprocError where there is neither."""
        return self._talk(lambda api: _documents(api, target))

    def findings(self, search: FindingSearch, limit: int) -> list[FindingRow]:
        """Return findings as `Archive.findings` does, page by page."""
        asked = {
            "rule": search.rule,
            "user": search.user,
            "direction": search.direction,
            "action": search.action,
            "session": search.session,
            "fingerprint": search.fingerprint,
        }

        async def page(api: Connection, query: Query) -> tuple[list[FindingRow], str | None]:
            found = await api.get("/findings", Findings, {**asked, **_span(search), **query})
            return found.findings, found.after

        return self._talk(lambda api: _all(lambda query: page(api, query), limit))

    def match(self, secret: bytes, limit: int) -> list[FindingRow]:
        """Return findings of a secret, which the console is told."""
        try:
            text = secret.decode()
        except UnicodeDecodeError:
            raise ConfigError("a console is asked for secrets of UTF-8 text only; ask the local store") from None

        async def page(api: Connection, query: Query) -> tuple[list[FindingRow], str | None]:
            found = await api.post("/findings/match", Findings, {"secret": text, **query})
            return found.findings, found.after

        return self._talk(lambda api: _all(lambda query: page(api, query), limit))

    def trace(self, targets: Sequence[Target], before: float | None) -> list[Range]:
        """Return the suggestions that lines come from; the console is told the lines."""
        asked = Trace(targets=list(targets), before=before)
        return self._talk(lambda api: api.post("/trace", Traced, asked)).ranges

    def approvals(self, *, state: State | None, user: str | None, limit: int) -> list[ApprovalRow]:
        """Return the newest approvals, of which the console tells at most MAX_ROWS."""
        asked: Query = {"state": state, "user": user, "limit": min(limit, MAX_ROWS)}
        return self._talk(lambda api: api.get("/approvals", Approvals, asked)).approvals

    def approval(self, approval_id: str) -> ApprovalDetail:
        """Return an approval with its proposal; that somebody looks is recorded there."""
        return self._talk(lambda api: api.get(f"/approvals/{_part(approval_id)}", ApprovalDetail))

    def answer(self, approval_id: str, *, approved: bool, reason: str, scope: Scope) -> ApprovalRow:
        """Give a verdict; return the approval as it stands then."""
        path = f"/approvals/{_part(approval_id)}/{'approve' if approved else 'deny'}"
        return self._talk(lambda api: api.post(path, ApprovalRow, Answer(reason=reason, scope=scope)))

    def receipt(self, exchange: str, *, with_body: bool) -> bytes:
        """Return the receipt of an exchange."""
        query: Query = {"body": "true"} if with_body else {}
        return self._talk(lambda api: api.raw("GET", f"/exchanges/{_part(exchange)}/receipt", query=query))

    def _talk(self, what: Callable[[Connection], Awaitable[T]]) -> T:
        return talk(self.url, self.token, self.tls, what)


async def _all(page: Callable[[Query], Awaitable[tuple[list[Row], str | None]]], limit: int) -> list[Row]:
    """Return the first `limit` rows of a list, page by page."""
    rows: list[Row] = []
    after: str | None = None
    while len(rows) < limit:
        found, after = await page({"limit": min(limit - len(rows), MAX_ROWS), "after": after})
        rows += found
        # A console that says nothing and "go on" would go on for ever.
        if after is None or not found:
            break
    return rows[:limit]


async def _documents(api: Connection, target: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        while True:
            query: Query = {"start": len(found), "limit": DOCUMENTS}
            part = await api.get(f"/sessions/{_part(target)}", Session, query)
            found += part.documents
            if not part.more or not part.documents:
                return found
    except Declined as declined:
        if declined.status != 404 or found:
            raise
    try:
        return [await api.get(f"/exchanges/{_part(target)}", dict[str, Any])]
    except Declined as declined:
        if declined.status != 404:
            raise
    raise ExtprocError(f"no session or exchange has the id {target!r}")


def _part(text: str) -> str:
    return quote(text, safe="", errors="replace")


def _span(search: Search | FindingSearch) -> Query:
    return {"since": _iso(search.since), "until": _iso(search.until)}


def _iso(at: float | None) -> str | None:
    # Before 1970 nothing was recorded, and an age may reach back to before there were years.
    return None if at is None else datetime.fromtimestamp(max(at, 0.0), UTC).isoformat()
