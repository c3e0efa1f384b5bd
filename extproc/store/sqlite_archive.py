"""Read the SQLite file as people do: sessions, documents, findings."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from extproc.recording.entry import Head
from extproc.recording.envelope import Envelope
from extproc.recording.facts import microseconds
from extproc.recording.reading import document
from extproc.recording.unpacking import Parts
from extproc.store import sqlite_findings
from extproc.store.port import FindingRow, FindingSearch, Search, SessionRow
from extproc.store.searching import head_filter, readable, says, session_row
from extproc.store.sqlite import must_exist, reading
from extproc.store.sqlite_ledger import blobs_of, fingerprints_of, key_of

_PAGE: Final = 500
_ALL: Final = Search()
_ALL_FINDINGS: Final = FindingSearch()

_CONDITIONS: Final = {
    "session": "session = :session",
    "principal": "principal = :principal",
    "since": "at >= :since",
    "until": "at < :until",
}


class SqliteArchive:
    """Implement the `Archive` port over the file; opens it read-only, so it works beside running writers.

    Times, sessions and users are looked up in indexes. For everything else the heads are looked through that those
    leave, and for `text` the documents of the heads that fit: that takes as long as reading them all.
    """

    def __init__(self, path: Path, envelope: Envelope | None = None) -> None:
        self._path = must_exist(path)
        self._envelope = envelope

    def sessions(self, search: Search = _ALL, *, limit: int = 100) -> list[SessionRow]:
        """Return the sessions whose exchanges fit, that with the newest such exchange first; sum them up whole."""
        found: dict[str, None] = {}
        with reading(self._path) as connection:
            for number, head in _heads(connection, search, newest_first=True):
                if len(found) >= limit:
                    break
                if head.session not in found and self._said(connection, number, head, search.text):
                    found[head.session] = None
            # Somebody may be removing old ones meanwhile.
            summed = ((one, list(_heads(connection, Search(session=one), newest_first=False))) for one in found)
            return [session_row(one, [head for _, head in heads]) for one, heads in summed if heads]

    def session(self, session_id: str) -> Iterator[dict[str, Any]]:
        """Yield the documents of a session in the order they were opened."""
        return self.exchanges(Search(session=session_id))

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        """Return the document of an exchange."""
        query = "SELECT number, head FROM entry WHERE kind = 'exchange' AND id = ?"
        with reading(self._path) as connection:
            row = connection.execute(query, (exchange_id,)).fetchone()
            return None if row is None else self._document(connection, row[0], readable(row[1]))

    def exchanges(self, search: Search = _ALL, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the documents that fit, the oldest first."""
        return islice(self._exchanges(search), limit)

    def findings(self, search: FindingSearch = _ALL_FINDINGS, *, limit: int = 100) -> list[FindingRow]:
        """Return the most recent findings that fit, the newest first."""
        with reading(self._path) as connection:
            return sqlite_findings.select(connection, search, limit)

    def lines(self, fingerprints: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield (fingerprint, exchange id) for every exchange that proposed a line with one of these."""
        wanted, last = set(fingerprints), 0
        query = f"SELECT entry, fingerprints FROM lines WHERE entry > ? ORDER BY entry LIMIT {_PAGE}"  # noqa: S608 - a number
        with reading(self._path) as connection:
            while page := connection.execute(query, (last,)).fetchall():
                for number, lines in page:
                    if found := wanted.intersection(fingerprints_of(lines)):
                        for (exchange,) in connection.execute(
                            "SELECT id FROM entry WHERE number = ?", (number,)
                        ).fetchall():
                            yield from ((fingerprint, exchange) for fingerprint in found)
                last = page[-1][0]

    def _exchanges(self, search: Search) -> Iterator[dict[str, Any]]:
        with reading(self._path) as connection:
            session, parts = "", Parts()
            for number, head in _heads(connection, search, newest_first=False):
                if head.session != session:
                    # A blob is one session's: another may not refer to it.
                    session, parts = head.session, Parts()
                found = self._document(connection, number, head, parts)
                if search.text is None or says(found, search.text):
                    yield found

    def _said(self, connection: sqlite3.Connection, number: int, head: Head, text: str | None) -> bool:
        return text is None or says(self._document(connection, number, head), text)

    def _document(
        self, connection: sqlite3.Connection, number: int, head: Head, parts: Parts | None = None
    ) -> dict[str, Any]:
        row = connection.execute("SELECT body FROM entry WHERE number = ?", (number,)).fetchone()
        blobs, key = partial(blobs_of, connection), partial(key_of, connection)
        return document(
            head, None if row is None else row[0], blobs=blobs, key=key, envelope=self._envelope, parts=parts
        )


def _heads(connection: sqlite3.Connection, search: Search, *, newest_first: bool) -> Iterator[tuple[int, Head]]:
    """Yield the numbers and heads of the exchanges that fit all but `text`, page by page."""
    fits = head_filter(search)
    query, values = _query(search, newest_first=newest_first)
    while page := connection.execute(query, values).fetchall():
        for number, _, canonical in page:
            head = readable(canonical)
            if fits(head):
                yield number, head
        values["number"], values["at"], _ = page[-1]


def _query(search: Search, *, newest_first: bool) -> tuple[str, dict[str, Any]]:
    """Return the query of one page, and its values; `at` and `number` are where the page before ended."""
    end, order, beyond = (1 << 63) - 1, "DESC" if newest_first else "ASC", "<" if newest_first else ">"
    first = end if newest_first else -end
    user = _indexed(search.user)
    wanted = {
        "session": _indexed(search.session),
        "principal": _indexed(search.principal),
        "since": None if search.since is None else microseconds(search.since),
        "until": None if search.until is None else microseconds(search.until),
    }
    values: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    conditions = ["kind = 'exchange'", f"(at, number) {beyond} (:at, :number)", *(_CONDITIONS[name] for name in values)]
    # Each has an index that is in order, so both together are too.
    who = [[]] if user is None else [["user = :user"], ["principal = :user"]]
    arms = [f"SELECT number, at FROM entry WHERE {' AND '.join(conditions + one)}" for one in who]  # noqa: S608 - literals
    page = f"{' UNION '.join(arms)} ORDER BY at {order}, number {order} LIMIT {_PAGE}"
    query = f"""
    WITH page AS ({page}) SELECT page.number, page.at, entry.head FROM page CROSS JOIN entry USING (number)
    ORDER BY page.at {order}, page.number {order}
    """  # noqa: S608 - literals
    return query, {**values, "user": user, "at": first, "number": first}


def _indexed(name: str | None) -> str | None:
    """Return a name that can be looked up; SQLite's JSON cuts a text at NUL, so such a name is only looked for."""
    return None if name is None or "\0" in name else name
