"""The file of the search index: its tables, and how it is opened.

It is derived from the record and no evidence: it may be deleted at any time, and is then made anew.

Whatever is searched by is a small number, the id of a name, so that a look through a million exchanges takes about
60 ms (measured). `key` is the time of opening in microseconds times 1024, plus a number that tells exchanges of the
same microsecond apart: all is read in its order, the newest first. Several names together are a whole, with an id of
its own: who calls (`caller`), the paths and the rules of an exchange. No name has the id 0, which stands for none.
Exchanges of a session differ little, so a few rows of `summed` stand for all of them, however many there are.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSION: Final = "1"
BUSY_SECONDS: Final = 5.0

KEYS_PER_MICROSECOND: Final = 1024
"""Heads have times below 2^53 microseconds, and SQLite's integers have 63 bits."""

LAST_KEY: Final = (1 << 63) - 1

# Words are kept beside their index, compressed: FTS5 takes words out only of whom shows them to it again. `facts` are
# the ids of all names of the exchange, so that what is said and who said it are looked up together.
_TABLES: Final = """
CREATE TABLE state (
  version TEXT NOT NULL, number INTEGER NOT NULL, hash TEXT NOT NULL, erased INTEGER NOT NULL, scrub INTEGER NOT NULL
) STRICT;
CREATE TABLE name (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL, UNIQUE (kind, text)) STRICT;
CREATE TABLE member (whole INTEGER NOT NULL, element INTEGER NOT NULL, PRIMARY KEY (whole, element))
  STRICT, WITHOUT ROWID;
CREATE INDEX member_by_element ON member (element);
CREATE TABLE exchange (
  key INTEGER PRIMARY KEY, number INTEGER NOT NULL UNIQUE, session INTEGER NOT NULL, caller INTEGER NOT NULL,
  model INTEGER NOT NULL, repository INTEGER NOT NULL, outcome INTEGER NOT NULL, paths INTEGER, rules INTEGER,
  client INTEGER NOT NULL,
  refused INTEGER NOT NULL, took INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
  findings INTEGER NOT NULL, approvals INTEGER NOT NULL
) STRICT;
CREATE INDEX exchange_by_session ON exchange (session);
CREATE INDEX exchange_by_caller ON exchange (caller);
CREATE INDEX exchange_by_model ON exchange (model);
CREATE INDEX exchange_by_outcome ON exchange (outcome);
CREATE INDEX exchange_by_repository ON exchange (repository);
CREATE INDEX exchange_by_paths ON exchange (paths) WHERE paths IS NOT NULL;
CREATE INDEX exchange_by_rules ON exchange (rules) WHERE rules IS NOT NULL;
CREATE TABLE summed (
  session INTEGER NOT NULL, caller INTEGER NOT NULL, client INTEGER NOT NULL, model INTEGER NOT NULL,
  repository INTEGER NOT NULL, outcome INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  ended INTEGER NOT NULL, exchanges INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL,
  findings INTEGER NOT NULL, approvals INTEGER NOT NULL,
  PRIMARY KEY (session, caller, client, model, repository, outcome)
) STRICT, WITHOUT ROWID;
CREATE TABLE finding (
  key INTEGER NOT NULL, position INTEGER NOT NULL, number INTEGER NOT NULL, session INTEGER NOT NULL,
  caller INTEGER NOT NULL, rule INTEGER NOT NULL, direction INTEGER NOT NULL, action INTEGER NOT NULL,
  fingerprint INTEGER NOT NULL, PRIMARY KEY (key, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE said (key INTEGER PRIMARY KEY, text BLOB NOT NULL) STRICT;
CREATE VIRTUAL TABLE words USING fts5 (said, facts, content='', columnsize=0, tokenize='unicode61');
"""


@dataclass(frozen=True, slots=True)
class State:
    """How far the index is: the last entry of the record that was looked at, and the last number that was erased.

    `scrub` says what of it may still stand in the file: it is a `Trace` of `extproc.store.sqlite_index_erasing`.
    """

    number: int
    hash: str
    erased: int
    scrub: int


class Broken(Exception):
    """Say that the index cannot be used as it is, but can be made anew."""


def is_broken(failure: sqlite3.Error) -> bool:
    """Return whether a failure means that the file is no index, or is not there; others pass, or stay."""
    code = getattr(failure, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    # A file with other tables than ours: of somebody else, or of a version that forgot to say so.
    is_other = code == sqlite3.SQLITE_ERROR and str(failure).startswith(("no such table", "no such column"))
    return is_other or code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN}


def version_of(*, texts: bool) -> str:
    """Return the version of an index with or without what was said."""
    return f"{VERSION}{' with texts' if texts else ''}"


def open_for_writing(path: Path, *, texts: bool) -> sqlite3.Connection:
    """Open the index, or make it where there is none or another version; raises sqlite3.Error and OSError."""
    try:
        connection = _connect(path)
    except sqlite3.DatabaseError as failure:
        if not is_broken(failure):
            raise
        remove(path)
        connection = _connect(path)
    if _version(connection) != version_of(texts=texts):
        connection.close()
        remove(path)
        connection = _connect(path)
        connection.executescript(f"BEGIN; {_TABLES} COMMIT")
        connection.execute("INSERT INTO state VALUES (?, 0, '', 0, 0)", (version_of(texts=texts),))
    return connection


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the index for questions, all of which see it as it is now."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        # The cache stays small: to fill a large one takes as long as to look through all exchanges (measured).
        connection.execute("PRAGMA temp_store=MEMORY")
        connection.execute("BEGIN")
        state_of(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def state_of(connection: sqlite3.Connection) -> State:
    """Return how far an index is; raises Broken where it does not say."""
    row = connection.execute("SELECT number, hash, erased, scrub FROM state").fetchone()
    if row is None:
        raise Broken
    return State(*row)


def remove(path: Path) -> None:
    """Remove the index, and the files that SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Prompts are nobody else's business; SQLite gives its other files the mode of this one.
    path.touch(mode=0o600, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        # What a power cut takes is read from the record again.
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("PRAGMA cache_size=-65536")
    except BaseException:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> str | None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'state'").fetchone() is None:
        return None
    row = connection.execute("SELECT version FROM state").fetchone()
    return None if row is None else str(row[0])
