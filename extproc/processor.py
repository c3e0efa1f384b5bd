"""All exchanges of one process: each ext_proc stream is a `Call`; Envoy's access log, the watchdog, the drain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from extproc import wire
from extproc.call import Call, abort, not_recorded
from extproc.carrier import Receiver, Status, Stream
from extproc.errors import Code, Refusal, Refused, StoreUnavailable
from extproc.events import End, Ended, TlsFailed
from extproc.exchange import Exchange
from extproc.exchange_id import exchange_id
from extproc.identity.presented import present
from extproc.identity.principal import Principal
from extproc.logs import write_line
from extproc.outside import Outside
from extproc.recording.story import Story
from extproc.secret import Secret
from extproc.telemetry import READ_SECONDS
from extproc.tunnel import Tunnel, tls_failure
from extproc.wire import WireError

log = logging.getLogger("extproc.exchange")

_DOOR, _PROXY = "x-gateway-door", "proxy"
"""What Envoy's forward proxy says of its ext_proc streams (envoy/envoy.yaml): each is a CONNECT."""

_CUT_SECONDS = 5.0
"""How long the records of exchanges that were cut off may take to be closed."""


class Processor:
    """Serve ext_proc streams: one `Exchange` each."""

    def __init__(self, outside: Outside, *, hand_on: Callable[[bytes], None]) -> None:
        """Make it; `hand_on` gets what Envoy's access log says of exchanges that another worker may be running."""
        self._outside = outside
        self._hand_on = hand_on
        self._calls: dict[str, Call] = {}
        self._tls_failures: set[asyncio.Task[None]] = set()
        self.draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def open_exchanges(self) -> int:
        """Return how many exchanges run or still have their record to close."""
        return len(self._calls)

    # --- streams ----------------------------------------------------------------------------------------------------

    def open(self, stream: Stream) -> Receiver:
        """Serve one ext_proc stream."""
        if self.draining:
            abort(stream, Code.GATEWAY_DRAINING)
            return _Nobody()
        if len(self._calls) >= self._outside.bounds.max_exchanges:
            stream.abort(Status.RESOURCE_EXHAUSTED, "too many exchanges run")
            return _Nobody()
        started = self._outside.now()
        kind = Tunnel if stream.metadata.get(_DOOR) == _PROXY else Exchange
        exchange = kind(exchange_id(started), self._outside.rules)
        gauge = self._outside.metrics.streams_open
        call = Call(stream, exchange, self._outside, started, on_gone=gauge.dec, on_done=self._forget)
        self._calls[exchange.story.id] = call
        self._idle.clear()
        gauge.inc()
        return call

    def _forget(self, call: Call) -> None:
        """Let go of an exchange whose record is closed."""
        self._calls.pop(call.exchange.story.id, None)
        if not self._calls:
            self._idle.set()
        self._report(call.exchange.story)

    # --- Envoy's access log -----------------------------------------------------------------------------------------

    def open_log(self, stream: Stream) -> Receiver:
        """Take Envoy's access log: it says who ended an exchange, and which clients do not get through TLS."""
        return _AccessLog(stream, self._logged)

    def _logged(self, message: bytes) -> None:
        said = wire.decode_log(message)
        for one in said:
            if isinstance(one, TlsFailed):
                self._later(self._record_tls_failure(one))
        if not self._learn(said):
            self._hand_on(message)

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
                call = self._calls.get(decision_id)
                known = known and call is not None
                if call is not None:
                    call.learn(ended)
        return known

    async def _record_tls_failure(self, failure: TlsFailed) -> None:
        token = present([], path="", connect_authorization=failure.connect.authorization.reveal())
        principal = None if isinstance(token, Refusal) else await self._identified(token)
        now = self._outside.now()
        story, entries = tls_failure(exchange_id(now), failure, principal, self._outside.rules, now)
        try:
            await self._outside.recorder.append(entries.opening, entries.closing)
        except StoreUnavailable as unavailable:
            not_recorded(self._outside, story, unavailable)
        self._report(story)

    async def _identified(self, token: Secret) -> Principal | None:
        try:
            return self._outside.identities.cached(token) or await self._outside.identities.verify(token)
        except Refused:
            return None

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tls_failures.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tls_failures.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("fault", extra={"fields": {"fault": type(fault).__name__}})

    # --- watchdog and drain -----------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Cut off exchanges that are stuck or too old; called by a timer."""
        now, bounds = self._outside.now(), self._outside.bounds
        for call in list(self._calls.values()):
            idle = 0.0 if call.exchange.may_idle else now - call.last_event
            age = now - call.started
            is_slow = call.exchange.must_hurry and age > READ_SECONDS
            if is_slow or idle > bounds.idle_seconds or age > bounds.total_seconds:
                call.cut_off(End.TIMEOUT)

    async def drain(self) -> None:
        """Refuse new exchanges, let the running ones finish within the bound, then cut off the rest."""
        self.draining = True
        await self._outside.approvers.aclose()
        await self._until_idle(self._outside.bounds.drain_seconds)
        for call in list(self._calls.values()):
            call.cut_off(End.DRAIN)
        await self._until_idle(_CUT_SECONDS)
        if self._tls_failures:
            # TLS that failed is no running exchange, but it is being recorded.
            await asyncio.wait(self._tls_failures, timeout=_CUT_SECONDS)

    async def _until_idle(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            log.warning("exchanges still run", extra={"fields": {"count": len(self._calls)}})

    # --- reports ----------------------------------------------------------------------------------------------------

    def _report(self, story: Story) -> None:
        """Count an exchange that is over, and write its line to the log."""
        now, metrics = self._outside.now(), self._outside.metrics
        metrics.observe(story, now)
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
            "model": None if story.model is None else metrics.labels.model(story.model),
            "input_tokens": None if usage is None else usage.input_tokens,
            "output_tokens": None if usage is None else usage.output_tokens,
            "findings": len(story.findings),
            "released_ms": timing.released,
            "first_piece_ms": timing.pieces[0][0] if timing.pieces else None,
            "duration_ms": round((now - story.opened_at) * 1000, 1) if story.opened_at else None,
        }
        write_line(log.name, "exchange", fields, now)


class _AccessLog:
    """Envoy's access log, for as long as it goes on."""

    def __init__(self, stream: Stream, logged: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._logged = logged

    def receive(self, message: bytes) -> bool:
        """Take a message of the log."""
        try:
            self._logged(message)
        except WireError as fault:
            log.warning("Envoy sent what is no access log", extra={"fields": {"fault": str(fault)}})
            self._stream.abort(Status.INVALID_ARGUMENT, str(fault))
            return False
        return True

    def end(self) -> None:
        """Answer."""
        self._stream.send(wire.ACCESS_LOG_REPLY)
        self._stream.finish()

    def reset(self) -> None:
        """Do nothing: what was said is known."""


class _Nobody:
    """Stand for an exchange that was refused at once."""

    def receive(self, _message: bytes) -> bool:
        """Take nothing."""
        return False

    def end(self) -> None:
        """Do nothing."""

    def reset(self) -> None:
        """Do nothing."""
