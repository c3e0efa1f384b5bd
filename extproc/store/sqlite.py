"""The embedded store: one SQLite file, written with group commit by one thread, read by anyone."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import closing as closing_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec

from extproc.errors import StoreUnavailable
from extproc.recording.document import interrupted, merged
from extproc.store import sqlite_findings
from extproc.store.port import FindingRow, SessionRow

MAX_GROUP: Final = 256
"""Entries committed together at most, so that no caller waits for an endless queue."""

BUSY_SECONDS: Final = 5.0
"""How long a commit waits for another process that holds the file's lock; then what waits is refused."""

COMMIT_INTERVAL_SECONDS: Final = 0.002
"""Least time between two commits. An entry after a pause is committed at once; under load entries gather, because a
commit costs about 300 µs of CPU whatever it holds (measured: 593 µs an exchange alone, 91 µs in groups)."""

# Not WITHOUT ROWID: such a table keeps a row above a quarter page, as every document is, in an overflow page of its own
# (measured: 26.5 MB instead of 10 MB for 3,000 exchanges, and a sixth more CPU).
_SCHEMA = """
CREATE TABLE IF NOT EXISTS opening (
  id TEXT PRIMARY KEY, instance TEXT NOT NULL, session TEXT NOT NULL, opened_at REAL NOT NULL,
  principal TEXT, user TEXT, model TEXT, client TEXT, document BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS closing (
  id TEXT PRIMARY KEY REFERENCES opening (id), closed_at REAL NOT NULL, outcome TEXT NOT NULL, document BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS opening_by_session ON opening (session, opened_at);
CREATE TRIGGER IF NOT EXISTS opening_stays BEFORE UPDATE ON opening BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS opening_remains BEFORE DELETE ON opening BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS closing_stays BEFORE UPDATE ON closing BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS closing_remains BEFORE DELETE ON closing BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""

_SESSIONS = """
SELECT o.session, max(o.user), max(o.principal), min(o.opened_at),
  max(coalesce(c.closed_at, o.opened_at)), count(*), json_group_array(DISTINCT o.model), max(o.client),
  json_group_array(coalesce(c.outcome, 'open'))
FROM opening o LEFT JOIN closing c USING (id) {where} GROUP BY o.session ORDER BY max(o.opened_at) DESC LIMIT ?
"""


@dataclass(slots=True)
class _Write:
    opening: dict[str, Any] | None
    closing: dict[str, Any] | None
    done: asyncio.Future[None]


class SqliteRecorder:
    """Implement the `Recorder` port over one SQLite file in WAL mode with `synchronous=FULL`.

    A thread of its own commits everything that waits, together: one disk flush serves many exchanges. Several processes
    may write the same file; each holds a lock on a file named by its `instance` for as long as it lives, by which a
    later start knows whose open exchanges will never be closed and closes them as interrupted.
    """

    def __init__(self, path: Path, *, instance: str, now: float, busy_seconds: float = BUSY_SECONDS) -> None:
        self._instance = instance
        self._busy_seconds = busy_seconds
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._closed = False
        with ExitStack() as undo:
            self._open(path, now, undo)
            undo.pop_all()
        self._thread = threading.Thread(target=self._commit_forever, name="sqlite-recorder", daemon=True)
        self._thread.start()

    def _open(self, path: Path, now: float, undo: ExitStack) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Prompts are nobody else's business; SQLite gives its other files the mode of this one.
            path.touch(mode=0o600, exist_ok=True)
            self._lock = undo.enter_context(_hold(path.with_name(f"{path.name}.{self._instance}.lock")))
            self._connection = undo.enter_context(closing_context(connect(path, self._busy_seconds)))
            self._connection.executescript(_SCHEMA + sqlite_findings.SCHEMA)
            self.interrupted = _close_orphans(self._connection, path, now)
        except (sqlite3.Error, OSError) as failure:
            raise StoreUnavailable(f"cannot open the store {path}: {failure}") from failure

    async def append(self, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> None:
        """Make the entries durable; see the port for the contract."""
        if self._closed:
            raise StoreUnavailable("the store is closed")
        done = asyncio.get_running_loop().create_future()
        self._queue.put(_Write(opening, closing, done))
        # A cancelled caller leaves a cancelled future behind; the write goes on.
        await done

    async def aclose(self) -> None:
        """Commit what waits and close the file."""
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._thread.join()
        self._connection.close()
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()

    def _commit_forever(self) -> None:
        next_commit = 0.0
        while True:
            first = self._queue.get()
            if first is None:
                return
            time.sleep(max(0.0, next_commit - time.monotonic()))
            next_commit = time.monotonic() + COMMIT_INTERVAL_SECONDS
            group = [first]
            stop = False
            while len(group) < MAX_GROUP and not self._queue.empty():
                following = self._queue.get()
                if following is None:
                    stop = True
                    break
                group.append(following)
            self._commit(group)
            if stop:
                return

    def _commit(self, group: list[_Write]) -> None:
        try:
            self._write_all(group)
        except Exception as failure:  # noqa: BLE001 - whatever is wrong with one entry, the thread must go on
            # A store that is locked or full is so for all of them; else one bad entry must not fail its neighbours.
            if len(group) == 1 or isinstance(failure, sqlite3.OperationalError):
                _answer(group, StoreUnavailable(f"the store did not take the entry: {type(failure).__name__}"))
                return
            for write in group:
                self._commit([write])
            return
        _answer(group, None)

    def _write_all(self, group: list[_Write]) -> None:
        openings = [_opening_row(write.opening, self._instance) for write in group if write.opening is not None]
        closings = [_closing_row(write.closing) for write in group if write.closing is not None]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany("INSERT INTO opening VALUES (?,?,?,?,?,?,?,?,?)", openings)
            self._connection.executemany("INSERT INTO closing VALUES (?,?,?,?)", closings)
            for write in group:
                if write.opening is not None:
                    sqlite_findings.insert_of_opening(self._connection, write.opening)
            for write in group:
                if write.closing is not None:
                    sqlite_findings.insert_of_closing(self._connection, write.closing)
            self._connection.execute("COMMIT")
        except Exception:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _answer(group: list[_Write], failure: StoreUnavailable | None) -> None:
    """Wake all callers of a group, with one call into each event loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
    for write in group:
        by_loop.setdefault(write.done.get_loop(), []).append(write.done)
    for loop, futures in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve, futures, failure)
        except RuntimeError:
            # The loop was closed: nobody waits any more, and the entries are as durable as they are.
            continue


