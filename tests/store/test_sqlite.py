from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import StoreUnavailable
from extproc.store.sqlite import MAX_GROUP, SqliteArchive, SqliteRecorder

NOW = 1_760_000_000.0


def opening(exchange_id: str, *, session: str = "s1", at: float = NOW, **changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "id": exchange_id,
        "session": session,
        "opened_at": at,
        "principal": {"id": "https://issuer#alice", "name": "alice"},
        "client": {"user_agent": "copilot/1.0"},
        "request": {"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]},
        "findings": [],
        "masking": None,
        **changes,
    }


def ending(exchange_id: str, *, at: float = NOW + 1, outcome: str = "completed") -> dict[str, Any]:
    entry = {"v": 1, "id": exchange_id, "closed_at": at, "outcome": outcome, "response": {"status": 200}}
    return {**entry, "findings": [], "masking": None, "approvals": []}


@asynccontextmanager
async def recorder(
    path: Path, instance: str = "one", now: float = NOW, busy_seconds: float = 5.0
) -> AsyncIterator[SqliteRecorder]:
    made = SqliteRecorder(path, instance=instance, now=now, busy_seconds=busy_seconds)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "extproc.db"


# --- appending and reading -------------------------------------------------------------------------------------------


async def test_entries_are_read_back_merged_into_one_document(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("a"), None)
        before = SqliteArchive(path).exchange("a")
        await store.append(None, ending("a"))
        after = SqliteArchive(path).exchange("a")
    assert before == {
        **opening("a"),
        "outcome": "open",
        "error": None,
        "closed_at": None,
        "response": None,
        "timing": None,
        "approvals": [],
    }
    assert after == {**opening("a"), **ending("a")}


async def test_both_entries_of_one_call_are_written(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("a"), ending("a"))
    assert SqliteArchive(path).exchange("a") == {**opening("a"), **ending("a")}


async def test_both_entries_of_one_call_are_written_together_or_not_at_all(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("a"), ending("a"))
        with pytest.raises(StoreUnavailable):
            await store.append(opening("b"), ending("a"))
    assert SqliteArchive(path).exchange("b") is None


async def test_halves_of_characters_are_recorded_joined_where_they_meet_and_replaced_where_not(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("x1"), {**ending("x1"), "response": {"text": "a\ud83d\ude00b\ud83dc"}})
    document = SqliteArchive(path).exchange("x1")
    assert document is not None
    assert document["response"]["text"] == "a\U0001f600b\ufffdc"


async def test_what_is_unknown_is_not_there(path: Path) -> None:
    async with recorder(path):
        archive = SqliteArchive(path)
        assert archive.exchange("a") is None
        assert list(archive.session("s")) == []
        assert archive.sessions() == []


async def test_a_session_is_read_in_the_order_in_which_exchanges_were_opened(path: Path) -> None:
    async with recorder(path) as store:
        for exchange_id, at in (("c", 3.0), ("a", 1.0), ("b2", 2.0), ("b1", 2.0)):
            await store.append(opening(exchange_id, at=at), None)
        await store.append(opening("other", session="s2"), None)
    assert [one["id"] for one in SqliteArchive(path).session("s1")] == ["a", "b1", "b2", "c"]


async def test_the_list_of_sessions_sums_them_up_newest_first(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("a", at=10.0), ending("a", at=12.0))
        await store.append(opening("b", at=20.0, request={"model": "claude"}), ending("b", at=25.0, outcome="denied"))
        await store.append(opening("c", at=30.0, request={"model": None}), None)
        await store.append(opening("d", session="old", at=5.0, principal=None, client={"user_agent": None}), None)
    newest, oldest = SqliteArchive(path).sessions()
    assert newest.id == "s1"
    assert (newest.user, newest.principal, newest.client) == ("alice", "https://issuer#alice", "copilot/1.0")
    assert (newest.started_at, newest.ended_at, newest.exchanges) == (10.0, 30.0, 3)
    assert newest.models == ["claude", "gpt-5"]
    assert newest.outcomes == {"completed": 1, "denied": 1, "open": 1}
    assert (oldest.id, oldest.user, oldest.principal, oldest.client) == ("old", None, None, None)


async def test_the_list_of_sessions_is_filtered_by_name_or_id_and_limited(path: Path) -> None:
    async with recorder(path) as store:
        for at, (session, user) in enumerate([("s1", "alice"), ("s2", "bob"), ("s3", "alice")]):
            who = {"id": f"issuer#{user}", "name": user}
            await store.append(opening(session, session=session, at=float(at), principal=who), None)
    archive = SqliteArchive(path)
    assert [row.id for row in archive.sessions(user="alice")] == ["s3", "s1"]
    assert [row.id for row in archive.sessions(user="issuer#bob")] == ["s2"]
    assert archive.sessions(user="alice' OR 1=1 --") == []
    assert [row.id for row in archive.sessions(limit=2)] == ["s3", "s2"]


@pytest.mark.parametrize(
    "model", ["a,b", 'q"uote', "日本語 🙂", "new\nline", "nul\0inside", "", "[]", "null", "x" * 10_000]
)
async def test_names_and_texts_of_any_kind_come_back_as_they_were(path: Path, model: str) -> None:
    document = opening("a", request={"model": model, "messages": [{"content": model, "n": 10**30}]})
    async with recorder(path) as store:
        await store.append(document, None)
        await store.append(opening("b", request={"model": "plain"}), None)
    archive = SqliteArchive(path)
    assert (archive.exchange("a") or {})["request"] == document["request"]
    assert archive.sessions()[0].models == sorted([model, "plain"])


async def test_only_the_owner_may_read_the_files(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("a"), None)
        files = [one for one in path.parent.iterdir() if not one.name.endswith(".lock")]
        assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o600}


