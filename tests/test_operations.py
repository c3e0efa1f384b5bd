from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from extproc.metrics import Metrics
from extproc.metrics import State as Standing
from extproc.operations import make_app, watch
from tests.metrics_of import parsed, recording, samples


class State:
    fault: str | None = None


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def base(state: State) -> AsyncIterator[str]:
    metrics = Metrics()
    metrics.recording_failures.inc(3)
    standing = iter(range(1, 100))
    app = make_app(metrics, lambda: state.fault, lambda: Standing(recording(), approvals_waiting=next(standing)))
    runner = web.AppRunner(app)
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


async def test_a_scrape_tells_how_the_service_stands_at_that_moment(base: str) -> None:
    for expected in (1, 2, 3):
        _, _, text = await get(f"{base}/metrics")
        assert parsed(text)["extproc_approvals_waiting", ()] == expected


async def test_a_loop_that_is_late_is_seen_and_how_the_service_stands_is_noted_now_and_then() -> None:
    metrics, looked, looks = Metrics(), asyncio.Event(), list[int]()

    def look() -> Standing:
        looks.append(len(looks))
        looked.set()
        return Standing(recording(spool_bytes=1000 + len(looks)))

    task = asyncio.create_task(watch(metrics, look, beat_seconds=0.001))
    await looked.wait()
    looked.clear()
    time.sleep(0.2)  # noqa: ASYNC251 - what must not happen happens
    await asyncio.wait_for(looked.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    found = samples(metrics)
    assert found["extproc_event_loop_lag_seconds_sum", ()] >= 0.19
    assert (found["extproc_event_loop_lag_seconds_count", ()], len(looks)) == (4, 2)
    assert found["extproc_spool_bytes", ()] == 1002


async def test_there_is_nothing_else(base: str) -> None:
    assert (await get(f"{base}/"))[0] == 404
    assert (await get(f"{base}/debug"))[0] == 404
