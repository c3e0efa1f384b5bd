from __future__ import annotations

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest

from extproc.commands import entries
from extproc.commands.options import places_of
from extproc.errors import StoreUnavailable
from extproc.keys.checkpoint_key import load_public_key, public_path
from extproc.recorder import recording
from extproc.recording.checkpoint import open_note
from extproc.recording.entry import Draft, Kind, read_head
from extproc.store.sqlite_ledger import SqliteLedger

HOLD = Draft(Kind.LEGAL_HOLD, "hold-1", "log:commands", 1_760_000_000_000_000, {"state": "on"})


def signed(state: Path) -> dict[str, int]:
    """Return how many entries of each log are signed."""
    ledger, keys = SqliteLedger(state / "record.db"), [load_public_key(public_path(state / "checkpoint.key"))]
    return {log: max(open_note(note, keys).size for note in ledger.checkpoints(log)) for log in ledger.logs()}


def kinds(state: Path) -> list[Kind]:
    ledger = SqliteLedger(state / "record.db")
    return [read_head(one.head).kind for log in ledger.logs() for one in ledger.entries(log)]


def test_entries_of_a_command_are_in_the_store_and_signed_when_it_goes_on(tmp_path: Path) -> None:
    entries.record(places_of(tmp_path), [HOLD])
    assert kinds(tmp_path) == [Kind.LEGAL_HOLD, Kind.CLOSED]
    assert list(signed(tmp_path).values()) == [2]
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_service_that_runs_may_ship_them_first(tmp_path: Path) -> None:
    async with (
        aiohttp.ClientSession() as session,
        recording(places_of(tmp_path), epoch="1", worker="0", session=session, now=time.time),
    ):
        await asyncio.to_thread(entries.record, places_of(tmp_path), [HOLD])
        assert Kind.LEGAL_HOLD in kinds(tmp_path)
        assert 2 in signed(tmp_path).values()


def test_a_store_that_takes_nothing_is_told_and_the_entries_wait_in_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries.record(places_of(tmp_path), [HOLD])
    monkeypatch.setattr(entries, "WAIT_SECONDS", 0.2)
    with closing(sqlite3.connect(tmp_path / "record.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="it waits in the spool"):
            entries.record(places_of(tmp_path), [HOLD])
    assert len(list((tmp_path / "spool").iterdir())) == 1
