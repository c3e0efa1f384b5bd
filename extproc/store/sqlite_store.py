"""Write entries into the SQLite file: one transaction a call, in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Blob, Kind, Sealed, WrappedKey, read_head
from extproc.store import sqlite_findings
from extproc.store.port import Conflict
from extproc.store.sqlite import BUSY_SECONDS, SCHEMA, connect


class _Found(msgspec.Struct, gc=False):
    findings: Any = None


class _Place(msgspec.Struct, gc=False):
    """What of a head is needed to store it; reading all of it takes four times as long."""

    log: str
    index: int
    id: str
    kind: Kind
    facts: _Found


_place: Final = msgspec.json.Decoder(_Place).decode

_ENTRY: Final = "INSERT INTO entry (log, idx, hash, head, body) VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING"

_ROWS: Final = 32
"""Rows of one statement. With every statement the interpreter goes to another thread, and this one waits to have it
back: on a busy event loop for up to 5 ms."""


class SqliteStore:
    """Implement the `Store` port over one SQLite file in WAL mode with `synchronous=FULL`.

    Several processes may write the same file. It is made and opened at once or, where that fails, by the next call;
    after a failure, and when the file at `path` is another one, the next call opens it anew.
    """

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = path
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._closed = False
        self._executor = ThreadPoolExecutor(1, "sqlite-store")
        # Readers find a store from the beginning; where it cannot be opened now, the first call says so, or can.
        with suppress(sqlite3.Error, OSError):
            self._opened()

    async def put(self, entries: Sequence[Sealed], blobs: Sequence[Blob] = (), keys: Sequence[WrappedKey] = ()) -> None:
        """Take these; see the port for the contract."""
        await self._run(lambda connection: _put(connection, entries, blobs, keys))

    async def put_checkpoint(self, log: str, size: int, note: str) -> None:
        """Take a signed checkpoint of a log; see the port for the contract."""
        await self._run(lambda connection: _put_checkpoint(connection, log, size, note))

    async def aclose(self) -> None:
        """Finish what is under way and close the file."""
        self._closed = True
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self._executor.shutdown()
        self._drop()

    async def _run(self, work: Callable[[sqlite3.Connection], list[str]]) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        different = await asyncio.get_running_loop().run_in_executor(self._executor, self._write, work)
        if different:
            more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
            raise Conflict(different[0] + more)

    def _write(self, work: Callable[[sqlite3.Connection], list[str]]) -> list[str]:
        """Run `work` as one transaction; return what it returns: names of what is different in the store."""
        try:
            connection = self._opened()
            # The lock at once: two that read first could not both write afterwards.
            connection.execute("BEGIN IMMEDIATE")
            different = work(connection)
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as failure:
            self._drop()
            raise StoreUnavailable(f"the store {self._path} did not take the entries: {failure}") from failure
        except BaseException:
            self._drop()
            raise
        return different

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and self._inode == _inode(self._path):
            return self._connection
        # What is written to a file that was moved or removed is lost, though SQLite would go on with it.
        self._drop()
        connection = connect(self._path, self._busy_seconds)
        try:
            connection.executescript(SCHEMA)
        except BaseException:
            connection.close()
            raise
        self._connection, self._inode = connection, _inode(self._path)
        return connection

    def _drop(self) -> None:
        """Close the connection, which undoes what was not committed."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _put(
    connection: sqlite3.Connection, entries: Sequence[Sealed], blobs: Sequence[Blob], keys: Sequence[WrappedKey]
) -> list[str]:
    different = [f"data key {one.id} of session {one.session}" for one in keys if not _put_key(connection, one)]
    for at in range(0, len(blobs), _ROWS):
        different += _put_blobs(connection, blobs[at : at + _ROWS])
    for at in range(0, len(entries), _ROWS):
        different += _put_entries(connection, entries[at : at + _ROWS])
    return different


def _put_key(connection: sqlite3.Connection, key: WrappedKey) -> bool:
    """Insert a data key; return False if there is a different one."""
    query = "INSERT INTO data_key (session, id, wrapped) VALUES (?,?,?) ON CONFLICT DO NOTHING"
    if connection.execute(query, (key.session, key.id, key.wrapped)).rowcount:
        return True
    query = "SELECT wrapped = ? FROM data_key WHERE session = ? AND id = ?"
    return bool(connection.execute(query, (key.wrapped, key.session, key.id)).fetchone()[0])