# --- append-only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["opening", "closing"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET document = x'7b7d'", "DELETE FROM {}"])
async def test_no_statement_changes_or_removes_an_entry(path: Path, table: str, statement: str) -> None:
    async with recorder(path) as store:
        await store.append(opening("a"), ending("a"))
        with closing(sqlite3.connect(path)) as other:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement.format(table))
            other.rollback()
        assert SqliteArchive(path).exchange("a") == {**opening("a"), **ending("a")}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((opening("a"), None), (opening("a"), None)),
        ((opening("a"), ending("a")), (None, ending("a", outcome="denied"))),
        ((opening("a"), ending("a")), (opening("a"), ending("a"))),
    ],
)
async def test_an_entry_that_is_there_is_never_replaced(path: Path, first: Any, second: Any) -> None:
    async with recorder(path) as store:
        await store.append(*first)
        before = SqliteArchive(path).exchange("a")
        with pytest.raises(StoreUnavailable):
            await store.append(*second)
        assert SqliteArchive(path).exchange("a") == before


async def test_a_closing_without_an_opening_is_refused(path: Path) -> None:
    async with recorder(path) as store:
        with pytest.raises(StoreUnavailable):
            await store.append(None, ending("never opened"))


# --- group commit ----------------------------------------------------------------------------------------------------


async def test_many_appends_at_once_all_become_durable(path: Path) -> None:
    count = 3 * MAX_GROUP + 7
    async with recorder(path) as store:
        await asyncio.gather(*(store.append(opening(f"{n}"), ending(f"{n}")) for n in range(count)))
        # Another connection sees them all, so they were committed before `append` returned.
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT count(*) FROM opening JOIN closing USING (id)").fetchone() == (count,)


