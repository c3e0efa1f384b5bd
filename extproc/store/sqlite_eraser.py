"""Remove by rule from the SQLite file: the one program that its triggers let do so."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from extproc.errors import StoreUnavailable
from extproc.store.sqlite import BUSY_SECONDS, SCHEMA, connect, must_exist

_LISTED: Final = (
    "(log, idx) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:listed))"
)
_BELOW: Final = "log = :log AND idx < :below"
_ERASED: Final = """
CREATE TABLE IF NOT EXISTS erased (place INTEGER PRIMARY KEY AUTOINCREMENT, entry INTEGER NOT NULL) STRICT;
"""
"""Numbers of the entries that lost their bodies, or went: whoever has made something of them looks here."""

_NOTE: Final = "INSERT INTO erased (entry) SELECT number FROM entry WHERE {entries}"
_OF: Final = "DELETE FROM {table} WHERE entry IN (SELECT number FROM entry WHERE {entries})"


class SqliteEraser:
    """Implement the `Eraser` port over the file; what is removed is overwritten with zeros."""

    def __init__(self, path: Path, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path = must_exist(path)
        self._busy_seconds = busy_seconds

    def remove_bodies(self, entries: Sequence[tuple[str, int]]) -> int:
        """Remove the bodies of these entries, and their lines; return how many there were."""
        listed = {"listed": json.dumps(entries)}

        def remove(connection: sqlite3.Connection) -> int:
            connection.execute(_OF.format(table="lines", entries=_LISTED), listed)
            bodies = f"SELECT count(*) FROM entry WHERE body IS NOT NULL AND {_LISTED}"  # noqa: S608 - a literal above
            count: int = connection.execute(bodies, listed).fetchone()[0]
            connection.execute(_NOTE.format(entries=f"body IS NOT NULL AND {_LISTED}"), listed)
            connection.execute(f"UPDATE entry SET body = NULL WHERE {_LISTED}", listed)  # noqa: S608 - a literal above
            return count

        return self._erase(remove)

    def remove_blobs(self, session: str, addresses: Collection[str]) -> int:
        """Remove these blobs; return how many there were."""
        query = "DELETE FROM blob WHERE session = ? AND address IN (SELECT value FROM json_each(?))"
        listed = json.dumps(list(addresses))
        return self._erase(lambda connection: connection.execute(query, (session, listed)).rowcount)

    def remove_keys(self, session: str) -> int:
        """Remove the data keys of a session; return how many there were."""
        query = "DELETE FROM data_key WHERE session = ?"
        return self._erase(lambda connection: connection.execute(query, (session,)).rowcount)

    def remove_entries(self, log: str, below: int) -> int:
        """Remove the entries of a log with an index below this one; return how many there were."""
        prefix = {"log": log, "below": below}

        def remove(connection: sqlite3.Connection) -> int:
            for table in ("lines", "finding"):
                connection.execute(_OF.format(table=table, entries=_BELOW), prefix)
            connection.execute(_NOTE.format(entries=_BELOW), prefix)
            return connection.execute(f"DELETE FROM entry WHERE {_BELOW}", prefix).rowcount  # noqa: S608 - a literal above

        return self._erase(remove)

    def _erase(self, remove: Callable[[sqlite3.Connection], int]) -> int:
        try:
            with closing(connect(self._path, self._busy_seconds)) as connection:
                connection.executescript(SCHEMA + _ERASED)
                connection.execute("PRAGMA secure_delete=ON")
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("INSERT INTO erasing (run) VALUES (1)")
                count = remove(connection)
                connection.execute("DELETE FROM erasing")
                connection.execute("COMMIT")
                # What was removed also stands in the file beside the store until that is written over.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, OSError) as failure:
            raise StoreUnavailable(f"cannot remove from the store {self._path}: {failure}") from failure
        return count