def _put_blobs(connection: sqlite3.Connection, blobs: Sequence[Blob]) -> list[str]:
    """Insert blobs; return the names of those of which there is a different one."""
    try:
        _insert(connection, "blob (session, address, data)", [(one.session, one.address, one.data) for one in blobs])
    except sqlite3.IntegrityError:
        return [f"blob {one.address} of session {one.session}" for one in blobs if not _put_blob(connection, one)]
    return []


def _put_blob(connection: sqlite3.Connection, blob: Blob) -> bool:
    """Insert a blob; return False if there is a different one."""
    query = "INSERT INTO blob (session, address, data) VALUES (?,?,?) ON CONFLICT DO NOTHING"
    if connection.execute(query, (blob.session, blob.address, blob.data)).rowcount:
        return True
    query = "SELECT data = ? FROM blob WHERE session = ? AND address = ?"
    return bool(connection.execute(query, (blob.data, blob.session, blob.address)).fetchone()[0])


def _put_entries(connection: sqlite3.Connection, entries: Sequence[Sealed]) -> list[str]:
    """Insert entries; return the names of those in the place of which there is something different."""
    places = [_place(one.head) for one in entries]
    rows = [(at.log, at.index, one.hash, one.head, one.body) for at, one in zip(places, entries, strict=True)]
    try:
        last = _insert(connection, "entry (log, idx, hash, head, body)", rows)
    except sqlite3.IntegrityError:
        each = (_put_entry(connection, at, one) for at, one in zip(places, entries, strict=True))
        return [name for name in each if name is not None]
    # Numbers follow each other: each is one more than the highest (sqlite.org/autoinc.html, "Summary").
    _put_found(connection, range(last - len(rows) + 1, last + 1), places, entries)
    return []


def _put_entry(connection: sqlite3.Connection, place: _Place, entry: Sealed) -> str | None:
    """Insert an entry; return its name if something different is in its place."""
    inserted = connection.execute(_ENTRY, (place.log, place.index, entry.hash, entry.head, entry.body))
    if not inserted.rowcount:
        query = "SELECT hash FROM entry WHERE log = ? AND idx = ?"
        same = connection.execute(query, (place.log, place.index)).fetchone()
        if same is None:
            return f"entry {place.index} of log {place.log}: there is another entry of exchange {place.id}"
        return None if same[0] == entry.hash else f"entry {place.index} of log {place.log}"
    _put_found(connection, [inserted.lastrowid or 0], [place], [entry])
    return None


def _put_found(
    connection: sqlite3.Connection, numbers: Sequence[int], places: Sequence[_Place], entries: Sequence[Sealed]
) -> None:
    """Insert what entries are found by, which have these numbers: findings, and lines of code."""
    lines: list[tuple[int, bytes]] = []
    for number, place, entry in zip(numbers, places, entries, strict=True):
        if place.kind is Kind.EXCHANGE and place.facts.findings:
            sqlite_findings.insert(connection, number, read_head(entry.head))
        if entry.lines:
            lines.append((number, msgspec.json.encode(entry.lines)))
    if lines:
        _insert(connection, "lines (entry, fingerprints)", lines)


def _insert(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Insert at least one row, all or none, and return the number of the last."""
    marks = ",".join([f"({','.join('?' * len(rows[0]))})"] * len(rows))
    query = f"INSERT INTO {into} VALUES {marks}"  # noqa: S608 - names of ours
    return connection.execute(query, [value for row in rows for value in row]).lastrowid or 0


def _put_checkpoint(connection: sqlite3.Connection, log: str, size: int, note: str) -> list[str]:
    query = "INSERT INTO checkpoint (log, size, note) VALUES (?,?,?) ON CONFLICT DO NOTHING"
    if connection.execute(query, (log, size, note)).rowcount:
        return []
    query = "SELECT note = ? FROM checkpoint WHERE log = ? AND size = ?"
    same = connection.execute(query, (note, log, size)).fetchone()[0]
    return [] if same else [f"checkpoint {size} of log {log}"]
