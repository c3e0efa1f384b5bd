"""`extproc console`: serve the pages for people and the REST API."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
import uvicorn
import uvloop
from starlette.types import ASGIApp

from extproc import config as config_file
from extproc import logs, stores
from extproc.config import Config
from extproc.console.api.app import make_api
from extproc.console.app import make_app
from extproc.console.browser_sessions import BrowserSessions
from extproc.console.composed import make_console, once
from extproc.console.connections import HeadsInTime
from extproc.console.reading import Reading
from extproc.console.shipping import shipping
from extproc.console.signing_in import sign_in_of
from extproc.errors import ConfigError, ExtprocError
from extproc.identities import verifier_of
from extproc.serve import steady_clock

log = logging.getLogger("extproc.console")

_MAX_CONNECTIONS = 200
_STOP_SECONDS = 5
_CATCH_UP_SECONDS = 5.0


def console(
    config: Annotated[Path, typer.Option(help="The gateway's settings file.")] = Path("gateway.yaml"),
    listen: Annotated[str, typer.Option(help="HOST:PORT. It speaks plain HTTP: put TLS in front.")] = "127.0.0.1:8088",
) -> None:
    """Serve the console: pages for people (where `console.sign_in` is set) and the REST API."""
    settings = config_file.load(config)
    logs.configure()
    with _listening(listen) as listening:
        uvloop.run(_serve(settings, listening))


def server_of(app: ASGIApp) -> Server:
    """Return the HTTP server of the application, which leaves signals to its caller."""
    return Server(
        uvicorn.Config(
            app,
            http=HeadsInTime,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # The address of a view or a verdict is the peer's: anybody can write an x-forwarded-for.
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
    )


async def _serve(config: Config, listening: socket.socket) -> None:
    clock = steady_clock()
    places = config.places
    told = config.settings.console
    # No cookies and no proxy of the environment, as everywhere.
    async with (
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
        verifier_of(config, clock) as keys,
        AsyncExitStack() as stack,
        shipping(places, session, clock),
    ):
        # The gateway, which makes the file of approvals, may start later.
        approvals = once(lambda: stores.approvals_of(places, stack, instance=None, now=clock))
        made = make_console(config, approvals, session, clock)

        def sessions(app: ASGIApp) -> ASGIApp:
            return BrowserSessions(
                app,
                now=clock,
                is_secure=told.url.startswith("https:"),
                seconds=told.session_seconds,
                idle_seconds=told.idle_seconds,
            )

        server = server_of(make_app(made, make_api(made, keys), sign_in_of(config, keys, clock), sessions))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        threading.Thread(target=_keep_up, args=(made.reading,), name="catching-up", daemon=True).start()
        await server.serve(sockets=[listening])


def _keep_up(reading: Reading) -> None:
    """Have the lists catch up now and then: nobody who asks waits for it, and what was erased is soon out of them.

    It ends with the process, wherever it is: an index is written in transactions.
    """
    told = ""
    while True:
        why = ""
        try:
            reading.catch_up()
        except ExtprocError as failure:
            why = str(failure)
        if why not in {"", told}:
            log.warning("the lists cannot catch up", extra={"fields": {"why": why}})
        told = why
        time.sleep(_CATCH_UP_SECONDS)


class Server(uvicorn.Server):
    """Stop when told to, not by signals of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        # uvicorn would raise the signal again when it has stopped, which ends the process before the store is closed.
        yield

    def stop(self) -> None:
        """End what runs, then return from `serve`."""
        self.should_exit = True


def _listening(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"--listen: expected HOST:PORT, got {address!r}")
    try:
        return socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as failure:
        raise ConfigError(f"--listen: cannot listen on {address}: {failure}") from failure
