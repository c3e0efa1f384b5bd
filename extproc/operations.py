"""The HTTP endpoint for operators: `/metrics`, `/healthz` (the process lives), `/readyz` (it takes exchanges)."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from extproc.metrics import Metrics


def make_app(metrics: Metrics, fault: Callable[[], str | None]) -> web.Application:
    """Build the application; `fault` says why no exchange can be taken."""

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"content-type": CONTENT_TYPE_LATEST})

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(_request: web.Request) -> web.Response:
        why = fault()
        return web.Response(text="ready\n") if why is None else web.Response(text=f"not ready: {why}\n", status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", scrape), web.get("/healthz", live), web.get("/readyz", readiness)])
    return app
