"""Publish checkpoints beside the exchanges: nobody waits for a witness, and none that is down holds up another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from extproc.witness.port import Contradicted, Witness, WitnessUnavailable

logger = logging.getLogger("extproc.witness")

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 300.0
"""Pauses double from the first to the longest while a witness takes nothing."""

PUBLISH_SECONDS: Final = 30.0
"""Longest single try: an adapter that hangs must not hang for ever."""

Sleep = Callable[[float], Awaitable[None]]


class Witnesses:
    """Give checkpoints to all witnesses, each at its own pace; must be made in a running event loop.

    For each witness only the newest checkpoint of each log is kept: it commits to all before it. `now` tells seconds.
    """

    def __init__(
        self,
        witnesses: Sequence[Witness],
        *,
        now: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
        publish_seconds: float = PUBLISH_SECONDS,
        grace_seconds: float = 5.0,
    ) -> None:
        self._now = now
        self._grace_seconds = grace_seconds
        self._outlets = [_Outlet(witness, sleep, publish_seconds) for witness in witnesses]

    def offer(self, log: str, size: int, note: str) -> None:
        """Have a checkpoint published; returns at once. One that is smaller than what waits is passed over."""
        for outlet in self._outlets:
            outlet.put(_Checkpoint(log, size, note, self._now()))

    def behind(self) -> dict[str, float]:
        """Return for each witness how many seconds ago its oldest untaken checkpoint was offered; 0 without one."""
        now = self._now()
        return {outlet.name: max(0.0, now - outlet.since(now)) for outlet in self._outlets}

    def contradictions(self) -> dict[str, int]:
        """Return for each witness how often it had another checkpoint than ours; anything but 0 is an alarm."""
        return {outlet.name: outlet.contradictions for outlet in self._outlets}

    async def aclose(self) -> None:
        """Try once more what is left, for at most the grace period, and stop."""
        await asyncio.gather(*(outlet.aclose(self._grace_seconds) for outlet in self._outlets))


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """`since`: when the oldest that this one stands for was offered."""

    log: str
    size: int
    note: str
    since: float


class _Outlet:
    """One witness with what it has not taken, at most one checkpoint per log."""

    def __init__(self, witness: Witness, sleep: Sleep, publish_seconds: float) -> None:
        self.name = witness.name
        self.contradictions = 0
        self._witness = witness
        self._sleep = sleep
        self._publish_seconds = publish_seconds
        self._waiting: dict[str, _Checkpoint] = {}
        self._trying: _Checkpoint | None = None
        self._offered = asyncio.Event()
        self._task = asyncio.create_task(self._publish_all())

    def put(self, new: _Checkpoint) -> None:
        old = self._waiting.get(new.log)
        if old is not None:
            new = replace(new if new.size >= old.size else old, since=min(old.since, new.since))
        self._waiting[new.log] = new
        self._offered.set()

    def since(self, now: float) -> float:
        untaken = [*self._waiting.values(), *([self._trying] if self._trying else [])]
        return min((one.since for one in untaken), default=now)

    async def aclose(self, grace_seconds: float) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(grace_seconds):
                for _ in range(len(self._waiting)):
                    await self._fails()
        except TimeoutError:
            logger.debug("the grace period is over")
        if self._waiting:
            fields = {"witness": self.name, "logs": len(self._waiting)}
            logger.warning("stopped before the witness had all checkpoints", extra={"fields": fields})

    async def _publish_all(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            await self._offered.wait()
            if await self._fails():
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
            else:
                pause = FIRST_PAUSE_SECONDS

    async def _fails(self) -> bool:
        """Try the checkpoint that waits longest; one that fails waits behind the others."""
        checkpoint = self._trying = self._waiting.pop(next(iter(self._waiting)))
        taken = False
        try:
            async with asyncio.timeout(self._publish_seconds):
                await self._witness.publish(checkpoint.log, checkpoint.size, checkpoint.note)
            taken = True
        except Contradicted as alarm:
            self.contradictions += 1
            self._report(logging.ERROR, checkpoint, str(alarm))
        except WitnessUnavailable as failure:
            self._report(logging.WARNING, checkpoint, str(failure))
        except Exception as failure:  # noqa: BLE001 - a fault of one checkpoint must not silence the witness for good
            # Only the kind of error: its text can quote an address.
            self._report(logging.WARNING, checkpoint, type(failure).__name__)
        finally:
            # Also where this is cancelled: then it is tried once more on closing.
            self._trying = None
            if not taken:
                self.put(checkpoint)
            elif not self._waiting:
                self._offered.clear()
        return not taken

    def _report(self, level: int, checkpoint: _Checkpoint, failure: str) -> None:
        fields = {"witness": self.name, "log": checkpoint.log, "size": checkpoint.size, "failure": failure}
        logger.log(level, "a checkpoint was not taken", extra={"fields": fields})
