from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from extproc.errors import ConfigError, ExtprocError
from extproc.metrics_workers import Reason
from extproc.worker import Worker
from extproc.worker_process import Process, Program
from tests.e2e.gateway import until
from tests.test_worker_process import SERVES

WRITES = "import os, sys, time; open(sys.argv[1] + '/starts', 'a').write(f'{os.getpid()}\\n');"
# Until there is a file `go`, it goes on when it is told to leave.
STAYS = SERVES.replace(
    "lambda one, _: os._exit(one)",
    "lambda one, _: one == signal.SIGTERM and not os.path.exists(folder + '/go') or os._exit(0)",
)


class Kept:
    """A worker, and what was told of it."""

    def __init__(self, folder: Path, code: str, *, pauses: int, look_seconds: float) -> None:
        self.folder = folder
        self.restarts = Counter[Reason]()
        self.left_by: list[int] = []
        self.worker = Worker(
            *(0, self.program(code, look_seconds), self.restarts, self.left_by.append),
            pauses=[0.001] * pauses,
            start_seconds=30,
        )

    def program(self, code: str, look_seconds: float = 60) -> Program:
        return Program([sys.executable, "-c", code, str(self.folder)], os.environ, self.folder, 30, 30, look_seconds)

    def starts(self) -> list[int]:
        path = self.folder / "starts"
        return [int(one) for one in path.read_text().split()] if path.exists() else []

    @property
    def process(self) -> Process:
        assert self.worker.process is not None
        return self.worker.process


@asynccontextmanager
async def kept(folder: Path, code: str, *, pauses: int = 3, look_seconds: float = 60) -> AsyncIterator[Kept]:
    one = Kept(folder, code, pauses=pauses, look_seconds=look_seconds)
    await one.worker.start()
    try:
        yield one
    finally:
        await one.worker.end()


@asynccontextmanager
async def keeping(one: Kept) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(one.worker.keep())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_one_that_dies_is_started_again_and_one_that_keeps_dying_ends_the_service(tmp_path: Path) -> None:
    async with kept(tmp_path, f"{WRITES} sys.exit(7)") as one:
        with pytest.raises(ExtprocError, match="worker 0 keeps ending, the last time with code 7") as caught:
            await one.worker.keep()
    assert not isinstance(caught.value, ConfigError)
    assert len(one.starts()) == 4
    assert one.left_by == one.starts()
    assert one.restarts == {Reason.DIED: 3}


async def test_one_that_cannot_use_its_configuration_at_first_is_not_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="worker 0 cannot use its configuration"):
        async with kept(tmp_path, f"{WRITES} sys.exit(2)"):
            pass
    assert len((tmp_path / "starts").read_text().split()) == 1


async def test_one_that_answers_nobody_is_followed_by_another(tmp_path: Path) -> None:
    one = Kept(tmp_path, f"{WRITES} time.sleep(600)", pauses=1, look_seconds=0.01)
    await one.worker.start()
    with pytest.raises(ExtprocError, match="keeps ending, the last time with code -9"):
        await one.worker.keep()
    assert one.restarts == {Reason.HUNG: 1}


async def test_one_that_is_killed_is_followed_by_another_that_serves(tmp_path: Path) -> None:
    async with kept(tmp_path, SERVES) as one, keeping(one):
        first = one.process
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: one.worker.process not in (None, first), "the next one")
        assert await one.process.serves(30)
        assert await one.worker.ask("/readyz") == (503, "told")
    assert one.restarts == {Reason.DIED: 1}


async def test_the_next_one_has_the_place_before_the_one_in_it_is_told_to_leave(tmp_path: Path) -> None:
    async with kept(tmp_path, STAYS) as one, keeping(one):
        first = one.process
        assert await one.worker.replace(one.program(SERVES))
        second = one.process
        assert one.worker.processes == {first, second}
        # There are never more than two in one place.
        third = asyncio.create_task(one.worker.replace(one.program(SERVES)))
        await asyncio.wait([third], timeout=0.5)
        assert one.worker.processes == {first, second}
        (tmp_path / "go").touch()
        os.kill(first.pid, signal.SIGTERM)
        assert await third
        await second.ended
        assert one.process not in (first, second)
        assert one.restarts == {Reason.ROLL: 2}
        await until(lambda: one.left_by == [first.pid, second.pid], "the end of those that left")


async def test_one_that_does_not_come_to_serve_changes_nothing(tmp_path: Path) -> None:
    async with kept(tmp_path, SERVES) as one, keeping(one):
        first = one.process
        for code in ("import sys; sys.exit(2)", "import sys; sys.exit(7)"):
            assert not await one.worker.replace(one.program(code))
        assert one.process is first
        assert one.worker.processes == {first}
        assert one.restarts == {}
        # Nor is what it would be started with now.
        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: one.worker.process not in (None, first), "the next one")
        assert await one.process.serves(30)


async def test_the_end_is_told_to_all_that_run(tmp_path: Path) -> None:
    async with kept(tmp_path, STAYS) as one:
        first = one.process
        async with keeping(one):
            assert await one.worker.replace(one.program(STAYS))
        await one.worker.end()
        assert (first.code, one.process.code) == (0, 0)
        assert one.worker.processes == set()


async def test_one_that_dies_while_it_is_replaced_leaves_one_in_its_place(tmp_path: Path) -> None:
    slow = SERVES.replace(
        "server = ", "import time\nwhile not os.path.exists(folder + '/go'): time.sleep(0.01)\nserver = "
    )
    async with kept(tmp_path, STAYS) as one:
        keeping = asyncio.create_task(one.worker.keep())
        before = one.process
        replacing = asyncio.create_task(one.worker.replace(one.program(slow)))
        await until(lambda: len(one.worker.processes) == 2, "the one that follows")
        (following,) = one.worker.processes - {before}
        os.kill(before.pid, signal.SIGKILL)
        await before.ended
        (tmp_path / "go").touch()
        assert await replacing
        # Whoever starts dead ones again has had its turn once it holds what those who start hold.
        async with one.worker._starting:
            assert (one.process, one.worker.processes) == (following, {following})
        keeping.cancel()
