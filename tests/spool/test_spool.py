from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import StoreUnavailable
from extproc.recording.entry import Kind, read_head
from extproc.spool import folders
from extproc.spool.folders import Lock
from extproc.spool.records import Answering, Entry, Opened, Piece
from extproc.spool.recovery import recover
from extproc.spool.segments import Position, Segments
from extproc.spool.spool import Spool, SpoolBounds
from tests.disks import fill, make_read_only, small_disk
from tests.recording_of import NOW, exchange
from tests.spooling import BOUNDS, LOG, abandon, check_chain, documents, entries, event, records, spool_in, until


def descriptors_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class SlowDisk:
    """Flushes of a spool wait until they are let go; says how many there were."""

    def __init__(self, spool: Spool) -> None:
        assert spool._segments is not None
        self._flush = spool._segments.sync
        self.count = 0
        self.go = threading.Semaphore(0)
        spool._segments.sync = self._wait  # type: ignore[method-assign]

    def _wait(self) -> Any:
        self.count += 1
        self.go.acquire()
        return self._flush()


async def test_an_exchange_is_in_the_spool_piece_by_piece_and_then_sealed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    opening, closing = exchange("one")
    await spool.append(opening, None)
    assert spool.open_exchanges == 1
    spool.answering("one", 200, "text/event-stream")
    spool.piece("one", 1.5, b"first")
    spool.piece("one", 2.5, b"second")
    await spool.append(None, closing)
    assert spool.open_exchanges == 0
    opened, answering, first, second, entry = records(spool.folder)[1:]
    assert isinstance(opened, Opened)
    assert opened.id == "one"
    assert answering == Answering("one", 200, "text/event-stream")
    assert [first, second] == [Piece("one", 1.5, 0, b"first"), Piece("one", 2.5, 5, b"second")]
    assert isinstance(entry, Entry)
    assert documents(spool.folder) == [{**opening, **closing}]
    await spool.aclose()
    spool.release()


