"""Write entries into the SQLite file: one transaction a call, in a thread of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import msgspec

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Blob, Kind, Sealed, WrappedKey, read_head
from extproc.store import sqlite_findings
from extproc.store.port import Conflict
from extproc.store.sqlite import BUSY_SECONDS, SCHEMA, connect

_ENTRY = "INSERT INTO entry (log, idx, hash, head, body) VALUES (?,?,?,?,?) ON CONFLICT DO NOTHING"


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
    different += [f"blob {one.address} of session {one.session}" for one in blobs if not _put_blob(connection, one)]
    different += [name for one in entries if (name := _put_entry(connection, one)) is not None]
    return different


def _put_key(connection: sqlite3.Connection, key: WrappedKey) -> bool:
    """Insert a data key; return False if there is a different one."""
    query = "INSERT INTO data_key (session, id, wrapped) VALUES (?,?,?) ON CONFLICT DO NOTHING"
    if connection.execute(query, (key.session, key.id, key.wrapped)).rowcount:
        return True
    query = "SELECT wrapped = ? FROM data_key WHERE session = ? AND id = ?"
    return bool(connection.execute(query, (key.wrapped, key.session, key.id)).fetchone()[0])


def _put_blob(connection: sqlite3.Connection, blob: Blob) -> bool:
    """Insert a blob; return False if there is a different one."""
    query = "INSERT INTO blob (session, address, data) VALUES (?,?,?) ON CONFLICT DO NOTHING"
    if connection.execute(query, (blob.session, blob.address, blob.data)).rowcount:
        return True
    query = "SELECT data = ? FROM blob WHERE session = ? AND address = ?"
    return bool(connection.execute(query, (blob.data, blob.session, blob.address)).fetchone()[0])


def _put_entry(connection: sqlite3.Connection, entry: Sealed) -> str | None:
    """Insert an entry; return its name if something different is in its place."""
    head = read_head(entry.head)
    inserted = connection.execute(_ENTRY, (head.log, head.index, entry.hash, entry.head, entry.body))
    if not inserted.rowcount:
        same = connection.execute("SELECT hash FROM entry WHERE log = ? AND idx = ?", (head.log, head.index)).fetchone()
        if same is None:
            return f"entry {head.index} of log {head.log}: there is another entry of exchange {head.id}"
        return None if same[0] == entry.hash else f"entry {head.index} of log {head.log}"
    if head.kind is Kind.EXCHANGE and head.facts.get("findings"):
        sqlite_findings.insert(connection, inserted.lastrowid, head)
    if entry.lines:
        row = (inserted.lastrowid, msgspec.json.encode(entry.lines))
        connection.execute("INSERT INTO lines (entry, fingerprints) VALUES (?,?)", row)
    return None


def _put_checkpoint(connection: sqlite3.Connection, log: str, size: int, note: str) -> list[str]:
    query = "INSERT INTO checkpoint (log, size, note) VALUES (?,?,?) ON CONFLICT DO NOTHING"
    if connection.execute(query, (log, size, note)).rowcount:
        return []
    query = "SELECT note = ? FROM checkpoint WHERE log = ? AND size = ?"
    same = connection.execute(query, (note, log, size)).fetchone()[0]
    return [] if same else [f"checkpoint {size} of log {log}"]
