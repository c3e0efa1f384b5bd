"""The feed: tell one target of every entry of a ledger, at least once, in order per log, and go on after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

from extproc.errors import ExtprocError
from extproc.feed import cursor as cursor_file
from extproc.feed.gather import Batch, Limits, gather
from extproc.feed.port import Target
from extproc.store.port import Ledger

logger = logging.getLogger("extproc.feed")

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 300.0
"""Pauses double from the first to the longest while the target or the store is away."""

Sleep = Callable[[float], Awaitable[None]]


class Feed:
    """Tell one target; what it has not taken is read again from the ledger, so nothing gathers in memory.

    The ledger is opened once, and used only in a thread of its own. One process per cursor file: two would both tell
    everything. `now` tells seconds. Raises ConfigError where the cursor file is none.
    """

    def __init__(
        self,
        ledger_factory: Callable[[], AbstractContextManager[Ledger]],
        target: Target,
        cursor_path: Path,
        *,
        sleep: Sleep = asyncio.sleep,
        now: Callable[[], float],
        poll_seconds: float = 5.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self._ledger_factory = ledger_factory
        self._target = target
        self._cursor_path = cursor_path
        self._sleep = sleep
        self._now = now
        self._poll_seconds = poll_seconds
        self._limits = limits
        self._cursor = cursor_file.load(cursor_path)
        self._stopped_at: str | None = None
        self._told_all_at = now()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._opened = ExitStack()
        self._ledger: Ledger | None = None

    @property
    def name(self) -> str:
        """Return what logs and metrics call it: its target's name."""
        return self._target.name

    def behind(self) -> float:
        """Return how many seconds ago all that was recorded had been told; between two looks a few seconds."""
        return max(0.0, self._now() - self._told_all_at)

    async def run(self) -> None:
        """Tell what is recorded until cancelled; whatever fails is tried again after a pause."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self.step()
            except Exception as failure:  # noqa: BLE001 - a fault must not silence the feed for good
                # Of what is not ours only the kind: its text can quote an address.
                text = str(failure) if isinstance(failure, ExtprocError) else type(failure).__name__
                fields = {"target": self.name, "failure": text, "pause": pause}
                logger.warning("the feed could not go on", extra={"fields": fields})
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            pause = FIRST_PAUSE_SECONDS
            if self._stopped_at is None:
                await self._sleep(self._poll_seconds)

    async def step(self) -> int:
        """Tell one batch and keep the place; return how many events that were.

        Raises StoreUnavailable, TargetUnavailable, and OSError where the cursor cannot be written.
        """
        began = self._now()
        loop = asyncio.get_running_loop()
        batch = await loop.run_in_executor(self._thread, self._read)
        if batch.events:
            await self._target.send(batch.events)
        if batch.cursor != self._cursor:
            await loop.run_in_executor(self._thread, cursor_file.save, self._cursor_path, batch.cursor)
        self._cursor, self._stopped_at = batch.cursor, batch.stopped_at
        if batch.stopped_at is None:
            self._told_all_at = began
        return len(batch.events)

    async def aclose(self) -> None:
        """Let go of the ledger; call it when `run` has ended."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _read(self) -> Batch:
        if self._ledger is None:
            self._ledger = self._opened.enter_context(self._ledger_factory())
        try:
            return gather(self._ledger, self._cursor, self._stopped_at, self._limits)
        except Exception:
            # A new one next time: the database may have been replaced, or the connection be broken.
            self._close()
            raise

    def _close(self) -> None:
        self._ledger = None
        self._opened.close()
