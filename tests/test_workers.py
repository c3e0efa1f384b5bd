"""What operators see of several workers; the workers themselves run in tests/e2e/test_workers.py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from extproc import config
from extproc.relative import short
from extproc.serve import operations_socket
from extproc.workers import Worker, make_app

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
    workers = [Worker(loaded, folder / "gateway.yaml", number, {}) for number in range(3)]
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
