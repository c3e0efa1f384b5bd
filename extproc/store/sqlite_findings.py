"""Findings in SQLite: a table beside the entries whose heads have them, so that they can be searched."""

from __future__ import annotations

import sqlite3
from typing import Final

from extproc.recording.entry import Head
from extproc.recording.facts import microseconds
from extproc.store.port import FindingRow, FindingSearch
from extproc.store.searching import finding_fits, finding_rows, readable

_FILTERS: Final = {
    "rule": "rule GLOB :rule",
    "user": "(user = :user OR principal = :user)",
    "principal": "principal = :principal",
    "direction": "direction = :direction",
    "action": "action = :action",
    "session": "session = :session",
    "fingerprint": "fingerprint = :fingerprint",
    "since": "at >= :since",
    "until": "at < :until",
}


def insert(connection: sqlite3.Connection, number: int | None, head: Head) -> None:
    """Insert the findings of an exchange, which is the entry of this number."""
    rows = (
        (
            *(number, position, row.exchange, row.session, head.at, row.user, row.principal),
            *(row.rule, row.direction, row.action, row.fingerprint),
        )
        for position, row in enumerate(finding_rows(head))
    )
    connection.executemany("INSERT INTO finding VALUES (?,?,?,?,?,?,?,?,?,?,?)", rows)


def select(connection: sqlite3.Connection, search: FindingSearch, limit: int) -> list[FindingRow]:
    """Return the newest findings that fit, as their heads have them: this table may have been changed unseen."""
    wanted = {
        "rule": None if search.rule is None else _glob(search.rule),
        "user": search.user,
        "principal": search.principal,
        "direction": search.direction,
        "action": search.action,
        "session": search.session,
        "fingerprint": search.fingerprint,
        "since": None if search.since is None else microseconds(search.since),
        "until": None if search.until is None else microseconds(search.until),
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    where = " AND ".join(_FILTERS[name] for name in given) or "true"
    query = f"""
    WITH found AS (
      SELECT entry, position, at, exchange FROM finding WHERE {where}
      ORDER BY at DESC, exchange DESC, position DESC LIMIT :limit
    )
    SELECT found.position, entry.head FROM found JOIN entry ON entry.number = found.entry
    ORDER BY found.at DESC, found.exchange DESC, found.position DESC
    """  # noqa: S608 - the conditions are literals above
    pairs = connection.execute(query, {**given, "limit": limit}).fetchall()
    rows = (row for position, head in pairs for row in finding_rows(readable(head))[position : position + 1])
    return [row for row in rows if finding_fits(row, search)]


def _glob(pattern: str) -> str:
    """Return a glob in which only `*` is special for SQLite too."""
    return pattern.replace("[", "[[]").replace("?", "[?]")
