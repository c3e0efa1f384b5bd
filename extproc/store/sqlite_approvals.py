"""Approvals in SQLite: an append-only table of events, from which everything else follows."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextlib import closing as closing_context
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from extproc.approval.approval import (
    Approval,
    Request,
    Scope,
    State,
    Verdict,
    VerdictRefusal,
    decide,
    granted_scope,
)
from extproc.approval.event import Event, Kind, View, decided, fold, requested
from extproc.errors import StoreUnavailable
from extproc.store.alive import alive, hold, lock_file, remove_dead
from extproc.store.approvals_port import Ending
from extproc.store.sqlite import BUSY_SECONDS, connect, must_exist

T = TypeVar("T")

MAX_GRANTED: Final = 100

# `number` is the order of commits, by which every process learns what is new. `requester` and `rule` are those of the
# request; `scope` stands only where a verdict granted more than once. The first index makes it impossible to end twice.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS approval_event (
  number INTEGER PRIMARY KEY, approval TEXT NOT NULL, sequence INTEGER NOT NULL, kind TEXT NOT NULL,
  state TEXT NOT NULL, at REAL NOT NULL, who TEXT, name TEXT, address TEXT, instance TEXT NOT NULL,
  requester TEXT NOT NULL, rule TEXT NOT NULL, scope TEXT, document TEXT, UNIQUE (approval, sequence)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS approval_end ON approval_event (approval)
  WHERE kind IN ('verdict', 'ended') AND state <> 'pending';
CREATE INDEX IF NOT EXISTS approval_request ON approval_event (at) WHERE kind = 'requested';
CREATE INDEX IF NOT EXISTS approval_grant ON approval_event (requester, rule, number) WHERE scope IS NOT NULL;
CREATE TRIGGER IF NOT EXISTS approval_event_stays BEFORE UPDATE ON approval_event
  BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS approval_event_remains BEFORE DELETE ON approval_event
  BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""

_IS_PENDING = """NOT EXISTS (
  SELECT 1 FROM approval_event e WHERE e.approval = r.approval AND e.kind IN ('verdict', 'ended')
  AND e.state <> 'pending')"""

_FILTERS = {
    "user": "(r.requester = :user OR r.name = :user)",
    "groups": """EXISTS (SELECT 1 FROM json_each(r.document, '$.rule.approvers')
      WHERE value IN (SELECT value FROM json_each(:groups)))""",
    "state": """EXISTS (
      SELECT 1 FROM approval_event e WHERE e.approval = r.approval AND e.kind IN ('verdict', 'ended')
      AND e.state <> 'pending' AND e.state = :state)""",
}

_GRANTED = """
SELECT g.approval FROM approval_event g JOIN approval_event r ON r.approval = g.approval AND r.kind = 'requested'
WHERE g.requester = ? AND g.rule = ? AND g.scope IS NOT NULL
  AND (g.scope = 'window' OR json_extract(r.document, '$.session') = ?)
