"""The `Eraser` port over Azure Cosmos DB: needs the right to replace and delete items, which the service has not.

Parts go before what they are parts of, so that a run that breaks off is finished by the next.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from azure.core import MatchConditions
from azure.core.credentials import TokenCredential
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from extproc.store import cosmos_items
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_items import Item
from extproc.store.cosmos_reader import IDS_AT_ONCE, CosmosReader, explained

_OF_LOG = 'SELECT * FROM c WHERE c["type"] = "entry" AND c["log"] = @log AND '


class CosmosEraser:
    """Implement the `Eraser` port; what others change at the same time is `StoreUnavailable`: run it again."""

    def __init__(self, settings: CosmosSettings, credential: TokenCredential | None = None) -> None:
        self._reader = CosmosReader(settings, credential)

    def close(self) -> None:
        """Close the connections; the credential stays the caller's."""
        self._reader.close()

    def remove_bodies(self, entries: Sequence[tuple[str, int]]) -> int:
        """Remove the bodies and lines of these entries, given as (log, index); return how many had a body."""
        return sum(self._remove_body(item) for item in self._entries(entries))

    def remove_blobs(self, session: str, addresses: Collection[str]) -> int:
        """Remove these blobs; return how many there were."""
        names = {cosmos_items.blob_id(address) for address in addresses}
        return sum(self._delete(item) for item in self._reader.items(session, names).values())

    def remove_keys(self, session: str) -> int:
        """Remove the data keys of a session; return how many there were."""
        text = 'SELECT * FROM c WHERE c["type"] = "key"'
        return sum(self._delete(item) for item in list(self._reader.query(text, session=session)))

    def remove_entries(self, log: str, below: int) -> int:
        """Remove the entries of a log with an index below this one, heads and all; return how many there were."""
        text = f'{_OF_LOG} c["index"] < @below'
        items = list(self._reader.query(text, {"log": log, "below": below}))
        # What is left, should this break off, leads to what remains: the last of them.
        return sum(self._delete(item) for item in sorted(items, key=lambda item: cosmos_items.number_of(item, "index")))

    def _entries(self, entries: Sequence[tuple[str, int]]) -> Iterator[Item]:
        logs: dict[str, list[int]] = {}
        for log, index in entries:
            logs.setdefault(log, []).append(index)
        for log, indexes in logs.items():
            for at in range(0, len(indexes), IDS_AT_ONCE):
                values = {"log": log, "indexes": indexes[at : at + IDS_AT_ONCE]}
                yield from list(self._reader.query(f'{_OF_LOG} ARRAY_CONTAINS(@indexes, c["index"])', values))

    def _remove_body(self, item: Item) -> bool:
        was_bare = cosmos_items.is_bare(item)
        if was_bare and not item.get("lines"):
            return False
        self._delete_parts(item)
        with explained():
            self._reader.container().replace_item(
                item["id"],
                cosmos_items.bare(item),
                etag=item["_etag"],
                match_condition=MatchConditions.IfNotModified,
            )
        return not was_bare

    def _delete(self, item: Item) -> bool:
        self._delete_parts(item)
        return self._delete_item(item["session"], item["id"])

    def _delete_parts(self, item: Item) -> None:
        for name in cosmos_items.part_ids(item):
            self._delete_item(item["session"], name)

    def _delete_item(self, session: str, name: str) -> bool:
        container = self._reader.container()
        with explained():
            try:
                container.delete_item(name, partition_key=session)
            except CosmosResourceNotFoundError:
                return False
        return True
