"""One ext_proc stream: its exchange is told what happens, and the effects are run in their order.

What can be done at once is done at once, in the call that brought the message; only what must be waited for, a disk or
an issuer, makes the stream wait. Every way out but `Finish` aborts it with a status other than OK: a stream that ends
with OK too early makes Envoy let the exchange through unprocessed (Envoy's ext_proc filter, whatever
`failure_mode_allow` says).
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from extproc import wire
from extproc.approval.approval import Approval
from extproc.approval.waiting import NotHeld
from extproc.carrier import Status, Stream
from extproc.effects import (
    Ask,
    Compute,
    Effect,
    Fail,
    FetchCredential,
    Finish,
    Identify,
    PassResponseBody,
    PassResponseHeaders,
    Record,
    Reply,
)
from extproc.errors import Code, Refused, StoreUnavailable
from extproc.events import Computed, CredentialReady, Decided, End, Ended, Event, Identified, Recorded, Tick
from extproc.events import RecordingFailed as RecordingFailedEvent
from extproc.events import Refused as RefusedEvent
from extproc.exchange import Exchange, IllegalEvent, Phase
from extproc.outside import Outside
from extproc.recording.story import Story
from extproc.tunnel import Tunnel
from extproc.wire import WireError

log = logging.getLogger("extproc.exchange")

_APART = ThreadPoolExecutor(1, thread_name_prefix="unidentified")
"""The one thread for work of people nobody knows."""

_LARGE = ThreadPoolExecutor(2, thread_name_prefix="large-bodies")
"""The threads for large bodies: more would only take the interpreter from each other, and from the event loop. Two, so
that not all wait behind the largest."""

_INLINE_BYTES = 65_536
"""Work on so many bytes takes about a millisecond; more is done in a thread."""

_STATUS = {
    Code.GATEWAY_TIMEOUT: Status.DEADLINE_EXCEEDED,
    Code.GATEWAY_DRAINING: Status.UNAVAILABLE,
    Code.GATEWAY_PROTOCOL: Status.FAILED_PRECONDITION,
}
_CODE_OF_CUT = {End.TIMEOUT: Code.GATEWAY_TIMEOUT, End.DRAIN: Code.GATEWAY_DRAINING}

Outcome = Callable[[asyncio.Future[Any]], Event]
"""What an awaited effect is answered with, once its future is done."""


class _NotRecorded(Exception):
    """Leave the stream before anything is released that is not recorded."""


def abort(stream: Stream, code: Code) -> None:
    """End a stream so that Envoy fails its exchange."""
    stream.abort(_STATUS.get(code, Status.INTERNAL), code.value)


def not_recorded(outside: Outside, story: Story, failure: StoreUnavailable) -> None:
    """Say and count that an exchange could not be recorded."""
    log.error("recording failed", extra={"fields": {"decision_id": story.id, "why": str(failure)}})
    outside.metrics.recording_failures.inc()


class Call:
    """Run one exchange for one ext_proc stream; a `carrier.Receiver`.

    `on_gone` is called once, when the stream is over; `on_done` once, when the record is closed as well.
    """

    __slots__ = (
        "_ahead",
        "_asking",
        "_code",
        "_ending",
        "_knows_end",
        "_on_done",
        "_on_gone",
        "_outside",
        "_stream",
        "_tick",
        "_todo",
        "_wait_for_end",
        "_work",
        "exchange",
        "is_done",
        "last_event",
        "started",
    )

    def __init__(
        self,
        stream: Stream,
        exchange: Exchange | Tunnel,
        outside: Outside,
        started: float,
        *,
        on_gone: Callable[[], None],
        on_done: Callable[[Call], None],
    ) -> None:
        self.exchange = exchange
        self.started = self.last_event = started
        self.is_done = False
        self._stream: Stream | None = stream
        self._outside = outside
        self._on_gone, self._on_done = on_gone, on_done
        self._todo: deque[Effect] = deque()
        self._work: asyncio.Future[Any] | None = None
        # What happened besides while an effect was waited for.
        self._ahead: deque[Event] = deque()
        self._asking: asyncio.Task[Approval | NotHeld] | None = None
        self._tick: asyncio.TimerHandle | None = None
        # The exchange is ending, and nothing is sent any more; the stream is then aborted with the code.
        self._ending = False
        self._code = Code.GATEWAY_INTERNAL
        self._knows_end: Ended | None = None
        self._wait_for_end: asyncio.TimerHandle | None = None

    # --- what the transport tells -----------------------------------------------------------------------------------

    def receive(self, message: bytes) -> bool:
        """Take a message of Envoy; false where no other may come before it is dealt with."""
        if self._ending:
            return False
        try:
            event = wire.decode(message)
        except Exception as fault:  # noqa: BLE001 - whatever breaks, the exchange fails closed and is recorded
            self._broke(fault)
            return False
        return self._happened(event)

    def end(self) -> None:
        """Learn that Envoy has closed its side, as it does when it resets an exchange; its access log knows why."""
        if not self._ending:
            self._end_as_told()

    def reset(self) -> None:
        """Learn that the stream is gone, as it is when Envoy has its answer; what is left to do outlives it."""
        self._let_go_of_stream()
        if not self._ending:
            self._end_as_told()

    # --- what the processor tells -----------------------------------------------------------------------------------

    def learn(self, ended: Ended) -> None:
        """Take how the exchange ended, as Envoy's access log has it; it may say so before the stream ends."""
        if self._knows_end is None:
            self._knows_end = ended
            if self._wait_for_end is not None:
                self._assume_end()

    def cut_off(self, end: End) -> None:
        """End the exchange because it took too long, or the service ends."""
        if not self._ending:
            self._end_as(Ended(end), _CODE_OF_CUT[end])

    # --- events and effects -----------------------------------------------------------------------------------------

    def _happened(self, event: Event) -> bool:
        """Tell the exchange and do what it asks for; say whether the next message may come."""
        now = self.last_event = self._outside.now()
        try:
            self._todo.extend(self.exchange.receive(event, now))
            self._go_on()
        except Exception as fault:  # noqa: BLE001 - as in `receive`
            self._broke(fault)
        return self._work is None and not self._ending

    def _go_on(self) -> None:
        """Run effects until one has to be waited for, or none is left."""
        todo, receive = self._todo, self.exchange.receive
        while self._work is None and not self.is_done:
            if todo:
                event = self._run(todo.popleft())
                if event is not None:
                    todo.extend(receive(event, self._outside.now()))
            elif self._ahead:
                todo.extend(receive(self._ahead.popleft(), self._outside.now()))
            else:
                break
        if self._ending and self._work is None:
            self._close()

    def _run(self, effect: Effect) -> Event | None:
        match effect:
            case Identify():
                known = self._outside.identities.cached(effect.token)
                if known is not None:
                    return Identified(known)
                self._await(self._outside.identities.verify(effect.token), _identified)
            case FetchCredential():
                return self._credential(effect)
            case Record():
                self._await(self._outside.recorder.append(effect.opening, effect.closing), self._recorded)
            case Compute():
                return self._compute(effect)
            case Ask():
                self._ask(effect)
            case Finish():
                self._finish()
            case Fail():
                self._fail(effect.code)
            case _:
                if not self._ending and self._stream is not None:
                    self._note(self.exchange.story, effect)
                    self._stream.send(wire.encode(effect))
        return None

    def _await(self, work: Awaitable[Any], outcome: Outcome) -> None:
        """Have what the work brings be the next that happens."""
        self._work = asyncio.ensure_future(work)

        def worked(done: asyncio.Future[Any]) -> None:
            if done is not self._work:
                _forget(done)
                return
            self._work = None
            try:
                event = outcome(done)
            except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - as in `receive`
                self._broke(fault)
            else:
                self._resume(event)

        self._work.add_done_callback(worked)

    def _resume(self, event: Event) -> None:
        if self._happened(event) and self._stream is not None:
            self._stream.more()

    def _note(self, story: Story, effect: Reply) -> None:
        """Have the recorder keep what the client is about to be sent: after a crash nothing else knows of it."""
        recorder = self._outside.recorder
        try:
            if isinstance(effect, PassResponseBody):
                recorder.piece(story.id, story.elapsed(), effect.data)
            elif isinstance(effect, PassResponseHeaders):
                recorder.answering(story.id, story.status or 0, story.content_type)
        except StoreUnavailable as failure:
            not_recorded(self._outside, self.exchange.story, failure)
            raise _NotRecorded from failure

    def _credential(self, effect: FetchCredential) -> Event | None:
        try:
            ready = self._outside.credentials.ready(effect.name, effect.upstream)
        except Refused as refused:
            return RefusedEvent(refused.refusal)
        if ready is not None:
            return CredentialReady(ready)
        self._await(self._outside.credentials.get(effect.name, effect.upstream), _credential)
        return None

    def _compute(self, effect: Compute) -> Event | None:
        # Scanning lets other threads run; on this one a large body would make every stream wait.
        if effect.apart or effect.size > _INLINE_BYTES:
            executor = _APART if effect.apart else _LARGE
            work = asyncio.get_running_loop().run_in_executor(executor, effect.work)
            self._await(work, _computed)
            return None
        return Computed(effect.work())

    def _recorded(self, done: asyncio.Future[None]) -> Event:
        try:
            done.result()
        except StoreUnavailable as failure:
            not_recorded(self._outside, self.exchange.story, failure)
            return RecordingFailedEvent()
        return Recorded()

    # --- asking approvers -------------------------------------------------------------------------------------------

    def _ask(self, effect: Ask) -> None:
        self._asking = asyncio.ensure_future(self._outside.approvers.wait(effect.request))
        self._asking.add_done_callback(self._asked)
        self._tick_later()

    def _asked(self, done: asyncio.Task[Approval | NotHeld]) -> None:
        if done is not self._asking:
            _forget(done)
            return
        self._stop_asking()
        try:
            event = _decided(done)
        except StoreUnavailable as failure:
            fields = {"decision_id": self.exchange.story.id, "why": str(failure)}
            log.exception("asking for approval failed", extra={"fields": fields})
            event = Decided(None, "Approvals cannot be asked for now; try again later.")
        except (Exception, asyncio.CancelledError) as fault:  # noqa: BLE001 - as in `receive`
            self._broke(fault)
            return
        if self._work is None:
            self._resume(event)
        else:
            self._ahead.append(event)

    def _tick_later(self) -> None:
        seconds = self._outside.bounds.sign_of_life_seconds
        self._tick = asyncio.get_running_loop().call_later(seconds, self._ticked)

    def _ticked(self) -> None:
        self._tick_later()
        if self._work is None:
            self._happened(Tick())

    def _stop_asking(self) -> None:
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    # --- ends -------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self._ending:
            self._close()
            return
        if self._stream is not None:
            self._stream.finish()
        self._done()

    def _fail(self, code: Code) -> None:
        if not self._ending:
            self._code = code
        self._close()

    def _broke(self, fault: BaseException) -> None:
        match fault:
            case _NotRecorded():
                end, code = End.RECORDING, Code.RECORDING_UNAVAILABLE
            case IllegalEvent() | WireError():
                end, code = End.ENVOY, Code.GATEWAY_PROTOCOL
            case _:
                end, code = End.FAULT, Code.GATEWAY_INTERNAL
        if end is not End.RECORDING:
            _log_fault(self.exchange, fault)
        if self._ending:
            # Its record could not be closed; the next start does.
            self._close()
        else:
            self._end_as(Ended(end), code)

    def _end_as_told(self) -> None:
        """End as Envoy's access log says, which may come a moment later; nothing else happens meanwhile."""
        self._give_up_work()
        self._ending = True
        if self._knows_end is not None or self.exchange.phase in {Phase.NEW, Phase.DONE}:
            # There is nothing to record, so nothing to wait for.
            self._assume_end()
            return
        seconds = self._outside.bounds.end_reason_seconds
        self._wait_for_end = asyncio.get_running_loop().call_later(seconds, self._assume_end)

    def _assume_end(self) -> None:
        if self._wait_for_end is not None:
            self._wait_for_end.cancel()
            self._wait_for_end = None
        # Before our first reply Envoy's log has no decision id, and no upstream was asked: it was the client.
        ended = self._knows_end or Ended(End.ENVOY if self.exchange.released_to_upstream else End.CLIENT)
        self._end_as(ended, Code.CLIENT_GONE if ended.end is End.CLIENT else Code.UPSTREAM_RESET)

    def _end_as(self, ended: Ended, code: Code) -> None:
        """Tell the exchange of its end, and abort the stream once the record is closed."""
        self._give_up_work()
        self._ending, self._code = True, code
        self._happened(ended)

    def _give_up_work(self) -> None:
        self._stop_asking()
        self._todo.clear()
        self._ahead.clear()
        work, self._work = self._work, None
        if work is not None:
            work.cancel()

    def _close(self) -> None:
        if self._stream is not None:
            abort(self._stream, self._code)
        self._done()

    def _done(self) -> None:
        if not self.is_done:
            self.is_done = self._ending = True
            self._give_up_work()
            self._let_go_of_stream()
            self._on_done(self)

    def _let_go_of_stream(self) -> None:
        if self._stream is not None:
            self._stream = None
            self._on_gone()


