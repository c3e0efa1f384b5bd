"""The one connection that writes the search index."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from extproc.store import sqlite_index_erasing as erasing
from extproc.store.sqlite import explained
from extproc.store.sqlite_index_erasing import Erased, Trace
from extproc.store.sqlite_index_file import Broken, open_for_writing, state_of
from extproc.store.sqlite_index_writing import Entry, is_same_record, next_entries, write


class IndexWriter:
    """Keep an index up to date; raises sqlite3.Error and OSError, and `Broken` where it must be made anew."""

    def __init__(self, record: Path, path: Path, *, texts: bool) -> None:
        self._record = record
        self._texts = texts
        self._connection = open_for_writing(path, texts=texts)
        self._inode = path.stat().st_ino

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def is_at(self, path: Path) -> bool:
        """Return whether the file at a path is the one that is open: somebody may have deleted it."""
        try:
            return path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def follow(self, record: sqlite3.Connection) -> None:
        """Take out what was erased from the record, and take in what is new."""
        state = state_of(self._connection)
        with explained(self._record):
            is_same = is_same_record(record, state.number, state.hash)
        if not is_same:
            raise Broken
        place, number = state.erased, state.number
        while (erased := self._next_erased(record, place)) is not None:
            with self._transaction():
                erasing.erase(self._connection, erased)
            place = erased.place
        while batch := self._next_entries(record, number):
            with self._transaction():
                write(self._connection, batch)
            number = batch[-1].number

    def scrub_on(self) -> bool:
        """Overwrite some of what is left of what was erased; return whether there is more."""
        trace = Trace(state_of(self._connection).scrub)
        if trace is Trace.NONE:
            return False
        with self._transaction():
            trace = erasing.scrub_on(self._connection, trace)
            self._connection.execute("UPDATE state SET scrub = ?", (trace,))
        if trace is not Trace.MERGED:
            return True
        (is_busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if not is_busy:
            self._connection.execute("UPDATE state SET scrub = ?", (Trace.NONE,))
        # Somebody still reads what was there: another time.
        return False

    def _next_erased(self, record: sqlite3.Connection, place: int) -> Erased | None:
        with explained(self._record):
            return erasing.next_erased(record, place)

    def _next_entries(self, record: sqlite3.Connection, number: int) -> list[Entry]:
        with explained(self._record):
            return next_entries(record, number, texts=self._texts)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")