ORDER BY g.number DESC LIMIT ?
"""


class SqliteApprovals:
    """Implement the `Approvals` port over one SQLite file.

    `instance` names this process in what it requests, and a file that it keeps locked for as long as it lives, by which
    others know that; without one nothing can be requested, and the file must exist. Opening closes as interrupted what
    dead processes left pending (`interrupted` counts them). Writing and reading have a thread and a connection each, so
    that a store which somebody keeps locked delays no reader.
    """

    def __init__(self, path: Path, *, instance: str | None, now: float, busy_seconds: float = BUSY_SECONDS) -> None:
        if instance is None:
            must_exist(path)
        self._instance = instance
        self._closed = False
        with ExitStack() as undo:
            try:
                self._writing = undo.enter_context(closing_context(connect(path, busy_seconds)))
                if instance is not None:
                    undo.enter_context(hold(lock_file(path, instance)))
                self._reading = undo.enter_context(closing_context(connect(path, busy_seconds)))
                self._writing.executescript(_SCHEMA)
                self.interrupted = _close_orphans(self._writing, path, now)
                remove_dead(path)
            except (sqlite3.Error, OSError) as failure:
                raise StoreUnavailable(f"cannot open the approvals of {path}: {failure}") from failure
            self._held = undo.pop_all()
        self._writer = ThreadPoolExecutor(1, "sqlite-approvals-writer")
        self._reader = ThreadPoolExecutor(1, "sqlite-approvals-reader")

    # --- what exchanges wait for -------------------------------------------------------------------------------------

    async def request(self, request: Request) -> None:
        """Begin an approval; see the port for the contract."""
        instance = self._instance
        if instance is None:
            raise StoreUnavailable("approvals are requested by a process that serves")
        await self._write(lambda connection: _append(connection, requested(request), request, instance))

    async def end(self, approval_id: str, state: Ending, at: float) -> Approval | None:
        """End a pending approval; return how it ended."""
        return await self._write(lambda connection: _end(connection, approval_id, state, at))

    async def granted(self, principal: str, rule_id: str, session: str) -> list[Approval]:
        """Return what was approved for more than once, the newest first."""
        parameters = (principal, rule_id, session, MAX_GRANTED)
        return await self._read(lambda connection: _approvals(connection, connection.execute(_GRANTED, parameters)))

    async def ended(self, after: str | None) -> tuple[str, list[str]]:
        """Return the ids of the approvals that ended after a cursor, and the next cursor."""
        return await self._read(lambda connection: _ended(connection, after))

    # --- answering ---------------------------------------------------------------------------------------------------

    async def verdict(self, approval_id: str, verdict: Verdict, groups: frozenset[str]) -> Approval | VerdictRefusal:
        """Add a verdict if it is accepted."""
        return await self._write(lambda connection: _verdict(connection, approval_id, verdict, groups))

    async def viewed(self, approval_id: str, view: View) -> Approval | None:
        """Write down that somebody looks at an approval, and return it."""
        return await self._write(lambda connection: _viewed(connection, approval_id, view))

    async def get(self, approval_id: str) -> Approval | None:
        """Return an approval as it stands."""
        return await self._read(lambda connection: fold(_events(connection, approval_id)))

    async def events(self, approval_id: str) -> list[Event]:
        """Return all that happened to an approval, in order."""
        return await self._read(lambda connection: _events(connection, approval_id))

    async def newest(
        self,
        *,
        state: State | None = None,
        approver_groups: frozenset[str] | None = None,
        user: str | None = None,
        limit: int = 100,
    ) -> list[Approval]:
        """Return the newest approvals that fit all that is given."""
        groups = None if approver_groups is None else json.dumps(sorted(approver_groups))
        wanted = {"user": user, "groups": groups, "state": state}
        return await self._read(lambda connection: _newest(connection, wanted, limit))

    async def aclose(self) -> None:
        """Finish what is under way and close the file."""
        self._closed = True
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        for executor in (self._writer, self._reader):
            executor.shutdown()
        self._held.close()

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(self._writer, lambda: _in_transaction(self._writing, work))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._run(self._reader, lambda: work(self._reading))

    async def _run(self, executor: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        if self._closed:
            raise StoreUnavailable("the store of approvals is closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work)
        except (sqlite3.Error, ValueError, msgspec.MsgspecError) as failure:
            # Not only SQLite's: a text that has no UTF-8, or a row that nobody understands.
            raise StoreUnavailable(f"the store of approvals failed: {type(failure).__name__}") from failure


def _in_transaction(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T]) -> T:
    """Run reads and writes as one step: BEGIN IMMEDIATE lets no other writer in between."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _verdict(
    connection: sqlite3.Connection, approval_id: str, verdict: Verdict, groups: frozenset[str]
) -> Approval | VerdictRefusal:
    events = _events(connection, approval_id)
    result = decide(fold(events), verdict, groups, verdict.at)
    if isinstance(result, Approval):
        _append(connection, decided(result, len(events)), result.request, "", granted_scope(result))
    return result


def _end(connection: sqlite3.Connection, approval_id: str, state: Ending, at: float) -> Approval | None:
    events = _events(connection, approval_id)
    approval = fold(events)
    if approval is None or approval.state is not State.PENDING:
        return approval
    ended = Event(approval_id, len(events), Kind.ENDED, state, at)
    _append(connection, ended, approval.request)
    return fold([*events, ended])


