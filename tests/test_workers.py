"""What operators see of several workers; the workers themselves run in tests/e2e/test_workers.py."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from extproc import config
from extproc.errors import ConfigError, ExtprocError
from extproc.relative import short
from extproc.serve import operations_socket
from extproc.workers import Worker, make_app
from tests.e2e.gateway import until

SETTINGS = """\
workers: 3
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
    """Serve what workers with these answers would, and yield the supervisor's address."""
    (folder / "policy.yaml").write_text("version: 1\nrules: []\n")
    (folder / "gateway.yaml").write_text(SETTINGS)
    (folder / "run").mkdir()
    loaded = config.load(folder / "gateway.yaml")
    workers = [Worker(number, [], {}, operations_socket(loaded, number), 1) for number in range(3)]
    async with AsyncExitStack() as stack:
        for worker in workers:
            stack.push_async_callback(worker.aclose)
        for number, (status, text) in answers.items():

            async def answer(_request: web.Request, status: int = status, text: str = text) -> web.Response:
                return web.Response(status=status, text=text, headers={"content-type": "text/x-told"})

            app = web.Application()
            app.add_routes([web.get("/metrics", answer), web.get("/readyz", answer)])
            runner = web.AppRunner(app)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.UnixSite(runner, short(operations_socket(loaded, number))).start()
        runner = web.AppRunner(make_app(workers))
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"


async def get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text(), response.headers["content-type"]


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
        assert (await get(f"{url}/readyz"))[:2] == (status, told)
        assert (await get(f"{url}/healthz"))[0] == 200


async def test_metrics_are_those_that_the_first_living_worker_tells_of_all(tmp_path: Path) -> None:
    async with operations(tmp_path, {1: (200, "all 1\n"), 2: (200, "all 1\n")}) as url:
        assert await get(f"{url}/metrics") == (200, "all 1\n", "text/x-told; charset=utf-8")


async def test_without_a_living_worker_there_are_no_metrics(tmp_path: Path) -> None:
    async with operations(tmp_path, {0: (500, "oops")}) as url:
        assert (await get(f"{url}/metrics"))[:2] == (503, "no worker answers\n")


def worker(folder: Path, program: str, *, pauses: int = 3, look_seconds: float = 60) -> Worker:
    """Return a worker that runs this program."""
    command = [sys.executable, "-c", program, str(folder / "starts")]
    return Worker(0, command, os.environ, folder / "none.sock", 10, pauses=[0.001] * pauses, look_seconds=look_seconds)


STARTED = "import os, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n');"


def starts(folder: Path) -> list[str]:
    path = folder / "starts"
    return path.read_text().split() if path.exists() else []


async def test_a_worker_that_dies_is_started_again_and_one_that_keeps_dying_ends_the_service(tmp_path: Path) -> None:
    one = worker(tmp_path, f"{STARTED} sys.exit(7)")
    with pytest.raises(ExtprocError, match="worker 0 keeps ending, the last time with code 7") as caught:
        await one.keep()
    assert not isinstance(caught.value, ConfigError)
    assert len(starts(tmp_path)) == 4
    await one.aclose()


async def test_a_worker_that_cannot_use_its_configuration_is_not_tried_again(tmp_path: Path) -> None:
    one = worker(tmp_path, f"{STARTED} sys.exit(2)")
    with pytest.raises(ConfigError, match="worker 0 cannot use its configuration"):
        await one.keep()
    assert len(starts(tmp_path)) == 1
    await one.aclose()


async def test_a_worker_that_answers_nobody_is_killed(tmp_path: Path) -> None:
    one = worker(tmp_path, f"{STARTED} time.sleep(600)", pauses=1, look_seconds=0.01)
    with pytest.raises(ExtprocError, match="keeps ending, the last time with code -9"):
        await one.keep()
    await one.aclose()


async def test_a_worker_that_is_no_longer_wanted_is_told_so_and_waited_for(tmp_path: Path) -> None:
    last = "signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[1], 'a').write('told\\n'), sys.exit(0)))"
    one = worker(tmp_path, f"import signal; {STARTED} {last}; time.sleep(600)")
    task = asyncio.create_task(one.keep())
    await until(lambda: starts(tmp_path), "its start")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert starts(tmp_path)[1:] == ["told"]
    await one.aclose()
