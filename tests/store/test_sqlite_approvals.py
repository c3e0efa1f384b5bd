from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from extproc.approval.approval import Approval, State, VerdictRefusal
from extproc.approval.event import View
from extproc.errors import StoreUnavailable
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import APPROVERS, NOW, request, verdict

ROOT = Path(__file__).parent.parent.parent
VIEW = View("issuer#carol", "carol", NOW)


@asynccontextmanager
async def serving(
    path: Path, instance: str = "one", now: float = NOW, busy_seconds: float = 5.0
) -> AsyncIterator[SqliteApprovals]:
    """Open the store as a process that serves does: while it is open, its lock says that it lives."""
    store = SqliteApprovals(path, instance=instance, now=now, busy_seconds=busy_seconds)
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def command(path: Path, now: float = NOW) -> AsyncIterator[SqliteApprovals]:
    store = SqliteApprovals(path, instance=None, now=now)
    try:
        yield store
    finally:
        await store.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "record.db"


async def state_of(store: SqliteApprovals, approval_id: str = "a1") -> State | None:
    approval = await store.get(approval_id)
    return None if approval is None else approval.state


# --- append-only -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["UPDATE approval_event SET state = 'approved'", "DELETE FROM approval_event"])
async def test_no_statement_changes_or_removes_an_event(path: Path, statement: str) -> None:
    async with serving(path) as store:
        await store.request(request())
        with closing(sqlite3.connect(path)) as other:
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                other.execute(statement)
            other.rollback()
        assert await state_of(store) is State.PENDING


@pytest.mark.parametrize(
    "values",
    [
        "'a1', 1, 'viewed', 'approved', 0, NULL, NULL, NULL, '', 'r', 'r', NULL, NULL",
        "'a1', 2, 'ended', 'expired', 0, NULL, NULL, NULL, '', 'r', 'r', NULL, NULL",
    ],
    ids=["a place that is taken", "a second end"],
)
async def test_the_schema_itself_lets_nobody_write_a_place_or_an_end_twice(path: Path, values: str) -> None:
    async with serving(path) as store:
        await store.request(request())
        await store.verdict("a1", verdict(), APPROVERS)
        with closing(sqlite3.connect(path)) as other, pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
            other.execute(f"INSERT INTO approval_event VALUES (NULL, {values})")  # noqa: S608 - the cases above


async def test_only_the_owner_may_read_the_file(path: Path) -> None:
    store = SqliteApprovals(path, instance="one", now=NOW)
    await store.request(request())
    assert {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()} == {0o600}
    await store.aclose()


# --- failures --------------------------------------------------------------------------------------------------------


async def test_a_locked_store_refuses_what_is_written_shows_what_is_there_and_goes_on_afterwards(path: Path) -> None:
    async with serving(path, busy_seconds=0.05) as store:
        await store.request(request())
        cursor, _ = await store.ended(None)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            outcomes = await asyncio.gather(
                store.request(request("a2")),
                store.verdict("a1", verdict(), APPROVERS),
                store.end("a1", State.EXPIRED, NOW),
                store.viewed("a1", VIEW),
                return_exceptions=True,
            )
            assert {type(one) for one in outcomes} == {StoreUnavailable}
            assert await state_of(store) is State.PENDING
            assert await store.ended(cursor) == (cursor, [])
            other.execute("ROLLBACK")
        assert isinstance(await store.verdict("a1", verdict(), APPROVERS), Approval)
        await store.request(request("a2"))


async def test_what_a_full_disk_does_not_take_is_refused_whole_and_reading_goes_on(path: Path) -> None:
    async with serving(path) as store:
        await store.request(request())
        (pages,) = store._writing.execute("PRAGMA page_count").fetchone()
        store._writing.execute(f"PRAGMA max_page_count = {pages}")
        large = request("a2", proposal=json.dumps("x" * 100_000))
        with pytest.raises(StoreUnavailable):
            await store.request(large)
        with pytest.raises(StoreUnavailable):
            await store.verdict("a1", verdict(reason="x" * 100_000), APPROVERS)
        assert await state_of(store) is State.PENDING
        assert await store.get("a2") is None
        store._writing.execute("PRAGMA max_page_count = 1000000")
        await store.request(large)
        assert await store.get("a2") == Approval(large, State.PENDING)


