from __future__ import annotations

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.entry import read_head
from extproc.shipping.log_shipper import LONGEST_ROW, LogShipper, uncut
from extproc.shipping.outlets import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Cadence
from extproc.spool import folders
from extproc.spool.reader import Damaged
from extproc.spool.recovery import recover
from extproc.spool.spool import Spool, SpoolBounds
from tests.disks import fill, small_disk
from tests.recording_of import NOW, exchange
from tests.shipping.stores import Clock, Pauses, StrictStore, WitnessInMemory, outlets_to
from tests.spool.crashing import envelope
from tests.spooling import LOG, abandon, event, spool_in, until

SMALL = SpoolBounds(reserve_bytes=4096, segment_bytes=2000)


def cut(task: asyncio.Task[None]) -> None:
    task.cancel()


async def ship_all(shipper: LogShipper, spool: Spool | None = None) -> None:
    while await shipper.ship(None if spool is None else spool.durable):
        pass


async def test_entries_arrive_once_and_in_order_and_the_checkpoint_covers_them(tmp_path: Path) -> None:
    store, spool = StrictStore(), spool_in(tmp_path)
    shipper = LogShipper(spool.folder, outlets_to(store, Clock()))
    for number in range(5):
        await spool.append(*exchange(f"x{number}", messages=[{"role": "user", "content": f"{number} " * 2000}]))
        await ship_all(shipper, spool)
    assert store.ids(LOG) == [f"x{number}" for number in range(5)]
    assert len(store.blobs) == 5
    assert store.repeated == 0
    assert store.notes[LOG] == {}
    await shipper.checkpoint()
    assert [(one.size, one.at) for one in store.checkpoints(LOG)] == [(5, int(NOW))]
    await spool.aclose()
    await ship_all(shipper, spool)
    assert shipper.is_closed
    done = [shipper.is_done]
    await shipper.checkpoint()
    assert [*done, shipper.is_done] == [False, True]
    shipper.remove()
    spool.release()
    assert folders.logs_in(tmp_path) == []
    assert not spool.folder.exists()
    assert [one.size for one in store.checkpoints(LOG)] == [5, 6]


async def test_what_is_not_flushed_is_not_shipped(tmp_path: Path) -> None:
    store, spool = StrictStore(), spool_in(tmp_path)
    await spool.append(*exchange("one"))
    durable = spool.durable
    await spool.append(*exchange("two"))
    shipper = LogShipper(spool.folder, outlets_to(store, Clock()))
    while await shipper.ship(durable):
        pass
    assert store.ids(LOG) == ["one"]
    abandon(spool)


async def test_blobs_and_keys_of_what_is_open_are_in_the_store_before_their_entry(tmp_path: Path) -> None:
    store = StrictStore()
    spool = spool_in(tmp_path, new_key=envelope(bytes(32)).new_key)
    shipper = LogShipper(spool.folder, outlets_to(store, Clock()))
    opening, closing = exchange("one", messages=[{"role": "user", "content": "word " * 1000}])
    await spool.append(opening, None)
    await ship_all(shipper, spool)
    assert (len(store.blobs), len(store.keys), store.ids(LOG)) == (1, 1, [])
    await spool.append(None, closing)
    await spool.append(*exchange("two", messages=opening["request"]["messages"]))
    await ship_all(shipper, spool)
    assert (len(store.blobs), len(store.keys), store.ids(LOG)) == (1, 1, ["one", "two"])
    assert [len(read_head(one.head).blobs) for one in store.logs[LOG]] == [1, 0]
    abandon(spool)


