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
from extproc.wire_writing import METADATA_NAMESPACE, body_reply, request_headers_reply, response_headers_reply

PROCESSOR_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
ACCESS_LOG_SERVICE = "envoy.service.accesslog.v3.AccessLogService"

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
            return RequestBody((piece := request.request_body).body, piece.end_of_stream)
        case "request_trailers":
            return RequestTrailers([header.key for header in request.request_trailers.trailers.headers])
        case "response_headers":
            return _response_headers(request)
        case "response_body":
            return ResponseBody((piece := request.response_body).body, piece.end_of_stream)
        case "response_trailers":
            return ResponseTrailers([header.key for header in request.response_trailers.trailers.headers])
        case _:
            raise WireError("the message has no phase this service knows")


def _request_headers(request: pb.ProcessingRequest) -> RequestHeaders:
    modes = request.protocol_config
    attributes = _attributes(request)
    connect = _connect(attributes.get(_CONNECT, ""), attributes.get(_PROXY_AUTHORIZATION, ""))
    address = attributes.get("source.address") if connect is None else attributes.get(_CLIENT_ADDRESS)
    head = request.request_headers
    return RequestHeaders(
        headers=_headers(head.headers),
        end_of_stream=head.end_of_stream,
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
    head = request.response_headers
    return ResponseHeaders(
        headers=_headers(head.headers),
        end_of_stream=head.end_of_stream,
        from_upstream=details == "via_upstream",
    )


def _headers(headers: pb.HeaderMap) -> Headers:
    return [(h.key, raw.decode("latin-1") if (raw := h.raw_value) else h.value) for h in headers.headers]


def _attributes(request: pb.ProcessingRequest) -> dict[str, str]:
    attributes = request.attributes
    if METADATA_NAMESPACE not in attributes:
        return {}
    return {name: value.string_value for name, value in attributes[METADATA_NAMESPACE].fields.items()}


def encode(reply: Reply) -> bytes:
    """Write one `ProcessingResponse`."""
    match reply:
        case PassResponseBody():
            return body_reply(reply.data, end_of_stream=reply.end_of_stream, is_request=False)
        case PassRequestBody():
            return body_reply(reply.data, end_of_stream=reply.end_of_stream, is_request=True)
        case PassRequestHeaders():
            return request_headers_reply(reply.set_headers, reply.remove_headers, reply.decision_id)
        case PassResponseHeaders():
            return response_headers_reply(reply.set_headers, reply.remove_headers)
        case PassRequestTrailers() | PassResponseTrailers():
            return _trailers(reply)
        case Respond():
            return _respond(reply)
        case _:
            assert_never(reply)


def _trailers(reply: PassRequestTrailers | PassResponseTrailers) -> bytes:
    response = pb.ProcessingResponse()
    is_request = isinstance(reply, PassRequestTrailers)
    trailers = response.request_trailers if is_request else response.response_trailers
    _mutate(trailers.header_mutation, [], reply.remove)
    return response.SerializeToString()


def _respond(reply: Respond) -> bytes:
    response = pb.ProcessingResponse()
    immediate = response.immediate_response
    immediate.status.code = reply.status
    _mutate(immediate.headers, reply.headers, [])
    immediate.body = reply.body
    immediate.details = reply.details
    namespace = response.dynamic_metadata.fields[METADATA_NAMESPACE].struct_value
    namespace.fields["decision_id"].string_value = reply.decision_id
    # By this Envoy's own errors are told from ours, which keep their bodies (local_reply_config).
    namespace.fields["answered"].bool_value = True
    return response.SerializeToString()


def _mutate(mutation: pb.HeaderMutation, set_headers: Headers, remove: list[str]) -> None:
    mutation.SetInParent()
    for name, value in set_headers:
        option = mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode("latin-1")
        option.append_action = _OVERWRITE
    mutation.remove_headers.extend(remove)


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