async def test_both_at_once_are_one_entry(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    opening, closing = exchange("one", outcome="denied")
    await spool.append(opening, closing)
    assert [type(one).__name__ for one in records(spool.folder)] == ["Begin", "Entry"]
    assert documents(spool.folder) == [{**opening, **closing}]
    abandon(spool)


async def test_an_append_returns_only_when_it_was_flushed(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    disk = SlowDisk(spool)
    task = asyncio.ensure_future(spool.append(exchange("one")[0], None))
    await until(lambda: disk.count == 1)
    assert not task.done()
    assert spool.durable.segment == 0
    assert not spool._sealer.is_open("one")
    disk.go.release()
    await task
    assert spool.durable.offset == folders.segment_path(spool.folder, 1).stat().st_size
    abandon(spool)


async def test_what_waits_during_a_flush_is_flushed_together(tmp_path: Path) -> None:
    woken: list[None] = []
    spool = spool_in(tmp_path, on_durable=lambda: woken.append(None))
    disk = SlowDisk(spool)
    first = asyncio.ensure_future(spool.append(*exchange("first")))
    await until(lambda: disk.count == 1)
    others = [asyncio.ensure_future(spool.append(*exchange(f"x{number}"))) for number in range(50)]
    await until(lambda: len(spool._queue) == 50)
    disk.go.release(2)
    await asyncio.gather(first, *others)
    assert disk.count == 2
    assert len(woken) == 2
    assert len(entries(spool.folder)) == 51
    check_chain(spool.folder)
    abandon(spool)


async def test_pieces_are_written_while_a_flush_is_under_way(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    await spool.append(exchange("one")[0], None)
    disk = SlowDisk(spool)
    task = asyncio.ensure_future(spool.append(*exchange("two")))
    await until(lambda: disk.count == 1)
    spool.piece("one", 1.0, b"now")
    assert Piece("one", 1.0, 0, b"now") in records(spool.folder)
    disk.go.release()
    await task
    abandon(spool)


async def test_a_cancelled_caller_does_not_undo_the_write(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    disk = SlowDisk(spool)
    task = asyncio.ensure_future(spool.append(*exchange("one")))
    await until(lambda: disk.count == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    disk.go.release(2)
    await spool.append(*exchange("two"))
    assert [one["id"] for one in documents(spool.folder)] == ["one", "two"]
    abandon(spool)


async def test_pieces_of_what_is_not_open_are_not_written(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    await spool.append(*exchange("one"))
    before = records(spool.folder)
    for one in ("one", "unknown"):
        spool.answering(one, 200, None)
        spool.piece(one, 1.0, b"late")
    assert records(spool.folder) == before
    abandon(spool)


async def test_odd_entries_fail_alone_and_text_that_is_no_unicode_does_not(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    half, closing = exchange("half", messages=[{"role": "user", "content": "\ud83d alone"}], user="\udc00")
    closing["response"]["text"] = "\udfff"
    odd, _ = exchange("odd", messages=[{"role": "user", "content": object()}])
    deep: Any = "x"
    for _ in range(10_000):
        deep = [deep]
    nested, _ = exchange("nested", messages=[{"role": "user", "content": deep}])
    keyless = {"nothing": "usable"}
    results = await asyncio.gather(
        spool.append(*exchange("before")),
        spool.append(odd, None),
        spool.append(nested, None),
        spool.append(keyless, None),
        spool.append(None, exchange("unknown")[1]),
        spool.append(None, {}),
        spool.append(half, closing),
        spool.append(*exchange("after")),
        return_exceptions=True,
    )
    failed = [isinstance(one, StoreUnavailable) for one in results]
    assert failed == [False, True, True, True, True, True, False, False]
    assert [one["id"] for one in documents(spool.folder)] == ["before", "half", "after"]
    await spool.append(*exchange("still"))
    assert spool.fault is None
    check_chain(spool.folder)
    abandon(spool)


async def test_a_closing_that_cannot_be_recorded_leaves_its_exchange_to_the_next_start(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    opening, closing = exchange("one", endpoint="chat")
    await spool.append(opening, None)
    spool.answering("one", 200, "text/event-stream")
    spool.piece("one", 1.0, event("seen"))
    with pytest.raises(StoreUnavailable, match="TypeError"):
        await spool.append(None, {**closing, "response": {"text": object()}})
    await spool.append(*exchange("two"))
    abandon(spool)
    assert recover(spool.folder, now=NOW) == 1
    assert documents(spool.folder)[-1]["response"]["text"] == "seen"


async def test_an_exchange_is_closed_once(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    opening, closing = exchange("one")
    await spool.append(opening, None)
    results = await asyncio.gather(
        spool.append(None, closing), spool.append(None, closing), spool.append(None, closing), return_exceptions=True
    )
    assert [type(one) for one in results] == [type(None), StoreUnavailable, StoreUnavailable]
    with pytest.raises(StoreUnavailable):
        await spool.append(None, closing)
    assert len(entries(spool.folder)) == 1
    abandon(spool)


async def test_a_closed_spool_ends_its_log_and_takes_nothing_more(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    task = asyncio.ensure_future(spool.append(*exchange("one")))
    await asyncio.sleep(0)
    await spool.aclose()
    await task
    last = read_head(entries(spool.folder)[-1].head)
    assert (last.kind, last.facts) == (Kind.CLOSED, {"reason": "stopped"})
    check_chain(spool.folder)
    for append in (spool.append(*exchange("late")), spool.copy(1, {"one"})):
        with pytest.raises(StoreUnavailable, match="closed"):
            await append
    with pytest.raises(BlockingIOError):
        Lock(spool.folder)
    spool.release()
    Lock(spool.folder).release()


async def test_a_log_with_exchanges_that_run_is_not_ended(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    await spool.append(exchange("one")[0], None)
    await spool.aclose()
    spool.release()
    assert entries(spool.folder) == []
    assert recover(spool.folder, now=NOW) == 1


async def test_no_exchange_begins_in_a_full_spool_and_those_that_run_end(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, bounds=SpoolBounds(max_bytes=20_000, reserve_bytes=4096))
    opening, closing = exchange("runs")
    await spool.append(opening, None)
    await spool.append(*exchange("large", answered="word " * 5000))
    assert "full" in (spool.fault or "")
    with pytest.raises(StoreUnavailable, match=r"full, \d+ bytes wait for the store"):
        await spool.append(*exchange("new"))
    spool.piece("runs", 1.0, b"goes on")
    await spool.append(None, closing)
    assert [one["id"] for one in documents(spool.folder)] == ["large", "runs"]
    spool.removed(spool.bytes - 1000)
    assert spool.fault is None
    await spool.append(*exchange("again"))
    spool.other_bytes = 20_000
    with pytest.raises(StoreUnavailable, match="full"):
        await spool.append(*exchange("beside a full log"))
    abandon(spool)


async def test_logs_that_dead_processes_left_count_from_the_start(tmp_path: Path) -> None:
    left = spool_in(tmp_path, "test.0.0", bounds=SpoolBounds(max_bytes=20_000, reserve_bytes=4096))
    await left.append(*exchange("large", answered="word " * 5000))
    abandon(left)
    spool = spool_in(tmp_path, bounds=SpoolBounds(max_bytes=20_000, reserve_bytes=4096))
    assert spool.other_bytes == folders.bytes_in(left.folder)
    with pytest.raises(StoreUnavailable, match="full"):
        await spool.append(*exchange("new"))
    abandon(spool)


async def test_a_small_spool_has_segments_that_can_be_removed_when_it_is_full(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, bounds=SpoolBounds(max_bytes=80_000, reserve_bytes=4096))
    number = 0
    while not spool.fault:
        await spool.append(*exchange(f"x{number}", answered="word " * 300))
        number += 1
    *whole, _ = folders.segments_in(spool.folder)
    spool.removed(sum(folders.segment_path(spool.folder, one).stat().st_size for one in whole))
    assert not spool.fault
    assert spool.bytes < 80_000 / 4
    abandon(spool)


async def test_on_a_full_disk_what_runs_ends_with_what_was_put_by_and_all_is_well_when_there_is_room(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        spool = spool_in(disk / "spool", bounds=SpoolBounds(reserve_bytes=256 << 10))
        opening, closing = exchange("runs", endpoint="chat")
        await spool.append(opening, None)
        filling = fill(disk)
        new = exchange("new", answered="word " * 5000)
        with pytest.raises(StoreUnavailable, match="No space left"):
            await spool.append(*new)
        assert "No space left" in (spool.fault or "")
        for number in range(50):
            spool.piece("runs", number, event("word " * 100))
        await spool.append(None, closing)
        with pytest.raises(StoreUnavailable, match="No space left"):
            await spool.append(*exchange("next"))
        assert spool.fault is not None
        filling.unlink()
        await until(lambda: spool.fault is None)
        await spool.append(*exchange("after"))
        assert [one["id"] for one in documents(spool.folder)] == ["runs", "after"]
        check_chain(spool.folder)
        abandon(spool)


async def test_a_closing_that_found_no_room_is_recorded_as_failed_when_there_is(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        spool = spool_in(disk / "spool", bounds=SpoolBounds(reserve_bytes=4096))
        opening, closing = exchange("runs", answered="word " * 5000)
        await spool.append(opening, None)
        filling = fill(disk)
        with pytest.raises(StoreUnavailable, match="No space left"):
            await spool.append(None, closing)
        with pytest.raises(StoreUnavailable):
            await spool.append(None, exchange("unknown")[1])
        assert spool.open_exchanges == 1
        filling.unlink()
        await until(lambda: spool.open_exchanges == 0)
        (document,) = documents(spool.folder)
        assert document["outcome"] == "failed"
        assert document["error"]["code"] == "recording.unavailable"
        assert document["response"]["text"] == closing["response"]["text"]
        await until(lambda: spool.fault is None)
        await spool.append(*exchange("after"))
        check_chain(spool.folder)
        await spool.aclose()
        spool.release()


async def test_a_disk_that_is_full_at_the_start_is_tried_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        filling = disk / "filling"
        filling.write_bytes(bytes((1 << 20) - (128 << 10)))
        spool = spool_in(disk / "spool", bounds=SpoolBounds(reserve_bytes=256 << 10))
        assert "no room for exchanges that run: No space left" in (spool.fault or "")
        with pytest.raises(StoreUnavailable, match="no room"):
            await spool.append(*exchange("new"))
        filling.unlink()
        await until(lambda: spool.fault is None)
        await spool.append(*exchange("after"))
        abandon(spool)


async def test_a_folder_that_is_read_only_at_the_start_is_tried_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        make_read_only(disk, read_only=True)
        spool = spool_in(disk / "spool", bounds=BOUNDS)
        assert "cannot be written: Read-only file system" in (spool.fault or "")
        assert str(disk / "spool" / LOG) in (spool.fault or "")
        descriptors = descriptors_open()
        with pytest.raises(StoreUnavailable, match="Read-only file system"):
            await spool.append(*exchange("new"))
        with pytest.raises(StoreUnavailable):
            await spool.append(None, exchange("new")[1])
        spool.piece("new", 1.0, b"nothing")
        assert descriptors_open() == descriptors
        make_read_only(disk, read_only=False)
        await until(lambda: spool.fault is None)
        await spool.append(*exchange("after"))
        assert [one["id"] for one in documents(spool.folder)] == ["after"]
        await spool.aclose()
        spool.release()


async def test_a_disk_that_takes_no_writes_any_more_loses_nothing(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    await spool.append(exchange("one")[0], None)
    assert spool._segments is not None
    # A file that is open for writing keeps a file system from turning read-only, so something else takes its place.
    reading, writing = os.pipe()
    os.dup2(reading, spool._segments._descriptor)
    with pytest.raises(StoreUnavailable):
        await spool.append(*exchange("two"))
    assert "must be started again" in (spool.fault or "")
    with pytest.raises(StoreUnavailable):
        spool.piece("one", 1.0, b"data")
    with pytest.raises(StoreUnavailable):
        await spool.append(None, exchange("one")[1])
    os.close(reading)
    os.close(writing)
    await spool.aclose()
    spool.release()
    assert recover(spool.folder, now=NOW) == 1
    assert [one["outcome"] for one in documents(spool.folder)] == ["interrupted"]


async def test_what_cannot_be_flushed_breaks_the_spool_and_the_next_start_finds_what_there_is(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    await spool.append(*exchange("one"))
    durable = spool.durable

    def fails() -> Any:
        assert spool._segments is not None
        spool._segments.broken = "cannot make the spool durable: Input/output error"
        raise OSError(5, "Input/output error")

    assert spool._segments is not None
    spool._segments.sync = fails  # type: ignore[method-assign]
    with pytest.raises(StoreUnavailable, match="cannot make the spool durable: Input/output error"):
        await spool.append(*exchange("two"))
    assert spool.durable == durable
    with pytest.raises(StoreUnavailable, match="must be started again"):
        await spool.append(*exchange("three"))
    await spool.aclose()
    spool.release()
    recover(spool.folder, now=NOW)
    # The second was written; whether it is durable was not known.
    assert [one["id"] for one in documents(spool.folder)] == ["one", "two"]
    check_chain(spool.folder)


async def test_a_fault_of_the_spool_itself_leaves_nobody_waiting(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    assert spool._segments is not None
    spool._segments.put_by = lambda: 1 / 0  # type: ignore[method-assign, assignment]
    for _ in range(2):
        async with asyncio.timeout(5):
            with pytest.raises(StoreUnavailable, match="a fault of the spool: ZeroDivisionError"):
                await spool.append(*exchange("one"))
    abandon(spool)


async def test_long_segments_are_followed_by_others(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, bounds=SpoolBounds(reserve_bytes=4096, segment_bytes=10_000))
    for number in range(20):
        await spool.append(*exchange(f"x{number}", answered="word " * 300))
    await spool.aclose()
    spool.release()
    assert len(folders.segments_in(spool.folder)) > 3
    assert len(documents(spool.folder)) == 20
    check_chain(spool.folder)
    assert spool.bytes == folders.bytes_in(spool.folder)


async def test_a_segment_that_cannot_be_followed_gets_longer(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, bounds=SpoolBounds(reserve_bytes=4096, segment_bytes=100))
    assert spool._segments is not None
    begin = spool._segments.begin

    def fails(index: int, prev: str) -> Position:
        raise OSError(28, "No space left on device")

    spool._segments.begin = fails  # type: ignore[method-assign]
    for number in range(3):
        await spool.append(*exchange(f"x{number}"))
    assert folders.segments_in(spool.folder) == [1]
    spool._segments.begin = begin  # type: ignore[method-assign]
    await spool.append(*exchange("last"))
    assert folders.segments_in(spool.folder) == [1, 2]
    check_chain(spool.folder)
    abandon(spool)


async def test_a_log_that_is_being_begun_is_hidden_and_held(tmp_path: Path) -> None:
    (tmp_path / LOG).mkdir(parents=True)
    (tmp_path / LOG / "left").touch()
    before = descriptors_open()
    spool = spool_in(tmp_path)  # another one has the name: it cannot take its place
    assert descriptors_open() == before
    assert "cannot be written: Directory not empty" in (spool.fault or "")
    assert [path.name for path in folders.logs_in(tmp_path)] == [LOG]
    (tmp_path / LOG / "left").unlink()
    await until(lambda: spool.fault is None)
    await spool.append(*exchange("one"))
    assert isinstance(spool._segments, Segments)
    abandon(spool)


async def test_after_a_write_whose_fate_is_unknown_nothing_is_written(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    await spool.append(*exchange("before"))
    assert spool._segments is not None

    def breaks() -> Position:
        raise RuntimeError

    spool._segments.sync = breaks  # type: ignore[method-assign]
    for name in ("lost", "late"):
        with pytest.raises(StoreUnavailable):
            await spool.append(*exchange(name))
    # What was refused may be there, once; nothing else is in its place.
    check_chain(spool.folder)
    assert "started again" in (spool.fault or "")
    assert "late" not in str(documents(spool.folder))
    abandon(spool)
