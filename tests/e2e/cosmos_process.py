"""The fake Cosmos DB account as a process of its own, which a test kills, starts again and spoils."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from extproc.secret import Secret
from extproc.store.cosmos import CosmosSettings
from tests.cosmos.server import KEY
from tests.e2e.gateway import free_ports

READY_SECONDS: Final = 20

FAULTS: Final[list[dict[str, Any]]] = [
    {"operation": "write", "status": 503, "times": 3},
    {"operation": "write", "status": 429, "retry_after_ms": 10, "times": 3},
    {"operation": "write", "status": 449, "inside": False},
    {"operation": "write"},
    # Taken, and the answer is lost: whether it was taken is not known to who asked.
    {"operation": "write", "commit": True, "times": 2},
    {"operation": "write", "commit": True, "stall": 0.3},
    {"operation": "Read", "status": 503},
]


class CosmosProcess:
    """A durable account at an address that stays; use `running`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._port = free_ports(1)[0]
        self._process: asyncio.subprocess.Process | None = None
        self.endpoint = f"http://127.0.0.1:{self._port}"

    @property
    def settings(self) -> CosmosSettings:
        return CosmosSettings(self.endpoint, key=Secret(KEY), endpoint_discovery=False)

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.cosmos", str(self._file), str(self._port), stdout=asyncio.subprocess.PIPE
        )
        assert self._process.stdout is not None
        ready = await asyncio.wait_for(self._process.stdout.readline(), READY_SECONDS)
        assert ready.decode().strip() == self.endpoint

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @asynccontextmanager
    async def state(self, state: str, session: aiohttp.ClientSession, chance: random.Random) -> AsyncIterator[None]:
        """Have the account up, down, or flapping: answers are faults every now and then."""
        flapping = asyncio.create_task(self._flap(session, chance)) if state == "flapping" else None
        if state == "down":
            await self.kill()
        try:
            yield
        finally:
            if flapping is not None:
                flapping.cancel()
                await asyncio.gather(flapping, return_exceptions=True)
                # Faults that nobody met yet go with the process.
                await self.kill()
            if state != "up":
                await self.start()

    async def _flap(self, session: aiohttp.ClientSession, chance: random.Random) -> None:
        while True:
            async with session.post(f"{self.endpoint}/_faults", json=chance.choice(FAULTS)) as answer:
                assert answer.status == 200
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running(file: Path) -> AsyncIterator[CosmosProcess]:
    """Give a started account that keeps everything in a file."""
    account = CosmosProcess(file)
    await account.start()
    try:
        yield account
    finally:
        await account.kill()
