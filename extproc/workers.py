"""Several workers of the service under one supervisor: `extproc serve` with `workers` above 1.

Each worker is a process with sockets of its own, over which Envoy balances. They share the state directory, numbers
(`extproc.metrics_shared`) and what Envoy says of exchanges (`extproc.siblings`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

import aiohttp
from aiohttp import web

from extproc.config import Config
from extproc.errors import ConfigError, ExtprocError
from extproc.metrics_shared import FOLDER_VARIABLE
from extproc.processes import end_with_parent
from extproc.relative import short
from extproc.serve import listen_on, operations_socket

log = logging.getLogger("extproc.workers")

_ASK_SECONDS: Final = 2.0
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 20.0
"""What a worker may take beyond its drain: closing records, shipping, witnesses (docs/configuration.md, Operations)."""

_PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)
"""Before each start of a worker that keeps dying. Then the service ends, for whoever supervises it to see."""

_LIVED_SECONDS: Final = 60.0
"""After so long a worker's death is not taken for the next one of a row."""

_LOOK_SECONDS: Final = 5.0
_SILENT_LOOKS: Final = 6
"""Looks in a row at which a worker does not say that it lives, before it is killed: it hangs."""

_CONFIGURATION: Final = 2
"""The exit code of a worker that cannot use its configuration; it has said why."""


async def supervise(config: Config, path: Path, environ: Mapping[str, str]) -> None:
    """Run the workers of the settings file at `path` until SIGTERM or SIGINT, then drain them.

    One that dies or hangs is started again. Raises ConfigError where the address of `operations` cannot be used, and
    where a worker cannot use its configuration; ExtprocError where one keeps dying.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    environ = {FOLDER_VARIABLE: str(config.socket_folder / "metrics"), **environ}
    async with AsyncExitStack() as stack:
        command = [sys.executable, "-m", "extproc", "serve", "--config", str(path), "--worker"]
        stop_seconds = config.settings.limits.drain_seconds + _STOP_SECONDS
        workers = [
            Worker(number, [*command, str(number)], environ, operations_socket(config, number), stop_seconds)
            for number in range(config.settings.workers)
        ]
        for worker in workers:
            stack.push_async_callback(worker.aclose)
        operations = web.AppRunner(make_app(workers), access_log=None)
        await operations.setup()
        stack.push_async_callback(operations.cleanup)
        await listen_on(operations, config.settings.operations)
        kept: list[asyncio.Task[None]] = []
        running = asyncio.create_task(_run_all(workers, kept))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        log.info("draining")
        failure = running.exception() if running.done() else None
        ending = [running, stopped, *kept]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        if failure is not None:
            raise failure
    log.info("stopped")


async def _run_all(workers: Sequence[Worker], kept: list[asyncio.Task[None]]) -> None:
    """Start one after the other, so that the first makes what all need and says what is wrong; raises what ends one."""
    loop = asyncio.get_running_loop()
    for worker in workers:
        kept.append(task := asyncio.create_task(worker.keep()))
        deadline = loop.time() + _START_SECONDS
        while not task.done() and loop.time() < deadline and await worker.ask("/healthz") is None:
            await asyncio.wait([task], timeout=0.1)
        if task.done():
            task.result()
    await asyncio.gather(*kept)


class Answer(NamedTuple):
    """What a worker answers at its `operations`."""

    status: int
    body: bytes
    content_type: str


class Worker:
    """One worker process, started again when it dies."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        environ: Mapping[str, str],
        operations: Path,
        stop_seconds: float,
        *,
        pauses: Sequence[float] = _PAUSES,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self.number = number
        self._command = command
        self._environ = environ
        self._stop_seconds = stop_seconds
        self._pauses = pauses
        self._look_seconds = look_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(short(operations)), timeout=aiohttp.ClientTimeout(total=_ASK_SECONDS)
        )

    async def keep(self) -> None:
        """Keep it running until cancelled, which drains it; raises ConfigError, ExtprocError where it keeps dying."""
        loop = asyncio.get_running_loop()
        row = 0
        while True:
            began = loop.time()
            code = await self._run()
            if code == _CONFIGURATION:
                raise ConfigError(f"worker {self.number} cannot use its configuration")
            row = row if loop.time() - began < _LIVED_SECONDS else 0
            if row == len(self._pauses):
                raise ExtprocError(f"worker {self.number} keeps ending, the last time with code {code}")
            log.error("a worker died", extra={"fields": {"worker": self.number, "code": code}})
            await asyncio.sleep(self._pauses[row])
            row += 1

    async def _run(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *self._command, env=dict(self._environ), preexec_fn=end_with_parent
        )
        looking = asyncio.create_task(self._kill_when_it_hangs(process))
        try:
            return await process.wait()
        finally:
            looking.cancel()
            if process.returncode is None:
                await self._end(process)

    async def _kill_when_it_hangs(self, process: asyncio.subprocess.Process) -> None:
        # Envoy gives one that hangs nothing new, but only a start ends what it holds, and gives its core back.
        silent = 0
        while silent < _SILENT_LOOKS:
            await asyncio.sleep(self._look_seconds)
            silent = silent + 1 if await self.ask("/healthz") is None else 0
        log.error("a worker hangs", extra={"fields": {"worker": self.number}})
        process.kill()

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self._stop_seconds)
        except TimeoutError:
            log.warning("a worker did not stop in time", extra={"fields": {"worker": self.number}})
            process.kill()
            await process.wait()

    async def ask(self, path: str) -> Answer | None:
        """Return what the worker answers; None where it does not."""
        try:
            async with self._session.get(f"http://worker{path}") as response:
                return Answer(response.status, await response.read(), response.headers["content-type"])
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def aclose(self) -> None:
        """Close the connection to it."""
        await self._session.close()


def make_app(workers: Sequence[Worker]) -> web.Application:
    """Build what operators see of all workers: `/metrics`, `/healthz` and `/readyz`."""

    async def scrape(_request: web.Request) -> web.Response:
        # Each of them tells the numbers of all.
        for worker in workers:
            answer = await worker.ask("/metrics")
            if answer is not None and answer.status == HTTPStatus.OK:
                return web.Response(body=answer.body, headers={"content-type": answer.content_type})
        return web.Response(text="no worker answers\n", status=503)

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(_request: web.Request) -> web.Response:
        answers = await asyncio.gather(*(worker.ask("/readyz") for worker in workers))
        faults = {}
        for worker, answer in zip(workers, answers, strict=True):
            if answer is None:
                faults[worker.number] = "does not answer"
            elif answer.status != HTTPStatus.OK:
                faults[worker.number] = answer.body.decode().strip()
        told = "".join(f"worker {number}: {why}\n" for number, why in faults.items())
        if len(faults) < len(workers):
            return web.Response(text=f"ready\n{told}")
        return web.Response(text=told, status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", scrape), web.get("/healthz", live), web.get("/readyz", readiness)])
    return app
