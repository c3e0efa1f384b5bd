"""What operators see of several workers, and ask of them; the workers themselves run in tests/e2e."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from extproc import config
from extproc.config import Config
from extproc.errors import ConfigError
from extproc.metrics_workers import Numbers, Reason, Supervised
from extproc.worker import Worker
from extproc.worker_process import Program
from extproc.workers import _program, _roll_when, make_app, roll, supervise
from tests.e2e.gateway import until
from tests.metrics_of import parsed
from tests.test_worker_process import SERVES

SETTINGS = """\
workers: 3
operations: 127.0.0.1:1
listen: ["unix:run/{worker}.sock"]
policy: policy.yaml
store: { sqlite: record.db }
issuers:
  - kind: oidc
    issuer: https://idp.example
    audiences: [gateway]
"""


@asynccontextmanager
async def operations(folder: Path, answers: dict[int, tuple[int, str]]) -> AsyncIterator[str]:
    """Run those of three workers that have an answer to /readyz, and yield the supervisor's address."""
    supervised = Supervised(lambda: {"serving": len(answers), "leaving": 0})
    numbers = Numbers(folder / "metrics", supervised)
    command = [sys.executable, "-c", SERVES, str(folder), json.dumps(answers)]
    program = Program(command, os.environ, folder, drain_seconds=30, leave_seconds=30)
    workers = [Worker(number, program, supervised.restarts, numbers.left_by) for number in range(3)]
    runner = web.AppRunner(make_app(workers, numbers))
    try:
        await asyncio.gather(*(workers[number].start() for number in answers))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
        await asyncio.gather(*(worker.end() for worker in workers))


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


@pytest.mark.parametrize(
    ("answers", "status", "told"),
    [
        ({0: (200, "ready"), 1: (200, "ready"), 2: (200, "ready")}, 200, "ready\n"),
        (
            {0: (503, "not ready: full"), 1: (200, "ready")},
            200,
            "ready\nworker 0: not ready: full\nworker 2: does not answer\n",
        ),
        (
            {1: (503, "not ready: full")},
            503,
            "worker 0: does not answer\nworker 1: not ready: full\nworker 2: does not answer\n",
        ),
    ],
)
async def test_the_service_is_ready_while_one_worker_is_and_names_those_that_are_not(
    tmp_path: Path, answers: dict[int, tuple[int, str]], status: int, told: str
) -> None:
    async with operations(tmp_path, answers) as url:
        assert await get(f"{url}/readyz") == (status, told)
        assert await get(f"{url}/healthz") == (200, "ok\n")


async def test_metrics_are_told_without_any_worker_that_answers(tmp_path: Path) -> None:
    async with operations(tmp_path, {}) as url:
        status, text = await get(f"{url}/metrics")
    assert status == 200
    assert parsed(text)["extproc_workers", ("serving",)] == 0


def settings(folder: Path, **changed: str) -> Config:
    (folder / "policy.yaml").write_text("version: 1\nrules: []\n")
    text = SETTINGS
    for name, value in changed.items():
        text = "".join(f"{name}: {value}\n" if line.startswith(name) else f"{line}\n" for line in text.splitlines())
    (folder / "gateway.yaml").write_text(text)
    return config.load(folder / "gateway.yaml")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"workers": "2"}, "workers: a change needs a restart"),
        ({"listen": "['unix:elsewhere/{worker}.sock']"}, "listen: a change needs a restart"),
        ({"operations": "127.0.0.1:2"}, "operations: a change needs a restart"),
    ],
)
async def test_what_the_supervisor_itself_goes_by_is_not_changed_by_a_roll(
    tmp_path: Path, changed: dict[str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = settings(tmp_path)
    path = tmp_path / "gateway.yaml"
    assert await roll([], before, path)
    settings(tmp_path, **changed)
    assert not await roll([], before, path)
    assert any(record.__dict__.get("fields", {}).get("why", "").startswith(why) for record in caplog.records)


async def test_a_file_that_cannot_be_read_is_not_rolled(tmp_path: Path) -> None:
    before = settings(tmp_path)
    (tmp_path / "gateway.yaml").write_text("workers: [")
    assert not await roll([], before, tmp_path / "gateway.yaml")


async def test_a_roll_ends_at_the_first_worker_whose_next_process_does_not_serve(tmp_path: Path) -> None:
    """The real program: nobody can use this key."""
    before = settings(tmp_path)
    (tmp_path / "checkpoint.key").write_text("not a key")
    (tmp_path / "checkpoint.key").chmod(0o600)
    restarts = Counter[Reason]()
    program = Program([], {**os.environ, "PYTHONPATH": str(Path.cwd())}, tmp_path / "run", 30, 30)
    workers = [Worker(number, program, restarts, lambda _process: None) for number in range(2)]
    assert not await roll(workers, before, tmp_path / "gateway.yaml", between_seconds=0)
    assert restarts == {}
    assert [worker.process for worker in workers] == [None, None]


class Replaced(Worker):
    """A worker whose next process comes to serve when it is told to."""

    def __init__(self, path: Path, number: int) -> None:
        super().__init__(number, Program([], {}, path, 30, 30), Counter(), lambda _process: None)
        self.programs: list[Program] = []
        self.may_serve = asyncio.Semaphore(0)

    async def replace(self, program: Program) -> bool:
        self.programs.append(program)
        await self.may_serve.acquire()
        return True


async def test_who_asks_for_a_roll_during_one_gets_another_one_after_it_with_the_files_of_then(tmp_path: Path) -> None:
    before, path, asked = settings(tmp_path), tmp_path / "gateway.yaml", asyncio.Event()
    workers = [Replaced(tmp_path, number) for number in range(2)]
    ends: list[bool] = []

    async def roll_all() -> bool:
        ends.append(await roll(workers, before, path, between_seconds=0))
        return ends[-1]

    rolling = asyncio.create_task(_roll_when(asked, roll_all))
    asked.set()
    await until(lambda: workers[0].programs, "the first roll")
    path.write_text(f"{path.read_text()}limits: {{ drain_seconds: 7 }}\n")
    # Two of the same roll ask for one.
    for _ in range(2):
        asked.set()
        await asyncio.sleep(0)
    for worker in workers:
        worker.may_serve.release()
    await until(lambda: len(workers[0].programs) == 2, "the second roll")
    # The first one was not begun anew, and went to its end.
    assert ends == [True]
    assert [len(worker.programs) for worker in workers] == [2, 1]
    for worker in workers:
        worker.may_serve.release()
    await until(lambda: len(ends) == 2, "its end")
    assert [[one.drain_seconds for one in worker.programs] for worker in workers] == [[30, 7], [30, 7]]
    assert not asked.is_set()
    assert not rolling.done()
    rolling.cancel()


async def test_a_socket_that_another_service_has_is_told_at_the_start(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "2.sock").write_text("precious")
    with pytest.raises(ConfigError, match=r"2\.sock exists and is not a socket"):
        await supervise(loaded, tmp_path / "gateway.yaml", {})


async def test_a_folder_of_metrics_that_cannot_be_used_is_told_at_the_start(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"PROMETHEUS_MULTIPROC_DIR: cannot use .*file"):
        await supervise(loaded, tmp_path / "gateway.yaml", {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "file")})


async def test_those_that_were_replaced_have_the_time_of_the_longest_exchange(tmp_path: Path) -> None:
    loaded = settings(tmp_path)
    limits = loaded.settings.limits
    program = _program(loaded, tmp_path / "gateway.yaml", {})
    assert program.leave_seconds >= limits.total_seconds
    assert program.drain_seconds == limits.drain_seconds
