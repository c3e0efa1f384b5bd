"""Against a fake of Envoy's admin interface; tests/e2e/test_drain.py is on the real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from extproc.draining import EXCHANGES, TUNNELS, Running, drain
from extproc.errors import ExtprocError


@dataclass
class Admin:
    """Tell one pair of numbers after the other, the last one for ever."""

    numbers: list[tuple[int, int]]
    status: int = 200
    late: float = 0.0
    asked: list[str] = field(default_factory=list)

    async def post(self, request: web.Request) -> web.Response:
        self.asked.append(request.raw_path)
        return web.Response(text="OK\n", status=self.status)

    async def stats(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        await asyncio.sleep(self.late)
        exchanges, tunnels = self.numbers.pop(0) if len(self.numbers) > 1 else self.numbers[0]
        told = {EXCHANGES: exchanges, TUNNELS: tunnels}
        return web.Response(text="".join(f"{name}: {value}\n" for name, value in told.items() if value >= 0))


@asynccontextmanager
async def served(admin: Admin) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes([web.post("/{path:.*}", admin.post), web.get("/stats", admin.stats)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def drained(admin: Admin, seconds: float = 10) -> Running | None:
    async with served(admin) as url, aiohttp.ClientSession() as session:
        return await drain(session, url, seconds=seconds, pause=0, poll=0.001, last=0.02)


async def test_readiness_goes_first_and_then_the_listeners() -> None:
    admin = Admin([(0, 0)])
    assert await drained(admin) is None
    assert admin.asked == ["/healthcheck/fail", "/drain_listeners?graceful&skip_exit", "/stats", "/stats"]


async def test_a_moment_without_exchanges_is_not_the_end() -> None:
    admin = Admin([(1, 0), (0, 0), (0, 1), (0, 0), (0, 0)])
    assert await drained(admin) is None
    assert admin.asked.count("/stats") == 5


@pytest.mark.parametrize("left", [(2, 0), (0, 3), (2, 3)])
async def test_at_the_bound_it_says_what_runs(left: tuple[int, int]) -> None:
    assert await drained(Admin([left]), seconds=0.02) == Running(*left)


async def test_an_answer_that_comes_late_does_not_end_the_drain() -> None:
    assert await drained(Admin([(1, 0), (0, 0)], late=0.05)) is None


async def test_an_envoy_that_does_not_answer_is_waited_for_to_the_bound_alone() -> None:
    with pytest.raises(ExtprocError, match=r"/stats: Envoy's admin interface does not answer \(TimeoutError\)"):
        await drained(Admin([(1, 0)], late=5), seconds=0.05)


@pytest.mark.parametrize("unknown", [(-1, 0), (0, -1)])
async def test_a_number_that_envoy_does_not_know_is_not_taken_for_zero(unknown: tuple[int, int]) -> None:
    with pytest.raises(ExtprocError, match=r"Envoy tells nothing of .*_active: is this the gateway's"):
        await drained(Admin([unknown]))


async def test_an_answer_of_something_else_is_an_error() -> None:
    with pytest.raises(ExtprocError, match=r"/healthcheck/fail: Envoy answered with status 404"):
        await drained(Admin([(0, 0)], status=404))


async def test_an_envoy_that_is_gone_is_an_error() -> None:
    async with served(Admin([(0, 0)])) as url:
        pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ExtprocError, match="admin interface does not answer"):
            await drain(session, url, seconds=1, pause=0, poll=0.1)
