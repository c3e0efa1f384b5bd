"""The development issuer of a state directory, served in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from extproc.dev import files, keys
from extproc.dev.idp import make_app
from extproc.dev.users import DEMO_USERS


@contextmanager
def dev_issuer(state: Path) -> Iterator[None]:
    """Prepare a state directory, and serve its issuer."""
    listening = socket.create_server(("127.0.0.1", 0))
    ports = files.Ports(issuer=listening.getsockname()[1])
    files.prepare(state, ports, "http://127.0.0.1:1", now=time.time())
    key = keys.load_or_create(state / keys.KEY_FILE)
    app = make_app(key, issuer=ports.issuer_url, audience=files.AUDIENCE, users=DEMO_USERS, now=time.time)
    loop, started = asyncio.new_event_loop(), threading.Event()
    served = web.AppRunner(app, access_log=None)

    async def begin() -> None:
        await served.setup()
        await web.SockSite(served, listening).start()
        started.set()

    def serve() -> None:
        loop.run_until_complete(begin())
        loop.run_forever()

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait()
    yield
    asyncio.run_coroutine_threadsafe(served.cleanup(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
