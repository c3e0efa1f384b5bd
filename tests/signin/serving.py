"""What the tests of signing in share: servers on loopback, a keyring, a person who signs in."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web
from keyring.backend import KeyringBackend
from keyring.backends import fail
from keyring.compat import properties
from keyring.errors import PasswordDeleteError

SCOPE = "openid offline_access groups"
NO_KEYRING = fail.Keyring()  # type: ignore[no-untyped-call]


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Idp:
    """The development issuer on loopback, its clock, and what it was asked."""

    url: str
    clock: Clock
    asked: list[tuple[str, int]] = field(default_factory=list)

    def times(self, path: str) -> int:
        return sum(1 for asked, _ in self.asked if asked == path)


class MemoryKeyring(KeyringBackend):
    """A keyring of the operating system, as far as `keyring` tells of it."""

    def __init__(self) -> None:
        # Without that of the library, which reads the environment.
        self.entries: dict[tuple[str, str], str] = {}

    @properties.classproperty
    def priority(cls) -> float:  # noqa: N805 - a property of the class
        return 5

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if (service, username) not in self.entries:
            raise PasswordDeleteError("not found")
        del self.entries[service, username]


@asynccontextmanager
async def serving(app: web.Application, listening: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve an application on loopback; yield its address."""
    listening = listening or socket.create_server(("127.0.0.1", 0))
    served = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await served.setup()
    await web.SockSite(served, listening).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        await served.cleanup()


Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(handler: Answering) -> AsyncIterator[str]:
    """Answer every request with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with serving(app) as url:
        yield url


async def grant_of(
    idp: Idp, session: aiohttp.ClientSession, *, user: str = "alice", scope: str = SCOPE
) -> dict[str, Any]:
    """Sign in by the device flow, as plain requests; return the token endpoint's answer."""
    form = {"client_id": "extproc-cli", "scope": scope}
    async with session.post(f"{idp.url}/device_authorization", data=form) as response:
        begun = await response.json()
    await (await session.post(f"{idp.url}/device", data={"user_code": begun["user_code"], "user": user})).read()
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
        "device_code": begun["device_code"],
        "client_id": "extproc-cli",
    }
    async with session.post(f"{idp.url}/token", data=form) as response:
        answer: dict[str, Any] = await response.json()
    return answer
