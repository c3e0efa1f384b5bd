"""Translate between Envoy's ext_proc messages and our events and effects. Pure; the only module that sees protobuf."""

from __future__ import annotations

import re
from typing import assert_never

from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2

from extproc._pb import ext_proc_pb2 as pb
from extproc.effects import (
    PassRequestBody,
    PassRequestHeaders,
    PassRequestTrailers,
    PassResponseBody,
    PassResponseHeaders,
    PassResponseTrailers,
    Reply,
    Respond,
)
from extproc.errors import ExtprocError
from extproc.events import (
    Connect,
    End,
    Ended,
    EnvoyEvent,
    Headers,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    TlsFailed,
)
from extproc.secret import Secret

PROCESSOR_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
ACCESS_LOG_SERVICE = "envoy.service.accesslog.v3.AccessLogService"

METADATA_NAMESPACE = "envoy.filters.http.ext_proc"
"""Where our dynamic metadata goes (access log) and where Envoy puts attributes."""

# What the proxy listener notes of a CONNECT for the exchanges inside (envoy/envoy.yaml).
_CONNECT = "filter_state['gateway.connect']"
_PROXY_AUTHORIZATION = "filter_state['gateway.proxy_authorization']"
_CLIENT_ADDRESS = "filter_state['gateway.client_address']"

# In BoringSSL's own words. A connection that the client reset once it was done has none of TLS; plain HTTP is refused,
# and recorded, as a request.
_TLS_REASON = re.compile(r"SSL routines:OPENSSL_internal:(?!HTTPS?_(?:PROXY_)?REQUEST\b)([A-Z][A-Z0-9_]{2,60})")

# A TLS version, so that our certificate was sent, and no time that it took to agree.
_HUNG_UP = re.compile(r"TLSv[0-9.]+ -?")

_OVERWRITE = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD


class WireError(ExtprocError):
    """Say that Envoy sent what this service does not speak; the stream must fail."""


def decode(message: bytes) -> EnvoyEvent:
    """Read one `ProcessingRequest`; raises WireError for anything but the six HTTP phases."""
    try:
        request = pb.ProcessingRequest.FromString(message)
    except DecodeError as broken:
        raise WireError("the message is not a ProcessingRequest") from broken
    match request.WhichOneof("request"):
        case "request_headers":
            return _request_headers(request)
        case "request_body":
            return RequestBody(request.request_body.body, request.request_body.end_of_stream)
        case "request_trailers":
            return RequestTrailers([header.key for header in request.request_trailers.trailers.headers])
        case "response_headers":
            return _response_headers(request)
        case "response_body":
            return ResponseBody(request.response_body.body, request.response_body.end_of_stream)
        case "response_trailers":
            return ResponseTrailers([header.key for header in request.response_trailers.trailers.headers])
        case _:
            raise WireError("the message has no phase this service knows")


def _request_headers(request: pb.ProcessingRequest) -> RequestHeaders:
    modes = request.protocol_config
    attributes = _attributes(request)
    connect = _connect(attributes.get(_CONNECT, ""), attributes.get(_PROXY_AUTHORIZATION, ""))
    address = attributes.get("source.address") if connect is None else attributes.get(_CLIENT_ADDRESS)
    return RequestHeaders(
        headers=_headers(request.request_headers.headers),
        end_of_stream=request.request_headers.end_of_stream,
        client_address=address or None,
        # Observability mode ignores every reply: nothing would be enforced.
        full_duplex=modes.request_body_mode == pb.FULL_DUPLEX_STREAMED
        and modes.response_body_mode == pb.FULL_DUPLEX_STREAMED
        and not request.observability_mode,
        server_name=attributes.get("connection.requested_server_name", ""),
        connect=connect,
    )


def _connect(opened: str, authorization: str) -> Connect | None:
    decision_id, _, authority = opened.partition(" ")
    return Connect(decision_id, authority, Secret(authorization)) if opened else None


def _response_headers(request: pb.ProcessingRequest) -> ResponseHeaders:
    details = _attributes(request).get("response.code_details")
    return ResponseHeaders(
        headers=_headers(request.response_headers.headers),
        end_of_stream=request.response_headers.end_of_stream,
        from_upstream=details == "via_upstream",
    )


def _headers(headers: pb.HeaderMap) -> Headers:
    return [(h.key, h.raw_value.decode("latin-1") if h.raw_value else h.value) for h in headers.headers]


def _attributes(request: pb.ProcessingRequest) -> dict[str, str]:
    if METADATA_NAMESPACE not in request.attributes:
        return {}
    return {name: value.string_value for name, value in request.attributes[METADATA_NAMESPACE].fields.items()}


