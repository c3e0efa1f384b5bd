"""Where logs are shipped to: a store that may be away, and witnesses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from extproc.errors import StoreUnavailable
from extproc.recording.checkpoint import Signer
from extproc.recording.entry import Blob, Sealed, WrappedKey
from extproc.store.port import Conflict, Store
from extproc.witness.witnesses import Witnesses

log = logging.getLogger("extproc.shipping")

FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 10.0
"""Pauses double from the first to the longest while the store takes nothing."""


@dataclass(frozen=True, slots=True)
class Cadence:
    """When a checkpoint is due, and how long what was shipped stays in the spool.

    One is signed after `entries` new entries, `seconds` after a new one, and `idle_seconds` after the last one where
    nothing is new. `keep_seconds`: a region that fails may lose what its store acknowledged a while ago.
    """

    entries: int = 1000
    seconds: float = 10.0
    idle_seconds: float = 300.0
    keep_seconds: float = 0.0


@dataclass(slots=True)
class Outlets:
    """Where logs go, for all logs of a process."""

    store: Store
    signer: Signer
    witnesses: Witnesses
    cadence: Cadence
    now: Callable[[], float]
    jitter: Callable[[], float]
    """Numbers between 0 and 1."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    wrote: Callable[[float], None] = lambda _seconds: None
    """Is told how long the store took for each write that it took."""
    retries: int = 0
    conflicts: int = 0
    away_since: float | None = None

    async def put(self, entries: list[Sealed], blobs: list[Blob], keys: list[WrappedKey]) -> None:
        """Put until the store has it; only an alarm ends it otherwise."""
        await self._until_taken(lambda: self.store.put(entries, blobs, keys))

    async def put_checkpoint(self, log_name: str, size: int, note: str) -> None:
        """Put a checkpoint until the store has it."""
        await self._until_taken(lambda: self.store.put_checkpoint(log_name, size, note))

    async def _until_taken(self, put: Callable[[], Awaitable[None]]) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = self.now()
            try:
                await put()
                self.wrote(self.now() - began)
            except StoreUnavailable as failure:
                self.retries += 1
                if self.away_since is None:
                    self.away_since = self.now()
                    log.warning("the store takes nothing; the spool keeps it", extra={"fields": {"why": str(failure)}})
                await self.sleep(pause * (0.5 + self.jitter() / 2))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
                continue
            except Conflict as alarm:
                # What we have is what was sealed: the checkpoint will say so, and verifying will name the difference.
                self.conflicts += 1
                log.error("ALARM: the record was altered in the store", extra={"fields": {"what": alarm.what}})  # noqa: TRY400 - the trace says nothing
            if self.away_since is not None:
                away = round(self.now() - self.away_since, 1)
                self.away_since = None
                log.warning("the store takes entries again", extra={"fields": {"away_seconds": away}})
            return