async def test_a_store_that_is_away_is_asked_again_at_longer_and_longer_pauses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, spool, pauses, clock = StrictStore(), spool_in(tmp_path), Pauses(), Clock()
    await spool.append(*exchange("one"))
    store.fails = lambda: store.calls <= 12

    def later() -> None:
        clock.time += pauses.seconds[-1]

    pauses.then = later
    outlets, wrote = outlets_to(store, clock, pauses=pauses), list[float]()
    outlets.wrote = wrote.append
    shipper = LogShipper(spool.folder, outlets)
    await ship_all(shipper, spool)
    assert store.ids(LOG) == ["one"]
    # Only what the store took is told, and without the pauses before.
    assert wrote == [0.0]
    assert pauses.seconds[0] == FIRST_PAUSE_SECONDS * 0.75
    assert pauses.seconds == sorted(pauses.seconds)
    assert pauses.seconds[-1] == LONGEST_PAUSE_SECONDS * 0.75
    assert (outlets.retries, outlets.conflicts, outlets.away_since) == (12, 0, None)
    assert [record.message for record in caplog.records] == [
        "the store takes nothing; the spool keeps it",
        "the store takes entries again",
    ]
    abandon(spool)


async def test_a_store_that_flaps_and_fails_after_it_persisted_gets_everything_in_order(tmp_path: Path) -> None:
    store, chosen = StrictStore(), random.Random(5)  # noqa: S311 - the same each time
    spool = spool_in(tmp_path, bounds=SMALL)
    store.fails = lambda: chosen.random() < 0.4
    store.fails_after = lambda: chosen.random() < 0.4
    shipper = LogShipper(spool.folder, outlets_to(store, Clock(), cadence=Cadence(entries=3)))
    for number in range(40):
        await spool.append(*exchange(f"x{number}"))
        await ship_all(shipper, spool)
        if shipper.is_due:
            await shipper.checkpoint()
        shipper.remove_shipped()
    assert store.ids(LOG) == [f"x{number}" for number in range(40)]
    assert store.repeated > 0
    assert len(store.checkpoints(LOG)) >= 10
    assert len(folders.segments_in(spool.folder)) < 4
    abandon(spool)


