"""What operators see: `/metrics`, `/healthz` (the process lives), `/readyz` (it takes exchanges)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from extproc.metrics import Metrics, State

BEAT_SECONDS: Final = 0.25
"""How often the event loop is asked whether it comes in time."""

_UPDATE_BEATS: Final = 4


def make_app(
    metrics: Metrics, fault: Callable[[], str | None], state: Callable[[], State] | None = None
) -> web.Application:
    """Build the application; `fault` says why no exchange can be taken, `state` how the service stands."""

    async def scrape(_request: web.Request) -> web.Response:
        if state is not None:
            metrics.update(state())
        # It takes milliseconds, in which exchanges would wait.
        text = await asyncio.to_thread(metrics.render)
        return web.Response(body=text, headers={"content-type": CONTENT_TYPE_LATEST})

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(_request: web.Request) -> web.Response:
        why = fault()
        return web.Response(text="ready\n") if why is None else web.Response(text=f"not ready: {why}\n", status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", scrape), web.get("/healthz", live), web.get("/readyz", readiness)])
    return app


async def watch(metrics: Metrics, state: Callable[[], State], *, beat_seconds: float = BEAT_SECONDS) -> None:
    """Observe how late the event loop is, and how the service stands, until cancelled.

    What stands is noted every second: another worker's scrape sees what was noted last.
    """
    now = asyncio.get_running_loop().time
    beat = 0
    while True:
        if beat % _UPDATE_BEATS == 0:
            metrics.update(state())
        beat += 1
        due = now() + beat_seconds
        await asyncio.sleep(beat_seconds)
        metrics.lagged(max(0.0, now() - due))
