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
from extproc.store.sqlite_index_file import KEYS_PER_MICROSECOND, LAST_KEY
from extproc.store.sqlite_index_names import exactly, fitting, storable

MAX_PHRASE_CHARS: Final = 500
"""Most that is looked for of a text."""

PREFIX_CHARS: Final = 4
"""The last word of a text may be unfinished if it has so many characters: all exchanges with words that begin so are
gathered before the first is shown, which for a single letter takes most of a second (measured)."""

MOST_TOKENS: Final = 200
"""Names by which words are looked up together; where a glob means more, exchanges are compared one by one."""

MANY_ELEMENTS: Final = 10_000
"""Names of which the wholes are not put together: where a glob fits so much, exchanges that fit are soon found."""

_UNFINISHED: Final = re.compile(rf"[^\W_]{{{PREFIX_CHARS}}}\Z")


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


def wanted(connection: sqlite3.Connection, search: Search) -> Wanted:
    """Return what a search asks for; the connection is for this search alone: it gets temporary tables."""
    found = Wanted(
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
        phrase = _phrase(search.text)
        found.said = f"said : {phrase}"
        found.is_nothing = found.is_nothing or not _has_words(connection, search.text, phrase)
    return found


def key_at(seconds: float) -> int:
    """Return the first key of a time, given in unix seconds, or the first or last that there is."""
    latest = LAST_KEY // KEYS_PER_MICROSECOND
    return LAST_KEY if seconds * 1e6 > latest else microseconds(max(seconds, 0.0)) * KEYS_PER_MICROSECOND


def _narrow_by_globs(connection: sqlite3.Connection, found: Wanted, search: Search) -> None:
    if search.repository is not None and search.repository.strip("*"):
        _narrow(connection, found, "repository", fitting(connection, search.repository, "repository"))
    elif search.repository == "":
        _narrow(connection, found, "repository", exactly(connection, "", "repository"))
    for column, kind, pattern in (("paths", "path", search.path), ("rules", "rule", search.finding)):
        if pattern is None:
            continue
        if pattern and not pattern.strip("*"):
            found.conditions.append(f"{{e}}.{column} IS NOT NULL")
        else:
            _narrow(connection, found, column, fitting(connection, pattern, kind), wholes=True)


def _narrow(
    connection: sqlite3.Connection, found: Wanted, column: str, ids: Sequence[int], *, wholes: bool = False
) -> None:
    """Ask that a column has one of these ids, or a whole with one of these elements."""
    found.is_nothing = found.is_nothing or not ids
    if len(ids) <= MOST_TOKENS:
        found.tokens.append(ids)
    if len(ids) == 1 and not wholes:
        found.conditions.append(f"{{e}}.{column} = {ids[0]}")
        found.columns.append((column, found.conditions[-1]))
        return
    table, which = f"wanted_{len(found.conditions)}", "SELECT value FROM json_each(?)"
    is_one_by_one = wholes and len(ids) > MANY_ELEMENTS
    if wholes and not is_one_by_one:
        which = f"SELECT whole FROM member WHERE element IN ({which})"  # noqa: S608 - a literal above
    connection.execute(f"CREATE TEMP TABLE {table} (id INTEGER PRIMARY KEY)")
    connection.execute(f"INSERT OR IGNORE INTO {table} {which}", (json.dumps(ids),))
    any_of = f"IN (SELECT id FROM temp.{table})"  # noqa: S608 - a number
    if is_one_by_one:
        # With the sign each element of the exchange is looked for, and not each of those that are wanted.
        elements = f"SELECT 1 FROM member WHERE whole = {{e}}.{column} AND +element {any_of}"  # noqa: S608 - literals
        found.conditions.append(f"{{e}}.{column} IS NOT NULL AND EXISTS ({elements})")
    else:
        found.conditions.append(f"{{e}}.{column} {any_of}")
        found.columns.append((column, found.conditions[-1]))


def _phrase(text: str) -> str:
    """Return words in a row as FTS5 has them; a NUL would end them."""
    words = storable(text[:MAX_PHRASE_CHARS]).replace("\0", " ")
    quoted = '"' + words.replace('"', '""') + '"'
    return f"{quoted} *" if _UNFINISHED.search(words) else quoted


def _has_words(connection: sqlite3.Connection, text: str, phrase: str) -> bool:
    """Return whether FTS5 sees words in a text; among other conditions it passes over a phrase without any."""
    connection.execute("CREATE VIRTUAL TABLE temp.probe USING fts5 (said, content='', tokenize='unicode61')")
    connection.execute("INSERT INTO temp.probe (rowid, said) VALUES (1, ?)", (storable(text[:MAX_PHRASE_CHARS]),))
    return connection.execute("SELECT 1 FROM temp.probe WHERE probe MATCH ?", (phrase,)).fetchone() is not None
