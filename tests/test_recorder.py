from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from extproc.commands.evidence import notes
from extproc.config_recording import FileWitness, HttpWitness, Places, RecordingSettings, StoreSettings
from extproc.keys.checkpoint_key import load_public_key, public_path
from extproc.recorder import outlets_of, recording
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.verification.verify import verify
from tests.recording_of import exchange


def places(base: Path, **settings: Any) -> Places:
    return Places(base, Path("state"), StoreSettings(sqlite=Path("record.db")), RecordingSettings(**settings))


async def record(
    where: Places, *exchange_ids: str, epoch: str = "1", wrote: Callable[[float], None] = lambda _: None
) -> str:
    async with (
        aiohttp.ClientSession() as session,
        recording(where, epoch=epoch, worker="0", session=session, now=time.time, wrote=wrote) as recorded,
    ):
        for exchange_id in exchange_ids:
            await recorded.spool.append(*exchange(exchange_id))
        state = recorded.state()
        assert (state.conflicts, state.chain_index) == (0, len(exchange_ids))
        return recorded.spool.log


async def test_what_is_recorded_is_in_the_store_signed_and_witnessed_when_it_stops(tmp_path: Path) -> None:
    where = places(tmp_path, replica="pod-1")
    wrote: list[float] = []
    assert await record(where, "x1", "x2", wrote=wrote.append) == "pod-1.0.1"
    assert wrote
    assert min(wrote) >= 0
    assert [one["id"] for one in SqliteArchive(where.record).session("s1")] == ["x1", "x2"]
    assert list(where.spool.iterdir()) == []
    keys = [load_public_key(public_path(where.checkpoint_key))]
    witnessed = notes([where.state / "witness.log"])
    report = verify(SqliteLedger(where.record), keys, witnessed, now=time.time(), max_silence=60)
    assert (report.faults, report.warnings) == ([], [])
    assert [(one.log, one.entries, one.pending, one.closed) for one in report.logs] == [("pod-1.0.1", 3, 0, True)]


async def test_a_spool_that_cannot_be_written_does_not_keep_the_service_from_starting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    where = places(tmp_path)
    where.state.mkdir()
    where.spool.write_text("no folder")
    async with (
        aiohttp.ClientSession() as session,
        recording(where, epoch="1", worker="0", session=session, now=time.time) as recorded,
    ):
        assert recorded.spool.fault is not None
        assert str(where.spool) in recorded.spool.fault
    assert "no exchange can be recorded" in caplog.text


async def test_each_witness_of_the_settings_is_told(tmp_path: Path) -> None:
    witnesses = [FileWitness(kind="file", path=Path("-")), HttpWitness(kind="http", url="https://witness.test/notes")]
    where = places(tmp_path, checkpoints={"witnesses": witnesses})
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        outlets = await outlets_of(where, stack, session=session, now=time.time)
        assert list(outlets.witnesses.behind()) == ["witnesses[0]", "witnesses[1]"]