async def test_a_row_that_nobody_understands_is_an_error_and_no_approval(path: Path) -> None:
    async with serving(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            values = "NULL, 'a1', 0, 'requested', 'pending', 0, NULL, NULL, NULL, '', 'r', 'r', NULL, '{}'"
            other.execute(f"INSERT INTO approval_event VALUES ({values})")  # noqa: S608 - a literal above
        with pytest.raises(StoreUnavailable):
            await store.get("a1")
        with pytest.raises(StoreUnavailable):
            await store.verdict("a1", verdict(), APPROVERS)
        # The thread is as good as before.
        await store.request(request("a2"))


async def test_a_closed_store_says_so(path: Path) -> None:
    async with serving(path) as store:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.get("a1")
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.request(request())


def test_a_place_that_cannot_hold_a_store_is_told_at_the_start(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database " * 100)
    for instance in ("one", None):
        with pytest.raises(StoreUnavailable, match=str(path)):
            SqliteApprovals(path, instance=instance, now=NOW)


def test_a_command_makes_no_store(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="there is no store"):
        SqliteApprovals(path, instance=None, now=NOW)
    assert not path.exists()


async def test_a_command_requests_nothing(path: Path) -> None:
    async with serving(path), command(path) as store:
        with pytest.raises(StoreUnavailable):
            await store.request(request())


async def test_a_caller_that_goes_away_leaves_the_store_usable(path: Path) -> None:
    async with serving(path) as store:
        task = asyncio.create_task(store.request(request()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.end("a1", State.CANCELLED, NOW)
        assert await state_of(store) in {State.CANCELLED, None}


# --- processes -------------------------------------------------------------------------------------------------------

ANSWER_ALL = """
import asyncio, sys
from pathlib import Path
from extproc.approval.approval import Approval
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import APPROVERS, NOW, verdict

async def main(path, name):
    store = SqliteApprovals(path, instance=None, now=NOW)
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(50):
        if isinstance(await store.verdict(f"a{n}", verdict(name), APPROVERS), Approval):
            print(n, flush=True)
    await store.aclose()

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""

REQUEST_AND_HANG = """
import asyncio, sys
from pathlib import Path
from extproc.store.sqlite_approvals import SqliteApprovals
from tests.approving import NOW, request

async def main(path):
    store = SqliteApprovals(path, instance="doomed", now=NOW)
    for n in range(3):
        await store.request(request(f"a{n}"))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


def run_script(script: str, *arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stdin=pipe, stdout=pipe, text=True, cwd=ROOT)  # noqa: S603


async def test_of_two_processes_that_answer_at_once_one_is_first_for_each_approval(path: Path) -> None:
    async with serving(path) as store:
        for number in range(50):
            await store.request(request(f"a{number}"))
        names = ("bob", "carol")
        with run_script(ANSWER_ALL, str(path), "bob") as first, run_script(ANSWER_ALL, str(path), "carol") as second:
            for one in (first, second):
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            for one in (first, second):
                assert one.stdin is not None
                one.stdin.write("go\n")
                one.stdin.flush()
            accepted = [(await asyncio.to_thread(one.communicate))[0].split() for one in (first, second)]
        assert sorted(accepted[0] + accepted[1], key=int) == [str(number) for number in range(50)]
        for number in range(50):
            approval = await store.get(f"a{number}")
            assert approval is not None
            (only,) = approval.verdicts
            assert str(number) in accepted[names.index(only.name)]


@pytest.mark.parametrize("by", ["a process that serves", "a command"])
async def test_what_a_dead_process_left_pending_is_interrupted_at_the_next_start(path: Path, by: str) -> None:
    with run_script(REQUEST_AND_HANG, str(path)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        async with command(path, NOW + 1) as living:
            assert living.interrupted == 0
            await living.verdict("a0", verdict(), APPROVERS)
        process.send_signal(signal.SIGKILL)
    opened = command(path, NOW + 60) if by == "a command" else serving(path, "next", NOW + 60)
    async with opened as store:
        assert store.interrupted == 2
        assert [await state_of(store, f"a{n}") for n in range(3)] == [
            State.APPROVED,
            State.INTERRUPTED,
            State.INTERRUPTED,
        ]
        assert (await store.get("a1") or Approval(request(), State.PENDING)).ended_at == NOW + 60
        assert isinstance(await store.verdict("a1", verdict(at=NOW + 61), APPROVERS), VerdictRefusal)
    async with command(path) as again:
        assert again.interrupted == 0


async def test_what_a_living_process_waits_for_is_left_to_it(path: Path) -> None:
    async with serving(path, "living") as living:
        await living.request(request())
        async with serving(path, "next") as following, command(path) as looking:
            assert (following.interrupted, looking.interrupted) == (0, 0)
            assert await state_of(looking) is State.PENDING
            await looking.verdict("a1", verdict(), APPROVERS)
        assert await state_of(living) is State.APPROVED