def _forget(given_up: asyncio.Future[Any]) -> None:
    """Take note of what nobody waits for any more: else asyncio says that it was lost."""
    if not given_up.cancelled():
        given_up.exception()


def _identified(done: asyncio.Future[Any]) -> Event:
    try:
        return Identified(done.result())
    except Refused as refused:
        return RefusedEvent(refused.refusal)


def _credential(done: asyncio.Future[Any]) -> Event:
    try:
        return CredentialReady(done.result())
    except Refused as refused:
        return RefusedEvent(refused.refusal)


def _computed(done: asyncio.Future[Any]) -> Event:
    return Computed(done.result())


def _decided(done: asyncio.Future[Approval | NotHeld]) -> Decided:
    outcome = done.result()
    return Decided(outcome) if isinstance(outcome, Approval) else Decided(None, outcome.message)


def _log_fault(exchange: Exchange | Tunnel, fault: BaseException) -> None:
    """Log where it broke, never what it said: an exception's text can quote a prompt or a token."""
    frames = []
    frame = fault.__traceback__
    while frame is not None:
        frames.append(f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}")
        frame = frame.tb_next
    fields = {"decision_id": exchange.story.id, "phase": exchange.phase.name, "fault": type(fault).__name__}
    log.error("fault", extra={"fields": {**fields, "at": frames}})
