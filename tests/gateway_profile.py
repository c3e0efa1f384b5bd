"""A gateway on loopback that tells its profile, and `extproc` as a process that has signed in by EXTPROC_TOKEN."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from aiohttp import web

from extproc.signin.profile import WELL_KNOWN, Profile

TOKEN = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2ln"


@asynccontextmanager
async def telling(proxy: str | None = None, ca_pem: str | None = None) -> AsyncIterator[str]:
    """Serve the profile of a gateway that is where it is asked; yield its address."""

    async def answer(request: web.Request) -> web.Response:
        gateway = f"http://{request.host}"
        profile = Profile(gateway=gateway, issuer="https://issuer.example", client_id="cli", proxy=proxy, ca_pem=ca_pem)
        return web.json_response(msgspec.to_builtins(profile))

    app = web.Application()
    app.router.add_get(WELL_KNOWN, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class SignedIn:
    """Start `extproc` as somebody whose home is `home` and whose gateway is at `gateway`."""

    home: Path
    gateway: str
    token: str | None = TOKEN
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        found = {"PATH": os.environ["PATH"], "HOME": str(self.home), "EXTPROC_GATEWAY": self.gateway, **self.more}
        return found if self.token is None else {**found, "EXTPROC_TOKEN": self.token}

    async def start(self, *arguments: str, more: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "extproc", *arguments),
            env={**self.environ, **(more or {})},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *arguments: str, more: Mapping[str, str] | None = None) -> Ended:
        process = await self.start(*arguments, more=more)
        async with asyncio.timeout(60):
            out, err = await process.communicate()
        assert process.returncode is not None
        assert b"Traceback" not in err, err
        return Ended(process.returncode, out.decode(), err.decode())
