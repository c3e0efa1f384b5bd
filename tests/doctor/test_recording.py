from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from extproc.config_recording import CosmosStore, Places, RecordingSettings, SpoolSettings, StoreSettings
from extproc.doctor.check import Status, Verdict, run
from extproc.doctor.recording import checks
from extproc.spool.folders import logs_in
from extproc.store.sqlite_store import SqliteStore


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "spool").mkdir()
    return Places(tmp_path, Path(), StoreSettings(sqlite=Path("record.db")), RecordingSettings(replica="a"))


async def looked(places: Places, store_seconds: float = 0.3) -> dict[str, Verdict]:
    found = checks(places, "os:me", time.time, seconds=5, store_seconds=store_seconds)
    return {result.id: result.verdict for result in await run(found)}


async def ship(places: Places, *, keep: bool) -> None:
    """Do as the service does once the store took a log."""
    while True:
        for folder in logs_in(places.spool):
            with suppress(OSError):
                if keep:
                    (folder / "shipped.json").write_text("{}")
                else:
                    folder.rename(places.spool / f".{folder.name}.gone")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("keep", [False, True])
async def test_an_entry_that_goes_all_the_way_proves_the_store(places: Places, keep: bool) -> None:  # noqa: FBT001
    service = asyncio.create_task(ship(places, keep=keep))
    found = await looked(places, store_seconds=10)
    service.cancel()
    assert found["store.writable"].status is Status.OK
    assert found["spool.writable"].status is Status.OK


async def test_an_entry_that_stays_in_the_spool_fails_and_is_kept(places: Places) -> None:
    verdict = (await looked(places))["store.writable"]
    assert verdict.status is Status.FAILED
    (log,) = logs_in(places.spool)
    assert log.name in verdict.sentence


async def test_a_spool_that_is_not_there_fails_both(places: Places) -> None:
    places.spool.rmdir()
    places.spool.touch()
    found = await looked(places)
    assert found["spool.writable"].status is Status.FAILED
    assert found["store.writable"].status is Status.FAILED
    assert "Nothing can be recorded" in found["store.writable"].sentence


async def test_a_disk_without_its_reserve_fails(places: Places) -> None:
    recording = RecordingSettings(replica="a", spool=SpoolSettings(reserve_bytes=1 << 60))
    full = Places(places.base, places.state_folder, places.store, recording)
    verdict = (await looked(full))["spool.writable"]
    assert verdict.status is Status.FAILED
    assert "reserve" in verdict.sentence


async def test_nothing_of_the_spools_test_is_left(places: Places) -> None:
    await looked(places)
    assert [path for path in places.spool.iterdir() if path.name.startswith(".doctor")] == []


async def test_a_store_that_can_be_read_is_told_from_one_that_cannot(places: Places) -> None:
    assert "there is no store" in (await looked(places))["store.readable"].sentence
    store = SqliteStore(places.record)
    await store.put([])
    await store.aclose()
    assert (await looked(places))["store.readable"].status is Status.OK
    (places.base / "record.db").write_bytes(b"no database" * 1000)
    assert (await looked(places))["store.readable"].status is Status.FAILED


async def test_a_store_in_azure_that_cannot_be_reached_is_not_readable(places: Places) -> None:
    key = places.base / "cosmos.key"
    key.write_text("a2V5")
    key.chmod(0o600)
    cosmos = CosmosStore(endpoint="https://127.0.0.1:9", key_file=key)
    away = Places(places.base, places.state_folder, StoreSettings(cosmos=cosmos), places.recording)
    assert (await looked(away, store_seconds=1.0))["store.readable"].status is Status.FAILED
