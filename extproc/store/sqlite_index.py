"""Lists over the SQLite file that stay fast at a million exchanges: a search index, in a second file beside the record.

The index is made from the record, by the one process that answers with it, and never on the way of an exchange. It is
no evidence, and may be deleted at any time.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from extproc.errors import StoreUnavailable
from extproc.recording.envelope import Envelope
from extproc.store import archive_listing, sqlite_index_findings, sqlite_index_search, sqlite_index_sums
from extproc.store.port import FindingPage, FindingSearch, Overview, Search, SessionPage
from extproc.store.sqlite import must_exist, reading
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_index_file import LAST_KEY, Broken, is_broken, open_for_reading, remove, state_of
from extproc.store.sqlite_index_search import Cursor
from extproc.store.sqlite_index_writer import IndexWriter

WAIT_SECONDS: Final = 10.0
"""How long a question waits while another thread brings the index up to date."""

_ALL: Final = Search()
_ALL_FINDINGS: Final = FindingSearch()
_Answer = TypeVar("_Answer")


class SqliteIndex:
    """Implement the `Listing` port over the SQLite file of a record; `path` is that of the index, made where missing.

    Before each question the index takes in what is new, and takes out what was removed by rule. With a new index that
    is all there is, and takes minutes for a million exchanges: have a thread call `catch_up` at the start, and from
    time to time, as only that overwrites at once what is left of erased words. Others that ask meanwhile are told to
    come back (`StoreUnavailable`).

    `text` is looked for as words in a row, without regard to case and accents, not as pieces of words. The last word
    may be unfinished if it has five characters and is not in a thousand exchanges as it stands. Found is the exchange
    in which something was said first. A record that is encrypted has no words in the index: a search with `text` is
    then left to the archive, and takes as long as reading all that fits the rest.
    """

    def __init__(
        self, record: Path, path: Path, envelope: Envelope | None = None, *, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._record = must_exist(record)
        self._path = path
        self._archive = SqliteArchive(record, envelope)
        self._texts = envelope is None
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._writer: IndexWriter | None = None

    def catch_up(self) -> None:
        """Take in all that is new and take out what was erased, every trace of it."""
        self._answer(lambda _: None)
        while self._scrub_on():
            pass

    def close(self) -> None:
        """Close the file; whoever asks afterwards opens it again."""
        with self._lock:
            self._drop()

    def sessions(self, search: Search = _ALL, *, limit: int = 50, after: str | None = None) -> SessionPage:
        """Return a page of sessions; see the port."""
        if search.text is not None and not self._texts:
            return archive_listing.sessions(self._archive, search, limit, after)
        start = None if after is None else sqlite_index_search.cursor_of(after)

        def ask(index: sqlite3.Connection) -> SessionPage:
            begin = start or Cursor(state_of(index).number, LAST_KEY)
            found, following = sqlite_index_search.sessions(index, search, limit, begin)
            rows = sqlite_index_sums.session_rows(index, found)
            return SessionPage(rows, None if following is None else str(following))

        return self._answer(ask)

    def findings(
        self, search: FindingSearch = _ALL_FINDINGS, *, limit: int = 50, after: str | None = None
    ) -> FindingPage:
        """Return a page of findings; see the port."""
        found = self._answer(lambda index: sqlite_index_findings.places(index, search, limit, after))
        with reading(self._record) as record:
            return sqlite_index_findings.page(record, found, search, limit)

    def overview(self, *, since: float, until: float, steps: int, principal: str | None = None) -> Overview:
        """Sum up a span of time; see the port."""
        return self._answer(
            lambda index: sqlite_index_sums.overview_of(
                index, since=since, until=until, steps=steps, principal=principal
            )
        )

    def _answer(self, question: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        """Answer from an index that is up to date; make it anew where it cannot be used."""
        try:
            return self._ask(question)
        except Broken:
            with self._locked():
                self._drop()
                remove(self._path)
        try:
            return self._ask(question)
        except Broken as failure:
            raise StoreUnavailable(f"cannot make the search index {self._path}") from failure

    def _ask(self, question: Callable[[sqlite3.Connection], _Answer]) -> _Answer:
        with self._locked():
            self._follow()
            with self._explained():
                # Opened before anybody else can make the index anew.
                connection = open_for_reading(self._path)
        try:
            with self._explained():
                return question(connection)
        finally:
            connection.close()

    def _follow(self) -> None:
        with reading(self._record) as record, self._explained():
            if self._writer is None or not self._writer.is_at(self._path):
                self._drop()
                self._writer = IndexWriter(self._record, self._path, texts=self._texts)
            self._writer.follow(record)

    def _scrub_on(self) -> bool:
        """Do a step of overwriting; return whether there is more to do."""
        with self._locked(), self._explained():
            return self._writer is not None and self._writer.scrub_on()

    def _drop(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=self._wait_seconds):
            raise StoreUnavailable(f"the search index {self._path} is being made: try again in a minute")
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as failure:
            if is_broken(failure):
                raise Broken from failure
            raise StoreUnavailable(f"cannot use the search index {self._path}: {failure}") from failure
        except OSError as failure:
            raise StoreUnavailable(f"cannot use the search index {self._path}: {failure}") from failure