async def test_a_bad_entry_fails_alone(path: Path) -> None:
    async with recorder(path) as store:
        await store.append(opening("twice"), None)
        entries = [opening(f"{n}") for n in range(50)]
        entries.insert(25, opening("twice"))
        results = await asyncio.gather(*(store.append(one, None) for one in entries), return_exceptions=True)
    assert [at for at, result in enumerate(results) if result is not None] == [25]
    assert isinstance(results[25], StoreUnavailable)
    assert all(SqliteArchive(path).exchange(f"{n}") for n in range(50))


async def test_a_caller_that_goes_away_does_not_take_its_entry_along(path: Path) -> None:
    async with recorder(path) as store:
        task = asyncio.create_task(store.append(opening("a"), None))
        await asyncio.sleep(0)  # let it hand the entry over
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.append(opening("b"), None)
    assert SqliteArchive(path).exchange("a") == SqliteArchive(path).exchange("a") is not None


async def test_closing_the_store_first_writes_what_waits(path: Path) -> None:
    async with recorder(path) as store:
        tasks = [asyncio.create_task(store.append(opening(f"{n}"), None)) for n in range(20)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert SqliteArchive(path).sessions()[0].exchanges == 20


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.mkdir(parents=True),
        lambda path: path.parent.write_text("a file where the folder should be"),
        lambda path: (path.parent.mkdir(), path.write_bytes(b"not a database " * 100)),
    ],
    ids=["a folder in its place", "no folder", "another file"],
)
def test_a_place_that_cannot_hold_a_store_is_told_at_the_start(path: Path, spoil: Callable[[Path], object]) -> None:
    spoil(path)
    with pytest.raises(StoreUnavailable, match=str(path)):
        SqliteRecorder(path, instance="one", now=NOW)


def test_a_place_where_nothing_can_be_written_is_told_at_the_start() -> None:
    # Even root makes no file in /proc.
    with pytest.raises(StoreUnavailable):
        SqliteRecorder(Path("/proc/self/extproc.db"), instance="one", now=NOW)


async def test_a_locked_store_refuses_what_waits_and_takes_entries_again_afterwards(path: Path) -> None:
    async with recorder(path, busy_seconds=0.05) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writes = [store.append(opening(f"locked-{number}"), None) for number in range(20)]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {StoreUnavailable}
            other.execute("ROLLBACK")
        await store.append(opening("after"), None)
    assert SqliteArchive(path).exchange("after") is not None


def test_two_recorders_of_one_name_cannot_both_run(path: Path) -> None:
    async def run() -> None:
        async with recorder(path):
            with pytest.raises(StoreUnavailable):
                SqliteRecorder(path, instance="one", now=NOW)

    asyncio.run(run())


