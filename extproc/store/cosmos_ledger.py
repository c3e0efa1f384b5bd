"""The `Ledger` port over Azure Cosmos DB.

Entries of a log are spread over the partitions of their sessions: reading a log asks all of them, in the order of the
indexes. Without bodies only the members of heads are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from azure.core.credentials import TokenCredential

from extproc.recording.entry import Kind, WrappedKey
from extproc.store import cosmos_items
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_items import HEAD_MEMBERS
from extproc.store.cosmos_reader import CosmosReader
from extproc.store.cosmos_search import IN_A_LOG
from extproc.store.port import Stored

# Names in brackets: some are words of the query language.
HEADS: Final = ", ".join(f'c["{name}"]' for name in ("id", *HEAD_MEMBERS, "hash"))

_ENTRIES: Final = (
    'SELECT {what} FROM c WHERE c["type"] = "entry" AND c["log"] = @log AND c["index"] >= @start ORDER BY c["index"]'
)


class CosmosLedger:
    """Implement the `Ledger` port; several may be open at once."""

    def __init__(self, settings: CosmosSettings, credential: TokenCredential | None = None) -> None:
        self._reader = CosmosReader(settings, credential)

    def close(self) -> None:
        """Close the connections; the credential stays the caller's."""
        self._reader.close()

    def logs(self) -> list[str]:
        """Return the names of all logs that have an entry or a checkpoint, sorted."""
        text = 'SELECT DISTINCT VALUE c["log"] FROM c WHERE c["type"] IN ("entry", "checkpoint")'
        return sorted({str(name) for name in self._reader.query(text)})

    def entries(self, log: str, start: int = 0, *, bodies: bool = True) -> Iterator[Stored]:
        """Yield the entries of a log in the order of their indexes; see the port."""
        text = _ENTRIES.format(what="*" if bodies else HEADS)
        for item in self._reader.query(text, {"log": log, "start": start}):
            yield cosmos_items.stored(item, self._reader.data(item) if bodies else None)

    def find(self, exchange_id: str) -> Stored | None:
        """Return the entry of an exchange."""
        item = find(self._reader, exchange_id)
        return None if item is None else cosmos_items.stored(item, self._reader.data(item))

    def checkpoints(self, log: str, *, newest: int | None = None) -> list[str]:
        """Return the signed notes of a log that the store has, the smallest size first; with `newest` the last few."""
        text = 'SELECT c["size"], c["note"] FROM c WHERE c["type"] = "checkpoint"'
        rows = list(self._reader.query(text, session=cosmos_items.checkpoints_of(log)))
        rows.sort(key=lambda row: cosmos_items.number_of(row, "size"))
        return [str(row.get("note")) for row in (rows if newest is None else rows[-newest:])]

    def blobs(self, session: str, addresses: Collection[str]) -> dict[str, bytes]:
        """Return those of these blobs that are there."""
        return self._reader.blobs(session, addresses)

    def key(self, session: str, key_id: str) -> WrappedKey | None:
        """Return a data key, None where it was erased."""
        item = self._reader.read(session, cosmos_items.key_id(key_id))
        return None if item is None else cosmos_items.key_of(item)


def find(reader: CosmosReader, exchange_id: str) -> cosmos_items.Item | None:
    """Return the item of an exchange."""
    text = f'SELECT * FROM c WHERE {IN_A_LOG} AND c["kind"] = @kind AND c["entry"] = @id'  # noqa: S608 - a literal
    return next(reader.query(text, {"kind": Kind.EXCHANGE.value, "id": exchange_id}), None)
