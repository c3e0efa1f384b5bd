from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from extproc.metrics_shared import FOLDER_VARIABLE, gathered, joined, left_by
from tests.metrics_of import Samples, parsed

Start = Callable[[int, int], Awaitable["Worker"]]


@dataclass
class Worker:
    process: asyncio.subprocess.Process
    port: int

    async def scrape(self) -> Samples:
        url = f"http://127.0.0.1:{self.port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            assert response.status == 200
            return parsed(await response.text())

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "shared"


@pytest.fixture
async def start(folder: Path) -> AsyncIterator[Start]:
    environ = {**os.environ, FOLDER_VARIABLE: str(folder), "PYTHONPATH": str(Path.cwd())}
    async with AsyncExitStack() as stack:

        async def start(exchanges: int, streams: int) -> Worker:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.metrics_worker", str(exchanges), str(streams)),
                stdout=asyncio.subprocess.PIPE,
                env=environ,
            )
            assert process.stdout is not None
            port = await asyncio.wait_for(process.stdout.readline(), 30)
            worker = Worker(process, int(port))
            stack.push_async_callback(worker.kill)
            return worker

        yield start


async def test_a_scrape_of_any_worker_tells_of_all_and_of_those_that_died_what_they_counted(start: Start) -> None:
    workers = [await start(exchanges, streams) for exchanges, streams in ((10, 1), (20, 2), (30, 4))]
    for worker in workers:
        found = await worker.scrape()
        assert found["extproc_exchanges_total", ("chat", "completed")] == 60
        assert found["gen_ai_client_token_usage_sum", ("chat", "gpt-5", "input")] == 6000
        assert found["extproc_tokens_total", ("other", "gpt-5", "output")] == 300
        assert found["extproc_holdback_seconds_count", ()] == 120
        assert found["extproc_store_retries_total", ()] == 7
        assert found["extproc_streams_open", ()] == found["extproc_approvals_waiting", ()] == 7
        assert found["extproc_chain_index", ()] == 60
        # They see one spool; and it is the oldest signature that counts.
        assert found["extproc_spool_bytes", ()] == 4000
        assert found["extproc_checkpoint_age_seconds", ()] == 40
        assert found["extproc_build_info", ("1.2.3",)] == 1
    await workers[2].kill()
    for worker in workers[:2]:
        found = await worker.scrape()
        assert found["extproc_exchanges_total", ("chat", "completed")] == 60
        assert found["gen_ai_client_token_usage_sum", ("chat", "gpt-5", "input")] == 6000
        assert found["extproc_streams_open", ()] == found["extproc_approvals_waiting", ()] == 3
        assert found["extproc_spool_bytes", ()] == 2000
        assert found["extproc_checkpoint_age_seconds", ()] == 20
    # One that takes the place of the dead worker goes on where all have come to.
    fourth = await start(5, 8)
    found = await fourth.scrape()
    assert found["extproc_exchanges_total", ("chat", "completed")] == 65
    assert found["extproc_streams_open", ()] == 11


async def test_what_an_earlier_run_left_is_not_counted(start: Start) -> None:
    await (await start(10, 1)).kill()
    found = await (await start(3, 1)).scrape()
    assert found["extproc_exchanges_total", ("chat", "completed")] == 3


def test_a_process_that_has_the_id_of_a_dead_one_begins_anew(folder: Path) -> None:
    folder.mkdir()
    left = [folder / f"counter_{os.getpid()}.db", folder / f"gauge_livesum_{os.getpid()}.db"]
    for path in left:
        path.write_bytes(bytes(16))
    with joined(folder):
        assert list(folder.iterdir()) == []


def test_files_of_living_processes_stay_and_others_are_no_business_of_ours(folder: Path) -> None:
    folder.mkdir()
    (folder / f"counter_{os.getppid()}.db").write_bytes(bytes(16))
    (folder / "notes.txt").touch()
    with joined(folder):
        assert len(list(folder.iterdir())) == 2
    assert isinstance(gathered(folder), CollectorRegistry)


def test_of_a_dead_process_the_gauges_go(folder: Path) -> None:
    folder.mkdir()
    dead = 1 << 22  # no Linux has a higher one (proc(5), pid_max)
    for name in ("counter", "gauge_livesum"):
        (folder / f"{name}_{dead}.db").write_bytes(bytes(16))
    assert generate_latest(gathered(folder)) == b""
    assert [path.name for path in folder.iterdir()] == [f"counter_{dead}.db"]


@pytest.mark.parametrize("content", [b"", b"\x01"])
def test_counts_that_a_worker_was_killed_in_the_middle_of_are_lost_and_said_so(
    folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    dead = 1 << 22
    (folder / f"counter_{dead}.db").write_bytes(content)
    left_by(folder, dead)
    assert [path.name for path in folder.iterdir() if str(dead) in path.name] == []
    assert [record.message for record in caplog.records] == ["the counts of a worker that ended are lost"]
    assert generate_latest(gathered(folder)) == b""
