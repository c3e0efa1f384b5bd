"""Hold exchanges of this process until their approvals have ended: one look at the store serves all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from extproc.approval.approval import Approval, Request, State, covers
from extproc.errors import StoreUnavailable
from extproc.store.approvals_port import Ending, Held

log = logging.getLogger("extproc.approval")

# What ends a wait: a verdict, read from the store, or how the one who waits has to end the approval.
_Outcome = Approval | Ending


@dataclass(frozen=True, slots=True)
class NotHeld:
    """Say that a request cannot wait here, in one sentence for the client; nobody was asked."""

    message: str


class Notify(Protocol):
    """Be told of approvals; returns at once and never raises."""

    def requested(self, request: Request) -> None:
        """Hear that an approval waits: it is durable."""
        ...

    def ended(self, approval: Approval) -> None:
        """Hear how one that was told of has ended, once."""
        ...


@dataclass(slots=True)
class _Waiter:
    expires_at: float
    since: float
    outcome: asyncio.Future[_Outcome]
    told: bool = False


class Waiting:
    """Wait for verdicts, at most `max_waiting` at a time; `now` tells unix seconds.

    While anybody waits, one task asks the store every `poll_seconds` what has ended, and looks at the clock. It costs
    the same for one as for hundreds. `notify` and `on_ended` are told of each end once.
    """

    def __init__(
        self,
        approvals: Held,
        now: Callable[[], float],
        max_waiting: int,
        *,
        poll_seconds: float = 0.25,
        notify: Notify | None = None,
        on_ended: Callable[[Approval], None] = lambda _approval: None,
    ) -> None:
        self._approvals = approvals
        self._now = now
        self._max_waiting = max_waiting
        self._poll_seconds = poll_seconds
        self._notify = notify
        self._on_ended = on_ended
        self._waiters: dict[str, _Waiter] = {}
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._watch: asyncio.Task[None] | None = None
        self._ends: set[asyncio.Task[Approval | None]] = set()
        self._closed = False

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiters)

    @property
    def oldest_seconds(self) -> float:
        """Return how long the one waits that waits longest, 0 without."""
        # They are in the order in which they came.
        return next((max(0.0, self._now() - waiter.since) for waiter in self._waiters.values()), 0.0)

    async def wait(self, request: Request) -> Approval | NotHeld:
        """Return the approval when it has ended, or an earlier one at once that covers the request.

        An approval whose time is over ends as expired; a cancelled caller ends it as cancelled. Raises
        `StoreUnavailable`, after which nothing may be released.
        """
        granted = await self._approvals.granted(request.principal, request.rule.rule_id, request.session)
        now = self._now()
        for approval in granted:
            if covers(approval, request, now):
                return approval
        if self._closed:
            return NotHeld("The gateway is stopping; ask again in a moment.")
        if len(self._waiters) >= self._max_waiting:
            return NotHeld("Too many changes wait for approval at this gateway; ask again later.")
        return await self._wait(request)

    async def _wait(self, request: Request) -> Approval:
        waiter = _Waiter(request.expires_at, self._now(), asyncio.get_running_loop().create_future())
        self._waiters[request.id] = waiter
        self._nobody.clear()
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watch_all())
        try:
            await self._approvals.request(request)
            waiter.told = True
            if self._notify is not None:
                self._notify.requested(request)
            outcome = await waiter.outcome
            if isinstance(outcome, Approval):
                self._tell(waiter, outcome)
            return outcome if isinstance(outcome, Approval) else await self._end(request.id, waiter, outcome)
        except asyncio.CancelledError:
            await self._give_up(request.id, waiter)
            raise
        finally:
            del self._waiters[request.id]
            if not self._waiters:
                self._nobody.set()

    async def _end(self, approval_id: str, waiter: _Waiter, state: Ending) -> Approval:
        # Going on where its caller is cancelled: an approval that nobody waits for must not stay pending.
        task = asyncio.ensure_future(self._approvals.end(approval_id, state, self._now()))
        self._ends.add(task)
        task.add_done_callback(partial(self._has_ended, waiter))
        approval = await asyncio.shield(task)
        if approval is None:
            raise StoreUnavailable(f"the store does not know the approval {approval_id}")
        return approval

    def _has_ended(self, waiter: _Waiter, task: asyncio.Task[Approval | None]) -> None:
        self._ends.discard(task)
        if not task.cancelled() and task.exception() is None:
            self._tell(waiter, task.result())

    def _tell(self, waiter: _Waiter, approval: Approval | None) -> None:
        """Tell of an end, where its beginning was told: a client that goes away twice ends it twice."""
        if waiter.told and approval is not None:
            waiter.told = False
            self._on_ended(approval)
            if self._notify is not None:
                self._notify.ended(approval)

    async def _give_up(self, approval_id: str, waiter: _Waiter) -> None:
        try:
            await self._end(approval_id, waiter, State.CANCELLED)
        except StoreUnavailable as failure:
            # It can do no harm: nothing is released, and a verdict is refused once it has expired.
            fields = {"approval": approval_id, "failure": str(failure)}
            log.warning("a cancelled approval stays pending", extra={"fields": fields})

    async def _watch_all(self) -> None:
        cursor: str | None = None
        while self._waiters:
            try:
                cursor = await self._look(cursor)
            except StoreUnavailable as failure:
                # The cursor stays where it was, so nothing is lost. Until the store can be read they wait, or expire.
                log.warning("cannot look for verdicts", extra={"fields": {"failure": str(failure)}})
            except Exception as failure:
                self._fail_all(failure)
                raise
            self._expire()
            await asyncio.sleep(self._poll_seconds)

    async def _look(self, cursor: str | None) -> str:
        """Wake whose approval has ended since the cursor; without one, look at all of them."""
        following, ended = await self._approvals.ended(cursor)
        for approval_id in list(self._waiters) if cursor is None else ended:
            if approval_id in self._waiters:
                approval = await self._approvals.get(approval_id)
                if approval is not None and approval.state is not State.PENDING:
                    self._wake(approval_id, approval)
        return following

    def _expire(self) -> None:
        now = self._now()
        for approval_id, waiter in self._waiters.items():
            if now >= waiter.expires_at:
                self._wake(approval_id, State.EXPIRED)

    def _wake(self, approval_id: str, outcome: _Outcome) -> None:
        waiter = self._waiters.get(approval_id)
        if waiter is not None and not waiter.outcome.done():
            waiter.outcome.set_result(outcome)

    def _fail_all(self, failure: Exception) -> None:
        for waiter in self._waiters.values():
            if not waiter.outcome.done():
                waiter.outcome.set_exception(StoreUnavailable(f"nobody watches approvals: {type(failure).__name__}"))

    async def aclose(self) -> None:
        """End all that wait as interrupted, and let nobody wait any more; the store stays open."""
        self._closed = True
        for approval_id in self._waiters:
            self._wake(approval_id, State.INTERRUPTED)
        await self._nobody.wait()
        await asyncio.gather(*self._ends, return_exceptions=True)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
