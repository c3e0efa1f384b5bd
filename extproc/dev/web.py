"""Run one of the development servers."""

from __future__ import annotations

import asyncio

from aiohttp import web

from extproc.errors import ConfigError

# Ctrl-C on `make run` must not wait for an answer that is still being streamed.
_SHUTDOWN_SECONDS = 1.0


async def run(app: web.Application, host: str, port: int) -> None:
    """Serve `app` on `host:port` until cancelled; no access log. Raises ConfigError when it cannot listen there."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
