"""The service, spoken to as Envoy does: CONNECT at the forward proxy, what the access log tells, telemetry."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from extproc import wire, wire_writing
from extproc.approval.approval import Request as ApprovalRequest
from extproc.approval.waiting import NotHeld
from extproc.carrier import TransportName
from extproc.credential import Credential
from extproc.endpoint import Upstream
from extproc.errors import Code, Refusal, Refused
from extproc.identity.principal import Principal
from extproc.masking.finding import Hit
from extproc.masking.masker import Masking
from extproc.metrics import Metrics
from extproc.outside import Bounds, Outside
from extproc.processor import Processor
from extproc.secret import Secret
from extproc.server import Server
from extproc.telemetry import MAX_AT_ONCE, READ_SECONDS, Slots
from tests import envoy_api, metrics_of
from tests.detecting import FINGERPRINTS, masking
from tests.envoy_api import StringValue, Struct, Value, core, ext_proc, filters, log_data, log_service
from tests.playbook import ALICE, CREDENTIAL, POLICY, PROMPT, SECRET, TOKEN, rules
from tests.test_exchange_telemetry import left
from tests.test_tunnel import OPENS

BOUNDS = Bounds(max_exchanges=9, idle_seconds=60, total_seconds=600, drain_seconds=0.1, end_reason_seconds=5)
PROXY = (("x-gateway-door", "proxy"),)
MODE = filters.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED
DUPLEX = ext_proc.ProtocolConfiguration(request_body_mode=MODE, response_body_mode=MODE)
KNOWN = ("authorization", f"Bearer {TOKEN}")
BASIC = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
LISTED, READ = "packages.example.com:443", "api.github.com:443"
UNKNOWN_CA = "TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end"

Call = Any  # grpc.aio.StreamStreamCall is generic in its stubs alone


class NotedSlots(Slots):
    """Tell when one was taken: then the body is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = asyncio.Event()

    def take(self) -> bool:
        self.taken.set()
        return super().take()


class NotedDetector:
    """The real detector, which remembers the threads that it scanned in, and scans telemetry when it may."""

    def __init__(self) -> None:
        real = masking().detector
        self._real, self.patterns, self.digest, self.set_of = real, real.patterns, real.digest, real.set_of
        self.threads: set[str] = set()
        self.may_scan = threading.Event()
        self.may_scan.set()

    def scan(self, data: bytes, since: int = 0) -> list[Hit]:
        self._note()
        return self._real.scan(data, since)

    def suspects(self, data: bytes) -> list[Hit]:
        self._note()
        return self._real.suspects(data)

    def _note(self) -> None:
        name = threading.current_thread().name
        self.threads.add(name)
        assert not name.startswith("unidentified") or self.may_scan.wait(10)


