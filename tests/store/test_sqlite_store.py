from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Blob, Kind, Sealed, address_of, read_head
from extproc.store.port import Conflict
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_ledger import SqliteLedger
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import Log, exchange

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "record.db"


@asynccontextmanager
async def opened(path: Path, busy_seconds: float = 5.0) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(path, busy_seconds=busy_seconds)
    try:
        yield store
    finally:
        await store.aclose()


def entries(*names: str, log: str = "a.0.1") -> list[Sealed]:
    written = Log(log)
    return [written.exchange(*exchange(name)) for name in names]


def recorded(path: Path) -> list[str]:
    return [one["id"] for one in SqliteArchive(path).exchanges()]


# --- what is there ---------------------------------------------------------------------------------------------------


async def test_an_exchange_has_one_entry_in_all_logs(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entries("x"))
        with pytest.raises(Conflict, match=r"entry 0 of log b.0.1: there is another entry of exchange x"):
            await store.put(entries("x", "y", log="b.0.1"))
    assert [one.index for one in SqliteLedger(path).entries("b.0.1")] == [1]


async def test_a_conflict_names_the_first_and_how_many_more(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entries("x", "y", "z"))
        with pytest.raises(Conflict, match=r"in the place of entry 0 of log a.0.1 \(and 2 more\)$"):
            await store.put(entries("forged", "also", "too"))


@pytest.mark.parametrize("there", [[], [0], [7, 40, 69], [69], list(range(70))], ids=str)
async def test_of_many_at_once_each_has_its_own_lines_and_findings_whatever_is_there_already(
    path: Path, there: list[int]
) -> None:
    written = Log("a.0.1")
    found = {"direction": "prompt", "where": "messages[0]", "offset": 0, "action": "mask", "at": 1, "fingerprint": "f"}
    many = [
        written.exchange(
            *exchange(f"x{number:02}", findings=[{"rule": f"rule-{number}", **found}]), lines=[f"{number}"]
        )
        for number in range(70)
    ]
    async with opened(path) as store:
        await store.put([many[number] for number in there], written.blobs[:1])
        await store.put(many, [*written.blobs, Blob("other", "address", b"data")])
    stored = sorted(SqliteLedger(path).entries("a.0.1"), key=lambda one: one.index)
    assert [(one.hash, one.lines) for one in stored] == [(one.hash, one.lines) for one in many]
    rows = SqliteArchive(path).findings()
    assert {row.exchange: row.rule for row in rows} == {f"x{number:02}": f"rule-{number}" for number in range(70)}
    assert SqliteLedger(path).blobs("other", ["address"]) == {"address": b"data"}


async def test_a_bug_in_an_entry_takes_nothing_of_its_call_and_the_store_goes_on(path: Path) -> None:
    async with opened(path) as store:
        with pytest.raises(ValueError, match="malformed"):
            await store.put([*entries("x"), Sealed(b"no head", "0" * 64, None)])
        assert recorded(path) == []
        await store.put(entries("x"))
    assert recorded(path) == ["x"]


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pragma", "why"), [("query_only = ON", "attempt to write a readonly database"), ("max_page_count = 1", "is full")]
)
async def test_what_failed_is_told_without_any_data(path: Path, pragma: str, why: str) -> None:
    secret = "word " * 5000
    async with opened(path) as store:
        assert store._connection is not None
        store._connection.execute(f"PRAGMA {pragma}")
        with pytest.raises(StoreUnavailable, match=rf"{path} did not take the entries: .*{why}$"):
            await store.put([], [Blob("s1", address_of(secret.encode()), secret.encode())])


async def test_a_locked_store_is_told_and_nothing_is_lost(path: Path) -> None:
    async with opened(path, busy_seconds=0.05) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="database is locked"):
                await store.put(entries("x"))
            with pytest.raises(StoreUnavailable, match="database is locked"):
                await store.put_checkpoint("a.0.1", 1, "note")
        await store.put(entries("x"))
    assert recorded(path) == ["x"]


async def test_a_store_whose_file_is_moved_away_writes_to_the_one_at_its_path(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entries("x"))
        aside = path.parent / "aside"
        aside.mkdir()
        for file in path.parent.glob("record.db*"):
            file.rename(aside / file.name)
        await store.put(entries("x", "y"))
        assert recorded(path) == ["x", "y"]
        assert recorded(aside / path.name) == ["x"]


