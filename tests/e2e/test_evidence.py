"""The record holds: the service is killed again and again under load, with the store up, down and flapping."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_ledger import SqliteLedger
from tests.e2e.gateway import Gateway
from tests.e2e.load import check_record, killed_under_load

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

# `make soak` kills twenty times: that takes one or two minutes.
KILLS = int(os.environ.get("KILLS", "6"))


@asynccontextmanager
async def store_is(state: str, path: Path) -> AsyncIterator[None]:
    """Keep the store from taking anything, all the time or now and then: somebody else holds the file's lock."""
    if state == "up":
        yield
        return
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as other:
        other.execute("BEGIN IMMEDIATE")
        flapping = asyncio.create_task(_flap(other)) if state == "flapping" else None
        try:
            yield
        finally:
            if flapping is not None:
                flapping.cancel()
                await asyncio.gather(flapping, return_exceptions=True)


async def _flap(other: sqlite3.Connection) -> None:
    while True:
        await asyncio.sleep(0.03)
        other.execute("ROLLBACK")
        await asyncio.sleep(0.03)
        other.execute("BEGIN IMMEDIATE")


async def test_whatever_a_client_saw_is_recorded_once_though_the_service_is_killed_again_and_again(
    own_gateway: Gateway,
) -> None:
    await own_gateway.prepare()
    path = own_gateway.state / "record.db"
    load = await killed_under_load(own_gateway, KILLS, lambda state: store_is(state, path))
    check_record(load, SqliteArchive(path), SqliteLedger(path))
