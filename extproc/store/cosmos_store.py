"""The `Store` port over Azure Cosmos DB: only ever creates, so create and read are all the rights it needs.

What is put is grouped by session, which is the partition key, and created in transactional batches. An id says what
an item is, so putting again meets 409; then what is there is read and compared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from azure.core.credentials_async import AsyncTokenCredential
from azure.cosmos.aio import ContainerProxy
from azure.cosmos.exceptions import CosmosBatchOperationError, CosmosHttpResponseError

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Blob, Sealed, WrappedKey
from extproc.store import cosmos_items
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_container import CosmosContainer
from extproc.store.cosmos_items import Item
from extproc.store.cosmos_retry import Retrying, reason_of
from extproc.store.port import Conflict

MAX_BATCH_ITEMS: Final = 100
MAX_BATCH_BYTES: Final = 1_000_000
"""The service takes 2 MB ("Transactional batch operations": 100 operations, 2 MB, 5 seconds), but may count otherwise;
and aiohttp warns of single writes above 1 MiB, which hold up the event loop."""

SESSIONS_AT_ONCE: Final = 8
READS_AT_ONCE: Final = 8


class CosmosStore:
    """Implement the `Store` port; belongs to the event loop that first uses it.

    Sessions that are put together are created at the same time, so entries of a log appear out of order and have gaps
    until `put` returns. That the partition of another session has an entry of the same log and index is not noticed
    here, but by whoever verifies the log.
    """

    def __init__(
        self,
        settings: CosmosSettings,
        credential: AsyncTokenCredential | None = None,
        *,
        retrying: Retrying | None = None,
    ) -> None:
        self._container = CosmosContainer(settings, credential, retrying)

    async def put(self, entries: Sequence[Sealed], blobs: Sequence[Blob] = (), keys: Sequence[WrappedKey] = ()) -> None:
        """Create what is not there yet; see the port for the contract."""
        items = [cosmos_items.key_item(key) for key in keys]
        items += [item for blob in blobs for item in cosmos_items.blob_items(blob)]
        items += [item for sealed in entries for item in cosmos_items.entry_items(sealed)]
        await self._put(items)

    async def put_checkpoint(self, log: str, size: int, note: str) -> None:
        """Create a checkpoint; see the port for the contract."""
        await self._put([cosmos_items.checkpoint_item(log, size, note)])

    async def aclose(self) -> None:
        """Close the connections; the credential stays the caller's."""
        await self._container.aclose()

    async def _put(self, items: Sequence[Item]) -> None:
        deadline = self._container.retrying.deadline()
        sessions, conflicts = _by_session(items)
        slots = asyncio.Semaphore(SESSIONS_AT_ONCE)

        async def one(session: str, members: list[Item]) -> list[str]:
            async with slots:
                wanted = await self._without_removed(session, members, deadline)
                return [name for batch in _batches(wanted) for name in await self._create_all(session, batch, deadline)]

        # All are waited for: what was taken of the others counts even where one fails.
        results = await asyncio.gather(*(one(*session) for session in sessions.items()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
            conflicts += result
        if conflicts:
            raise Conflict(", ".join(conflicts))

    async def _without_removed(self, session: str, items: list[Item], deadline: float) -> list[Item]:
        """Leave out the parts of entries whose bodies were removed meanwhile: they must not come back."""
        cut = [item for item in items if item["type"] == "entry" and "parts" in item]
        there = await self._read(session, cut, deadline) if cut else {}
        bare = [item for item in cut if item["id"] in there and cosmos_items.is_bare(there[item["id"]])]
        removed = {name for item in bare for name in cosmos_items.part_ids(item)}
        return [item for item in items if item["id"] not in removed]

    async def _create_all(self, session: str, batch: list[Item], deadline: float) -> list[str]:
        """Create these items of one session; return the names of those in whose place is something else."""
        conflicts: list[str] = []
        attempt = 0
        while batch:
            status = await self._create(session, batch, deadline)
            if status == 409:
                there = await self._read(session, batch, deadline)
                conflicts += [cosmos_items.named(item) for item in batch if _differs(item, there)]
                batch = [item for item in batch if item["id"] not in there]
                if not there:
                    # Somebody removes what we are told is there.
                    await self._container.retrying.pause(attempt, deadline, "items come and go in Cosmos DB")
                    attempt += 1
            elif status == 413 and len(batch) > 1:
                middle = len(batch) // 2
                conflicts += await self._create_all(session, batch[:middle], deadline)
                batch = batch[middle:]
            elif status is not None:
                raise StoreUnavailable(f"{cosmos_items.named(batch[0])} is too large for Cosmos DB")
            else:
                batch = []
        return conflicts

    async def _create(self, session: str, batch: list[Item], deadline: float) -> int | None:
        """Create all or none; return None, 409 or 413."""

        async def create(container: ContainerProxy) -> None:
            if len(batch) == 1:
                await container.create_item(batch[0])
            else:
                operations = [("create", (item,)) for item in batch]
                await container.execute_item_batch(operations, partition_key=session)

        try:
            await self._container.run(create, deadline)
        except (CosmosHttpResponseError, CosmosBatchOperationError) as error:
            if error.status_code == 404:
                raise StoreUnavailable(reason_of(error)) from None
            return error.status_code
        return None

    async def _read(self, session: str, batch: list[Item], deadline: float) -> dict[str, Item]:
        """Return those of these items that are there, by id."""
        slots = asyncio.Semaphore(READS_AT_ONCE)

        async def one(name: str) -> Item | None:
            async def read(container: ContainerProxy) -> Item:
                return dict(await container.read_item(name, partition_key=session))

            try:
                async with slots:
                    item: Item = await self._container.run(read, deadline)
            except CosmosHttpResponseError as error:
                if error.status_code == 404:
                    return None
                raise StoreUnavailable(reason_of(error)) from None
            return item

        found = await asyncio.gather(*(one(item["id"]) for item in batch))
        return {item["id"]: item for item in found if item is not None}


def _by_session(items: Iterable[Item]) -> tuple[dict[str, list[Item]], list[str]]:
    """Return the items by session, each id once, and the names of those that are given twice with different content."""
    sessions: dict[str, dict[str, Item]] = {}
    conflicts = []
    for item in items:
        known = sessions.setdefault(item["session"], {}).setdefault(item["id"], item)
        if known is not item and not cosmos_items.is_same(item, known):
            conflicts.append(cosmos_items.named(item))
    return {session: list(members.values()) for session, members in sessions.items()}, conflicts


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Cut into batches that the service takes, in the same order."""
    batch: list[Item] = []
    size = 0
    for item in items:
        item_size = len(msgspec.json.encode(item)) + 100  # and the operation around it
        if batch and (len(batch) == MAX_BATCH_ITEMS or size + item_size > MAX_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += item_size
    if batch:
        yield batch


def _differs(item: Item, there: dict[str, Item]) -> bool:
    return item["id"] in there and not cosmos_items.is_same(item, there[item["id"]])
