"""Ship all logs of a spool: that of this process, and those that dead processes and commands left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from extproc.errors import ExtprocError
from extproc.shipping.log_shipper import LogShipper, uncut
from extproc.shipping.outlets import Outlets
from extproc.spool import folders
from extproc.spool.folders import Lock
from extproc.spool.reader import Damaged
from extproc.spool.spool import Spool

log = logging.getLogger("extproc.shipping")

GATHER_SECONDS: Final = 0.25
"""How long entries gather before they are shipped: a store takes many at once for little more than one. A transaction
of SQLite writes every page that it touched, of all indexes: an entry takes 54 µs of CPU where there are 10 in one, 33
where there are 50, 26 where there are 200 (measured)."""

SCAN_SECONDS: Final = 1.0
"""How often the folder is looked through for logs that others left."""

REFUSED_SECONDS: Final = 30.0
"""How long a log is left alone that could not be taken over, as when the disk is full or its key cannot be had."""

FINISH_SECONDS: Final = 5.0
"""How long shipping may take at the end; what is left then goes with the next start."""


@dataclass(slots=True)
class _Adopted:
    shipper: LogShipper
    lock: Lock


class Shipper:
    """Ship until closed. `recover` ends the log in a folder; it returns how many exchanges were open, and may raise.

    Made before its `spool`, which calls `wake`; None where a command only ships what is there.
    """

    def __init__(self, root: Path, outlets: Outlets, recover: Callable[[Path], int]) -> None:
        self.outlets = outlets
        self.interrupted = 0
        """Exchanges of dead processes that were ended."""
        self._root = root
        self._recover = recover
        self._spool: Spool | None = None
        self._own: LogShipper | None = None
        self._adopted: dict[str, _Adopted] = {}
        self._refused: dict[str, float] = {}
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._behind_since: float | None = None
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Say that there is something new."""
        if self._behind_since is None:
            self._behind_since = self.outlets.now()
        self._news.set()

    @property
    def behind_seconds(self) -> float:
        """Return how long the oldest entry of this process waits for the store."""
        return 0.0 if self._behind_since is None else self.outlets.now() - self._behind_since

    @property
    def refused_logs(self) -> int:
        """Return how many logs that others left cannot be shipped now."""
        return len(self._refused)

    @property
    def checkpoint_age(self) -> float:
        """Return the seconds since the last checkpoint of this process."""
        return 0.0 if self._own is None else self._own.checkpoint_age

    def start(self, spool: Spool | None = None) -> None:
        """Begin to ship; without a spool of this process only what others left."""
        self._spool = spool
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Ship what is left, for a while, and let go of all logs; the spool is closed already."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await self._finish()
        except TimeoutError:
            log.warning("the store took not everything; the next start ships the rest")
        except (OSError, ExtprocError) as failure:
            log.error("shipping failed", extra={"fields": {"why": str(failure)}})  # noqa: TRY400 - it says all
        for adopted in self._adopted.values():
            adopted.lock.release()
        if self._spool is not None:
            self._spool.release()

    async def drain(self, log_name: str) -> None:
        """Ship one log if nobody holds it, for a command that wrote it."""
        folder = self._root / log_name
        if folder.is_dir():
            await uncut(self._take_over, folder)
        while log_name in self._adopted and not self._adopted[log_name].shipper.is_signed:
            await self._ship_adopted()

    async def _run(self) -> None:
        scan_at = 0.0
        folders.sweep(self._root)
        while True:
            # Not `wait_for`: of Python 3.11 it may lose a cancellation that comes together with news.
            with suppress(TimeoutError):
                async with asyncio.timeout(SCAN_SECONDS):
                    await self._news.wait()
                await asyncio.sleep(GATHER_SECONDS)
            self._news.clear()
            await self._try(self._ship_own)
            if self._loop.time() >= scan_at:
                await self._try(self._adopt)
                scan_at = self._loop.time() + SCAN_SECONDS
            await self._try(self._ship_adopted)

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step; where it fails the others still get their turn: they may make room."""
        try:
            await step()
        except (OSError, ExtprocError) as failure:
            log.error("shipping failed", extra={"fields": {"why": str(failure)}})  # noqa: TRY400 - it says all
        except Exception:
            log.exception("a fault of shipping")
        else:
            return
        await asyncio.sleep(SCAN_SECONDS)

    async def _ship_own(self) -> None:
        spool = self._spool
        if spool is None or spool.durable.segment == 0:
            return
        if self._own is None:
            self._own = LogShipper(spool.folder, self.outlets, removed=spool.removed)
        # What becomes durable meanwhile gathers, too.
        limit, began = spool.durable, self.outlets.now()
        while await self._own.ship(limit):
            # One chunk at a time, so that a checkpoint is not put off for as long as there is something to ship.
            if self._own.is_due:
                await self._own.checkpoint()
        self._behind_since = began if self._news.is_set() else None
        if self._own.is_due:
            await self._own.checkpoint()
        self._own.remove_shipped()
        if (pinned := self._own.pinned()) is not None:
            number, exchanges = pinned
            await spool.copy(number, exchanges)
            self._own.unpin(number, exchanges)

    async def _adopt(self) -> None:
        """Take over logs that nobody holds."""
        others = 0
        logs = await asyncio.to_thread(folders.logs_in, self._root)
        # What an operator took away waits no longer.
        self._refused = {one.name: self._refused[one.name] for one in logs if one.name in self._refused}
        for folder in logs:
            if self._spool is not None and folder.name == self._spool.log:
                continue
            others += folders.bytes_in(folder)
            if folder.name not in self._adopted and self._refused.get(folder.name, 0.0) <= self._loop.time():
                await uncut(self._take_over, folder)
        if self._spool is not None:
            self._spool.other_bytes = others

    def _take_over(self, folder: Path) -> None:
        try:
            lock = Lock(folder)
        except (BlockingIOError, FileNotFoundError):
            return
        except OSError as failure:
            self._refuse(folder.name, failure)
            return
        try:
            left = self._recover(folder)
            shipper = LogShipper(folder, self.outlets)
        except Exception as failure:  # noqa: BLE001 - whatever is wrong with one log, nobody else is to wait for it
            lock.release()
            self._refuse(folder.name, failure)
            return
        self.interrupted += left
        if left:
            fields = {"log": folder.name, "exchanges": left}
            log.warning("ended exchanges of a process that died", extra={"fields": fields})
        self._refused.pop(folder.name, None)
        self._adopted[folder.name] = _Adopted(shipper, lock)

    async def _ship_adopted(self) -> None:
        for name, adopted in list(self._adopted.items()):
            shipper = adopted.shipper
            try:
                if await shipper.ship():
                    # Its next chunk comes after the own log's: new entries do not wait for old ones.
                    self._news.set()
                    continue
                if shipper.is_due:
                    await shipper.checkpoint()
                if shipper.is_done:
                    shipper.remove()
                    adopted.lock.release()
                    del self._adopted[name]
            except Exception as failure:  # noqa: BLE001 - as above
                adopted.lock.release()
                del self._adopted[name]
                self._refuse(name, failure)

    def _refuse(self, name: str, failure: Exception) -> None:
        """Leave a log for a while, a damaged one to an operator and to the next start."""
        damaged = isinstance(failure, Damaged)
        self._refused[name] = float("inf") if damaged else self._loop.time() + REFUSED_SECONDS
        # The text of a fault could quote what was recorded.
        why = str(failure) if isinstance(failure, OSError | ExtprocError) else f"a fault: {type(failure).__name__}"
        log.error("a log in the spool cannot be shipped", extra={"fields": {"log": name, "why": why}})

    async def _finish(self) -> None:
        await self._ship_own()
        if self._own is not None and self._own.is_done:
            self._own.remove()
