"""The embedded store: one SQLite file. Here is what its users share: the tables, and how the file is opened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from extproc.errors import ConfigError, StoreUnavailable

BUSY_SECONDS: Final = 5.0
"""How long a call waits for another process that holds the file's lock; then it fails."""

# What is searched is computed from the head, so it cannot differ from what is hashed. As virtual columns they cost as
# much as ordinary ones would (measured: 35 µs an entry, all told, against 34 µs). `number` is the order of arrival.
#
# Lines are one row for each entry, in the order of arrival, and whoever searches looks through all of them. An index
# over lines cost 7 µs a line (measured) while it was small, and a read of the disk for each when it was not.
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS entry (
  number INTEGER PRIMARY KEY, log TEXT NOT NULL, idx INTEGER NOT NULL, hash TEXT NOT NULL,
  head BLOB NOT NULL, body BLOB,
  kind TEXT AS (json_extract(CAST(head AS TEXT), '$.kind')),
  id TEXT AS (json_extract(CAST(head AS TEXT), '$.id')),
  session TEXT AS (json_extract(CAST(head AS TEXT), '$.session')),
  at INTEGER AS (json_extract(CAST(head AS TEXT), '$.at')),
  user TEXT AS (json_extract(CAST(head AS TEXT), '$.facts.user')),
  principal TEXT AS (json_extract(CAST(head AS TEXT), '$.facts.principal')),
  UNIQUE (log, idx)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS entry_by_exchange ON entry (id) WHERE kind = 'exchange';
CREATE INDEX IF NOT EXISTS entry_by_session ON entry (session, at) WHERE kind = 'exchange';
CREATE INDEX IF NOT EXISTS entry_by_time ON entry (at) WHERE kind = 'exchange';
CREATE INDEX IF NOT EXISTS entry_by_user ON entry (user, at) WHERE kind = 'exchange';
CREATE INDEX IF NOT EXISTS entry_by_principal ON entry (principal, at) WHERE kind = 'exchange';
CREATE TABLE IF NOT EXISTS blob (
  session TEXT NOT NULL, address TEXT NOT NULL, data BLOB NOT NULL, UNIQUE (session, address)
) STRICT;
CREATE TABLE IF NOT EXISTS data_key (
  session TEXT NOT NULL, id TEXT NOT NULL, wrapped BLOB NOT NULL, UNIQUE (session, id)
) STRICT;
CREATE TABLE IF NOT EXISTS checkpoint (
  log TEXT NOT NULL, size INTEGER NOT NULL, note TEXT NOT NULL, UNIQUE (log, size)
) STRICT;
CREATE TABLE IF NOT EXISTS lines (entry INTEGER PRIMARY KEY, fingerprints BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS finding (
  entry INTEGER NOT NULL, position INTEGER NOT NULL, exchange TEXT NOT NULL, session TEXT NOT NULL,
  at INTEGER NOT NULL, user TEXT, principal TEXT, rule TEXT NOT NULL, direction TEXT NOT NULL, action TEXT NOT NULL,
  fingerprint TEXT NOT NULL, UNIQUE (entry, position)
) STRICT;
CREATE INDEX IF NOT EXISTS finding_by_fingerprint ON finding (fingerprint, at);
CREATE INDEX IF NOT EXISTS finding_by_time ON finding (at);
CREATE TABLE IF NOT EXISTS erasing (run INTEGER PRIMARY KEY) STRICT;
"""

# Nothing is changed, and nothing removed but by the eraser: `erasing` has a row only within its transaction, which no
# other connection ever sees. Of an entry even the eraser changes only that the body goes.
_TRIGGERS: Final = """
CREATE TRIGGER IF NOT EXISTS entry_stays BEFORE UPDATE ON entry WHEN NOT (
  EXISTS (SELECT 1 FROM erasing) AND new.body IS NULL AND new.number = old.number
  AND new.log = old.log AND new.idx = old.idx AND new.hash = old.hash AND new.head = old.head
) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS entry_remains BEFORE DELETE ON entry
  WHEN NOT EXISTS (SELECT 1 FROM erasing) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS blob_stays BEFORE UPDATE ON blob BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS blob_remains BEFORE DELETE ON blob
  WHEN NOT EXISTS (SELECT 1 FROM erasing) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS data_key_stays BEFORE UPDATE ON data_key BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS data_key_remains BEFORE DELETE ON data_key
  WHEN NOT EXISTS (SELECT 1 FROM erasing) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS lines_stays BEFORE UPDATE ON lines BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS lines_remains BEFORE DELETE ON lines
  WHEN NOT EXISTS (SELECT 1 FROM erasing) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS finding_stays BEFORE UPDATE ON finding BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS finding_remains BEFORE DELETE ON finding
  WHEN NOT EXISTS (SELECT 1 FROM erasing) BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS checkpoint_stays BEFORE UPDATE ON checkpoint
  BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS checkpoint_remains BEFORE DELETE ON checkpoint
  BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""

SCHEMA: Final = _TABLES + _TRIGGERS

_OLD: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'opening'"
"""Finds the table of exchanges of gateways before there were entries."""

_STRICT: Final = """
SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict
AND name IN ('entry', 'blob', 'data_key', 'checkpoint', 'lines', 'finding', 'erasing')
"""
"""Counts our tables in which every value is of its column's type: readers rely on that."""


def connect(path: Path, busy_seconds: float) -> sqlite3.Connection:
    """Open the file for writing, so that what is committed survives a power cut; any one thread may use it.

    Makes the file. Raises sqlite3.Error and OSError, and ConfigError for a store of an earlier development version.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Prompts are nobody else's business; SQLite gives its other files the mode of this one.
    path.touch(mode=0o600, exist_ok=True)
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        # For a new file. Rows of 3 to 6 KB leave less room unused on large pages, and are written faster (measured with
        # rows of 4.2 KB: on pages of 8 KB they take 7.0 KB of disk and 40 µs each, on these 5.4 KB and 31 µs).
        connection.execute("PRAGMA page_size=16384")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        _refuse_old(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def must_exist(path: Path) -> Path:
    """Return the path of a store that is there; raises StoreUnavailable."""
    if not path.exists():
        raise StoreUnavailable(f"there is no store at {path}; has the gateway run with this state directory?")
    return path


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file for reading only, beside running writers; what fails within is raised as StoreUnavailable.

    Whoever reads much does it in pages: a read transaction that lasts lets the file beside the store (`-wal`) grow.
    """
    with explained(path), closing(open_for_reading(path)) as connection:
        yield connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the file for reading only, for any threads; raises sqlite3.Error, and ConfigError as `connect` does."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        _refuse_old(connection, path)
        connection.execute("SELECT 1 FROM entry LIMIT 0")
        _refuse_other_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_old(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute(_OLD).fetchone() is not None:
        raise ConfigError(f"{path}: a store of an earlier development version, which is not read: move it away")


def _refuse_other_tables(connection: sqlite3.Connection) -> None:
    if connection.execute(_STRICT).fetchone()[0] != _TABLES.count("STRICT;"):
        raise sqlite3.DatabaseError("its tables are not those that the gateway made: somebody changed them")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise what fails within while the file is read as StoreUnavailable."""
    try:
        yield
    except sqlite3.Error as failure:
        raise StoreUnavailable(f"cannot read the store {path}: {failure}") from failure
    except msgspec.DecodeError as failure:
        raise StoreUnavailable(
            f"cannot read the store {path}: something in it is not as it was recorded; `extproc verify` says what"
        ) from failure
