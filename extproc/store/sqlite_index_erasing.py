"""Take out of the search index what was removed from the record by rule.

The eraser lists in the record the numbers of the entries that it touched (`erased`). Of those that are gone all goes
here, of those without a body the words. Both are done before the next question is answered. What was deleted is
overwritten with zeros, but words stand in the index of words until its parts are merged, which takes seconds; that is
done in small steps, so that others need not wait long.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, assert_never

from extproc.store.sqlite_index_sums import sum_up_again
from extproc.store.sqlite_index_writing import words_of

NUMBERS_AT_ONCE: Final = 10_000

PAGES_AT_ONCE: Final = 2_000
"""Pages of the index of words that are merged in one step, in a fifth of a second, seldom in two (measured)."""

# NULL is in none of these lists, else NOT IN would hold for nothing.
_WHOLES: Final = """
SELECT caller FROM exchange UNION SELECT paths FROM exchange WHERE paths IS NOT NULL
UNION SELECT rules FROM exchange WHERE rules IS NOT NULL
"""
_USED: Final = f"""
{_WHOLES} UNION SELECT element FROM member UNION SELECT session FROM exchange UNION SELECT repository FROM exchange
UNION SELECT model FROM exchange UNION SELECT outcome FROM exchange UNION SELECT client FROM exchange
UNION SELECT rule FROM finding UNION SELECT direction FROM finding UNION SELECT action FROM finding
UNION SELECT fingerprint FROM finding
"""  # noqa: S608 - literals


class Trace(IntEnum):
    """What may be left in the file of what was erased; the highest is done first."""

    NONE = 0
    MERGED = 1
    """Copies in the file beside the index (`-wal`)."""
    MERGING = 2
    WORDS = 3
    NAMES = 4
    """Names that nothing has any more, and words."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What the eraser touched: up to which place of its list, the entries that are gone, and those without a body."""

    place: int
    gone: list[int]
    emptied: list[int]


def next_erased(record: sqlite3.Connection, place: int) -> Erased | None:
    """Return some of what the eraser touched after a place of its list, None where that is all."""
    if record.execute("SELECT 1 FROM sqlite_master WHERE name = 'erased'").fetchone() is None:
        return None
    query = "SELECT place, entry FROM erased WHERE place > ? ORDER BY place LIMIT ?"
    rows = record.execute(query, (place, NUMBERS_AT_ONCE)).fetchall()
    if not rows:
        return None
    numbers = {entry for _, entry in rows}
    query = "SELECT number, body IS NULL FROM entry WHERE number IN (SELECT value FROM json_each(?))"
    there = record.execute(query, (json.dumps(sorted(numbers)),)).fetchall()
    # One that is there and has a body is another, which was given the number of the last entry when that was gone.
    gone = numbers - {number for number, _ in there}
    return Erased(rows[-1][0], sorted(gone), [number for number, is_empty in there if is_empty])


def erase(connection: sqlite3.Connection, erased: Erased) -> None:
    """Take it out, in a transaction that is open."""
    keys, gone = _keys(connection, [*erased.gone, *erased.emptied]), _keys(connection, erased.gone)
    query = "SELECT key, text FROM said WHERE key IN (SELECT value FROM json_each(?))"
    words = connection.execute(query, (keys,)).fetchall()
    taken = [("delete", key, *words_of(kept)) for key, kept in words]
    connection.executemany("INSERT INTO words (words, rowid, said, facts) VALUES (?,?,?,?)", taken)
    query = "SELECT DISTINCT session FROM exchange WHERE key IN (SELECT value FROM json_each(?))"
    sessions = [session for (session,) in connection.execute(query, (gone,))]
    for table, which in (("said", keys), ("finding", gone), ("exchange", gone)):
        connection.execute(f"DELETE FROM {table} WHERE key IN (SELECT value FROM json_each(?))", (which,))  # noqa: S608 - literals
    sum_up_again(connection, sessions)
    trace = Trace.NAMES if gone != "[]" else Trace.WORDS if words else Trace.NONE
    connection.execute("UPDATE state SET erased = ?, scrub = max(scrub, ?)", (erased.place, trace))


def scrub_on(connection: sqlite3.Connection, trace: Trace) -> Trace:
    """Overwrite some of what is left, in a transaction that is open; return what is left then."""
    match trace:
        case Trace.NONE:
            return trace
        case Trace.MERGING:
            return Trace.MERGING if _merge(connection, PAGES_AT_ONCE) else Trace.MERGED
        case Trace.MERGED:
            return trace
        case Trace.WORDS:
            # Less than none: all parts become one.
            _merge(connection, -PAGES_AT_ONCE)
            return Trace.MERGING
        case Trace.NAMES:
            # Some seconds for a million exchanges.
            connection.execute(f"DELETE FROM member WHERE whole NOT IN ({_WHOLES})")  # noqa: S608 - a literal above
            connection.execute(f"DELETE FROM name WHERE id NOT IN ({_USED})")  # noqa: S608 - a literal above
            return Trace.WORDS
        case _:
            assert_never(trace)


def _merge(connection: sqlite3.Connection, pages: int) -> bool:
    """Merge parts of the index of words; return whether there was something to merge."""
    before = connection.total_changes
    connection.execute("INSERT INTO words (words, rank) VALUES ('merge', ?)", (pages,))
    # Documentation of SQLite FTS5, "The 'merge' Command": else less than two rows change.
    return connection.total_changes - before >= 2


def _keys(connection: sqlite3.Connection, numbers: Collection[int]) -> str:
    query = "SELECT key FROM exchange WHERE number IN (SELECT value FROM json_each(?))"
    return json.dumps([key for (key,) in connection.execute(query, (json.dumps(list(numbers)),))])
