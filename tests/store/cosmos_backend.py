"""Cosmos DB for the suite over all stores: the fake account, or a real one where the environment names it.

`COSMOS_TEST_URL` and `COSMOS_TEST_KEY` are those of an account or of Microsoft's emulator, which gets a container for
each test.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest
from azure.cosmos import CosmosClient

from extproc.recording.envelope import Envelope
from extproc.secret import Secret
from extproc.store.cosmos import CosmosSettings
from extproc.store.cosmos_archive import CosmosArchive
from extproc.store.cosmos_eraser import CosmosEraser
from extproc.store.cosmos_ledger import CosmosLedger
from extproc.store.cosmos_provision import provision
from extproc.store.cosmos_retry import Retrying
from extproc.store.cosmos_store import CosmosStore
from extproc.store.port import Archive, Eraser, Ledger, Store
from tests.cosmos.running import running, settings
from tests.cosmos.server import FakeCosmos
from tests.store.conformance import Backend
from tests.store.cosmos_faults import COSMOS_FAULTS, STALL

Opened = TypeVar("Opened", CosmosArchive, CosmosLedger, CosmosEraser)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Backend]:
    """Give a backend; the fake keeps its file in this folder."""
    async with AsyncExitStack() as stack:
        if url := os.environ.get("COSMOS_TEST_URL"):
            where = stack.enter_context(_real(url, os.environ["COSMOS_TEST_KEY"]))
            yield CosmosBackend(where, None, stack)
        else:
            server = stack.enter_context(running(folder / "cosmos.db"))
            yield CosmosBackend(settings(server), server, stack)


@contextmanager
def _real(url: str, key: str) -> Iterator[CosmosSettings]:
    where = CosmosSettings(url, "extproc-test", uuid.uuid4().hex, key=Secret(key), endpoint_discovery=False)
    assert provision(where) == []
    try:
        yield where
    finally:
        with CosmosClient(url, key, enable_endpoint_discovery=False) as client:
            client.get_database_client(where.database).delete_container(where.container)


class CosmosBackend:
    def __init__(self, where: CosmosSettings, server: FakeCosmos | None, stack: AsyncExitStack) -> None:
        self.where = where
        self.server = server
        self._stack = stack

    async def store(self) -> Store:
        store = CosmosStore(self.where)
        self._stack.push_async_callback(store.aclose)
        return store

    def archive(self, envelope: Envelope | None = None) -> Archive:
        return self._closed_at_the_end(lambda: CosmosArchive(self.where, envelope=envelope))

    def ledger(self) -> Ledger:
        return self._closed_at_the_end(lambda: CosmosLedger(self.where))

    def eraser(self) -> Eraser:
        return self._closed_at_the_end(lambda: CosmosEraser(self.where))

    def _closed_at_the_end(self, make: Callable[[], Opened]) -> Opened:
        reader = make()
        self._stack.callback(reader.close)
        return reader

    @contextmanager
    def fault(self, store: Store, name: str) -> Iterator[None]:
        if self.server is None:
            pytest.skip("a real account cannot be told to fail")
        assert isinstance(store, CosmosStore)
        store._container.retrying = impatient()
        fault = replace(COSMOS_FAULTS[name][0])
        self.server.faults.append(fault)
        yield
        # A single item is put without a batch.
        assert fault.used or fault.operation == "batch"
        self.server.faults.clear()


def impatient(attempt_seconds: float = STALL) -> Retrying:
    """Return retries whose pauses take no time, but count."""
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds
        await asyncio.sleep(0)

    return Retrying(attempt_seconds, 10.0, clock=lambda: clock[0], sleep=sleep, jitter=lambda: 1.0)
