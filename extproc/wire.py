"""Translate between Envoy's ext_proc messages and our events and effects. Pure; the only module that sees protobuf."""

from __future__ import annotations

from typing import assert_never

from google.protobuf.message import DecodeError

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
    End,
    EnvoyEvent,
    Headers,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)

PROCESSOR_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
ACCESS_LOG_SERVICE = "envoy.service.accesslog.v3.AccessLogService"

METADATA_NAMESPACE = "envoy.filters.http.ext_proc"
"""Where our dynamic metadata goes (access log) and where Envoy puts attributes."""

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
    return RequestHeaders(
        headers=_headers(request.request_headers.headers),
        end_of_stream=request.request_headers.end_of_stream,
        client_address=_attribute(request, "source.address") or None,
        # Observability mode ignores every reply: nothing would be enforced.
        full_duplex=modes.request_body_mode == pb.FULL_DUPLEX_STREAMED
        and modes.response_body_mode == pb.FULL_DUPLEX_STREAMED
        and not request.observability_mode,
    )


def _response_headers(request: pb.ProcessingRequest) -> ResponseHeaders:
    details = _attribute(request, "response.code_details")
    return ResponseHeaders(
        headers=_headers(request.response_headers.headers),
        end_of_stream=request.response_headers.end_of_stream,
        from_upstream=details == "via_upstream",
    )


def _headers(headers: pb.HeaderMap) -> Headers:
    return [(h.key, h.raw_value.decode("latin-1") if h.raw_value else h.value) for h in headers.headers]


def _attribute(request: pb.ProcessingRequest, name: str) -> str:
    if METADATA_NAMESPACE not in request.attributes:
        return ""
    fields = request.attributes[METADATA_NAMESPACE].fields
    return fields[name].string_value if name in fields else ""


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


def decode_ends(message: bytes) -> list[tuple[str, End]]:
    """Read one message of Envoy's access log: the decision id of each failed exchange and who ended it."""
    try:
        entries = pb.StreamAccessLogsMessage.FromString(message).http_logs.log_entry
    except DecodeError as broken:
        raise WireError("the message is not a StreamAccessLogsMessage") from broken
    ends = []
    for entry in entries:
        metadata = entry.common_properties.metadata.filter_metadata
        if METADATA_NAMESPACE in metadata:
            decision_id = metadata[METADATA_NAMESPACE].fields["decision_id"].string_value
            ends.append((decision_id, _end(entry.common_properties.response_flags)))
    return ends


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