async def test_a_store_that_goes_and_comes_back_takes_everything(path: Path) -> None:
    async with opened(path) as store:
        path.parent.rename(path.parent.with_name("away"))
        path.parent.write_text("not a folder")
        with pytest.raises(StoreUnavailable):
            await store.put(entries("x"))
        path.parent.unlink()
        path.parent.with_name("away").rename(path.parent)
        await store.put(entries("x"))
    assert recorded(path) == ["x"]


async def test_a_closed_store_takes_nothing(path: Path) -> None:
    async with opened(path) as store:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.put(entries("x"))


async def test_a_caller_that_goes_away_leaves_the_store_usable(path: Path) -> None:
    async with opened(path) as store:
        task = asyncio.create_task(store.put(entries("x")))
        await asyncio.sleep(0)  # let it hand the entry over
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.put(entries("x", "y"))
    assert recorded(path) == ["x", "y"]


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from extproc.errors import StoreUnavailable
from extproc.store.sqlite_archive import SqliteArchive
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import Log, exchange

async def main(path):
    store, log = SqliteStore(path), Log()
    made = [log.exchange(*exchange(f"{n}", answered="x" * 2000)) for n in range(50)]
    await store.put(made[:1])
    used = max(file.stat().st_size for file in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 30_000, resource.RLIM_INFINITY))
    acked, refused = ["0"], []
    for n in range(1, 50):
        try:
            await store.put(made[n:n + 1])
            acked.append(f"{n}")
        except StoreUnavailable as failure:
            refused.append(str(failure))
    assert refused, "the disk never filled"
    assert all("full" in one or "disk I/O" in one for one in refused), refused
    found = {one["id"] for one in SqliteArchive(path).session("s1")}
    assert found == set(acked), (found, acked)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.put(made)
    await store.aclose()
    assert len(list(SqliteArchive(path).session("s1"))) == 50

asyncio.run(main(Path(sys.argv[1])))
"""


def run_script(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)  # noqa: S603


def test_what_a_full_disk_does_not_take_is_refused_and_the_store_goes_on_when_there_is_room(path: Path) -> None:
    with run_script(FULL_DISK, str(path)) as process:
        assert process.wait(60) == 0


# --- processes -------------------------------------------------------------------------------------------------------

PUT_FOREVER = """
import asyncio, hashlib, sys
from pathlib import Path
from extproc.recording.entry import Blob, address_of
from extproc.store.sqlite_store import SqliteStore
from tests.recording_of import Log, exchange

async def main(path, what):
    store, log = SqliteStore(path), Log()
    for n in range(1_000_000):
        data = hashlib.sha256(str(n).encode()).digest() * 200
        if what == "checkpoint":
            await store.put_checkpoint(f"{n}", 1, data.hex())
        else:
            entries = [log.exchange(*exchange(f"{n}-{m}"), lines=[f"{n}"]) for m in range(20)]
            await store.put(entries, [Blob("s1", address_of(data), data)] if what == "blobs" else [])
        print(n, flush=True)

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("what", ["entries", "blobs", "checkpoint"])
async def test_after_kill_9_the_store_is_whole_and_has_everything_that_was_acknowledged(path: Path, what: str) -> None:
    with run_script(PUT_FOREVER, str(path), what) as process:
        assert process.stdout is not None
        acked = [process.stdout.readline().strip() for _ in range(30)]
        process.send_signal(signal.SIGKILL)
        acked += process.stdout.read().split()
    async with opened(path) as store:
        await store.put_checkpoint("afterwards", 1, "note")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    ledger = SqliteLedger(path)
    logs = set(ledger.logs()) - {"afterwards"}
    if what == "checkpoint":
        assert set(acked) <= logs
        return
    found = list(ledger.entries("test.0.1"))
    assert [one.index for one in found] == list(range(len(found)))
    # A call is there as a whole or not at all: twenty entries, and the lines of each.
    assert len(found) % 20 == 0
    assert len(found) >= 20 * len(acked)
    assert all(one.lines == [str(one.index // 20)] for one in found)
    assert all(read_head(one.head).kind is Kind.EXCHANGE for one in found)
    if what == "blobs":
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM blob").fetchone() == (len(found) // 20,)


async def test_several_writers_at_once_lose_nothing(path: Path) -> None:
    async with opened(path) as first, opened(path) as second:
        logs = [Log("a.0.1"), Log("b.0.1")]

        async def write(store: SqliteStore, log: Log, name: str) -> None:
            for number in range(50):
                await store.put([log.exchange(*exchange(f"{name}{number}"))])

        await asyncio.gather(write(first, logs[0], "a"), write(second, logs[1], "b"))
    assert sorted(recorded(path)) == sorted(f"{name}{number}" for name in "ab" for number in range(50))
