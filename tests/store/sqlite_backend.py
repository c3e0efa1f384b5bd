"""SQLite for the suite over all stores, with faults that are as real as they can be made."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any, cast

from extproc.recording.envelope import Envelope
from extproc.store.port import Archive, Eraser, Ledger, Store
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_eraser import SqliteEraser
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from tests.store.conformance import Backend


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Backend]:
    """Give a backend in this folder."""
    async with AsyncExitStack() as stack:
        yield SqliteBackend(folder / "state" / "record.db", stack)


class SqliteBackend:
    def __init__(self, path: Path, stack: AsyncExitStack) -> None:
        self.path = path
        self._stack = stack

    async def store(self) -> Store:
        store = SqliteStore(self.path, busy_seconds=0.05)
        self._stack.push_async_callback(store.aclose)
        return store

    def archive(self, envelope: Envelope | None = None) -> Archive:
        return SqliteArchive(self.path, envelope)

    def ledger(self) -> Ledger:
        return SqliteLedger(self.path)

    def eraser(self) -> Eraser:
        return SqliteEraser(self.path)

    @contextmanager
    def fault(self, store: Store, name: str) -> Iterator[None]:
        assert isinstance(store, SqliteStore)
        connection = store._connection
        assert connection is not None
        with closing(sqlite3.connect(self.path, isolation_level=None)) as other:
            match name:
                case "failed before" | "failed but persisted":
                    at = "BEGIN IMMEDIATE" if name == "failed before" else "COMMIT"
                    store._connection = cast("sqlite3.Connection", _Failing(connection, at))
                case "locked":
                    other.execute("BEGIN IMMEDIATE")
                case "full":
                    connection.execute("PRAGMA max_page_count = 1")  # at least what it has
                case "read-only":
                    connection.execute("PRAGMA query_only = ON")
                case _:
                    raise AssertionError(name)
            yield


class _Failing:
    """A connection whose disk fails when a statement was run, or, at the beginning, before it is."""

    def __init__(self, connection: sqlite3.Connection, at: str) -> None:
        self._connection = connection
        self._at = at

    def execute(self, query: str, *arguments: Any) -> sqlite3.Cursor:
        if query != self._at:
            return self._connection.execute(query, *arguments)
        if query == "COMMIT":
            self._connection.execute(query)
        raise sqlite3.OperationalError("disk I/O error")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
