from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from extproc.metrics import Metrics
from extproc.operations import make_app


class State:
    fault: str | None = None


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def base(state: State) -> AsyncIterator[str]:
    metrics = Metrics()
    metrics.recording_failures.inc(3)
    runner = web.AppRunner(make_app(metrics, lambda: state.fault))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    yield f"http://{host}:{port}"
    await runner.cleanup()


async def get(url: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, response.headers["content-type"], await response.text()


async def test_a_scrape_gets_the_metrics_in_the_exposition_format(base: str) -> None:
    status, content_type, text = await get(f"{base}/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    assert "extproc_recording_failures_total 3.0" in text


async def test_a_service_that_can_take_no_exchange_lives_but_is_not_ready_and_says_why(base: str, state: State) -> None:
    assert (await get(f"{base}/readyz"))[::2] == (200, "ready\n")
    state.fault = "spool /spool: full"
    assert (await get(f"{base}/readyz"))[::2] == (503, "not ready: spool /spool: full\n")
    assert (await get(f"{base}/healthz"))[0] == 200
    state.fault = None
    assert (await get(f"{base}/readyz"))[0] == 200


async def test_there_is_nothing_else(base: str) -> None:
    assert (await get(f"{base}/"))[0] == 404
    assert (await get(f"{base}/debug"))[0] == 404
