"""Several workers of the service under one supervisor: `extproc serve` with `workers` above 1.

Each worker is a process with sockets of its own, over which Envoy balances. They share the state directory, numbers
(`extproc.metrics_shared`) and what Envoy says of exchanges (`extproc.siblings`). On SIGHUP they are replaced one by one
(`extproc.handover`).
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from extproc import config as config_file
from extproc.config import Config
from extproc.errors import ConfigError
from extproc.handover import clear_socket, remove_dead
from extproc.metrics_shared import FOLDER_VARIABLE
from extproc.metrics_workers import CONTENT_TYPE_LATEST, Numbers, Supervised
from extproc.serve import listen_on, socket_path
from extproc.worker import Worker
from extproc.worker_process import Program

log = logging.getLogger("extproc.workers")

_BETWEEN_SECONDS: Final = 4.0
"""Between two that are replaced: Envoy then takes the first for healthy again, whatever carries its streams."""


async def supervise(config: Config, path: Path, environ: Mapping[str, str]) -> None:
    """Run the workers of the settings file at `path` until SIGTERM or SIGINT, then drain them; SIGHUP replaces them.

    One that dies or hangs is started again. Raises ConfigError where an address cannot be used, and where a worker
    cannot use its configuration; ExtprocError where one keeps dying.
    """
    stop, asked = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    _clear(config)
    environ = {FOLDER_VARIABLE: str(config.socket_folder / "metrics"), **environ}
    supervised = Supervised(lambda: _processes(workers))
    numbers = _numbers(Path(environ[FOLDER_VARIABLE]), supervised)
    program = _program(config, path, environ)
    workers = [
        Worker(number, program, supervised.restarts, numbers.left_by) for number in range(config.settings.workers)
    ]
    async with AsyncExitStack() as stack:
        operations = web.AppRunner(make_app(workers, numbers), access_log=None)
        await operations.setup()
        stack.push_async_callback(operations.cleanup)
        await listen_on(operations, config.settings.operations)
        stack.push_async_callback(_end, workers)
        running = asyncio.create_task(_run(workers, asked, config, path))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        log.info("draining")
        for task in (running, stopped):
            task.cancel()
        await asyncio.wait([running, stopped])
        if not running.cancelled():
            running.result()
    log.info("stopped")


def _clear(config: Config) -> None:
    """Make room for the workers' sockets; raises ConfigError where another service has them."""
    for worker in range(config.settings.workers):
        for address in config.settings.listen_of(worker):
            clear_socket(socket_path(config, address))
    remove_dead(config.socket_folder)


def _numbers(folder: Path, supervised: Supervised) -> Numbers:
    try:
        return Numbers(folder, supervised)
    except OSError as failure:
        raise ConfigError(f"{FOLDER_VARIABLE}: cannot use {folder}: {failure.strerror}") from failure


def _program(config: Config, path: Path, environ: Mapping[str, str]) -> Program:
    limits = config.settings.limits
    return Program.serving(
        path,
        environ,
        config.socket_folder,
        drain_seconds=limits.drain_seconds,
        leave_seconds=limits.total_seconds + limits.drain_seconds,
    )


async def _run(workers: Sequence[Worker], asked: asyncio.Event, config: Config, path: Path) -> None:
    """Run the workers, and replace them whenever it is asked for; raises what ends one of them."""
    tasks: list[asyncio.Task[None]] = []
    try:
        # One after the other: the first makes what all need, and says what is wrong.
        for worker in workers:
            await worker.start()
            tasks.append(asyncio.create_task(worker.keep()))
        tasks.append(asyncio.create_task(_roll_when(asked, lambda: roll(workers, config, path))))
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _roll_when(asked: asyncio.Event, roll_all: Callable[[], Awaitable[bool]]) -> None:
    while True:
        await asked.wait()
        # Who asks from now on asks for another roll.
        asked.clear()
        await roll_all()


async def _end(workers: Sequence[Worker]) -> None:
    await asyncio.gather(*(worker.end() for worker in workers))


async def roll(
    workers: Sequence[Worker], config: Config, path: Path, *, between_seconds: float = _BETWEEN_SECONDS
) -> bool:
    """Replace the workers one by one by such as have the configuration of now; return whether all were."""
    try:
        fresh = config_file.load(path)
        _check_that_workers_can_take_over(config, fresh)
    except ConfigError as error:
        log.error("not rolled", extra={"fields": {"why": str(error)}})  # noqa: TRY400 - it says all
        return False
    log.info("rolling", extra={"fields": {"workers": len(workers)}})
    for worker in workers:
        if not await worker.replace(_program(fresh, path, worker.program.environ)):
            log.error("not rolled", extra={"fields": {"why": "it does not come to serve", "worker": worker.number}})
            return False
        await asyncio.sleep(between_seconds)
    log.info("rolled", extra={"fields": {"workers": len(workers)}})
    return True


def _check_that_workers_can_take_over(old: Config, new: Config) -> None:
    for name in ("workers", "listen", "operations"):
        if getattr(old.settings, name) != getattr(new.settings, name):
            raise ConfigError(f"{name}: a change needs a restart of the service")


def _processes(workers: Sequence[Worker]) -> dict[str, int]:
    serving = sum(worker.process is not None for worker in workers)
    return {"serving": serving, "leaving": sum(len(worker.processes) for worker in workers) - serving}


def make_app(workers: Sequence[Worker], numbers: Numbers) -> web.Application:
    """Build what operators see of all workers: `/metrics`, `/healthz` and `/readyz`."""

    async def scrape(_request: web.Request) -> web.Response:
        # It takes milliseconds, in which a worker that died would wait.
        text = await asyncio.to_thread(numbers.render)
        return web.Response(body=text, headers={"content-type": CONTENT_TYPE_LATEST})

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(_request: web.Request) -> web.Response:
        answers = await asyncio.gather(*(worker.ask("/readyz") for worker in workers))
        faults = {}
        for worker, answer in zip(workers, answers, strict=True):
            if answer is None:
                faults[worker.number] = "does not answer"
            elif answer.status != HTTPStatus.OK:
                faults[worker.number] = answer.text.strip()
        told = "".join(f"worker {number}: {why}\n" for number, why in faults.items())
        if len(faults) < len(workers):
            return web.Response(text=f"ready\n{told}")
        return web.Response(text=told, status=503)

    app = web.Application()
    app.add_routes([web.get("/metrics", scrape), web.get("/healthz", live), web.get("/readyz", readiness)])
    return app