def _viewed(connection: sqlite3.Connection, approval_id: str, view: View) -> Approval | None:
    events = _events(connection, approval_id)
    approval = fold(events)
    if approval is not None:
        sequence = len(events)
        viewed = Event(approval_id, sequence, Kind.VIEWED, approval.state, view.at, view.who, view.name, view.address)
        _append(connection, viewed, approval.request)
    return approval


def _append(
    connection: sqlite3.Connection, event: Event, request: Request, instance: str = "", scope: Scope = Scope.ONCE
) -> None:
    row = (
        *(event.approval, event.sequence, event.kind, event.state, event.at, event.who, event.name, event.address),
        *(instance, request.principal, request.rule.rule_id, None if scope is Scope.ONCE else scope),
        None if event.document is None else msgspec.json.encode(event.document).decode(),
    )
    columns = "approval, sequence, kind, state, at, who, name, address, instance, requester, rule, scope, document"
    connection.execute(f"INSERT INTO approval_event ({columns}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", row)  # noqa: S608 - a literal above


def _events(connection: sqlite3.Connection, approval_id: str) -> list[Event]:
    columns = "approval, sequence, kind, state, at, who, name, address, document"
    query = f"SELECT {columns} FROM approval_event WHERE approval = ? ORDER BY sequence"  # noqa: S608 - a literal above
    return [_event(row) for row in connection.execute(query, (approval_id,))]


def _event(row: tuple[Any, ...]) -> Event:
    approval, sequence, kind, state, at, who, name, address, document = row
    decoded: Request | Verdict | None = None
    if kind == Kind.REQUESTED:
        decoded = msgspec.json.decode(document, type=Request)
    elif kind == Kind.VERDICT:
        decoded = msgspec.json.decode(document, type=Verdict)
    return Event(approval, sequence, Kind(kind), State(state), at, who, name, address, decoded)


def _approvals(connection: sqlite3.Connection, ids: Iterable[tuple[str]]) -> list[Approval]:
    folded = [fold(_events(connection, approval_id)) for (approval_id,) in list(ids)]
    return [approval for approval in folded if approval is not None]


def _ended(connection: sqlite3.Connection, after: str | None) -> tuple[str, list[str]]:
    if after is None:
        (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM approval_event").fetchone()
        return str(last), []
    rows = connection.execute(
        "SELECT number, approval, kind IN ('verdict', 'ended') AND state <> 'pending' FROM approval_event"
        " WHERE number > ? ORDER BY number",
        (int(after),),
    ).fetchall()
    return (str(rows[-1][0]) if rows else after), [approval for _, approval, is_end in rows if is_end]


def _newest(connection: sqlite3.Connection, wanted: dict[str, str | None], limit: int) -> list[Approval]:
    given = {name: value for name, value in wanted.items() if value is not None}
    conditions = [_FILTERS[name] for name in given]
    if given.get("state") == State.PENDING:
        conditions[list(given).index("state")] = _IS_PENDING
    where = " AND ".join(["r.kind = 'requested'", *conditions])
    query = f"SELECT r.approval FROM approval_event r WHERE {where} ORDER BY r.at DESC, r.number DESC LIMIT :limit"  # noqa: S608 - the conditions are literals above
    return _approvals(connection, connection.execute(query, {**given, "limit": limit}))


def _close_orphans(connection: sqlite3.Connection, path: Path, now: float) -> int:
    """End as interrupted what dead processes left pending; return how many that were."""
    query = f"SELECT r.approval, r.instance FROM approval_event r WHERE r.kind = 'requested' AND {_IS_PENDING}"  # noqa: S608 - a literal above
    pending = connection.execute(query).fetchall()
    # The lock file of a dead process goes away with the first look at it: look once for each.
    dead = {one for one in {row[1] for row in pending} if not alive(lock_file(path, one))}
    ids = [approval for approval, instance in pending if instance in dead]

    def close(connection: sqlite3.Connection) -> int:
        # Another process that starts now may be doing the same.
        return sum(_interrupt(connection, approval_id, now) for approval_id in ids)

    return _in_transaction(connection, close) if ids else 0


def _interrupt(connection: sqlite3.Connection, approval_id: str, now: float) -> bool:
    approval = fold(_events(connection, approval_id))
    if approval is None or approval.state is not State.PENDING:
        return False
    _end(connection, approval_id, State.INTERRUPTED, now)
    return True
