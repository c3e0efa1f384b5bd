from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import ConfigError
from extproc.recording.entry import Draft, Kind, Sealed, read_head
from extproc.shipping import shipper as module
from extproc.shipping.outlets import Cadence, Outlets
from extproc.shipping.shipper import Shipper
from extproc.spool import folders, oneshot
from extproc.spool.folders import Lock
from extproc.spool.recovery import recover
from extproc.spool.spool import SpoolBounds
from tests.recording_of import NOW, exchange
from tests.shipping.stores import Clock, Pauses, StrictStore, outlets_to
from tests.spooling import LOG, abandon, event, records, spool_in, until

NO_CHECKPOINT = Cadence(entries=10**6, seconds=10**6, idle_seconds=10**6)


def ending(folder: Path) -> int:
    return recover(folder, now=NOW)


def assert_empty(folder: Path) -> None:
    assert list(folder.iterdir()) == []


class Process:
    """What a process has of recording: a spool, and what ships it."""

    def __init__(
        self, root: Path, log: str, outlets: Outlets, recover: Callable[[Path], int], bounds: SpoolBounds
    ) -> None:
        self.shipper = Shipper(root, outlets, recover)
        self.spool = spool_in(root, log, on_durable=self.shipper.wake, bounds=bounds)
        self.shipper.start(self.spool)

    async def close(self) -> None:
        await self.spool.aclose()
        await self.shipper.aclose()

    async def die(self) -> None:
        task = self.shipper._task
        assert task is not None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        for adopted in self.shipper._adopted.values():
            adopted.lock.release()
        abandon(self.spool)


