"""One container of Azure Cosmos DB on one event loop: create, read and query, each tried for a bounded time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.cosmos.aio import ContainerProxy, CosmosClient
from azure.cosmos.exceptions import CosmosHttpResponseError

from extproc.errors import StoreUnavailable
from extproc.store.cosmos import CosmosSettings, async_client
from extproc.store.cosmos_retry import Retrying, reason_of

T = TypeVar("T")
Item = dict[str, Any]

PAGE_ITEMS: Final = 200
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404


class CosmosContainer:
    """Connected to at the first use; belongs to the event loop that first uses it. Raises StoreUnavailable."""

    def __init__(
        self, settings: CosmosSettings, credential: AsyncTokenCredential | None, retrying: Retrying | None = None
    ) -> None:
        self.retrying = retrying or Retrying(settings.attempt_seconds, settings.patience_seconds)
        self._settings = settings
        self._credential = credential
        self._client: CosmosClient | None = None
        self._connecting = asyncio.Lock()
        self._closed = False

    async def create(self, item: Item, deadline: float) -> bool:
        """Create an item; False where one with its id is there, which may be this one from an attempt before."""

        async def create(container: ContainerProxy) -> None:
            await container.create_item(item)

        try:
            await self.run(create, deadline)
        except CosmosHttpResponseError as error:
            if error.status_code == _CONFLICT:
                return False
            raise StoreUnavailable(reason_of(error)) from None
        return True

    async def read(self, partition: str, name: str, deadline: float) -> Item | None:
        """Return the item with this id."""

        async def read(container: ContainerProxy) -> Item:
            return dict(await container.read_item(name, partition_key=partition))

        try:
            return await self.run(read, deadline)
        except CosmosHttpResponseError as error:
            # With a sub-status not the item is missing, but the container.
            if error.status_code == _NOT_FOUND and not error.sub_status:
                return None
            raise StoreUnavailable(reason_of(error)) from None

    async def query(
        self, text: str, values: Mapping[str, Any], deadline: float, *, limit: int, partition: str | None = None
    ) -> list[Any]:
        """Return what a query finds, at most `limit`, in one partition or in all."""
        parameters = [{"name": f"@{name}", "value": value} for name, value in values.items()]
        where: dict[str, Any] = {} if partition is None else {"partition_key": partition}

        async def ask(container: ContainerProxy) -> list[Any]:
            rows: list[Any] = []
            page = min(limit, PAGE_ITEMS)
            async for row in container.query_items(text, parameters=parameters, max_item_count=page, **where):
                rows.append(row)
                if len(rows) == limit:
                    break
            return rows

        try:
            return await self.run(ask, deadline)
        except CosmosHttpResponseError as error:
            raise StoreUnavailable(reason_of(error)) from None

    async def aclose(self) -> None:
        """Close the connections; the credential stays the caller's."""
        self._closed = True
        async with self._connecting:
            if self._client is not None:
                await self._client.close()
                self._client = None

    async def run(self, operation: Callable[[ContainerProxy], Awaitable[T]], deadline: float) -> T:
        """Return what an operation returns, tried again until the deadline; raises the SDK's errors of other faults."""

        async def attempt() -> T:
            return await operation(await self._container())

        return await self.retrying.run(attempt, deadline)

    async def _container(self) -> ContainerProxy:
        async with self._connecting:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._client is None:
                opened = async_client(self._settings, self._credential)
                try:
                    await opened.__aenter__()
                except BaseException:
                    await opened.close()
                    raise
                self._client = opened
        return self._client.get_database_client(self._settings.database).get_container_client(self._settings.container)
