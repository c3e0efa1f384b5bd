from __future__ import annotations

import asyncio
import socket

import aiohttp
import pytest
from aiohttp import web

from extproc.dev.web import run
from extproc.errors import ConfigError


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_run_serves_until_cancelled_and_then_frees_the_port() -> None:
    started = asyncio.Event()

    async def on_startup(_app: web.Application) -> None:
        started.set()

    app = web.Application()
    app.on_startup.append(on_startup)
    port = _free_port()
    server = asyncio.create_task(run(app, "127.0.0.1", port))
    await started.wait()
    async with aiohttp.ClientSession() as client:
        status = None
        while status is None and not server.done():  # startup ends just before the socket listens
            try:
                async with client.get(f"http://127.0.0.1:{port}/") as response:
                    status = response.status
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0)
    assert status == 404
    server.cancel()
    with pytest.raises(asyncio.CancelledError):
        await server
    with socket.socket() as again:
        assert again.connect_ex(("127.0.0.1", port)) != 0


async def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port}: .*in use"):
            await run(web.Application(), "127.0.0.1", port)
