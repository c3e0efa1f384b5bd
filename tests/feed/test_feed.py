from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from extproc.errors import ConfigError, StoreUnavailable
from extproc.feed.cursor import load
from extproc.feed.feed import LONGEST_PAUSE_SECONDS, Feed
from extproc.feed.gather import Limits
from extproc.feed.port import TargetUnavailable
from extproc.recording.entry import Kind
from tests.feed.ledger import MemoryLedger, MemoryTarget, entries_of


class Clock:
    """A clock that stands; a pause ends at once, the run after as many as `pauses` allows."""

    def __init__(self, pauses: int = 0) -> None:
        self.at = 1000.0
        self.left = pauses
        self.pauses: list[float] = []

    def now(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if len(self.pauses) == self.left:
            raise asyncio.CancelledError
        await asyncio.sleep(0)


@pytest.fixture
def cursor(tmp_path: Path) -> Path:
    return tmp_path / "cursor.json"


@contextmanager
def blocked(path: Path) -> Iterator[None]:
    path.mkdir()
    yield
    path.rmdir()


def feed(ledger: MemoryLedger, target: MemoryTarget, cursor: Path, clock: Clock | None = None, **more: Any) -> Feed:
    clock = clock or Clock()
    return Feed(lambda: nullcontext(ledger), target, cursor, sleep=clock.sleep, now=clock.now, **more)


async def test_a_step_tells_what_is_new_and_keeps_the_place(cursor: Path) -> None:
    ledger, target = MemoryLedger(), MemoryTarget()
    ledger.put(*entries_of("a", 2))
    fed = feed(ledger, target, cursor)
    assert await fed.step() == 2
    assert await fed.step() == 0
    ledger.put(*entries_of("a", 3), *entries_of("b", [Kind.CLOSED]))
    assert await fed.step() == 2
    assert target.places() == [("a", 0), ("a", 1), ("a", 2), ("b", 0)]
    assert load(cursor).next == {"a": 3, "b": None}
    await fed.aclose()


async def test_after_a_restart_it_goes_on_where_it_stood(cursor: Path) -> None:
    ledger, target = MemoryLedger(), MemoryTarget()
    ledger.put(*entries_of("a", 5))
    for expected in (2, 2, 1, 0):
        fed = feed(ledger, target, cursor, limits=Limits(max_events=2))
        assert await fed.step() == expected
        await fed.aclose()
    assert target.places() == [("a", index) for index in range(5)]


async def test_what_a_target_did_not_take_is_told_again_also_by_the_next_process(cursor: Path) -> None:
    ledger, target = MemoryLedger(), MemoryTarget()
    ledger.put(*entries_of("a", 3))
    target.failures = 2
    first = feed(ledger, target, cursor)
    for _ in range(2):
        with pytest.raises(TargetUnavailable):
            await first.step()
    await first.aclose()
    assert load(cursor).next == {}
    second = feed(ledger, target, cursor)
    await second.step()
    await second.aclose()
    assert target.places() == [("a", 0), ("a", 0), ("a", 0), ("a", 1), ("a", 2)]


async def test_where_the_place_cannot_be_kept_it_is_told_again(cursor: Path) -> None:
    ledger, target = MemoryLedger(), MemoryTarget()
    ledger.put(*entries_of("a", 1))
    fed = feed(ledger, target, cursor)
    with blocked(cursor), pytest.raises(OSError, match="directory"):
        await fed.step()
    await fed.step()
    await fed.aclose()
    assert target.places() == [("a", 0), ("a", 0)]
    assert load(cursor).next == {"a": 1}


async def test_it_drains_without_pauses_and_then_looks_at_its_pace(cursor: Path) -> None:
    ledger, target, clock = MemoryLedger(), MemoryTarget(), Clock(pauses=3)
    ledger.put(*entries_of("a", 5), *entries_of("b", 5))
    fed = feed(ledger, target, cursor, clock, limits=Limits(max_events=2), poll_seconds=7)
    with pytest.raises(asyncio.CancelledError):
        await fed.run()
    await fed.aclose()
    assert clock.pauses == [7, 7, 7]
    assert target.places("a") == [("a", index) for index in range(5)]
    assert target.places("b") == [("b", index) for index in range(5)]
    assert max(target.sizes) == 2


async def test_while_the_target_is_down_pauses_grow_to_the_longest_and_shrink_when_it_is_back(
    cursor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, target, clock = MemoryLedger(), MemoryTarget(), Clock(pauses=12)
    ledger.put(*entries_of("a", 1))
    target.failures = 11
    fed = feed(ledger, target, cursor, clock)
    with pytest.raises(asyncio.CancelledError):
        await fed.run()
    await fed.aclose()
    assert clock.pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, 5]
    assert target.places()[-1] == ("a", 0)
    assert {record.__dict__["fields"]["failure"] for record in caplog.records} == {"the target is away"}


async def test_while_the_store_is_down_it_waits_and_opens_it_anew(cursor: Path) -> None:
    ledger, target, clock = MemoryLedger(), MemoryTarget(), Clock()
    ledger.put(*entries_of("a", 1))
    seen: list[str] = []

    @contextmanager
    def opened() -> Iterator[MemoryLedger]:
        seen.append("opened")
        yield ledger
        seen.append("closed")

    fed = Feed(opened, target, cursor, sleep=clock.sleep, now=clock.now)
    ledger.down = True
    with pytest.raises(StoreUnavailable):
        await fed.step()
    ledger.down = False
    await fed.step()
    await fed.step()
    await fed.aclose()
    assert seen == ["opened", "closed", "opened", "closed"]
    assert target.places() == [("a", 0)]


async def test_the_ledger_is_used_in_one_thread_that_is_not_the_loops(cursor: Path) -> None:
    seen: set[int] = set()

    class Watched(MemoryLedger):
        def logs(self) -> list[str]:
            seen.add(threading.get_ident())
            return super().logs()

    fed = feed(Watched(), MemoryTarget(), cursor)
    for _ in range(5):
        await fed.step()
    await fed.aclose()
    assert len(seen) == 1
    assert threading.get_ident() not in seen


async def test_a_fault_does_not_silence_the_feed_and_its_text_is_not_logged(
    cursor: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ledger, target, clock = MemoryLedger(), MemoryTarget(), Clock(pauses=2)
    ledger.put(*entries_of("a", 1))
    target.fault = RuntimeError("https://user:s3cret@host")
    fed = feed(ledger, target, cursor, clock)
    with pytest.raises(asyncio.CancelledError):
        await fed.run()
    await fed.aclose()
    assert [record.__dict__["fields"]["failure"] for record in caplog.records] == ["RuntimeError", "RuntimeError"]


async def test_it_says_how_long_ago_all_had_been_told(cursor: Path) -> None:
    ledger, target, clock = MemoryLedger(), MemoryTarget(), Clock()
    ledger.put(*entries_of("a", 3))
    fed = feed(ledger, target, cursor, clock, limits=Limits(max_events=2))
    clock.at += 10
    await fed.step()
    assert fed.behind() == 10
    await fed.step()
    assert fed.behind() == 0
    target.failures = 1
    ledger.put(*entries_of("b", 1))
    clock.at += 5
    with pytest.raises(TargetUnavailable):
        await fed.step()
    assert fed.behind() == 5
    await fed.aclose()


def test_a_broken_cursor_is_an_error_at_the_start(cursor: Path) -> None:
    cursor.write_text("{")
    with pytest.raises(ConfigError, match=r"cursor\.json"):
        feed(MemoryLedger(), MemoryTarget(), cursor)
