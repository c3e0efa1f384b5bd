"""Read items of a Cosmos DB container; blocks. What ledger, archive and eraser have in common."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from azure.core.credentials import TokenCredential
from azure.core.exceptions import AzureError
from azure.cosmos import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosResourceNotFoundError

from extproc.errors import StoreUnavailable
from extproc.store import cosmos_items
from extproc.store.cosmos import CosmosSettings, client
from extproc.store.cosmos_items import Item
from extproc.store.cosmos_retry import reason_of

PAGE_ITEMS: Final = 200
IDS_AT_ONCE: Final = 100


class CosmosReader:
    """One container, connected to at the first use; safe for several threads. Raises StoreUnavailable.

    The SDK tries again by itself what fails for reasons that pass: reading twice does no harm.
    """

    def __init__(self, settings: CosmosSettings, credential: TokenCredential | None = None) -> None:
        self._settings = settings
        self._credential = credential
        self._client: CosmosClient | None = None
        self._connecting = threading.Lock()

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._connecting:
            if self._client is not None:
                self._client.close()
                self._client = None

    def container(self) -> ContainerProxy:
        """Return the container, for what this class does not do; wrap its use in `explained`."""
        with self._connecting, explained():
            if self._client is None:
                self._client = client(self._settings, self._credential)
        return self._client.get_database_client(self._settings.database).get_container_client(self._settings.container)

    def query(self, text: str, values: Mapping[str, Any] = {}, *, session: str | None = None) -> Iterator[Any]:
        """Yield what a query finds, in one session or in all; `values` by the names of its parameters."""
        parameters = [{"name": f"@{name}", "value": value} for name, value in values.items()]
        where: dict[str, Any] = (
            {"enable_cross_partition_query": True} if session is None else {"partition_key": session}
        )
        container = self.container()
        with explained():
            yield from container.query_items(text, parameters=parameters, max_item_count=PAGE_ITEMS, **where)

    def read(self, session: str, name: str) -> Item | None:
        """Return the item with this id."""
        container = self.container()
        with explained():
            try:
                return dict(container.read_item(name, partition_key=session))
            except CosmosResourceNotFoundError as error:
                if error.sub_status:  # Not the item is missing, but the container.
                    raise
                return None

    def items(self, session: str, names: Collection[str]) -> dict[str, Item]:
        """Return those of these items of a session that are there, by id."""
        found: dict[str, Item] = {}
        wanted = list(names)
        for at in range(0, len(wanted), IDS_AT_ONCE):
            values = {"names": wanted[at : at + IDS_AT_ONCE]}
            rows = self.query('SELECT * FROM c WHERE ARRAY_CONTAINS(@names, c["id"])', values, session=session)
            found |= {item["id"]: item for item in rows}
        return found

    def data(self, item: Item) -> bytes | None:
        """Return the body or blob of an item, with its parts."""
        parts = cosmos_items.part_ids(item)
        return cosmos_items.data_of(item, self.items(str(item.get("session")), parts) if parts else {})

    def blobs(self, session: str, addresses: Collection[str]) -> dict[str, bytes]:
        """Return those of these blobs that are there."""
        there = self.items(session, {cosmos_items.blob_id(address) for address in addresses})
        data = {item["id"].removeprefix("b."): self.data(item) for item in there.values()}
        return {address: one for address, one in data.items() if one is not None}


@contextmanager
def explained() -> Iterator[None]:
    """Raise StoreUnavailable for what the SDK raises."""
    try:
        yield
    except (AzureError, OSError) as error:
        raise StoreUnavailable(reason_of(error)) from None
