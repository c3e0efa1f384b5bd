"""A process of a worker, as its supervisor sees it: started, asked, told to leave, ended, killed when it hangs."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp

from extproc.handover import operations_socket
from extproc.processes import end_with_parent
from extproc.relative import short

log = logging.getLogger("extproc.workers")

_ASK_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 5.0
_SILENT_LOOKS: Final = 6
"""Looks in a row at which a process does not say that it lives, before it is killed: it hangs."""

STOP_SECONDS: Final = 20.0
"""What a process may take beyond its drain: closing records, shipping, witnesses (docs/configuration.md, Signals)."""


@dataclass(frozen=True, slots=True)
class Program:
    """How processes of a worker are started, where they tell how they are, and how long they may take to go; seconds.

    `leave_seconds` is for one that was replaced, whose exchanges run to their end, `drain_seconds` for one that ends.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    folder: Path
    drain_seconds: float
    leave_seconds: float
    look_seconds: float = _LOOK_SECONDS

    @classmethod
    def serving(
        cls, path: Path, environ: Mapping[str, str], folder: Path, *, drain_seconds: float, leave_seconds: float
    ) -> Program:
        """Return the program of workers with the settings file at `path`; their number follows."""
        command = (sys.executable, "-m", "extproc", "serve", "--config", str(path), "--worker")
        return cls(command, environ, folder, drain_seconds, leave_seconds)


class Answer(NamedTuple):
    """What a process answers at its `operations`."""

    status: int
    text: str


class Process:
    """One process of the worker with this number."""

    def __init__(self, number: int, program: Program, process: asyncio.subprocess.Process) -> None:
        self.number = number
        self.hung = False
        self.has_served = False
        self._born = asyncio.get_running_loop().time()
        self._died: float | None = None
        self._program = program
        self._process = process
        self._operations = operations_socket(program.folder, number, process.pid)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(short(self._operations)), timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS)
        )
        self.ended = asyncio.create_task(self._end_of())

    @classmethod
    async def start(cls, number: int, program: Program) -> Process:
        """Start it."""
        process = await asyncio.create_subprocess_exec(
            *program.command, str(number), env=dict(program.environ), preexec_fn=end_with_parent
        )
        return cls(number, program, process)

    @property
    def age(self) -> float:
        """Return for how many seconds it has lived, or lived."""
        return (self._died or asyncio.get_running_loop().time()) - self._born

    @property
    def code(self) -> int | None:
        """Return what it ended with."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        """Return its id."""
        return self._process.pid

    async def serves(self, seconds: float) -> bool:
        """Wait until it serves; return whether it came to that."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not self.ended.done() and asyncio.get_running_loop().time() < deadline:
            if await self.ask("/healthz") is not None:
                return True
            await asyncio.wait([self.ended], timeout=0.1)
        return False

    async def ask(self, path: str) -> Answer | None:
        """Return what it answers; None where it does not."""
        try:
            async with self._session.get(f"http://worker{path}") as response:
                answer = Answer(response.status, await response.text())
                self.has_served = True
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError, RuntimeError):
            # The last is a session that was closed, since the process has ended.
            return None

    def leave(self) -> None:
        """Tell it that another one has taken its place, to let its exchanges run to their end and go."""
        self._send(signal.SIGTERM)
        asyncio.get_running_loop().call_later(self._program.leave_seconds + STOP_SECONDS, self._kill_late)

    async def end(self) -> None:
        """Have it end within its bounds, and wait for that."""
        # One that has only begun to start takes SIGINT for a key of its terminal, and says where it was.
        self._send(signal.SIGINT if self.has_served else signal.SIGTERM)
        await asyncio.wait([self.ended], timeout=self._program.drain_seconds + STOP_SECONDS)
        self._kill_late()
        await asyncio.wait([self.ended])

    def _send(self, number: signal.Signals) -> None:
        if not self.ended.done():
            self._process.send_signal(number)

    def _kill_late(self) -> None:
        if not self.ended.done():
            log.warning("a worker did not stop in time", extra={"fields": {"worker": self.number, "pid": self.pid}})
            self._process.kill()

    async def _end_of(self) -> int:
        looking = asyncio.create_task(self._kill_when_it_hangs())
        try:
            return await self._process.wait()
        finally:
            self._died = asyncio.get_running_loop().time()
            looking.cancel()
            await self._session.close()
            self._operations.unlink(missing_ok=True)

    async def _kill_when_it_hangs(self) -> None:
        # Envoy gives one that hangs nothing new, but only a start ends what it holds, and gives its core back.
        silent = 0
        while silent < _SILENT_LOOKS:
            await asyncio.sleep(self._program.look_seconds)
            silent = silent + 1 if await self.ask("/healthz") is None else 0
        log.error("a worker hangs", extra={"fields": {"worker": self.number, "pid": self.pid}})
        self.hung = True
        self._process.kill()
