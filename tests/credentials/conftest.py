"""A real HTTP server in the place of GitHub's token exchange."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

TOKEN_PATH = "/copilot_internal/v2/token"
API = "https://api.individual.githubcopilot.com"


@dataclass
class Clock:
    """Unix seconds that only move when told to."""

    seconds: float = 1_760_000_000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class GitHub:
    """Answer the token exchange as told, and note every request; strict about what the real one is strict about."""

    clock: Clock
    url: str = ""
    authorizations: list[str] = field(default_factory=list)
    answer: Callable[[], web.StreamResponse] | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def envelope(self, **changes: object) -> dict[str, object]:
        now = int(self.clock())
        token = f"tid=exchanged{len(self.authorizations)};exp={now + 1800}:mac/1="
        return {"token": token, "expires_at": now + 1800, "refresh_in": 1500, "endpoints": {"api": API}, **changes}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.authorizations.append(request.headers["authorization"])
        self.arrived.set()
        await self.let_go.wait()
        if "editor-version" not in request.headers or request.headers["accept"] != "application/json":
            return web.json_response({"message": "missing Editor-Version header"}, status=400)
        return self.answer() if self.answer else web.json_response(self.envelope(sku="x", chat_enabled=True))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def github(clock: Clock) -> AsyncIterator[GitHub]:
    fake = GitHub(clock)
    fake.let_go.set()
    app = web.Application()
    app.router.add_get(TOKEN_PATH, fake.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    fake.url = f"http://{host}:{port}{TOKEN_PATH}"
    yield fake
    fake.let_go.set()
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session
