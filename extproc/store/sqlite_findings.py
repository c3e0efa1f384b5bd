"""Findings in SQLite: a table beside the entries that hold them, so that they can be searched."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from extproc.store.port import FindingRow

# The facts of the exchange stand in every row: a finding is searched by them, and the entries are append-only too.
SCHEMA = """
CREATE TABLE IF NOT EXISTS finding (
  exchange TEXT NOT NULL REFERENCES opening (id), position INTEGER NOT NULL, session TEXT NOT NULL,
  opened_at REAL NOT NULL, user TEXT, principal TEXT, model TEXT, repository TEXT, rule TEXT NOT NULL,
  direction TEXT NOT NULL, "where" TEXT NOT NULL, "offset" INTEGER NOT NULL, action TEXT NOT NULL, at REAL NOT NULL,
  fingerprint TEXT NOT NULL, PRIMARY KEY (exchange, position)
) STRICT;
CREATE INDEX IF NOT EXISTS finding_by_fingerprint ON finding (fingerprint, opened_at);
CREATE INDEX IF NOT EXISTS finding_by_time ON finding (opened_at);
CREATE TRIGGER IF NOT EXISTS finding_stays BEFORE UPDATE ON finding BEGIN SELECT RAISE(ABORT, 'append-only'); END;
CREATE TRIGGER IF NOT EXISTS finding_remains BEFORE DELETE ON finding BEGIN SELECT RAISE(ABORT, 'append-only'); END;
"""

# What a closing entry does not repeat of its opening; its positions go on where those of the opening end.
_EXCHANGE = """
SELECT (SELECT count(*) FROM finding WHERE exchange = id), session, opened_at, user, principal, model,
  json_extract(CAST(document AS TEXT), '$.request.repository')
FROM opening WHERE id = ?
"""

_INSERT = "INSERT INTO finding VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"

_FILTERS = {
    "rule": "rule GLOB :rule",
    "user": "(user = :user OR principal = :user)",
    "direction": "direction = :direction",
    "action": "action = :action",
    "session": "session = :session",
    "fingerprint": "fingerprint = :fingerprint",
    "since": "opened_at >= :since",
    "until": "opened_at < :until",
}


def insert_of_opening(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    """Insert the findings of an opening entry, whose own row is there."""
    if entry.get("findings"):
        principal, request = entry["principal"] or {}, entry["request"]
        facts = (entry["session"], entry["opened_at"], principal.get("name"), principal.get("id"))
        _insert(connection, entry, 0, (*facts, request.get("model"), request.get("repository")))


def insert_of_closing(connection: sqlite3.Connection, entry: dict[str, Any]) -> None:
    """Insert the findings of a closing entry; the opening one and its findings are there."""
    # Reading the opening again costs time with its size; few answers have findings.
    if entry.get("findings"):
        first, *facts = connection.execute(_EXCHANGE, (entry["id"],)).fetchone()
        _insert(connection, entry, first, tuple(facts))


def _insert(connection: sqlite3.Connection, entry: dict[str, Any], first: int, facts: tuple[object, ...]) -> None:
    columns = ("rule", "direction", "where", "offset", "action", "at", "fingerprint")
    rows = (
        (entry["id"], position, *facts, *(finding[name] for name in columns))
        for position, finding in enumerate(entry["findings"], first)
    )
    connection.executemany(_INSERT, rows)


def select(connection: sqlite3.Connection, wanted: Mapping[str, object], limit: int) -> list[FindingRow]:
    """Return the newest findings that all of `wanted` fit; None in it fits any."""
    given = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(_FILTERS[name] for name in given) or "true"
    rows = connection.execute(
        'SELECT exchange, position, session, opened_at, user, principal, model, repository, rule, direction, "where",'  # noqa: S608 - the conditions are literals above
        f' "offset", action, at, fingerprint FROM finding WHERE {where}'
        " ORDER BY opened_at DESC, exchange DESC, position DESC LIMIT :limit",
        {**given, "limit": limit},
    )
    return [FindingRow(f"{exchange}-{position}", exchange, *facts) for exchange, position, *facts in rows]
