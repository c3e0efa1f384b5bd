"""The grpc.aio shell, spoken to as Envoy does: CONNECT at the forward proxy, and what its access log tells of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from extproc import wire
from extproc.approval.approval import Request as ApprovalRequest
from extproc.approval.waiting import NotHeld
from extproc.credential import Credential
from extproc.endpoint import Upstream
from extproc.errors import Code, Refusal, Refused
from extproc.identity.principal import Principal
from extproc.metrics import Metrics
from extproc.processor import Bounds, Processor
from extproc.secret import Secret
from extproc.server import Server
from tests import envoy_api
from tests.envoy_api import StringValue, Struct, Value, core, ext_proc, log_data, log_service
from tests.playbook import ALICE, CREDENTIAL, POLICY, TOKEN, rules
from tests.test_tunnel import OPENS

BOUNDS = Bounds(max_exchanges=9, idle_seconds=60, total_seconds=600, drain_seconds=0.1, end_reason_seconds=5)
PROXY = (("x-gateway-door", "proxy"),)
BASIC = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
LISTED, READ = "packages.example.com:443", "api.github.com:443"
UNKNOWN_CA = "TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end"

Call = Any  # grpc.aio.StreamStreamCall is generic in its stubs alone


class Outside:
    """Everything around a processor: it knows one token, and remembers what is recorded."""

    def __init__(self) -> None:
        self.openings: list[dict[str, Any]] = []
        self.closings: list[dict[str, Any]] = []
        self.recorded = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()

    def cached(self, token: Secret) -> Principal | None:
        return None

    async def verify(self, token: Secret) -> Principal:
        if token.reveal() != TOKEN:
            raise Refused(Refusal(401, Code.IDENTITY_SIGNATURE, "Not this one."))
        return ALICE

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

    def __init__(self, channel: grpc.aio.Channel, outside: Outside, processor: Processor, clock: list[float]) -> None:
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


@pytest.fixture
async def envoy(tmp_path: Path) -> AsyncIterator[Envoy]:
    outside, clock = Outside(), [1_760_000_000.0]
    processor = Processor(
        rules=rules(policy=replace(POLICY, rules=(*POLICY.rules, OPENS))),
        identities=outside,
        credentials=outside,
        approvers=outside,
        recorder=outside,
        metrics=Metrics(),
        bounds=BOUNDS,
        now=lambda: clock[0],
    )
    address = f"unix:{tmp_path}/s"
    server = Server(processor, BOUNDS, addresses=[address])
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        yield Envoy(channel, outside, processor, clock)
    await server.stop()


def headers(*fields: tuple[str, str]) -> ext_proc.HttpHeaders:
    pairs = [core.HeaderValue(key=name, raw_value=value.encode()) for name, value in fields]
    return ext_proc.HttpHeaders(headers=core.HeaderMap(headers=pairs))


def connect(authority: str, authorization: str = BASIC) -> bytes:
    found = headers((":method", "CONNECT"), (":authority", authority), ("proxy-authorization", authorization))
    return bytes(ext_proc.ProcessingRequest(request_headers=found))


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
            metadata=core.Metadata(filter_metadata={wire.METADATA_NAMESPACE: ours}),
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
