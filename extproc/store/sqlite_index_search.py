"""Find sessions in the search index, page by page, newest first.

Where few exchanges can fit they are looked up by an index; else all are looked through, the newest first, until the
page is full. A session stands where the newest of its exchanges that fit does.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Final

from extproc.store.port import Search
from extproc.store.sqlite_index_file import LAST_KEY
from extproc.store.sqlite_index_wanted import Wanted, wanted

FEW: Final = 10_000
"""Exchanges that are looked up one by one, in 30 ms; to look through a million takes 60 (measured)."""

_CURSOR: Final = re.compile(r"([0-9]{1,19})\.([0-9]{1,19})")


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ends: at an exchange (`key`), the newest that fits of the last session.

    Exchanges that arrived after the first page (`last` is the number of the newest then) are not looked at, so that no
    session moves to another page meanwhile.
    """

    last: int
    key: int

    def __str__(self) -> str:
        return f"{self.last}.{self.key}"


def cursor_of(text: str) -> Cursor:
    """Read a cursor; raises ValueError."""
    return Cursor(*numbers_of(text))


def numbers_of(text: str) -> tuple[int, int]:
    """Return the two numbers that a cursor is made of; raises ValueError."""
    match = _CURSOR.fullmatch(text)
    numbers = [int(one) for one in match.groups()] if match else []
    if not numbers or max(numbers) > LAST_KEY:
        raise ValueError("this is not a place in a list")
    return numbers[0], numbers[1]


def sessions(
    connection: sqlite3.Connection, search: Search, limit: int, start: Cursor
) -> tuple[list[int], Cursor | None]:
    """Return the ids of sessions whose newest exchange that fits is before `start`, and where the next begin."""
    asked = wanted(connection, search, start.last)
    if asked.is_nothing or limit < 1:
        return [], None
    before = min(start.key, asked.end)
    asked.values.update(first=asked.first, end=asked.end, before=before, limit=limit + 1)
    found = list(islice(_found(connection, asked, start), limit + 1))
    more = len(found) > limit
    return [session for _, session in found[:limit]], Cursor(start.last, found[limit - 1][0]) if more else None


def _found(connection: sqlite3.Connection, asked: Wanted, start: Cursor) -> Iterator[tuple[int, int]]:
    """Yield key and session of the newest exchange that fits of each session, the newest first."""
    if asked.said is not None:
        return _with_words(connection, asked, start)
    column = _narrowest(connection, asked)
    return iter(connection.execute(_walk(asked) if column is None else _lookup(asked, column), asked.values).fetchall())


def _narrowest(connection: sqlite3.Connection, asked: Wanted) -> str | None:
    """Return the column by which fewest exchanges remain, None where each leaves many."""
    counts: dict[str, int] = {}
    for column, condition in asked.columns:
        some = f"SELECT 1 FROM {_by(column)} WHERE {condition.format(e='e')} LIMIT {FEW}"  # noqa: S608 - literals
        (count,) = connection.execute(f"SELECT count(*) FROM ({some})").fetchone()  # noqa: S608 - as above
        counts[column] = min(count, counts.get(column, FEW))
    least = min(counts, key=counts.__getitem__, default=None)
    return None if least is None or counts[least] == FEW else least


def _by(column: str) -> str:
    return f"exchange AS e INDEXED BY exchange_by_{column}"


def _walk(asked: Wanted) -> str:
    return f"""
    SELECT e.key, e.session FROM exchange AS e NOT INDEXED
    WHERE e.key >= :first AND e.key < :before AND {asked.of("e")} AND NOT EXISTS (
      SELECT 1 FROM exchange AS later INDEXED BY exchange_by_session
      WHERE later.session = e.session AND later.key > e.key AND later.key < :end AND {asked.of("later")}
    ) ORDER BY e.key DESC LIMIT :limit
    """  # noqa: S608 - literals


def _lookup(asked: Wanted, column: str) -> str:
    return f"""
    SELECT max(e.key) AS newest, e.session FROM {_by(column)}
    WHERE e.key >= :first AND e.key < :end AND {asked.of("e")}
    GROUP BY e.session HAVING newest < :before ORDER BY newest DESC LIMIT :limit
    """  # noqa: S608 - literals


def _with_words(connection: sqlite3.Connection, asked: Wanted, start: Cursor) -> Iterator[tuple[int, int]]:
    """As `_found`; a later page is found by going through those before it again."""
    query = f"""
    SELECT e.key, e.session FROM words CROSS JOIN exchange AS e ON e.key = words.rowid
    WHERE words MATCH :match AND words.rowid >= :first AND words.rowid < :end AND {asked.of("e")}
    ORDER BY words.rowid DESC
    """  # noqa: S608 - literals
    seen: set[int] = set()
    with closing(connection.execute(query, {**asked.values, "match": asked.match})) as rows:
        for key, session in rows:
            if session not in seen:
                seen.add(session)
                if key < start.key:
                    yield key, session