class World:
    """Everything around a processor: it knows one token, and remembers what is recorded."""

    def __init__(self) -> None:
        self.slots = NotedSlots()
        self.detector = NotedDetector()
        self.openings: list[dict[str, Any]] = []
        self.closings: list[dict[str, Any]] = []
        self.recorded = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.verified = asyncio.Event()
        self.handed_on: list[bytes] = []

    def cached(self, token: Secret) -> Principal | None:
        return None

    async def verify(self, token: Secret) -> Principal:
        self.verified.set()
        if token.reveal() != TOKEN:
            raise Refused(Refusal(401, Code.IDENTITY_SIGNATURE, "Not this one."))
        return ALICE

    def ready(self, name: str, upstream: Upstream) -> Credential | None:
        return None

    async def get(self, name: str, upstream: Upstream) -> Credential:
        return CREDENTIAL

    async def wait(self, request: ApprovalRequest) -> NotHeld:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing waits."""

    async def append(self, opening: dict[str, Any] | None, closing: dict[str, Any] | None) -> None:
        await self.writable.wait()
        self.openings += [] if opening is None else [opening]
        if closing is not None:
            self.closings.append(closing)
            self.recorded.set()

    def answering(self, exchange_id: str, status: int, content_type: str | None) -> None:
        """Nothing is answered for a tunnel."""

    def piece(self, exchange_id: str, at: float, data: bytes) -> None:
        raise NotImplementedError

    async def closing(self) -> dict[str, Any]:
        """Return what was closed, once something was."""
        async with asyncio.timeout(10):
            await self.recorded.wait()
        (entry,) = self.closings
        return entry


class Envoy:
    """Speak to a processor."""

    def __init__(self, channel: grpc.aio.Channel, outside: World, processor: Processor, clock: list[float]) -> None:
        self._channel = channel
        self.outside = outside
        self.processor = processor
        self.clock = clock

    def stream(self, metadata: tuple[tuple[str, str], ...] = PROXY) -> Call:
        return self._channel.stream_stream(f"/{wire.PROCESSOR_SERVICE}/Process")(metadata=metadata)

    async def log(self, message: log_service.StreamAccessLogsMessage) -> None:
        call: Any = self._channel.stream_unary(f"/{wire.ACCESS_LOG_SERVICE}/StreamAccessLogs")()
        await call.write(bytes(message))
        await call.done_writing()
        await call


@pytest.fixture(params=["http2", "grpc"])
def transport(request: pytest.FixtureRequest) -> TransportName:
    name: TransportName = request.param
    return name


@pytest.fixture
async def envoy(tmp_path: Path, request: pytest.FixtureRequest, transport: TransportName) -> AsyncIterator[Envoy]:
    outside, clock = World(), [1_760_000_000.0]
    bounds = getattr(request, "param", BOUNDS)
    around = Outside(
        rules=rules(
            policy=replace(POLICY, rules=(*POLICY.rules, OPENS)),
            masking=Masking(outside.detector, POLICY.masking, FINGERPRINTS),
            telemetry=outside.slots,
            max_request_bytes=200_000,
        ),
        identities=outside,
        credentials=outside,
        approvers=outside,
        recorder=outside,
        metrics=Metrics(),
        bounds=bounds,
        now=lambda: clock[0],
    )
    processor = Processor(around, hand_on=outside.handed_on.append)
    address = f"unix:{tmp_path}/s"
    server = Server(processor, bounds, addresses=[address], transport=transport)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Envoy(channel, outside, processor, clock)
        # Of streams that still run no log will say how they ended.
        await processor.drain()
    await server.stop()


def headers(*fields: tuple[str, str]) -> ext_proc.HttpHeaders:
    pairs = [core.HeaderValue(key=name, raw_value=value.encode()) for name, value in fields]
    return ext_proc.HttpHeaders(headers=core.HeaderMap(headers=pairs))


def connect(authority: str, authorization: str = BASIC) -> bytes:
    found = headers((":method", "CONNECT"), (":authority", authority), ("proxy-authorization", authorization))
    return bytes(ext_proc.ProcessingRequest(request_headers=found))


def posted(path: str, *fields: tuple[str, str]) -> bytes:
    found = headers((":method", "POST"), (":path", path), (":authority", "127.0.0.1"), (":scheme", "http"), *fields)
    return bytes(ext_proc.ProcessingRequest(request_headers=found, protocol_config=DUPLEX))


def body(data: bytes, *, end_of_stream: bool = True) -> bytes:
    piece = ext_proc.HttpBody(body=data, end_of_stream=end_of_stream)
    return bytes(ext_proc.ProcessingRequest(request_body=piece))


CONNECTED = bytes(ext_proc.ProcessingRequest(response_headers=headers((":status", "200"))))


async def reply(call: Call, message: bytes) -> ext_proc.ProcessingResponse:
    await call.write(message)
    return ext_proc.ProcessingResponse.parse(await call.read())


def cluster(response: ext_proc.ProcessingResponse) -> str:
    """Return where a CONNECT is passed on to."""
    assert response.request_headers is not None
    assert response.request_headers.response is not None
    mutation = response.request_headers.response.header_mutation
    assert mutation is not None
    pairs = [option.header for option in mutation.set_headers if option.header is not None]
    return next(pair.raw_value.decode() for pair in pairs if pair.key == "x-gateway-upstream")


async def opened(envoy: Envoy) -> Call:
    call = envoy.stream()
    assert cluster(await reply(call, connect(LISTED))) == "tunnel"
    assert (await reply(call, CONNECTED)).response_headers is not None
    return call


def http_log(
    decision_id: str, received: int, sent: int, flags: log_data.ResponseFlags
) -> log_service.StreamAccessLogsMessage:
    ours = Struct(fields={"decision_id": Value(string_value=decision_id)})
    entry = log_data.HttpAccessLogEntry(
        common_properties=log_data.AccessLogCommon(
            response_flags=flags,
            metadata=core.Metadata(filter_metadata={wire_writing.METADATA_NAMESPACE: ours}),
        ),
        request=log_data.HttpRequestProperties(request_body_bytes=received),
        response=log_data.HttpResponseProperties(response_body_bytes=sent),
    )
    return log_service.StreamAccessLogsMessage(
        http_logs=log_service.StreamAccessLogsMessageHttpAccessLogEntries(log_entry=[entry])
    )


def tls_log(authorization: str) -> log_service.StreamAccessLogsMessage:
    state = {
        "gateway.connect": f"d1 {READ}",
        "gateway.proxy_authorization": authorization,
        "gateway.client_address": "192.0.2.7:5555",
    }
    common = log_data.AccessLogCommon(
        filter_state_objects={name: envoy_api.Any.pack(StringValue(value=text)) for name, text in state.items()},
        downstream_transport_failure_reason=UNKNOWN_CA,
    )
    entry = log_data.TcpAccessLogEntry(common_properties=common)
    return log_service.StreamAccessLogsMessage(
        tcp_logs=log_service.StreamAccessLogsMessageTcpAccessLogEntries(log_entry=[entry])
    )


# --- the log ---------------------------------------------------------------------------------------------------------


async def test_an_exchange_is_one_line_of_the_log_without_what_was_said(
    envoy: Envoy, capfd: pytest.CaptureFixture[str]
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    told = metrics_of.told()
    told.trace, told.timing.released, told.model = trace, 1.5, "a prompt, not a model"
    envoy.clock[0] = told.opened_at + 2
    envoy.processor._report(told)
    (line,) = [json.loads(text) for text in capfd.readouterr().err.splitlines()]
    assert line == {
        "time": "1970-01-01T00:01:42.000Z",
        "level": "info",
        "logger": "extproc.exchange",
        "message": "exchange",
        "decision_id": "x1",
        "trace_id": trace,
        "outcome": "completed",
        "status": 200,
        "endpoint": "chat",
        "rule": "developers",
        "code": None,
        "model": "other",
        "input_tokens": 100,
        "output_tokens": 5,
        "findings": 0,
        "released_ms": 1.5,
        "first_piece_ms": 250.0,
        "duration_ms": 2000.0,
    }


async def test_what_was_refused_is_a_line_too(envoy: Envoy, capfd: pytest.CaptureFixture[str]) -> None:
    call = envoy.stream(metadata=())
    parent = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    await reply(call, posted("/chat/completions", ("authorization", "Bearer hush-hush"), parent))
    assert await call.code() is grpc.StatusCode.OK
    text = capfd.readouterr().err
    (line,) = map(json.loads, text.splitlines())
    assert (line["trace_id"], line["code"]) == ("4bf92f3577b34da6a3ce929d0e0e4736", "identity.malformed")
    assert (line["model"], line["input_tokens"], line["first_piece_ms"]) == (None, None, None)
    assert "hush" not in text


# --- which state machine ---------------------------------------------------------------------------------------------


async def test_a_stream_of_the_forward_proxy_is_a_connect(envoy: Envoy) -> None:
    found = await reply(envoy.stream(), connect(LISTED, "Basic !"))
    assert found.immediate_response is not None
    assert found.immediate_response.status is not None
    assert found.immediate_response.status.code == 407
    assert (await envoy.outside.closing())["error"]["code"] == Code.IDENTITY_MALFORMED


@pytest.mark.parametrize("metadata", [(), (("x-gateway-door", "url"),), (("x-door", "proxy"),)])
async def test_any_other_stream_is_an_exchange_which_connects_nothing(
    envoy: Envoy, metadata: tuple[tuple[str, str], ...]
) -> None:
    call = envoy.stream(metadata)
    await call.write(connect(LISTED))
    # An exchange is no part of what has another body mode than ours.
    with pytest.raises(grpc.aio.AioRpcError, match=r"gateway\.protocol"):
        await call.read()
    assert envoy.outside.openings == []


async def test_a_tunnel_that_is_read_ends_its_stream_with_ok_and_is_not_recorded(envoy: Envoy) -> None:
    call = envoy.stream()
    assert cluster(await reply(call, connect(READ))) == "intercepted"
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    assert (envoy.outside.openings, envoy.outside.closings) == ([], [])
    assert envoy.processor.open_exchanges == 0


# --- tunnels that pass untouched -------------------------------------------------------------------------------------


async def test_an_open_tunnel_is_recorded_before_it_passes_and_closed_with_its_bytes(envoy: Envoy) -> None:
    call = await opened(envoy)
    (opening,) = envoy.outside.openings
    assert envoy.outside.closings == []
    await envoy.log(http_log(opening["id"], 11, 22, log_data.ResponseFlags(downstream_connection_termination=True)))
    await call.done_writing()
    entry = await envoy.outside.closing()
    assert (entry["outcome"], entry["tunnelled"]) == ("completed", {"received": 11, "sent": 22})
    assert entry["id"] == opening["id"]


async def test_a_tunnel_of_a_stream_that_envoy_resets_is_closed_too(envoy: Envoy) -> None:
    call = await opened(envoy)
    call.cancel()
    await envoy.log(http_log(envoy.outside.openings[0]["id"], 1, 2, log_data.ResponseFlags(upstream_remote_reset=True)))
    entry = await envoy.outside.closing()
    assert (entry["outcome"], entry["tunnelled"]) == ("completed", {"received": 1, "sent": 2})


async def test_an_open_tunnel_may_be_silent_up_to_the_bound_of_all_exchanges(envoy: Envoy) -> None:
    call = await opened(envoy)
    envoy.clock[0] += BOUNDS.total_seconds - 1
    envoy.processor.sweep()
    # While others are served, what was cut off would be recorded.
    assert cluster(await reply(envoy.stream(), connect(READ))) == "intercepted"
    assert envoy.outside.closings == []
    envoy.clock[0] += 2
    envoy.processor.sweep()
    assert (await envoy.outside.closing())["error"]["code"] == Code.GATEWAY_TIMEOUT
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_tunnel_whose_host_does_not_answer_is_cut_off_after_the_usual_silence(envoy: Envoy) -> None:
    call = envoy.stream()
    assert cluster(await reply(call, connect(LISTED))) == "tunnel"
    envoy.clock[0] += BOUNDS.idle_seconds + 1
    envoy.processor.sweep()
    assert (await envoy.outside.closing())["error"]["code"] == Code.GATEWAY_TIMEOUT


async def test_open_tunnels_are_closed_and_recorded_when_the_gateway_stops(envoy: Envoy) -> None:
    await opened(envoy)
    await envoy.processor.drain()
    entry = await envoy.outside.closing()
    assert (entry["outcome"], entry["error"]["code"]) == ("interrupted", Code.GATEWAY_DRAINING)


# --- what other workers are told and know -----------------------------------------------------------------------------


HUNG_UP = log_data.ResponseFlags(downstream_connection_termination=True)


async def test_how_an_exchange_of_another_worker_ended_is_handed_on_as_it_came(envoy: Envoy) -> None:
    call = await opened(envoy)
    (opening,) = envoy.outside.openings
    elsewhere, ours = http_log("0" * 32, 1, 2, HUNG_UP), http_log(opening["id"], 11, 22, HUNG_UP)
    await envoy.log(elsewhere)
    await envoy.log(ours)
    await call.done_writing()
    await envoy.outside.closing()
    assert envoy.outside.handed_on == [bytes(elsewhere)]


async def test_what_another_worker_hands_on_ends_an_exchange_of_ours(envoy: Envoy) -> None:
    call = await opened(envoy)
    (opening,) = envoy.outside.openings
    envoy.processor.handed_on(bytes(http_log(opening["id"], 11, 22, HUNG_UP)))
    await call.done_writing()
    assert (await envoy.outside.closing())["tunnelled"] == {"received": 11, "sent": 22}


async def test_what_was_handed_on_and_nobody_knows_goes_no_further(
    envoy: Envoy, caplog: pytest.LogCaptureFixture
) -> None:
    envoy.processor.handed_on(bytes(http_log("0" * 32, 1, 2, HUNG_UP)))
    envoy.processor.handed_on(b"\xff")
    assert envoy.outside.handed_on == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_tls_that_failed_is_recorded_by_who_was_told_and_by_nobody_else(envoy: Envoy) -> None:
    message = tls_log(BASIC)
    envoy.processor.handed_on(bytes(message))
    await envoy.log(message)
    await envoy.outside.closing()
    await envoy.processor.drain()
    assert (len(envoy.outside.closings), envoy.outside.handed_on) == (1, [])


# --- TLS inside ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("authorization", "name"), [(BASIC, "alice"), (BASIC.replace("Basic", "Bearer"), None)])
async def test_a_client_that_does_not_trust_the_authority_is_recorded(
    envoy: Envoy, authorization: str, name: str | None
) -> None:
    await envoy.log(tls_log(authorization))
    entry = await envoy.outside.closing()
    assert entry["error"]["code"] == Code.CONNECT_TLS
    (opening,) = envoy.outside.openings
    assert opening["id"] == entry["id"] != "d1"
    assert (opening["principal"] or {"name": None})["name"] == name
    assert opening["request"]["host"] == "api.github.com"


async def test_a_failure_of_somebody_whose_token_is_no_longer_good_is_recorded_without_a_name(envoy: Envoy) -> None:
    stale = base64.b64encode(b"me:e30.e30.e30").decode()
    await envoy.log(tls_log(f"Basic {stale}"))
    await envoy.outside.closing()
    assert envoy.outside.openings[0]["principal"] is None


async def test_a_failure_that_is_being_recorded_is_when_the_gateway_stops(envoy: Envoy) -> None:
    envoy.outside.writable.clear()
    await envoy.log(tls_log(BASIC))
    asyncio.get_running_loop().call_later(0.05, envoy.outside.writable.set)
    await envoy.processor.drain()
    assert [entry["error"]["code"] for entry in envoy.outside.closings] == [Code.CONNECT_TLS]


async def test_a_failure_whose_recording_breaks_is_logged_by_its_kind_alone(
    envoy: Envoy, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(RuntimeError):
        pass

    async def broken(*_: object) -> None:
        raise Broken(SECRET)

    envoy.outside.append = broken  # type: ignore[method-assign, assignment]
    with caplog.at_level(logging.ERROR, logger="extproc.exchange"):
        await envoy.log(tls_log(BASIC))
        await envoy.processor.drain()
    assert [record.__dict__["fields"] for record in caplog.records] == [{"fault": "Broken"}]
    assert SECRET not in caplog.text


# --- streams that say nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("metadata", [(), PROXY])
async def test_a_stream_that_ends_before_it_said_anything_is_not_waited_for(
    envoy: Envoy, metadata: tuple[tuple[str, str], ...]
) -> None:
    call = envoy.stream(metadata)
    await call.done_writing()
    async with asyncio.timeout(BOUNDS.end_reason_seconds / 2):
        assert await call.code() is not grpc.StatusCode.OK
    assert (envoy.processor.open_exchanges, envoy.outside.openings) == (0, [])


# --- telemetry -------------------------------------------------------------------------------------------------------


async def telemetry(envoy: Envoy, *fields: tuple[str, str]) -> Call:
    """Return a stream whose request body is waited for."""
    envoy.outside.slots.taken.clear()
    call = envoy.stream(())
    await call.write(posted("/telemetry", *fields))
    async with asyncio.timeout(10):
        await envoy.outside.slots.taken.wait()
    return call


async def test_telemetry_whose_body_is_slow_is_cut_off_and_makes_room(envoy: Envoy) -> None:
    call = await telemetry(envoy)
    await call.write(body(b"{", end_of_stream=False))
    envoy.clock[0] += READ_SECONDS
    envoy.processor.sweep()
    assert envoy.outside.closings == []
    envoy.clock[0] += 1
    envoy.processor.sweep()
    assert (await envoy.outside.closing())["error"]["code"] == Code.GATEWAY_TIMEOUT
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert left(envoy.outside.slots) == MAX_AT_ONCE


async def test_telemetry_whose_body_arrived_may_wait_for_its_upstream(envoy: Envoy) -> None:
    call = await telemetry(envoy)
    assert (await reply(call, body(b"{}"))).request_headers is not None
    envoy.clock[0] += READ_SECONDS + 1
    envoy.processor.sweep()
    assert ext_proc.ProcessingResponse.parse(await call.read()).request_body is not None
    # That its upstream cannot be reached is what ends it.
    assert (await reply(call, CONNECTED)).immediate_response is not None
    assert (await envoy.outside.closing())["error"]["code"] == Code.UPSTREAM_UNAVAILABLE


async def test_a_slow_body_of_somebody_who_is_known_is_waited_for(envoy: Envoy) -> None:
    call = envoy.stream(())
    await call.write(posted("/chat/completions", KNOWN))
    async with asyncio.timeout(10):
        await envoy.outside.verified.wait()
    envoy.clock[0] += READ_SECONDS + 1
    envoy.processor.sweep()
    assert (await reply(call, body(PROMPT))).request_headers is not None


@pytest.mark.parametrize("envoy", [replace(BOUNDS, end_reason_seconds=0.05)], indirect=True)
async def test_telemetry_of_clients_that_are_gone_makes_room(envoy: Envoy) -> None:
    call = await telemetry(envoy)
    assert left(envoy.outside.slots) == MAX_AT_ONCE - 1
    call.cancel()
    assert (await envoy.outside.closing())["error"]["code"] == Code.CLIENT_GONE
    assert left(envoy.outside.slots) == MAX_AT_ONCE


async def test_telemetry_in_which_the_gateway_breaks_makes_room(envoy: Envoy) -> None:
    def breaks(*_: object) -> list[Hit]:
        raise RuntimeError

    call = await telemetry(envoy)
    envoy.outside.detector.scan = envoy.outside.detector.suspects = breaks  # type: ignore[method-assign, assignment]
    await call.write(body(b'{"name":"a-text-that-is-long-enough"}'))
    assert (await envoy.outside.closing())["error"]["code"] == Code.GATEWAY_INTERNAL
    assert left(envoy.outside.slots) == MAX_AT_ONCE


async def test_telemetry_is_read_in_a_thread_of_its_own_however_small_it_is(envoy: Envoy) -> None:
    envoy.outside.detector.threads.clear()
    call = await telemetry(envoy, ("content-encoding", "gzip"))
    # What the path says is looked at before.
    envoy.outside.detector.threads.clear()
    sent = gzip.compress(f'{{"name":"use {SECRET}"}}'.encode())
    assert (await reply(call, body(sent))).request_headers is not None
    assert envoy.outside.detector.threads == {"unidentified_0"}


async def test_large_bodies_are_looked_at_in_no_more_than_two_threads_of_their_own(envoy: Envoy) -> None:
    calls = [envoy.stream(()) for _ in range(4)]
    for call in calls:
        await call.write(posted("/chat/completions", KNOWN))
    envoy.outside.detector.threads.clear()
    large = body(PROMPT.replace(b"hi", b"a " * 50_000))
    replies = await asyncio.gather(*(reply(call, large) for call in calls))
    assert all(one.request_headers is not None for one in replies)
    # What the record says of the head is looked at where all else is done.
    threads = envoy.outside.detector.threads - {"MainThread"}
    assert {"large-bodies_0"} <= threads <= {"large-bodies_0", "large-bodies_1"}


@pytest.mark.parametrize("size", [10, 100_000])
async def test_nobody_waits_for_telemetry_that_takes_long(envoy: Envoy, size: int) -> None:
    slow = await telemetry(envoy)
    envoy.outside.detector.may_scan.clear()
    try:
        await slow.write(body(b'{"name":"a-text-that-is-long-enough"}'))
        call = envoy.stream(())
        await call.write(posted("/chat/completions", KNOWN))
        async with asyncio.timeout(5):
            assert (await reply(call, body(PROMPT.replace(b"hi", b"a " * (size // 2))))).request_headers is not None
        assert len(envoy.outside.openings) == 1
    finally:
        envoy.outside.detector.may_scan.set()
    assert ext_proc.ProcessingResponse.parse(await slow.read()).request_headers is not None