def encode(reply: Reply) -> bytes:
    """Write one `ProcessingResponse`."""
    response = pb.ProcessingResponse()
    match reply:
        case PassResponseBody():
            _body(response.response_body, reply.data, end_of_stream=reply.end_of_stream)
        case PassRequestBody():
            _body(response.request_body, reply.data, end_of_stream=reply.end_of_stream)
        case PassRequestHeaders():
            common = response.request_headers.response
            common.clear_route_cache = True
            _mutate(common.header_mutation, reply.set_headers, reply.remove_headers)
            _decision_id(response, reply.decision_id)
        case PassResponseHeaders():
            _mutate(response.response_headers.response.header_mutation, reply.set_headers, reply.remove_headers)
        case PassRequestTrailers():
            _mutate(response.request_trailers.header_mutation, [], reply.remove)
        case PassResponseTrailers():
            _mutate(response.response_trailers.header_mutation, [], reply.remove)
        case Respond():
            immediate = response.immediate_response
            immediate.status.code = reply.status
            _mutate(immediate.headers, reply.headers, [])
            immediate.body = reply.body
            immediate.details = reply.details
            _decision_id(response, reply.decision_id)
            # By this Envoy's own errors are told from ours, which keep their bodies (local_reply_config).
            namespace = response.dynamic_metadata.fields[METADATA_NAMESPACE].struct_value
            namespace.fields["answered"].bool_value = True
        case _:
            assert_never(reply)
    return response.SerializeToString()


def _body(reply: pb.BodyResponse, data: bytes, *, end_of_stream: bool) -> None:
    piece = reply.response.body_mutation.streamed_response
    piece.body = data
    piece.end_of_stream = end_of_stream


def _mutate(mutation: pb.HeaderMutation, set_headers: Headers, remove: list[str]) -> None:
    mutation.SetInParent()
    for name, value in set_headers:
        option = mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode("latin-1")
        option.append_action = _OVERWRITE
    mutation.remove_headers.extend(remove)


def _decision_id(response: pb.ProcessingResponse, decision_id: str) -> None:
    namespace = response.dynamic_metadata.fields[METADATA_NAMESPACE].struct_value
    namespace.fields["decision_id"].string_value = decision_id


def decode_log(message: bytes) -> list[tuple[str, Ended] | TlsFailed]:
    """Read one message of Envoy's access log: how the HTTP stream of a decision id ended, and TLS that failed.

    Raises WireError.
    """
    try:
        logs = pb.StreamAccessLogsMessage.FromString(message)
    except DecodeError as broken:
        raise WireError("the message is not a StreamAccessLogsMessage") from broken
    found: list[tuple[str, Ended] | TlsFailed] = []
    for entry in logs.http_logs.log_entry:
        common = entry.common_properties
        if METADATA_NAMESPACE in common.metadata.filter_metadata:
            decision_id = common.metadata.filter_metadata[METADATA_NAMESPACE].fields["decision_id"].string_value
            received, sent = entry.request.request_body_bytes, entry.response.response_body_bytes
            found.append((decision_id, Ended(_end(common.response_flags), received, sent)))
    found += (one for entry in logs.tcp_logs.log_entry if (one := _tls_failure(entry.common_properties)) is not None)
    return found


def _tls_failure(common: pb.AccessLogCommon) -> TlsFailed | None:
    state = {}
    for name, packed in common.filter_state_objects.items():
        text = StringValue()
        if packed.Unpack(text):
            state[f"filter_state['{name}']"] = text.value
    connect = _connect(state.get(_CONNECT, ""), state.get(_PROXY_AUTHORIZATION, ""))
    why = _TLS_REASON.findall(common.downstream_transport_failure_reason)
    if not why and _HUNG_UP.fullmatch(common.custom_tags.get("tls", "")):
        why = ["the client hung up"]
    return TlsFailed(connect, state.get(_CLIENT_ADDRESS), " ".join(why)) if connect is not None and why else None


ACCESS_LOG_REPLY = pb.StreamAccessLogsResponse().SerializeToString()


def _end(flags: pb.ResponseFlags) -> End:
    if flags.downstream_connection_termination or flags.downstream_remote_reset or flags.downstream_protocol_error:
        return End.CLIENT
    if (
        flags.upstream_remote_reset
        or flags.upstream_connection_failure
        or flags.upstream_connection_termination
        or flags.upstream_protocol_error
        or flags.upstream_request_timeout
    ):
        return End.UPSTREAM
    if flags.stream_idle_timeout or flags.upstream_max_stream_duration_reached:
        return End.TIMEOUT
    return End.ENVOY


def decode_health(message: bytes) -> str:
    """Read one `HealthCheckRequest` and return the service it names; raises WireError."""
    try:
        return str(health_pb2.HealthCheckRequest.FromString(message).service)
    except DecodeError as broken:
        raise WireError("the message is not a HealthCheckRequest") from broken


def health(*, serving: bool) -> bytes:
    """Write one `HealthCheckResponse`."""
    answer = health_pb2.HealthCheckResponse
    return answer(status=answer.SERVING if serving else answer.NOT_SERVING).SerializeToString()
