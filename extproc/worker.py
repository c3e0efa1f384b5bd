"""One place among several workers: a process is kept in it, which others replace and finish beside."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from extproc.errors import ConfigError, ExtprocError
from extproc.metrics_workers import Reason
from extproc.worker_process import Answer, Process, Program

log = logging.getLogger("extproc.workers")

_START_SECONDS: Final = 60.0

_PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)
"""Before each start of a worker that keeps dying. Then the service ends, for whoever supervises it to see."""

_LIVED_SECONDS: Final = 60.0
"""After so long a worker's death is not taken for the next one of a row."""

_CONFIGURATION: Final = 2
"""The exit code of a worker that cannot use its configuration; it has said why."""


class Worker:
    """The worker with this number.

    `process` is the one in place, None between a death and the next start; `processes` are all of them. `left_by` is
    told the id of each that ended.
    """

    def __init__(
        self,
        number: int,
        program: Program,
        restarts: Counter[Reason],
        left_by: Callable[[int], None],
        *,
        pauses: Sequence[float] = _PAUSES,
        start_seconds: float = _START_SECONDS,
    ) -> None:
        self.number = number
        self.program = program
        self.process: Process | None = None
        self.processes: set[Process] = set()
        self._restarts = restarts
        self._left_by = left_by
        self._pauses = pauses
        self._start_seconds = start_seconds
        self._ended: asyncio.Queue[Process] = asyncio.Queue()
        # Held by whoever puts a process in the place: one that died and one that is replaced may be the same.
        self._starting = asyncio.Lock()
        self._nobody_leaves = asyncio.Event()
        self._nobody_leaves.set()

    async def start(self) -> None:
        """Start the first process, and wait until it serves or has ended. Raises ConfigError where it cannot."""
        self.process = await self._new()
        if not await self.process.serves(self._start_seconds) and self.process.code == _CONFIGURATION:
            raise ConfigError(f"worker {self.number} cannot use its configuration")

    async def keep(self) -> None:
        """Start a process again whenever the one in place ends; raises ExtprocError where they keep ending."""
        row = 0
        while True:
            ended = await self._ended.get()
            if ended is not self.process:
                continue
            self.process = None
            row = row if ended.age < _LIVED_SECONDS else 0
            log.error("a worker died", extra={"fields": {"worker": self.number, "code": ended.code, "pid": ended.pid}})
            while self.process is None:
                if row == len(self._pauses):
                    raise ExtprocError(f"worker {self.number} keeps ending, the last time with code {ended.code}")
                await asyncio.sleep(self._pauses[row])
                row += 1
                async with self._starting:
                    # One that replaces it may have come meanwhile.
                    if self.process is None:
                        self._restarts[Reason.HUNG if ended.hung else Reason.DIED] += 1
                        self.process = await self._started()

    async def replace(self, program: Program) -> bool:
        """Have a new process take the place; the one before leaves. Return false where it does not come to serve."""
        # No more than two in one place: it may take as long as an exchange.
        await self._nobody_leaves.wait()
        async with self._starting:
            before_program, self.program = self.program, program
            following = await self._started()
            if following is None or not await following.serves(self._start_seconds) or following.ended.done():
                self.program = before_program
                if following is not None:
                    await following.end()
                return False
            before, self.process = self.process, following
        self._restarts[Reason.ROLL] += 1
        log.info("a worker was replaced", extra={"fields": {"worker": self.number, "pid": following.pid}})
        if before is not None:
            self._nobody_leaves.clear()
            before.leave()
        return True

    async def end(self) -> None:
        """End all processes within their bounds; what starts them must have been cancelled."""
        await asyncio.gather(*(process.end() for process in self.processes))

    async def ask(self, path: str) -> Answer | None:
        """Return what the process in place answers; None where it does not, or there is none."""
        return None if self.process is None else await self.process.ask(path)

    async def _started(self) -> Process | None:
        """Return a new process; None where the system has no room for one, which the log says."""
        try:
            return await self._new()
        except OSError as failure:
            fields = {"worker": self.number, "why": failure.strerror or str(failure)}
            log.error("a worker could not be started", extra={"fields": fields})  # noqa: TRY400 - it says all
            return None

    async def _new(self) -> Process:
        process = await Process.start(self.number, self.program)
        self.processes.add(process)
        process.ended.add_done_callback(lambda _ended: self._on_end(process))
        return process

    def _on_end(self, process: Process) -> None:
        self.processes.discard(process)
        if not self.processes - {self.process}:
            self._nobody_leaves.set()
        # Whatever becomes of its numbers, it must be started again.
        self._ended.put_nowait(process)
        self._left_by(process.pid)
