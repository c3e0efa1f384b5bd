"""What a search asks of an exchange, as conditions on the tables of the search index.

Names and globs are looked up first, so that exchanges are compared by ids alone. Nothing of a search gets into a query
but as a parameter, and a text to be looked for only within quotes.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from extproc.recording.facts import microseconds
from extproc.store.port import Search
from extproc.store.searching import glob
from extproc.store.sqlite_index_file import KEYS_PER_MICROSECOND, LAST_KEY
from extproc.store.sqlite_index_names import exactly, fitting, storable

MAX_PHRASE_CHARS: Final = 500
"""Most that is looked for of a text."""

PREFIX_CHARS: Final = 5
COMMON: Final = 1_000
"""The last word of a text may be unfinished if it has so many characters, and is not in so many exchanges as it stands.
All exchanges with words that begin so are gathered before the first is shown, which takes 50 ms for a word that is in
each of a million, and most of a second for a single letter (measured)."""

MOST_TOKENS: Final = 200
"""Names by which words are looked up together; where a glob means more, exchanges are compared one by one."""

MANY_ELEMENTS: Final = 10_000
"""Where a glob fits so many names, exchanges that fit are soon found, and it would take longer to put all ids together.
"""

_UNFINISHED: Final = re.compile(rf"[^\W_]{{{PREFIX_CHARS},}}\Z")
_SAYING: Final = """
SELECT count(*) FROM (
  SELECT 1 FROM words CROSS JOIN exchange ON exchange.key = words.rowid WHERE words MATCH ? AND number <= ? LIMIT ?
)
"""


@dataclass(slots=True)
class Wanted:
    """Conditions, all of which must hold: keys from `first` on and before `end`, and `conditions`, with `values`.

    `columns` are those of `conditions` that a column has one of some ids, with the column. `is_nothing` says that no
    exchange fits. `said` is the text in the language of the index of words, None where a search has none.
    """

    first: int = 0
    end: int = LAST_KEY
    conditions: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    columns: list[tuple[str, str]] = field(default_factory=list)
    tokens: list[Sequence[int]] = field(default_factory=list)
    said: str | None = None
    is_nothing: bool = False

    def of(self, alias: str) -> str:
        """Return all conditions but those on keys, for an exchange that a query names so."""
        return " AND ".join(condition.format(e=alias) for condition in self.conditions) or "true"

    @property
    def match(self) -> str:
        """What the index of words is asked: the text, and the names that must be there with it."""
        named = [" OR ".join(f'"{one}"' for one in ids) for ids in self.tokens]
        return " AND ".join([f"({self.said})", *(f"(facts : ({ids}))" for ids in named)])


def wanted(connection: sqlite3.Connection, search: Search, last: int) -> Wanted:
    """Return what a search asks for, of entries up to a number.

    The connection is for this search alone: it gets temporary tables.
    """
    found = Wanted(
        conditions=["{e}.number <= :last"],
        values={"last": last},
        first=0 if search.since is None else key_at(search.since),
        end=LAST_KEY if search.until is None else key_at(search.until),
    )
    exact = (("model", search.model), ("outcome", search.outcome), ("session", search.session))
    for column, name in exact:
        if name is not None:
            _narrow(connection, found, column, exactly(connection, name, column))
    callers = (
        (search.user, ("user", "principal")),
        (search.principal, ("principal",)),
        (search.group, ("group",)),
    )
    for name, kinds in callers:
        if name is not None:
            _narrow(connection, found, "caller", exactly(connection, name, *kinds), wholes=True)
    _narrow_by_globs(connection, found, search)
    if search.text is not None:
        phrase = _phrase(connection, search.text, last)
        found.said = f"said : {phrase}"
        found.is_nothing = found.is_nothing or not _has_words(connection, search.text, phrase)
    return found


def key_at(seconds: float) -> int:
    """Return the first key of a time, given in unix seconds, or the first or last that there is."""
    latest = LAST_KEY // KEYS_PER_MICROSECOND
    return LAST_KEY if seconds * 1e6 > latest else microseconds(max(seconds, 0.0)) * KEYS_PER_MICROSECOND


def _narrow_by_globs(connection: sqlite3.Connection, found: Wanted, search: Search) -> None:
    if search.repository is not None and not _is_any(search.repository):
        _narrow(connection, found, "repository", fitting(connection, search.repository, "repository"))
    for column, kind, pattern in (("rules", "rule", search.finding), ("paths", "path", search.path)):
        if pattern is None:
            continue
        if _is_any(pattern):
            found.conditions.append(f"{{e}}.{column} IS NOT NULL")
            continue
        ids = fitting(connection, pattern, kind, most=MANY_ELEMENTS + 1)
        if len(ids) > MANY_ELEMENTS:
            _narrow_one_by_one(connection, found, column, pattern)
        else:
            _narrow(connection, found, column, ids, wholes=True)


def _is_any(pattern: str) -> bool:
    return bool(pattern) and not pattern.strip("*")


def _narrow(
    connection: sqlite3.Connection, found: Wanted, column: str, ids: Sequence[int], *, wholes: bool = False
) -> None:
    """Ask that a column has one of these ids, or a whole with one of these elements."""
    found.is_nothing = found.is_nothing or not ids
    if len(ids) <= MOST_TOKENS:
        found.tokens.append(ids)
    condition = f"{{e}}.{column} = {ids[0]}" if ids else "false"
    if wholes or len(ids) > 1:
        table, which = f"wanted_{len(found.conditions)}", "SELECT value FROM json_each(?)"
        if wholes:
            which = f"SELECT whole FROM member WHERE element IN ({which})"  # noqa: S608 - a literal above
        connection.execute(f"CREATE TEMP TABLE {table} (id INTEGER PRIMARY KEY)")
        connection.execute(f"INSERT OR IGNORE INTO {table} {which}", (json.dumps(ids),))
        condition = f"{{e}}.{column} IN (SELECT id FROM temp.{table})"  # noqa: S608 - a number
    found.conditions.append(condition)
    found.columns.append((column, condition))


def _narrow_one_by_one(connection: sqlite3.Connection, found: Wanted, column: str, pattern: str) -> None:
    """Ask that an element of a whole fits a glob, when the exchange is looked at."""
    function = f"fits_{len(found.conditions)}"
    connection.create_function(function, 1, glob(pattern), deterministic=True)
    elements = f"member CROSS JOIN name ON name.id = member.element WHERE member.whole = {{e}}.{column}"
    exists = f"EXISTS (SELECT 1 FROM {elements} AND {function}(name.text))"  # noqa: S608 - literals
    found.conditions.append(f"{{e}}.{column} IS NOT NULL AND {exists}")


def _phrase(connection: sqlite3.Connection, text: str, last: int) -> str:
    """Return words in a row as FTS5 has them; a NUL would end them."""
    words = storable(text[:MAX_PHRASE_CHARS]).replace("\0", " ")
    quoted = '"' + words.replace('"', '""') + '"'
    end = _UNFINISHED.search(words)
    if end is None:
        return quoted
    # Nothing that arrives changes this while pages are turned: `last` stays.
    (count,) = connection.execute(_SAYING, (f'said : "{end[0]}"', last, COMMON)).fetchone()
    return quoted if count == COMMON else f"{quoted} *"


def _has_words(connection: sqlite3.Connection, text: str, phrase: str) -> bool:
    """Return whether FTS5 sees words in a text; among other conditions it passes over a phrase without any."""
    connection.execute("CREATE VIRTUAL TABLE temp.probe USING fts5 (said, content='', tokenize='unicode61')")
    connection.execute("INSERT INTO temp.probe (rowid, said) VALUES (1, ?)", (storable(text[:MAX_PHRASE_CHARS]),))
    return connection.execute("SELECT 1 FROM temp.probe WHERE probe MATCH ?", (phrase,)).fetchone() is not None
