"""Read the SQLite file as evidence: what is there, as it is there. Imports nothing that writes."""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from extproc.recording.entry import WrappedKey
from extproc.store.port import Stored
from extproc.store.sqlite import explained, must_exist, open_for_reading, reading

_HEADS_PER_PAGE: Final = 500
_BODIES_PER_PAGE: Final = 50

_BEGINNING: Final = -(1 << 63)

_ENTRIES: Final = """
SELECT number, idx, head, CAST(hash AS BLOB), {body}, fingerprints FROM entry LEFT JOIN lines ON lines.entry = number
WHERE log = ? AND (idx, number) > (?, ?) ORDER BY idx, number LIMIT ?
"""


class SqliteLedger:
    """Implement the `Ledger` port over the file, opened read-only and read in pages."""

    def __init__(self, path: Path) -> None:
        self._path = must_exist(path)
        self._kept: sqlite3.Connection | None = None

    def logs(self) -> list[str]:
        """Return the names of all logs, sorted."""
        with reading(self._path) as connection:
            rows = connection.execute("SELECT log FROM entry UNION SELECT log FROM checkpoint ORDER BY log")
            return [log for (log,) in rows]

    def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
        """Yield the entries of a log from an index on; with those from 0 on also what somebody put before them."""
        query = _ENTRIES.format(body="body" if bodies else "NULL")
        size = _BODIES_PER_PAGE if bodies else _HEADS_PER_PAGE
        after = (start, _BEGINNING) if start > 0 else (_BEGINNING, _BEGINNING)
        with reading(self._path) as connection:
            while page := connection.execute(query, (log, *after, size)).fetchall():
                for _, index, *row in page:
                    yield _stored(log, index, row)
                after = (page[-1][1], page[-1][0])

    def find(self, exchange_id: str) -> Stored | None:
        """Return the entry of an exchange."""
        query = """
        SELECT log, idx, head, CAST(hash AS BLOB), body, fingerprints FROM entry LEFT JOIN lines ON lines.entry = number
        WHERE kind = 'exchange' AND id = ?
        """
        with reading(self._path) as connection:
            row = connection.execute(query, (exchange_id,)).fetchone()
        return None if row is None else _stored(row[0], row[1], row[2:])

    def checkpoints(self, log: str, *, newest: int | None = None) -> list[str]:
        """Return the signed notes of a log, the smallest size first; with `newest` the last few."""
        query = "SELECT CAST(note AS BLOB) FROM checkpoint WHERE log = ? ORDER BY size DESC LIMIT ?"
        with reading(self._path) as connection:
            # A negative limit is none.
            rows = connection.execute(query, (log, -1 if newest is None else newest)).fetchall()
        return [_text(note) for (note,) in reversed(rows)]

    def blobs(self, session: str, addresses: Collection[str]) -> dict[str, bytes]:
        """Return those of these blobs that are there."""
        with self._reading_often() as connection:
            return blobs_of(connection, session, addresses)

    def key(self, session: str, key_id: str) -> WrappedKey | None:
        """Return a data key, None where it was erased."""
        with self._reading_often() as connection:
            return key_of(connection, session, key_id)

    @contextmanager
    def _reading_often(self) -> Iterator[sqlite3.Connection]:
        """Give a connection that is kept: verifying asks for the parts of every session, and opening takes longer."""
        with explained(self._path):
            if self._kept is None:
                self._kept = open_for_reading(self._path)
                weakref.finalize(self, self._kept.close)
            yield self._kept


fingerprints_of: Final = msgspec.json.Decoder(list[str]).decode


def blobs_of(connection: sqlite3.Connection, session: str, addresses: Collection[str]) -> dict[str, bytes]:
    """Return those of these blobs of a session that are there."""
    query = "SELECT address, data FROM blob WHERE session = ? AND address IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(query, (session, json.dumps(list(addresses)))).fetchall())


def key_of(connection: sqlite3.Connection, session: str, key_id: str) -> WrappedKey | None:
    """Return a data key of a session, None where it was erased."""
    query = "SELECT wrapped FROM data_key WHERE session = ? AND id = ?"
    row = connection.execute(query, (session, key_id)).fetchone()
    return None if row is None else WrappedKey(key_id, session, row[0])


def _stored(log: str, index: int, row: Sequence[Any]) -> Stored:
    head, named, body, lines = row
    return Stored(log, index, head, _text(named), body, _lines(lines))


# Whoever altered something must not keep us from looking at all the rest: what cannot be read is only different.
def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _lines(data: bytes | None) -> list[str]:
    try:
        return [] if data is None else fingerprints_of(data)
    except msgspec.DecodeError:
        return []  # They are no evidence.
