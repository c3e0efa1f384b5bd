"""The grpc.aio shell: it reads Envoy's messages, lets an `Exchange` decide, and runs the effects in their order.

Every way out of a stream but `Finish` aborts it with a status other than OK: a stream that ends with OK too early makes
Envoy let the exchange through unprocessed (Envoy's ext_proc filter, whatever `failure_mode_allow` says).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
import grpc.aio

from extproc import wire
from extproc.approval.approval import Approval
from extproc.approval.approval import Request as ApprovalRequest
from extproc.approval.waiting import NotHeld
from extproc.credential import Credential
from extproc.effects import (
    Ask,
    Compute,
    Fail,
    FetchCredential,
    Finish,
    Identify,
    PassResponseBody,
    PassResponseHeaders,
    Record,
    Reply,
)
from extproc.endpoint import Upstream
from extproc.errors import Code, Refusal, Refused, StoreUnavailable
from extproc.events import (
    Computed,
    CredentialReady,
    Decided,
    End,
    Ended,
    Event,
    Identified,
    Recorded,
    RecordingFailed,
    Tick,
    TlsFailed,
)
from extproc.events import Refused as RefusedEvent
from extproc.exchange import Exchange, IllegalEvent, Phase
from extproc.identity.presented import present
from extproc.identity.principal import Principal
from extproc.logs import write_line
from extproc.metrics import Metrics
from extproc.recording.story import Story
from extproc.rules import Rules
from extproc.secret import Secret
from extproc.store.port import Recorder
from extproc.telemetry import READ_SECONDS
from extproc.tunnel import Tunnel, tls_failure
from extproc.wire import WireError

log = logging.getLogger("extproc.exchange")

_Context = grpc.aio.ServicerContext[bytes, bytes]

_DOOR = ("x-gateway-door", "proxy")
"""What Envoy's forward proxy says of its ext_proc streams (envoy/envoy.yaml): each is a CONNECT."""

_CUT_SECONDS = 5.0
"""How long the records of exchanges that were cut off may take to be closed."""

_APART = ThreadPoolExecutor(1, thread_name_prefix="unidentified")
"""The one thread for work of people nobody knows."""

_INLINE_BYTES = 65_536
"""Work on so many bytes takes about a millisecond; more is done in a thread."""

_STATUS = {
    Code.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Code.GATEWAY_DRAINING: grpc.StatusCode.UNAVAILABLE,
    Code.GATEWAY_PROTOCOL: grpc.StatusCode.FAILED_PRECONDITION,
}
_CODE_OF_END = {End.TIMEOUT: Code.GATEWAY_TIMEOUT, End.DRAIN: Code.GATEWAY_DRAINING}


class Identities(Protocol):
    """Verify tokens."""

    def cached(self, token: Secret) -> Principal | None:
        """Return the principal of a token verified a short while ago, without waiting."""
        ...

    async def verify(self, token: Secret) -> Principal:
        """Return the principal of a token; raises `Refused`."""
        ...


class CredentialSource(Protocol):
    """Supply upstream credentials."""

    async def get(self, name: str, upstream: Upstream) -> Credential:
        """Return the named credential for an upstream; raises `Refused`."""
        ...


class Approvers(Protocol):
    """Ask approvers."""

    async def wait(self, request: ApprovalRequest) -> Approval | NotHeld:
        """Return how it ended; a cancelled caller withdraws it. Raises `StoreUnavailable`."""
        ...

    async def aclose(self) -> None:
        """End what waits as interrupted, and refuse what comes."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long and how many; seconds where not said otherwise."""

    max_exchanges: int
    idle_seconds: float
    total_seconds: float
    drain_seconds: float
    sign_of_life_seconds: float = 10.0
    """How often a client hears something while approvers are asked; some give up after 30 s of silence."""
    end_reason_seconds: float = 1.0
    """How long to wait for Envoy's access log to say who ended an exchange."""


