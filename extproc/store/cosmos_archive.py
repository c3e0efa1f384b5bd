"""The `Archive` port over Azure Cosmos DB.

What searches cost: conditions on facts are answered by indexes, over all partitions; `text` reads every exchange that
fits the rest. The list of sessions reads the heads of exchanges that fit, the newest first, until it has as many
sessions as asked for, and then the heads of each of them: one query of one partition per session.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final

import msgspec
from azure.core.credentials import TokenCredential

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Head, WrappedKey
from extproc.recording.envelope import Envelope
from extproc.recording.reading import document
from extproc.store import cosmos_items, cosmos_search
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_items import Item
from extproc.store.cosmos_ledger import HEADS, find
from extproc.store.cosmos_reader import CosmosReader
from extproc.store.port import FindingRow, FindingSearch, Search, SessionRow
from extproc.store.searching import finding_fits, finding_rows, head_filter, readable, says, session_row

_ALL: Final = Search()
_ALL_FINDINGS: Final = FindingSearch()

LINES_AT_ONCE: Final = 1000
KEPT_BLOB_BYTES: Final = 64 * 1024 * 1024
"""Blobs kept while exchanges are read one after the other: those of a session share nearly all of theirs."""


class CosmosArchive:
    """Implement the `Archive` port; with the envelope it can read what was encrypted."""

    def __init__(
        self,
        settings: CosmosSettings,
        credential: TokenCredential | None = None,
        *,
        envelope: Envelope | None = None,
    ) -> None:
        self._reader = CosmosReader(settings, credential)
        self._envelope = envelope

    def close(self) -> None:
        """Close the connections; the credential stays the caller's."""
        self._reader.close()

    def sessions(self, search: Search = _ALL, *, limit: int = 100) -> list[SessionRow]:
        """Return the sessions whose exchanges fit, that with the newest such exchange first; sum them up whole."""
        names: dict[str, None] = {}
        kept = _Kept(self._reader)
        for head, item in self._found(search, HEADS if search.text is None else "*", "DESC"):
            if len(names) >= limit:
                break
            if head.session not in names and self._said(head, item, kept, search.text):
                names[head.session] = None
        return [session_row(name, self._heads(name)) for name in names]

    def session(self, session_id: str) -> Iterator[dict[str, Any]]:
        """Yield the documents of a session in the order they were opened; nothing for an unknown one."""
        return self.exchanges(Search(session=session_id))

    def exchange(self, exchange_id: str) -> dict[str, Any] | None:
        """Return the document of an exchange."""
        item = find(self._reader, exchange_id)
        return None if item is None else self._document(_head(item), item, _Kept(self._reader))

    def exchanges(self, search: Search = _ALL, *, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield the documents that fit, the oldest first."""
        return islice(self._exchanges(search), limit)

    def findings(self, search: FindingSearch = _ALL_FINDINGS, *, limit: int = 100) -> list[FindingRow]:
        """Return the most recent findings that fit, the newest first."""
        query = cosmos_search.findings(search)
        items = self._reader.query(query.text(HEADS, "DESC"), query.values, session=search.session)
        rows = (row for item in items for row in reversed(finding_rows(_head(item))) if finding_fits(row, search))
        return list(islice(rows, limit))

    def lines(self, fingerprints: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield (fingerprint, exchange id) for every exchange that proposed a line with one of these."""
        wanted = list(dict.fromkeys(fingerprints))
        text = 'SELECT l AS line, c["entry"] FROM c JOIN l IN c["lines"] WHERE ARRAY_CONTAINS(@wanted, l)'
        for at in range(0, len(wanted), LINES_AT_ONCE):
            for row in self._reader.query(text, {"wanted": wanted[at : at + LINES_AT_ONCE]}):
                yield row["line"], row["entry"]

    def _exchanges(self, search: Search) -> Iterator[dict[str, Any]]:
        kept = _Kept(self._reader)
        for head, item in self._found(search, "*", "ASC"):
            shown = self._document(head, item, kept)
            if search.text is None or says(shown, search.text):
                yield shown

    def _found(self, search: Search, what: str, order: str) -> Iterator[tuple[Head, Item]]:
        """Yield what fits all but the text."""
        query, fits = cosmos_search.exchanges(search), head_filter(search)
        for item in self._reader.query(query.text(what, order), query.values, session=search.session):
            if fits(head := _head(item)):
                yield head, item

    def _heads(self, session: str) -> Iterator[Head]:
        return (head for head, _ in self._found(Search(session=session), HEADS, "ASC"))

    def _said(self, head: Head, item: Item, kept: _Kept, text: str | None) -> bool:
        return text is None or says(self._document(head, item, kept), text)

    def _document(self, head: Head, item: Item, kept: _Kept) -> dict[str, Any]:
        body = self._reader.data(item)
        return document(head, body, blobs=kept.blobs, key=self._key, envelope=self._envelope)

    def _key(self, session: str, key_id: str) -> WrappedKey | None:
        item = self._reader.read(session, cosmos_items.key_id(key_id))
        return None if item is None else cosmos_items.key_of(item)


class _Kept:
    """Blobs that were read, as many as fit in `KEPT_BLOB_BYTES`, for one reading of many exchanges."""

    def __init__(self, reader: CosmosReader) -> None:
        self._reader = reader
        self._data: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._size = 0

    def blobs(self, session: str, addresses: Collection[str]) -> dict[str, bytes]:
        """Return those of these blobs that are there."""
        found = {one: self._data[session, one] for one in addresses if (session, one) in self._data}
        new = self._reader.blobs(session, [one for one in addresses if one not in found])
        for address, data in new.items():
            self._data[session, address] = data
            self._size += len(data)
        while self._size > KEPT_BLOB_BYTES:
            self._size -= len(self._data.popitem(last=False)[1])
        return found | new


def _head(item: Item) -> Head:
    try:
        return readable(cosmos_items.stored(item, None).head)
    except (msgspec.DecodeError, RecursionError):
        raise StoreUnavailable(
            f"item {item.get('id')} in Cosmos DB is not as it was recorded; `extproc verify` says more"
        ) from None