def test_an_archive_of_a_store_that_is_not_there_says_so(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no store"):
        SqliteArchive(path)


@pytest.mark.parametrize("content", [b"", b"not a database " * 100])
def test_an_archive_of_a_file_that_is_no_store_says_so(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "extproc.db"
    file.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="cannot read"):
        SqliteArchive(file).sessions()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from extproc.errors import StoreUnavailable
from extproc.store.sqlite import SqliteArchive, SqliteRecorder
from tests_store import opening

async def main(path):
    store = SqliteRecorder(path, instance="one", now=0.0)
    await store.append(opening("before"), None)
    used = max(file.stat().st_size for file in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (used + 10_000, resource.RLIM_INFINITY))
    acked, refused = ["before"], []
    for n in range(50):
        try:
            await asyncio.wait_for(store.append(opening(f"{n}", text="x" * 2000), None), 20)
            acked.append(f"{n}")
        except StoreUnavailable:
            refused.append(f"{n}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await store.append(opening("after"), None)
    await store.aclose()
    found = {one["id"] for one in SqliteArchive(path).session("s1")}
    assert refused, "the disk never filled"
    assert found == {*acked, "after"}, (found, acked, refused)

asyncio.run(main(Path(sys.argv[1])))
"""


def run_script(script: str, *arguments: str) -> subprocess.Popen[str]:
    text = script.replace("from tests_store import opening", OPENING_SOURCE)
    return subprocess.Popen([sys.executable, "-c", text, *arguments], stdout=subprocess.PIPE, text=True)  # noqa: S603


OPENING_SOURCE = """
def opening(id, **more):
    return {"v": 1, "id": id, "session": "s1", "opened_at": 1.0, "principal": None, "client": {}, "request": {}, **more}
"""


def test_what_a_full_disk_does_not_take_is_refused_and_the_store_goes_on_when_there_is_room(path: Path) -> None:
    with run_script(FULL_DISK, str(path)) as process:
        assert process.wait(60) == 0


# --- processes that die ----------------------------------------------------------------------------------------------

APPEND_FOREVER = """
import asyncio, sys
from pathlib import Path
from extproc.store.sqlite import SqliteRecorder
from tests_store import opening

async def one(store, n):
    await store.append(opening(f"{n}"), None)
    print(n, flush=True)

async def main(path):
    store = SqliteRecorder(path, instance="doomed", now=0.0)
    for start in range(0, 10_000_000, 20):
        await asyncio.gather(*(one(store, n) for n in range(start, start + 20)))

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_after_kill_9_everything_that_was_acknowledged_is_there_and_closed_as_interrupted(path: Path) -> None:
    with run_script(APPEND_FOREVER, str(path)) as process:
        assert process.stdout is not None
        acked = [process.stdout.readline().strip() for _ in range(200)]
        process.send_signal(signal.SIGKILL)
        acked += process.stdout.read().split()
    async with recorder(path, instance="next", now=NOW) as store:
        documents = {one["id"]: one for one in SqliteArchive(path).session("s1")}
    assert set(acked) - {""} <= set(documents)
    assert store.interrupted == len(documents)
    assert {one["outcome"] for one in documents.values()} == {"interrupted"}
    assert {one["closed_at"] for one in documents.values()} == {NOW}


async def test_open_exchanges_of_a_process_that_ended_are_closed_at_the_next_start_and_only_once(path: Path) -> None:
    async with recorder(path, "gone") as store:
        await store.append(opening("open"), None)
        await store.append(opening("done"), ending("done"))
    async with recorder(path, "next", now=NOW + 60) as store:
        assert store.interrupted == 1
        document = SqliteArchive(path).exchange("open") or {}
        assert (document["outcome"], document["closed_at"]) == ("interrupted", NOW + 60)
        assert document["error"]["code"] == "gateway.internal"
        assert (SqliteArchive(path).exchange("done") or {})["outcome"] == "completed"
    async with recorder(path, "third") as store:
        assert store.interrupted == 0


async def test_open_exchanges_of_a_living_process_are_left_to_it(path: Path) -> None:
    async with recorder(path, "living") as living:
        await living.append(opening("open"), None)
        async with recorder(path, "next") as following:
            assert following.interrupted == 0
            assert (SqliteArchive(path).exchange("open") or {})["outcome"] == "open"
            await living.append(None, ending("open"))
        assert (SqliteArchive(path).exchange("open") or {})["outcome"] == "completed"


async def test_the_lock_file_of_a_dead_process_is_cleared_away(path: Path) -> None:
    async with recorder(path, "gone") as store:
        await store.append(opening("open"), None)
    async with recorder(path, "next"):
        assert not path.with_name("extproc.db.gone.lock").exists()
        assert path.with_name("extproc.db.next.lock").exists()


async def test_two_processes_write_one_file(path: Path) -> None:
    async with recorder(path, "one") as first, recorder(path, "two") as second:
        stores = (first, second)
        await asyncio.gather(*(stores[n % 2].append(opening(f"{n}"), None) for n in range(400)))
        await asyncio.gather(*(stores[n % 2].append(None, ending(f"{n}")) for n in range(400)))
    row = SqliteArchive(path).sessions()[0]
    assert (row.exchanges, row.outcomes) == (400, {"completed": 400})