@dataclass(slots=True, eq=False)
class _Live:
    """A running exchange, as the watchdog and the drain see it."""

    exchange: Exchange | Tunnel
    task: asyncio.Task[Any]
    started: float
    last_event: float
    ended: asyncio.Future[Ended]
    """How the exchange ended, once Envoy's access log has said so."""
    cut: End | None = None
    asking: asyncio.Task[Decided] | None = None
    """Approvers are asked meanwhile."""
    reading: asyncio.Task[object] | None = None
    """The next message, which is read while approvers are asked."""

    def stop_asking(self) -> None:
        for task in (self.asking, self.reading):
            if task is not None:
                task.cancel()
        self.asking = self.reading = None

    def cut_off(self, end: End) -> None:
        self.cut = end
        self.task.cancel()


class _Failed(Exception):
    """Leave the stream with this code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class _NotRecorded(Exception):
    """Leave the stream before anything is released that is not recorded."""


class Processor:
    """Serve ext_proc streams: one `Exchange` each."""

    def __init__(
        self,
        *,
        rules: Rules,
        identities: Identities,
        credentials: CredentialSource,
        approvers: Approvers,
        recorder: Recorder,
        metrics: Metrics,
        bounds: Bounds,
        now: Callable[[], float],
        hand_on: Callable[[bytes], None],
    ) -> None:
        """Make it; `hand_on` gets what Envoy's access log says of exchanges that another worker may be running."""
        self._hand_on = hand_on
        self._rules = rules
        self._identities = identities
        self._credentials = credentials
        self._approvers = approvers
        self._recorder = recorder
        self._metrics = metrics
        self._bounds = bounds
        self._now = now
        self._live: dict[str, _Live] = {}
        self._closings: set[asyncio.Task[None]] = set()
        self.draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def open_exchanges(self) -> int:
        """Return how many exchanges run or still have their record to close."""
        return len(self._live)

    # --- streams ------------------------------------------------------------------------------------------------

    async def process(self, _requests: object, context: _Context) -> None:
        """Serve one ext_proc stream."""
        if self.draining:
            await _abort(context, Code.GATEWAY_DRAINING)
            return
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a stream is served outside a task")
        started = self._now()
        ended = asyncio.get_running_loop().create_future()
        is_connect = _DOOR in (context.invocation_metadata() or ())
        exchange = (Tunnel if is_connect else Exchange)(exchange_id(started), self._rules)
        live = _Live(exchange, task, started, started, ended)
        self._live[live.exchange.story.id] = live
        self._idle.clear()
        self._metrics.streams_open.inc()
        try:
            code = await self._serve(live, context)
        except asyncio.CancelledError:
            # The peer cancelled the stream, as Envoy does when it has its answer; or the watchdog did while the record
            # was being closed. What is left to do must outlive this task.
            self._finish_later(live)
            if live.cut is None:
                raise
            task.uncancel()
            await _abort(context, _CODE_OF_END[live.cut])
            return
        finally:
            live.stop_asking()
            self._metrics.streams_open.dec()
        self._forget(live.exchange)
        if code is not None:
            await _abort(context, code)

    async def _serve(self, live: _Live, context: _Context) -> Code | None:
        """Run the exchange to its end; return None for OK, or the code to abort with."""
        try:
            while (event := await self._next(live, context)) is not None:
                live.last_event = self._now()
                if await self._drive(live, event, context):
                    return None
            return await self._on_end_of_stream(live)
        except _Failed as failed:
            return failed.code
        except asyncio.CancelledError:
            if live.cut is None:
                raise
            live.task.uncancel()
            await self._record_end(live, Ended(live.cut))
            return _CODE_OF_END[live.cut]
        except Exception as fault:  # noqa: BLE001 - whatever breaks, the exchange fails closed and is recorded
            return await self._on_fault(live, fault)

    async def _on_fault(self, live: _Live, fault: Exception) -> Code:
        match fault:
            case _NotRecorded():
                end, code = End.RECORDING, Code.RECORDING_UNAVAILABLE
            case IllegalEvent() | WireError():
                end, code = End.ENVOY, Code.GATEWAY_PROTOCOL
            case _:
                end, code = End.FAULT, Code.GATEWAY_INTERNAL
        if end is not End.RECORDING:
            _log_fault(live.exchange, fault)
        await self._record_end(live, Ended(end))
        return code

    async def _on_end_of_stream(self, live: _Live) -> Code:
        # Envoy half-closes when it resets an exchange; who was behind it only its access log knows.
        ended = await self._how_ended(live)
        await self._record_end(live, ended)
        return Code.CLIENT_GONE if ended.end is End.CLIENT else Code.UPSTREAM_RESET

    async def _next(self, live: _Live, context: _Context) -> Event | None:
        """Return what happens next, None at the end of the stream: mostly it is a message of Envoy.

        While approvers are asked it may also be their verdict, or that time has passed.
        """
        if live.asking is None and live.reading is None:
            return _decoded(await _read(context))
        if live.reading is None:
            live.reading = asyncio.get_running_loop().create_task(_read(context))
        awaited: set[asyncio.Task[Any]] = {live.reading} if live.asking is None else {live.reading, live.asking}
        seconds = None if live.asking is None else self._bounds.sign_of_life_seconds
        done, _ = await asyncio.wait(awaited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if live.asking is not None and live.asking in done:
            asked, live.asking = live.asking, None
            return asked.result()
        if live.reading in done:
            read, live.reading = live.reading, None
            return _decoded(read.result())
        return Tick()

    async def _drive(self, live: _Live, event: Event, context: _Context | None) -> bool:
        """Give the exchange an event, and every event that follows; say whether it finished, so that OK is due."""
        exchange = live.exchange
        todo = deque(exchange.receive(event, self._now()))
        while todo:
            effect = todo.popleft()
            if isinstance(effect, Finish):
                return True
            if isinstance(effect, Ask):
                live.asking = asyncio.get_running_loop().create_task(self._ask(effect.request))
                continue
            result = await self._run(effect, exchange.story, context)
            if result is not None:
                todo.extend(exchange.receive(result, self._now()))
        return False

    async def _run(
        self,
        effect: Reply | Identify | FetchCredential | Record | Compute | Fail,
        story: Story,
        context: _Context | None,
    ) -> Event | None:
        match effect:
            case Identify():
                return await self._identify(effect.token)
            case FetchCredential():
                return await self._credential(effect)
            case Record():
                return await self._record(effect)
            case Compute():
                return await _compute(effect)
            case Fail():
                raise _Failed(effect.code)
            case _:
                if context is not None:
                    self._note(story, effect)
                    await context.write(wire.encode(effect))
        return None

    def _note(self, story: Story, effect: Reply) -> None:
        """Have the recorder keep what the client is about to be sent: after a crash nothing else knows of it."""
        try:
            if isinstance(effect, PassResponseBody):
                self._recorder.piece(story.id, story.elapsed(), effect.data)
            elif isinstance(effect, PassResponseHeaders):
                self._recorder.answering(story.id, story.status or 0, story.content_type)
        except StoreUnavailable as failure:
            log.error("recording failed", extra={"fields": {"decision_id": story.id, "why": str(failure)}})  # noqa: TRY400 - it says all
            self._metrics.recording_failures.inc()
            raise _NotRecorded from failure

    async def _credential(self, effect: FetchCredential) -> Event:
        try:
            return CredentialReady(await self._credentials.get(effect.name, effect.upstream))
        except Refused as refused:
            return RefusedEvent(refused.refusal)

    async def _ask(self, request: ApprovalRequest) -> Decided:
        try:
            outcome = await self._approvers.wait(request)
        except StoreUnavailable:
            log.exception("asking for approval failed", extra={"fields": {"decision_id": request.exchange}})
            return Decided(None, "Approvals cannot be asked for now; try again later.")
        return Decided(outcome) if isinstance(outcome, Approval) else Decided(None, outcome.message)

    async def _record(self, effect: Record) -> Event:
        try:
            await self._recorder.append(effect.opening, effect.closing)
        except StoreUnavailable as failure:
            entry = effect.closing or effect.opening or {}
            fields = {"decision_id": entry.get("id"), "why": str(failure)}
            log.error("recording failed", extra={"fields": fields})  # noqa: TRY400 - it says all
            self._metrics.recording_failures.inc()
            return RecordingFailed()
        return Recorded()

    async def _identify(self, token: Secret) -> Event:
        known = self._identities.cached(token)
        if known is not None:
            return Identified(known)
        try:
            return Identified(await self._identities.verify(token))
        except Refused as refused:
            return RefusedEvent(refused.refusal)

    # --- ends ---------------------------------------------------------------------------------------------------

    async def access_logs(self, _requests: object, context: _Context) -> bytes:
        """Take Envoy's access log: it says who ended an exchange, and which clients do not get through TLS."""
        while isinstance(message := await _read(context), bytes):
            ends = wire.decode_log(message)
            for said in ends:
                if isinstance(said, TlsFailed):
                    self._later(self._record_tls_failure(said))
            if not self._learn(ends):
                self._hand_on(message)
        return wire.ACCESS_LOG_REPLY

    def handed_on(self, message: bytes) -> None:
        """Take what another worker got of Envoy's access log and could not use; what we cannot use either ends here."""
        try:
            self._learn(wire.decode_log(message))
        except WireError as fault:
            log.warning("another worker handed on what is no access log", extra={"fields": {"fault": str(fault)}})

    def _learn(self, said: list[tuple[str, Ended] | TlsFailed]) -> bool:
        """Let exchanges know how they ended; say whether all that is meant are running here."""
        known = True
        for one in said:
            if not isinstance(one, TlsFailed):
                decision_id, ended = one
                live = self._live.get(decision_id)
                known = known and live is not None
                if live is not None and not live.ended.done():
                    live.ended.set_result(ended)
        return known

    async def _record_tls_failure(self, failure: TlsFailed) -> None:
        token = present([], path="", connect_authorization=failure.connect.authorization.reveal())
        known = RefusedEvent(token) if isinstance(token, Refusal) else await self._identify(token)
        principal = known.principal if isinstance(known, Identified) else None
        now = self._now()
        story, entries = tls_failure(exchange_id(now), failure, principal, self._rules, now)
        await self._record(entries)
        self._report(story)

    async def _how_ended(self, live: _Live) -> Ended:
        if live.exchange.phase is Phase.NEW:
            # There is nothing to record, so nothing to wait for.
            return Ended(End.CLIENT)
        await asyncio.wait({live.ended}, timeout=self._bounds.end_reason_seconds)
        if live.ended.done():
            return live.ended.result()
        # Before our first reply Envoy's log has no decision id, and no upstream was asked: it was the client.
        return Ended(End.ENVOY if live.exchange.released_to_upstream else End.CLIENT)

    async def _record_end(self, live: _Live, ended: Ended) -> None:
        live.stop_asking()
        try:
            await self._drive(live, ended, None)
        except _Failed:
            return
        except Exception as fault:  # noqa: BLE001 - the stream is aborted in any case; the next start closes the record
            _log_fault(live.exchange, fault)

    def _finish_later(self, live: _Live) -> None:
        live.stop_asking()
        self._later(self._finish_cancelled(live))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closings.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._closings.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("fault", extra={"fields": {"fault": type(fault).__name__}})

    async def _finish_cancelled(self, live: _Live) -> None:
        try:
            if live.exchange.phase is not Phase.DONE:
                await self._record_end(live, await self._how_ended(live))
        finally:
            self._forget(live.exchange)

    # --- watchdog and drain ---------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Cut off exchanges that are stuck or too old; called by a timer."""
        now = self._now()
        for live in list(self._live.values()):
            idle = 0.0 if live.exchange.may_idle else now - live.last_event
            age = now - live.started
            is_slow = live.exchange.must_hurry and age > READ_SECONDS
            is_stuck = idle > self._bounds.idle_seconds or age > self._bounds.total_seconds
            if live.cut is None and (is_slow or is_stuck):
                live.cut_off(End.TIMEOUT)

    async def drain(self) -> None:
        """Refuse new exchanges, let the running ones finish within the bound, then cut off the rest."""
        self.draining = True
        await self._approvers.aclose()
        await self._until_idle(self._bounds.drain_seconds)
        for live in list(self._live.values()):
            if live.cut is None:
                live.cut_off(End.DRAIN)
        await self._until_idle(_CUT_SECONDS)
        if self._closings:
            # TLS that failed is no running exchange, but it is being recorded.
            await asyncio.wait(self._closings, timeout=_CUT_SECONDS)

    async def _until_idle(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            log.warning("exchanges still run", extra={"fields": {"count": len(self._live)}})

    def _forget(self, exchange: Exchange | Tunnel) -> None:
        """Let go of an exchange whose record is closed."""
        self._live.pop(exchange.story.id, None)
        if not self._live:
            self._idle.set()
        self._report(exchange.story)

    def _report(self, story: Story) -> None:
        now, labels = self._now(), self._metrics.labels
        self._metrics.observe(story, now)
        timing, usage = story.timing, None if story.answer is None else story.answer.usage
        fields = {
            "decision_id": story.id,
            "trace_id": story.trace,
            "outcome": story.outcome,
            "status": story.status,
            "endpoint": None if story.endpoint is None else story.endpoint.kind,
            "rule": None if story.decision is None else story.decision.rule_id,
            "code": None if story.refusal is None else story.refusal.code,
            # As the client wrote it, it could be any text.
            "model": None if story.model is None else labels.model(story.model),
            "input_tokens": None if usage is None else usage.input_tokens,
            "output_tokens": None if usage is None else usage.output_tokens,
            "findings": len(story.findings),
            "released_ms": timing.released,
            "first_piece_ms": timing.pieces[0][0] if timing.pieces else None,
            "duration_ms": round((now - story.opened_at) * 1000, 1) if story.opened_at else None,
        }
        write_line(log.name, "exchange", fields, now)


async def _compute(effect: Compute) -> Event:
    # Scanning lets other threads run; on this one a large body would make every stream wait.
    if effect.apart:
        return Computed(await asyncio.get_running_loop().run_in_executor(_APART, effect.work))
    if effect.size <= _INLINE_BYTES:
        return Computed(effect.work())
    return Computed(await asyncio.to_thread(effect.work))


def _decoded(message: object) -> Event | None:
    # Anything but bytes is `grpc.aio.EOF`.
    return wire.decode(message) if isinstance(message, bytes) else None


async def _read(context: _Context) -> object:
    """Return the next message, or `grpc.aio.EOF`, which the type stubs leave out."""
    return await context.read()


async def _abort(context: _Context, code: Code) -> None:
    # A peer that has already reset the stream cannot be told anything more.
    if not context.cancelled():
        await context.abort(_STATUS.get(code, grpc.StatusCode.INTERNAL), code.value)


def _log_fault(exchange: Exchange | Tunnel, fault: BaseException) -> None:
    """Log where it broke, never what it said: an exception's text can quote a prompt or a token."""
    frames = []
    frame = fault.__traceback__
    while frame is not None:
        frames.append(f"{frame.tb_frame.f_code.co_filename.rpartition('/')[2]}:{frame.tb_lineno}")
        frame = frame.tb_next
    fields = {"decision_id": exchange.story.id, "phase": exchange.phase.name, "fault": type(fault).__name__}
    log.error("fault", extra={"fields": {**fields, "at": frames}})


def exchange_id(now: float) -> str:
    """Make an id that sorts by time: 48 bits of milliseconds, 80 random bits, in hex (the idea of UUIDv7, RFC 9562)."""
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"