async def test_something_else_in_the_store_is_an_alarm_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, spool = StrictStore(), spool_in(tmp_path)
    await spool.append(*exchange("one"))
    other = spool_in(tmp_path / "other")
    await other.append(*exchange("forged"))
    await ship_all(LogShipper(other.folder, outlets_to(store, Clock())), other)
    outlets = outlets_to(store, Clock())
    shipper = LogShipper(spool.folder, outlets)
    await ship_all(shipper, spool)
    assert outlets.conflicts == 1
    assert outlets.retries == 0
    assert "ALARM" in caplog.text
    await shipper.checkpoint()
    assert shipper._checkpointed == 1
    abandon(spool)
    abandon(other)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_what_a_cancelled_call_left_is_shipped_by_the_next(tmp_path: Path, moment: str) -> None:
    # The store insists on each entry's blobs and data key.
    store, spool, pauses = StrictStore(), spool_in(tmp_path, new_key=envelope(bytes(32)).new_key), Pauses()
    await spool.append(*exchange("one", messages=[{"role": "user", "content": "long " * 1000}]))
    away = True
    setattr(store, "fails" if moment == "before" else "fails_after", lambda: away)
    shipper = LogShipper(spool.folder, outlets_to(store, Clock(), pauses=pauses))
    task = asyncio.create_task(ship_all(shipper, spool))
    pauses.then = lambda: cut(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    away = False
    await spool.append(*exchange("two"))
    await ship_all(shipper, spool)
    assert store.ids(LOG) == ["one", "two"]
    abandon(spool)


@pytest.mark.parametrize("how", ["cancelled", "dead"])
@pytest.mark.parametrize("moment", ["fails", "fails_after"])
async def test_a_checkpoint_whose_fate_is_not_known_is_put_again_as_it_was(
    tmp_path: Path, moment: str, how: str
) -> None:
    store, spool, pauses, clock = StrictStore(), spool_in(tmp_path), Pauses(), Clock()
    await spool.append(*exchange("one"))
    outlets = outlets_to(store, clock, pauses=pauses)
    shipper = LogShipper(spool.folder, outlets)
    await ship_all(shipper, spool)
    away = True
    setattr(store, moment, lambda: away)
    task = asyncio.create_task(shipper.checkpoint())
    pauses.then = lambda: cut(task)
    with pytest.raises(asyncio.CancelledError):
        await task
    away = False
    clock.time += 60
    if how == "dead":
        # The log goes on as that of a dead process; nothing is new in it but its end.
        shipper = LogShipper(spool.folder, outlets)
        await ship_all(shipper, spool)
    due = [shipper.is_due]
    await shipper.checkpoint()
    assert [*due, shipper.is_due] == [True, False]
    assert outlets.conflicts == 0
    assert [(one.size, one.at) for one in store.checkpoints(LOG)] == [(1, int(NOW))]
    abandon(spool)


async def test_a_checkpoint_is_due_after_entries_after_time_and_when_idle(tmp_path: Path) -> None:
    store, spool, clock, witness = StrictStore(), spool_in(tmp_path), Clock(), WitnessInMemory()
    cadence = Cadence(entries=3, seconds=10.0, idle_seconds=300.0)
    outlets = outlets_to(store, clock, cadence=cadence, witnesses=[witness])
    shipper = LogShipper(spool.folder, outlets)
    due: list[bool] = []

    async def step(entries: int, seconds: float) -> None:
        for _ in range(entries):
            await spool.append(*exchange(f"x{len(due)}{_}"))
        await ship_all(shipper, spool)
        clock.time += seconds
        due.append(shipper.is_due)
        if due[-1]:
            await shipper.checkpoint()

    await step(1, 0)  # the first tells witnesses that there is a log
    await step(2, 9)
    await step(1, 0)
    await step(1, 9)
    await step(0, 1)
    await step(0, 299)
    await step(0, 1)
    assert due == [True, False, True, False, True, False, True]
    assert shipper.checkpoint_age == 0
    assert [one.size for one in store.checkpoints(LOG)] == [1, 4, 5]
    await outlets.witnesses.aclose()
    # When idle only witnesses hear of it: the store takes one checkpoint of each size.
    assert witness.notes[-1][:2] == (LOG, 5)
    assert "at 1760000319" in witness.notes[-1][2]
    abandon(spool)


async def test_segments_go_when_a_checkpoint_covers_them_and_nothing_in_them_is_open(tmp_path: Path) -> None:
    store, spool = StrictStore(), spool_in(tmp_path, bounds=SMALL)
    removed: list[int] = []
    shipper = LogShipper(spool.folder, outlets_to(store, Clock()), removed=removed.append)
    for number in range(8):
        await spool.append(*exchange(f"x{number}"))
    count = len(folders.segments_in(spool.folder))
    assert count > 3
    await ship_all(shipper, spool)
    shipper.remove_shipped()
    assert len(folders.segments_in(spool.folder)) == count
    await shipper.checkpoint()
    shipper.remove_shipped()
    assert folders.segments_in(spool.folder) == [count]
    assert spool.bytes - sum(removed) == folders.segment_path(spool.folder, count).stat().st_size
    abandon(spool)


async def test_segments_stay_as_long_as_a_region_may_lose_them(tmp_path: Path) -> None:
    store, spool, clock = StrictStore(), spool_in(tmp_path, bounds=SMALL), Clock()
    shipper = LogShipper(spool.folder, outlets_to(store, clock, cadence=Cadence(keep_seconds=60)))
    for number in range(40):
        await spool.append(*exchange(f"x{number}"))
    await ship_all(shipper, spool)
    await shipper.checkpoint()
    shipper.remove_shipped()
    assert len(folders.segments_in(spool.folder)) > LONGEST_ROW + 1
    assert shipper.pinned() is None  # nothing runs that could be copied
    clock.time += 60
    shipper.remove_shipped()
    assert len(folders.segments_in(spool.folder)) == 1
    abandon(spool)


async def run_beside(spool: Spool, shipper: LogShipper, count: int, name: str) -> None:
    """Fill segments with other exchanges, shipped and removed as the shipper does."""
    for number in range(count):
        await spool.append(*exchange(f"{name}{number}"))
        await ship_all(shipper, spool)
        await shipper.checkpoint()
        shipper.remove_shipped()
        if (pinned := shipper.pinned()) is not None:
            await spool.copy(*pinned)
            shipper.unpin(*pinned)


async def test_what_runs_for_long_is_copied_forward_and_ended_once_with_all_its_text(tmp_path: Path) -> None:
    store, spool = StrictStore(), spool_in(tmp_path, bounds=SMALL)
    outlets = outlets_to(store, Clock())
    shipper = LogShipper(spool.folder, outlets)
    long_one = [{"role": "user", "content": "long " * 1000}]
    for name in ("runs", "ends"):
        await spool.append(exchange(name, endpoint="chat", session=name, messages=long_one)[0], None)
        spool.answering(name, 200, "text/event-stream")
    sent = ""
    for number in range(12):
        spool.piece("runs", number, event(f"{number} "))
        sent += f"{number} "
        await run_beside(spool, shipper, 5, f"x{number}-")
    assert folders.segments_in(spool.folder)[0] > 10
    assert len(folders.segments_in(spool.folder)) <= LONGEST_ROW + 2
    await spool.append(None, exchange("ends")[1])
    spool.piece("runs", 13, event("last"))
    abandon(spool)
    assert recover(spool.folder, now=NOW) == 1
    again = LogShipper(spool.folder, outlets)
    await ship_all(again)
    await again.checkpoint()
    assert again.is_done
    assert sorted(store.exchanges()) == sorted(["runs", "ends", *(f"x{n}-{m}" for n in range(12) for m in range(5))])
    (runs,) = [one.body or b"" for one in store.logs[LOG] if read_head(one.head).id == "runs"]
    assert f'"text":"{sent}last"'.encode() in runs
    assert outlets.conflicts == 0
    store.checkpoints(LOG)


async def test_an_opening_is_never_left_without_the_entry_that_sealed_it(tmp_path: Path) -> None:
    # The one that runs keeps the first segment, where the other one's opening is too; its entry is in the second.
    store, spool = StrictStore(), spool_in(tmp_path, bounds=SMALL)
    shipper = LogShipper(spool.folder, outlets_to(store, Clock()))
    runs, other = exchange("runs", endpoint="chat"), exchange("other", endpoint="chat")
    await spool.append(runs[0], None)
    await spool.append(other[0], None)
    assert spool._segments is not None
    spool._segments.begin(spool._sealer.chain.index, spool._sealer.chain.prev)
    await spool.append(None, other[1])
    spool._segments.begin(spool._sealer.chain.index, spool._sealer.chain.prev)
    await spool.append(exchange("new")[0], None)
    await ship_all(shipper, spool)
    await shipper.checkpoint()
    shipper.remove_shipped()
    abandon(spool)
    assert recover(spool.folder, now=NOW) == 2
    await ship_all(LogShipper(spool.folder, outlets_to(store, Clock())))
    assert sorted(store.exchanges()) == ["new", "other", "runs"]


async def test_a_log_goes_on_where_it_was_checkpointed(tmp_path: Path) -> None:
    store, spool = StrictStore(), spool_in(tmp_path, bounds=SMALL)
    outlets = outlets_to(store, Clock())
    shipper = LogShipper(spool.folder, outlets)
    await run_beside(spool, shipper, 10, "x")
    await spool.append(*exchange("shipped"))
    await ship_all(shipper, spool)  # and not checkpointed
    await spool.append(*exchange("not shipped"))
    abandon(spool)
    recover(spool.folder, now=NOW)
    again = LogShipper(spool.folder, outlets)
    await ship_all(again)
    await again.checkpoint()
    assert store.ids(LOG)[10:-1] == ["shipped", "not shipped"]
    assert store.repeated == 1
    assert outlets.conflicts == 0
    assert store.checkpoints(LOG)[-1].size == 13


async def test_what_was_removed_by_rule_does_not_come_back_with_the_next_start(tmp_path: Path) -> None:
    store = StrictStore()
    spool = spool_in(tmp_path, new_key=envelope(bytes(32)).new_key)
    shipper = LogShipper(spool.folder, outlets_to(store, Clock()))
    long = [{"role": "user", "content": "word " * 1000}]
    await spool.append(*exchange("removed", messages=long))
    await ship_all(shipper, spool)
    await shipper.checkpoint()
    await spool.append(*exchange("after", session="another", messages=long))
    abandon(spool)
    store.blobs.clear()
    store.keys.clear()
    await ship_all(LogShipper(spool.folder, outlets_to(store, Clock())))
    assert store.ids(LOG) == ["removed", "after"]
    assert {session for session, _ in store.blobs} == {"another"}
    assert {session for session, _ in store.keys} == {"another"}


async def test_a_gap_in_a_log_is_never_shipped(tmp_path: Path) -> None:
    store, spool = StrictStore(), spool_in(tmp_path, bounds=SMALL)
    for number in range(8):
        await spool.append(*exchange(f"x{number}"))
    await spool.aclose()
    spool.release()
    folders.segment_path(spool.folder, 1).unlink()
    with pytest.raises(Damaged, match="where 0 belongs"):
        await ship_all(LogShipper(spool.folder, outlets_to(store, Clock())))
    assert store.ids(LOG) == []


async def test_what_was_checkpointed_must_be_readable(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    (spool.folder / folders.SHIPPED).write_bytes(b'{"size":3,"frontier":[],"note":""}')
    with pytest.raises(Damaged, match=r"shipped\.json"):
        LogShipper(spool.folder, outlets_to(StrictStore(), Clock()))
    abandon(spool)


async def test_a_disk_that_the_spool_itself_filled_is_emptied_when_the_store_is_back(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        store = StrictStore()
        spool = spool_in(disk / "spool", bounds=SpoolBounds(reserve_bytes=64 << 10, segment_bytes=64 << 10))
        shipper = LogShipper(spool.folder, outlets_to(store, Clock()), removed=spool.removed)
        await spool.append(*exchange("x0"))
        await ship_all(shipper, spool)
        await shipper.checkpoint()
        opening, closing = exchange("runs", endpoint="chat")
        await spool.append(opening, None)
        taken = 1
        with pytest.raises(StoreUnavailable, match="No space left"):
            while True:
                await spool.append(*exchange(f"x{taken}", answered="word " * 1000))
                taken += 1
        await spool.append(None, closing)
        fill(disk)
        assert shutil.disk_usage(disk).free == 0
        await ship_all(shipper, spool)
        await shipper.checkpoint()
        shipper.remove_shipped()
        assert shutil.disk_usage(disk).free > 512 << 10
        await until(lambda: spool.fault is None)
        await spool.append(*exchange("after"))
        await ship_all(shipper, spool)
        assert store.ids(LOG) == [*(f"x{number}" for number in range(taken)), "runs", "after"]
        abandon(spool)


async def test_work_in_a_thread_is_waited_for_even_when_cancelled() -> None:
    started, go, done = asyncio.Event(), asyncio.Event(), list[str]()
    loop = asyncio.get_running_loop()

    def work(name: str) -> str:
        loop.call_soon_threadsafe(started.set)
        asyncio.run_coroutine_threadsafe(go.wait(), loop).result()
        done.append(name)
        return name

    task = asyncio.create_task(uncut(work, "one"))
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["one"]
    assert await uncut(work, "two") == "two"