def refusals(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [one for one in caplog.records if one.message == "a log in the spool cannot be shipped"]


USUAL = SpoolBounds(reserve_bytes=4096, segment_bytes=4000)


@asynccontextmanager
async def process(
    root: Path,
    store: StrictStore,
    log: str = LOG,
    *,
    clock: Clock | None = None,
    pauses: Pauses | None = None,
    cadence: Cadence = Cadence(entries=5),  # noqa: B008 - frozen
    recover: Callable[[Path], int] = ending,
    bounds: SpoolBounds = USUAL,
) -> AsyncIterator[Process]:
    outlets = outlets_to(store, clock or Clock(), pauses=pauses, cadence=cadence)
    opened = Process(root, log, outlets, recover, bounds)
    try:
        yield opened
    finally:
        await opened.close()
        await outlets.witnesses.aclose()


async def leave(root: Path, log: str, *ids: str) -> None:
    """Leave the log of a process that died with one exchange open beside those that ended."""
    spool = spool_in(root, log)
    for one in ids:
        await spool.append(*exchange(one))
    await spool.append(exchange(f"{log}-open", endpoint="chat")[0], None)
    spool.answering(f"{log}-open", 200, "text/event-stream")
    spool.piece(f"{log}-open", 1.0, event("seen"))
    abandon(spool)


async def test_what_is_recorded_arrives_soon_and_the_end_leaves_nothing_behind(tmp_path: Path) -> None:
    store = StrictStore()
    async with process(tmp_path, store) as running:
        await asyncio.gather(*(running.spool.append(*exchange(f"x{number}")) for number in range(30)))
        await until(lambda: len(store.exchanges()) == 30)
        await until(lambda: running.shipper.behind_seconds == 0.0)
    assert len(set(store.exchanges())) == 30
    assert store.repeated == 0
    assert store.ids(LOG)[-1] == f"{LOG}.closed"
    assert store.checkpoints(LOG)[-1].size == 31
    assert_empty(tmp_path)


async def test_exchanges_do_not_notice_a_store_that_is_away(tmp_path: Path) -> None:
    store, clock = StrictStore(), Clock()
    away = True
    store.fails = lambda: away
    async with process(tmp_path, store, clock=clock) as running:
        for number in range(30):
            await running.spool.append(*exchange(f"x{number}"))
        await until(lambda: store.calls > 3)
        clock.time += 60
        assert running.shipper.behind_seconds == 60
        away = False
        await until(lambda: len(store.exchanges()) == 30)
    assert store.ids(LOG)[:30] == [f"x{number}" for number in range(30)]


async def test_a_stop_while_the_store_is_away_leaves_all_to_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FINISH_SECONDS", 0.05)
    store = StrictStore()
    away = True
    store.fails = lambda: away
    async with process(tmp_path, store) as running:
        await running.spool.append(*exchange("one"))
        await until(lambda: store.calls > 3)
        await running.spool.append(*exchange("two"))
    assert store.exchanges() == []
    away = False
    async with process(tmp_path, store, "next.0.1"):
        await until(lambda: len(store.logs[LOG]) == 3)
        await until(lambda: not (tmp_path / LOG).exists())
    assert store.ids(LOG) == ["one", "two", f"{LOG}.closed"]
    assert store.checkpoints(LOG)[-1].size == 3


async def test_logs_of_the_dead_and_of_commands_are_shipped_and_removed(tmp_path: Path) -> None:
    store = StrictStore()
    await leave(tmp_path, "dead.0.1", "one", "two")
    await leave(tmp_path, "dead.1.1")
    drafts = [Draft(Kind.ACCESS, "access-1", "s1", 1, {"who": "carol"})]
    oneshot.record(tmp_path, oneshot.log_of_command("dead", "1"), drafts, NOW)
    async with process(tmp_path, store) as running:
        await until(lambda: folders.logs_in(tmp_path) == [tmp_path / LOG])
        assert running.shipper.interrupted == 2
    assert store.ids("dead.0.1") == ["one", "two", "dead.0.1-open", "dead.0.1.closed"]
    assert store.ids("dead.1.1") == ["dead.1.1-open", "dead.1.1.closed"]
    assert store.ids("dead.command.1") == ["access-1", "dead.command.1.closed"]
    for log in ("dead.0.1", "dead.1.1", "dead.command.1"):
        assert store.checkpoints(log)[-1].size == len(store.logs[log])
    assert store.repeated == 0


async def test_two_processes_over_one_folder_ship_every_log_once(tmp_path: Path) -> None:
    store = StrictStore()
    for number in range(6):
        await leave(tmp_path, f"dead.{number}.1", f"d{number}")
    async with process(tmp_path, store, "a.0.1") as first, process(tmp_path, store, "b.0.1") as second:
        for number in range(10):
            await asyncio.gather(*(one.spool.append(*exchange(f"{one.spool.log}{number}")) for one in (first, second)))
        await until(lambda: len(folders.logs_in(tmp_path)) == 2)
        assert first.shipper.interrupted + second.shipper.interrupted == 6
    assert store.repeated == 0
    assert len(store.exchanges()) == len(set(store.exchanges())) == 32
    assert_empty(tmp_path)


async def test_whatever_dies_when_everything_arrives_once_and_in_order(tmp_path: Path) -> None:
    store, chosen, clock = StrictStore(), random.Random(11), Clock()  # noqa: S311 - the same each time
    promised: list[str] = []
    for life in range(15):
        weather = chosen.choice([0.0, 0.5, 1.0])
        store.fails = lambda weather=weather: chosen.random() < weather  # type: ignore[misc]
        store.fails_after = lambda weather=weather: chosen.random() < weather / 2  # type: ignore[misc]
        outlets = outlets_to(store, clock, cadence=Cadence(entries=3))
        running = Process(tmp_path, f"test.0.{life:02}", outlets, ending, USUAL)
        for number in range(chosen.randrange(40)):
            opening, closing = exchange(f"{life}-{number}", messages=[{"role": "user", "content": "word " * 300}])
            promised.append(opening["id"])
            await running.spool.append(opening, None)
            if chosen.random() < 0.8:
                await running.spool.append(None, closing)
            clock.time += 1
        await running.die()
        await outlets.witnesses.aclose()
        assert outlets.conflicts == 0
    store.fails = store.fails_after = bool
    async with process(tmp_path, store, "last.0.1", clock=clock) as last:
        await until(lambda: folders.logs_in(tmp_path) == [tmp_path / "last.0.1"])
        assert last.shipper.outlets.conflicts == 0
    assert sorted(store.exchanges()) == sorted(promised)
    for log in store.logs:
        assert store.checkpoints(log)[-1].size == len(store.logs[log])


async def test_an_exchange_that_runs_for_long_does_not_keep_segments(tmp_path: Path) -> None:
    store = StrictStore()
    async with process(tmp_path, store, bounds=SpoolBounds(reserve_bytes=4096, segment_bytes=1500)) as running:
        opening, closing = exchange("runs", endpoint="chat")
        await running.spool.append(opening, None)
        for number in range(60):
            await running.spool.append(*exchange(f"x{number}"))
            await until(lambda count=number + 1: len(store.exchanges()) == count)  # type: ignore[misc]
        await until(lambda: len(folders.segments_in(running.spool.folder)) < 12)
        await running.spool.append(None, closing)
    assert len(store.exchanges()) == len(set(store.exchanges())) == 61
    assert_empty(tmp_path)


async def test_nothing_is_asked_of_the_store_while_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCAN_SECONDS", 0.01)
    store, scans = StrictStore(), 0
    logs_in = folders.logs_in

    def counted(spool: Path) -> list[Path]:
        nonlocal scans
        scans += 1
        return logs_in(spool)

    monkeypatch.setattr(folders, "logs_in", counted)
    cadence = Cadence(entries=1, keep_seconds=10**6)
    bounds = SpoolBounds(reserve_bytes=4096, segment_bytes=100)
    await leave(tmp_path, "dead.0.1", "one")
    async with process(tmp_path, store, cadence=cadence, bounds=bounds) as running:
        # More segments are kept than a row has, one of them with an exchange that runs; and a log that is done.
        await running.spool.append(exchange("runs")[0], None)
        for number in range(10):
            await running.spool.append(*exchange(f"x{number}"))
        await until(lambda: len(store.exchanges()) == 12)
        await until(lambda: 3 in store.notes["dead.0.1"] and 10 in store.notes[LOG])
        before = scans
        await until(lambda: scans > before + 5)
        calls, size, before = store.calls, len(records(running.spool.folder)), scans
        loops = asyncio.get_running_loop().time()
        await until(lambda: scans > before + 20)
        assert store.calls == calls
        assert len(records(running.spool.folder)) == size
        # It looks around at its own pace, no faster.
        assert scans - before <= (asyncio.get_running_loop().time() - loops) / 0.01 + 1


async def test_a_log_that_is_damaged_is_left_and_the_others_are_shipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = StrictStore()
    for log in ("a.0.1", "b.0.1", "c.0.1"):
        await leave(tmp_path, log, f"{log}-one")
    (tmp_path / "b.0.1" / folders.SHIPPED).write_bytes(b"nothing")
    before = (tmp_path / "b.0.1" / folders.SHIPPED).read_bytes()
    async with process(tmp_path, store) as running:
        await until(lambda: len(folders.logs_in(tmp_path)) == 2)
        await running.spool.append(*exchange("new"))
        await until(lambda: "new" in store.exchanges())
        Lock(tmp_path / "b.0.1").release()
        assert (tmp_path / "b.0.1" / folders.SHIPPED).read_bytes() == before
        assert running.shipper.refused_logs == 1
        (tmp_path / "b.0.1").rename(tmp_path.with_name("taken away"))
        await until(lambda: running.shipper.refused_logs == 0)
    assert store.ids("b.0.1") == []
    assert "a log in the spool cannot be shipped" in caplog.text


@pytest.mark.parametrize("fault", [ConfigError("the key cannot be had"), ZeroDivisionError()])
async def test_a_log_that_cannot_be_ended_now_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    monkeypatch.setattr(module, "REFUSED_SECONDS", 0.0)
    store, tries = StrictStore(), 0

    def failing(folder: Path) -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise fault
        return ending(folder)

    await leave(tmp_path, "dead.0.1")
    async with process(tmp_path, store, recover=failing):
        await until(lambda: len(store.logs["dead.0.1"]) == 2)


async def test_the_log_of_another_user_stops_nobody_and_is_shipped_when_it_may_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REFUSED_SECONDS", 0.0)
    store, folder = StrictStore(), tmp_path / "a.0.1"
    for log in ("a.0.1", "b.0.1"):
        await leave(tmp_path, log, f"{log}-one")

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        def refused(path: Any, *arguments: Any) -> Any:
            if path == folder:
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))
            return call(path, *arguments)

        return refused

    # Root, who may run the tests, is refused nothing.
    for name in ("open", "scandir"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    async with process(tmp_path, store) as running:
        await running.spool.append(*exchange("new"))
        await until(lambda: len(store.logs["b.0.1"]) == 3)
        assert store.ids("a.0.1") == []
        assert f"Permission denied: '{folder}'" in [one.fields["why"].partition("] ")[2] for one in refusals(caplog)]
        monkeypatch.undo()
        await until(lambda: len(store.logs["a.0.1"]) == 3)


async def test_a_fault_with_one_log_of_the_dead_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(StrictStore):
        async def put(self, entries: Sequence[Sealed], *parts: Any) -> None:
            if entries and read_head(entries[0].head).log == "a.0.1":
                raise ZeroDivisionError("what was recorded")
            await super().put(entries, *parts)

    store = Faulty()
    for log in ("a.0.1", "b.0.1"):
        await leave(tmp_path, log, f"{log}-one")
    async with process(tmp_path, store) as running:
        await until(lambda: len(store.logs["b.0.1"]) == 3)
        assert running.shipper.refused_logs == 1
        Lock(tmp_path / "a.0.1").release()
    assert [one.fields for one in refusals(caplog)] == [{"log": "a.0.1", "why": "a fault: ZeroDivisionError"}]


async def test_a_fault_of_one_step_does_not_end_shipping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SCAN_SECONDS", 0.01)
    store = StrictStore()
    faults = iter([True, True])

    def fails() -> bool:
        if next(faults, False):
            raise ZeroDivisionError
        return False

    store.fails = fails
    async with process(tmp_path, store) as running:
        await running.spool.append(*exchange("one"))
        await until(lambda: store.exchanges() == ["one"])
    assert "a fault of shipping" in caplog.text


async def test_one_log_is_shipped_for_a_command_unless_somebody_has_it(tmp_path: Path) -> None:
    store = StrictStore()
    drafts = [Draft(Kind.ACCESS, f"access-{number}", "s1", 1, {}) for number in range(3)]
    for epoch in "12":
        oneshot.record(tmp_path, oneshot.log_of_command("pod", epoch), drafts, NOW)
    outlets = outlets_to(store, Clock(), cadence=Cadence(keep_seconds=10**6))
    shipper = Shipper(tmp_path, outlets, ending)
    held = Lock(tmp_path / "pod.command.1")
    await shipper.drain("pod.command.1")
    assert store.calls == 0
    held.release()
    await shipper.drain("pod.command.1")
    await shipper.drain("none")
    await shipper.aclose()
    assert store.checkpoints("pod.command.1")[-1].size == 4
    assert store.ids("pod.command.2") == []
    Lock(tmp_path / "pod.command.1").release()
    await outlets.witnesses.aclose()


async def test_what_other_logs_hold_counts_for_the_bound(tmp_path: Path) -> None:
    store = StrictStore()
    held = []
    for number in range(3):
        await leave(tmp_path, f"dead.{number}.1", *(f"x{number}{n}" for n in range(10)))
        held.append(Lock(tmp_path / f"dead.{number}.1"))
    async with process(tmp_path, store, bounds=SpoolBounds(max_bytes=20_000, reserve_bytes=4096)) as running:
        await until(lambda: running.spool.other_bytes > 20_000)
        assert "full" in (running.spool.fault or "")
        for lock in held:
            lock.release()
        await until(lambda: running.spool.fault is None)
        await running.spool.append(*exchange("new"))
