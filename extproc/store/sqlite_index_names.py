"""Names in the search index: each is there once, and known by its id."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import sys
from collections.abc import Collection, Iterable, Sequence
from itertools import islice

from extproc.store.searching import glob

Name = tuple[str, str]
"""The kind of a name, such as `user` or `path`, and its text."""


class Names:
    """Give names their ids while some entries are written; what it remembers holds within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids: dict[Name, int] = {}
        self._wholes: dict[tuple[str, str], int] = {}

    def id(self, kind: str, text: str) -> int:
        """Return the id of a name."""
        name = (kind, text)
        known = self._ids.get(name)
        if known is None:
            row = self._connection.execute("SELECT id FROM name WHERE kind = ? AND text = ?", name).fetchone()
            known = self._ids[name] = self._new(name) if row is None else row[0]
        return known

    def maybe(self, kind: str, text: str | None) -> int:
        """Return the id of a name, 0 where it is missing."""
        return 0 if text is None else self.id(kind, text)

    def whole(self, kind: str, text: str, elements: Sequence[int]) -> int:
        """Return the id of several names together, of which `text` is the same only for the same."""
        known = self._wholes.get((kind, text))
        if known is None:
            known = self._wholes[kind, text] = self.id(kind, text)
            rows = [(element, known) for element in elements]
            self._connection.executemany("INSERT OR IGNORE INTO member (element, whole) VALUES (?,?)", rows)
        return known

    def _new(self, name: Name) -> int:
        (found,) = self._connection.execute("INSERT INTO name (kind, text) VALUES (?,?) RETURNING id", name).fetchone()
        return int(found)


def digest(texts: Iterable[str]) -> str:
    """Return what stands for a list of texts, however long."""
    return hashlib.blake2b(json.dumps(list(texts)).encode(), digest_size=16).hexdigest()


def exactly(connection: sqlite3.Connection, text: str, *kinds: str) -> list[int]:
    """Return the ids of this text as a name of these kinds."""
    found = (
        connection.execute("SELECT id FROM name WHERE kind = ? AND text = ?", (kind, storable(text))) for kind in kinds
    )
    return [row[0] for rows in found for row in rows]


def fitting(connection: sqlite3.Connection, pattern: str, kind: str, *, most: int | None = None) -> list[int]:
    """Return the ids of the names of a kind that fit a glob, or so many of them."""
    if "*" not in pattern:
        return exactly(connection, pattern, kind)
    beginning = storable(pattern.split("*", maxsplit=1)[0])
    fits = glob(pattern)
    # Those that begin so are in a row.
    query = "SELECT id, text FROM name WHERE kind = ? AND text >= ? AND text < ?"
    rows = connection.execute(query, (kind, beginning, _beyond(beginning)))
    return list(islice((found for found, text in rows if fits(text)), most))


def texts_of(connection: sqlite3.Connection, ids: Collection[int]) -> dict[int, str]:
    """Return the texts of these names; there is none for 0."""
    query = "SELECT id, text FROM name WHERE id IN (SELECT value FROM json_each(?))"
    return dict(connection.execute(query, (json.dumps(list(ids)),)))


def storable(text: str) -> str:
    """Return a text that has bytes; no name has half a surrogate, since heads have none."""
    return text.encode("utf-8", "replace").decode()


def _beyond(beginning: str) -> bytes | str:
    """Return what comes after all texts that begin so: they are in the order of their bytes; a blob is after any."""
    for place in range(len(beginning) - 1, -1, -1):
        if (code := ord(beginning[place])) < sys.maxunicode:
            # There are no halves of a surrogate.
            following = 0xE000 if code + 1 == 0xD800 else code + 1
            return beginning[:place] + chr(following)
    return b""