def _resolve(futures: list[asyncio.Future[None]], failure: StoreUnavailable | None) -> None:
    for future in futures:
        if future.cancelled():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)


def connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Open the file for writing, so that what is committed survives a power cut; any one thread may use it."""
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _hold(path: Path) -> TextIO:
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def alive(path: Path) -> bool:
    """Say whether the process that holds this lock file still lives; remove the file if not."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _close_orphans(connection: sqlite3.Connection, path: Path, now: float) -> int:
    """Close what dead processes left open as interrupted; return how many exchanges that were."""
    open_rows = "SELECT {} FROM opening o LEFT JOIN closing c USING (id) WHERE c.id IS NULL"
    instances = {row[0] for row in connection.execute(open_rows.format("DISTINCT o.instance"))}
    dead = [one for one in instances if not alive(path.with_name(f"{path.name}.{one}.lock"))]
    closed = 0
    for instance in dead:
        ids = connection.execute(open_rows.format("o.id") + " AND o.instance = ?", (instance,)).fetchall()
        connection.execute("BEGIN IMMEDIATE")
        rows = [_closing_row(interrupted(exchange_id, now)) for (exchange_id,) in ids]
        # Another process that starts now may be doing the same.
        closed += connection.executemany("INSERT OR IGNORE INTO closing VALUES (?,?,?,?)", rows).rowcount
        connection.execute("COMMIT")
    return closed


def _opening_row(entry: dict[str, Any], instance: str) -> tuple[object, ...]:
    principal = entry["principal"] or {}
    return (
        entry["id"],
        instance,
        entry["session"],
        entry["opened_at"],
        principal.get("id"),
        principal.get("name"),
        entry["request"].get("model"),
        entry["client"].get("user_agent"),
        _encoded(entry),
    )


def _encoded(entry: dict[str, Any]) -> bytes:
    try:
        return msgspec.json.encode(entry)
    except UnicodeEncodeError:
        # Halves of characters: two that came apart become one again, one that is alone is replaced.
        text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"), default=str)
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def _closing_row(entry: dict[str, Any]) -> tuple[object, ...]:
    return entry["id"], entry["closed_at"], entry["outcome"], _encoded(entry)


class SqliteArchive:
    """Implement the `Archive` port over the same file; opens it read-only, so it works beside running writers."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StoreUnavailable(f"there is no store at {path}; has the gateway run with this state directory?")
        self._path = path

    def sessions(self, *, user: str | None = None, limit: int = 100) -> list[SessionRow]:
        """Return the most recent sessions, the newest first."""
        where = "" if user is None else "WHERE o.user = ? OR o.principal = ?"
        parameters = (limit,) if user is None else (user, user, limit)
        with closing_context(self._connect()) as connection:
            return [_session_row(row) for row in connection.execute(_SESSIONS.format(where=where), parameters)]

    def session(self, session_id: str) -> Iterator[dict[str, Any]]:
        """Yield the documents of a session in the order they were opened."""
        yield from self._documents("o.session = ? ORDER BY o.opened_at, o.id", session_id)

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        """Return the document of an exchange."""
        return next(self._documents("o.id = ?", exchange_id), None)

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
        """Return the most recent findings that fit all that is given, the newest first."""
        wanted: dict[str, object] = {"rule": rule, "user": user, "direction": direction, "action": action}
        wanted |= {"session": session, "fingerprint": fingerprint, "since": since, "until": until}
        with closing_context(self._connect()) as connection:
            try:
                return sqlite_findings.select(connection, wanted, limit)
            except sqlite3.Error as failure:
                raise StoreUnavailable(f"cannot read the findings of {self._path}: {failure}") from failure

    def _documents(self, condition: str, value: str) -> Iterator[dict[str, Any]]:
        query = f"SELECT o.document, c.document FROM opening o LEFT JOIN closing c USING (id) WHERE {condition}"  # noqa: S608 - both conditions are literals above
        with closing_context(self._connect()) as connection:
            for opening, closed in connection.execute(query, (value,)):
                yield merged(msgspec.json.decode(opening), None if closed is None else msgspec.json.decode(closed))

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
            connection.execute("SELECT 1 FROM opening LIMIT 1")
        except sqlite3.Error as failure:
            raise StoreUnavailable(f"cannot read the store {self._path}: {failure}") from failure
        return connection


def _session_row(row: tuple[Any, ...]) -> SessionRow:
    return SessionRow(
        id=row[0],
        user=row[1],
        principal=row[2],
        started_at=row[3],
        ended_at=row[4],
        exchanges=row[5],
        models=sorted(model for model in msgspec.json.decode(row[6]) if model is not None),
        outcomes=dict(Counter(msgspec.json.decode(row[8]))),
        client=row[7],
    )
