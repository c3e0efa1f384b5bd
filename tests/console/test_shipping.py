"""A console with a state directory of its own ships what it records, and leaves alone what somebody else holds."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from extproc.config_recording import CheckpointSettings, Places, RecordingSettings, StoreSettings
from extproc.console.accesses import Accesses
from extproc.console.roles import Role, Viewer
from extproc.console.shipping import shipping
from extproc.exchange_id import exchange_id
from extproc.keys.checkpoint_key import load_or_create_signer
from extproc.recording.checkpoint import open_note
from extproc.spool import folders
from extproc.spool.folders import Lock
from extproc.store.sqlite_ledger import SqliteLedger
from tests.console.desk import principal

CAROL = Viewer(principal("carol"), frozenset({Role.AUDITOR}))
SECONDS = 20


@pytest.fixture
def places(tmp_path: Path) -> Places:
    checkpoints = CheckpointSettings(seconds=1, witnesses=[])
    recording = RecordingSettings(replica="console", checkpoints=checkpoints)
    return Places(tmp_path, Path("state"), StoreSettings(sqlite=Path("record.db")), recording)


async def shipped(places: Places) -> None:
    """Wait until nothing is left in the spool."""
    async with asyncio.timeout(SECONDS):
        while folders.logs_in(places.spool):  # noqa: ASYNC110 - files change
            await asyncio.sleep(0.02)


async def test_an_access_is_soon_in_the_store_and_signed(places: Places) -> None:
    accesses = Accesses(places, time.time, exchange_id)
    async with aiohttp.ClientSession() as session, shipping(places, session, time.time):
        await accesses.note(CAROL, "replay", target="s1")
        await shipped(places)
    ledger = SqliteLedger(places.record)
    [log] = ledger.logs()
    heads = [entry.head for entry in ledger.entries(log)]
    key = load_or_create_signer(places.checkpoint_key, places.recording.checkpoints.name).public
    assert open_note(ledger.checkpoints(log)[-1], [key]).size == len(heads) == 2
    assert b'"replay"' in heads[0]


async def test_no_key_of_fingerprints_is_made_where_the_console_has_none(places: Places) -> None:
    accesses = Accesses(places, time.time, exchange_id)
    async with aiohttp.ClientSession() as session, shipping(places, session, time.time):
        await accesses.note(CAROL, "replay", target="s1")
        await shipped(places)
    assert not places.fingerprint_key.exists()


async def test_what_another_process_holds_waits_until_it_lets_go(places: Places) -> None:
    accesses = Accesses(places, time.time, exchange_id)
    await accesses.note(CAROL, "replay", target="held")
    [held] = folders.logs_in(places.spool)
    lock = Lock(held)
    async with aiohttp.ClientSession() as session, shipping(places, session, time.time):
        await accesses.note(CAROL, "replay", target="free")
        async with asyncio.timeout(SECONDS):
            while folders.logs_in(places.spool) != [held]:  # noqa: ASYNC110 - files change
                await asyncio.sleep(0.02)
        lock.release()
        await shipped(places)
    assert len(SqliteLedger(places.record).logs()) == 2


async def test_two_that_ship_from_one_spool_put_each_entry_once(places: Places) -> None:
    accesses = Accesses(places, time.time, exchange_id)
    async with (
        aiohttp.ClientSession() as session,
        shipping(places, session, time.time),
        shipping(places, session, time.time),
    ):
        for number in range(20):
            await accesses.note(CAROL, "replay", target=f"s{number}")
        await shipped(places)
    ledger = SqliteLedger(places.record)
    assert [len(list(ledger.entries(log))) for log in ledger.logs()] == [2] * 20
