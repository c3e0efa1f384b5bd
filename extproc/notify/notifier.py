"""Send notices beside the exchanges: whatever becomes of a notice, no exchange waits for it or fails with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from extproc.approval.approval import Approval, Request, State
from extproc.notify.notice import Channel, Notice, NotSent, notice_of

log = logging.getLogger("extproc.notify")

BACK_OFF: Final = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try where the channel says that one may help."""

Sleep = Callable[[float], Awaitable[None]]


class Notifier:
    """Tell all channels of approvals, each at its own pace and in order; must be made in a running event loop.

    Each channel has a queue of `queue_size`; where it is full the oldest notice is dropped. `{id}` in `link` stands for
    the approval's id.
    """

    def __init__(
        self,
        channels: Sequence[Channel],
        link: str | None = None,
        *,
        queue_size: int = 1000,
        sleep: Sleep = asyncio.sleep,
        grace_seconds: float = 2.0,
    ) -> None:
        self._link = link
        self._grace_seconds = grace_seconds
        self._outboxes = [_Outbox(channel, queue_size, sleep) for channel in channels]

    @property
    def channels(self) -> list[str]:
        """Return the names of the channels."""
        return [outbox.name for outbox in self._outboxes]

    @property
    def dropped(self) -> int:
        """Return how many notices no try was made for, over all channels."""
        return sum(outbox.dropped for outbox in self._outboxes)

    def requested(self, request: Request) -> None:
        """Tell that an approval waits; returns at once and never raises."""
        self._tell(Approval(request, State.PENDING))

    def ended(self, approval: Approval) -> None:
        """Tell how an approval ended; returns at once and never raises."""
        self._tell(approval)

    def _tell(self, approval: Approval) -> None:
        if self._outboxes:
            # Made here: the queue must not keep proposals, which may be large.
            notice = notice_of(approval, self._link)
            for outbox in self._outboxes:
                outbox.put(notice)

    async def aclose(self) -> None:
        """Send what is left for at most the grace period, and stop."""
        await asyncio.gather(*(outbox.aclose(self._grace_seconds) for outbox in self._outboxes))


class _Outbox:
    """One channel with what is still to be sent there: a channel that is down holds up no other."""

    def __init__(self, channel: Channel, size: int, sleep: Sleep) -> None:
        self.name = channel.name
        self.dropped = 0
        self._channel = channel
        self._sleep = sleep
        self._queue: asyncio.Queue[Notice] = asyncio.Queue(size)
        self._task = asyncio.create_task(self._send_all())

    def put(self, notice: Notice) -> None:
        if self._queue.full():
            self._drop()
        self._queue.put_nowait(notice)

    async def aclose(self, grace_seconds: float) -> None:
        try:
            await asyncio.wait_for(self._queue.join(), grace_seconds)
        except TimeoutError:
            log.warning("stopped before all notices were sent", extra={"fields": {"channel": self.name}})
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while not self._queue.empty():
            self._drop()

    def _drop(self) -> None:
        notice = self._queue.get_nowait()
        self._queue.task_done()
        self.dropped += 1
        fields = {"channel": self.name, "approval": notice.id, "dropped": self.dropped}
        log.warning("a notice was dropped", extra={"fields": fields})

    async def _send_all(self) -> None:
        while True:
            notice = await self._queue.get()
            for number, pause in enumerate((*BACK_OFF, None), 1):
                if not await self._fails(notice, number) or pause is None:
                    break
                await self._sleep(pause)
            self._queue.task_done()

    async def _fails(self, notice: Notice, number: int) -> bool:
        """Try once; return whether to try again."""
        try:
            await self._channel.send(notice)
        except NotSent as failure:
            reason, again = str(failure), failure.again
        except Exception as failure:  # noqa: BLE001 - a fault of one notice must not silence the channel for good
            # Only the kind of error: its text can quote an address.
            reason, again = type(failure).__name__, False
        else:
            return False
        fields = {"channel": self.name, "approval": notice.id, "try": number, "failure": reason}
        log.warning("a notice was not sent", extra={"fields": fields})
        return again
