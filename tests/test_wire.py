from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import betterproto2
import pytest
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from extproc import wire, wire_writing
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
from extproc.events import (
    Connect,
    End,
    Ended,
    EnvoyEvent,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
    TlsFailed,
)
from extproc.secret import Secret
from tests import envoy_api
from tests.envoy_api import StringValue, Struct, Value, core, ext_proc, filters, log_data, log_service, types

ROOT = Path(__file__).parent.parent

# --- the contract: our subset of Envoy's API is a subset of it -------------------------------------------------------

ENVOY: dict[str, type[betterproto2.Message]] = {
    "ProcessingRequest": ext_proc.ProcessingRequest,
    "ProcessingResponse": ext_proc.ProcessingResponse,
    "ProtocolConfiguration": ext_proc.ProtocolConfiguration,
    "HttpHeaders": ext_proc.HttpHeaders,
    "HttpBody": ext_proc.HttpBody,
    "HttpTrailers": ext_proc.HttpTrailers,
    "HeadersResponse": ext_proc.HeadersResponse,
    "BodyResponse": ext_proc.BodyResponse,
    "TrailersResponse": ext_proc.TrailersResponse,
    "CommonResponse": ext_proc.CommonResponse,
    "HeaderMutation": ext_proc.HeaderMutation,
    "BodyMutation": ext_proc.BodyMutation,
    "StreamedBodyResponse": ext_proc.StreamedBodyResponse,
    "ImmediateResponse": ext_proc.ImmediateResponse,
    "HeaderMap": core.HeaderMap,
    "HeaderValue": core.HeaderValue,
    "HeaderValueOption": core.HeaderValueOption,
    "HttpStatus": types.HttpStatus,
    "Metadata": core.Metadata,
    "StreamAccessLogsMessage": log_service.StreamAccessLogsMessage,
    "StreamAccessLogsMessage.HTTPAccessLogEntries": log_service.StreamAccessLogsMessageHttpAccessLogEntries,
    "StreamAccessLogsMessage.TCPAccessLogEntries": log_service.StreamAccessLogsMessageTcpAccessLogEntries,
    "StreamAccessLogsResponse": log_service.StreamAccessLogsResponse,
    "HTTPAccessLogEntry": log_data.HttpAccessLogEntry,
    "HTTPRequestProperties": log_data.HttpRequestProperties,
    "HTTPResponseProperties": log_data.HttpResponseProperties,
    "TCPAccessLogEntry": log_data.TcpAccessLogEntry,
    "AccessLogCommon": log_data.AccessLogCommon,
    "ResponseFlags": log_data.ResponseFlags,
    "google.protobuf.Struct": Struct,
    "google.protobuf.Any": envoy_api.Any,
}
GOOGLES = {name for name in ENVOY if name.startswith("google.")}
ENVOY_ENUMS: dict[str, type[betterproto2.Enum]] = {
    "BodySendMode": filters.ProcessingModeBodySendMode,
    "HeaderValueOption.HeaderAppendAction": core.HeaderValueOptionHeaderAppendAction,
}
# The same bytes on the wire, written down differently in our file.
DIFFERENT = {
    # An enum there; we pass any status.
    "HttpStatus.code": {"kind": ("int32", "enum")},
}
KINDS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_ENUM: "enum",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_MESSAGE: "message",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT64: "uint64",
}
PACKAGE = pb.DESCRIPTOR.package + "."


def messages_of(found: list[Descriptor]) -> Iterator[Descriptor]:
    for message in found:
        yield message
        yield from messages_of([nested for nested in message.nested_types if not nested.GetOptions().map_entry])


MESSAGES = list(messages_of(list(pb.DESCRIPTOR.message_types_by_name.values())))
ENUMS: list[EnumDescriptor] = [
    *pb.DESCRIPTOR.enum_types_by_name.values(),
    *(enum for message in MESSAGES for enum in message.enum_types),
]
FIELDS: list[FieldDescriptor] = [field for message in MESSAGES for field in message.fields]


def name_of(descriptor: Descriptor | EnumDescriptor | FieldDescriptor) -> str:
    return descriptor.full_name.removeprefix(PACKAGE)


def ours(field: FieldDescriptor) -> dict[str, object]:
    message = field.message_type
    entry = message if message is not None and message.GetOptions().map_entry else None
    target = entry.fields_by_name["value"].message_type if entry is not None else message
    return {
        "number": field.number,
        "kind": "map" if entry is not None else KINDS[field.type],
        "repeated": field.is_repeated and entry is None,
        "group": field.containing_oneof and field.containing_oneof.name,
        "map": None if entry is None else tuple(KINDS[part.type] for part in entry.fields),
        "message": None if target is None else ENVOY[name_of(target)],
        "enum": None if field.enum_type is None else ENVOY_ENUMS[name_of(field.enum_type)],
    }


def envoys(field: FieldDescriptor) -> dict[str, object]:
    assert field.containing_type is not None
    described = described_by(ENVOY[name_of(field.containing_type)])
    meta = described.meta_by_field_name[field.name]
    # The value of a map is kept beside the map itself.
    cls = described.cls_by_field.get(f"{field.name}.value" if meta.proto_type == "map" else field.name, object)
    return {
        "number": meta.number,
        "kind": meta.proto_type,
        "repeated": meta.repeated,
        "group": meta.group,
        "map": None if meta.map_meta is None else tuple(part.proto_type for part in meta.map_meta),
        "message": cls if issubclass(cls, betterproto2.Message) else None,
        "enum": cls if issubclass(cls, betterproto2.Enum) and field.enum_type is not None else None,
    }


def described_by(message: type[betterproto2.Message]) -> Any:
    return message._betterproto  # type: ignore[arg-type] # its class property confuses mypy


def test_every_message_and_enum_of_ours_has_its_counterpart_here() -> None:
    assert {name_of(message) for message in MESSAGES} == set(ENVOY) - GOOGLES
    assert {name_of(enum) for enum in ENUMS} == set(ENVOY_ENUMS)


@pytest.mark.parametrize("field", FIELDS, ids=name_of)
def test_every_field_is_envoys_in_name_number_type_and_place(field: FieldDescriptor) -> None:
    mine, theirs = ours(field), envoys(field)
    differences = {key: (mine[key], theirs[key]) for key in mine if mine[key] != theirs[key]}
    assert differences == DIFFERENT.get(name_of(field), {})


@pytest.mark.parametrize("enum", ENUMS, ids=name_of)
def test_every_enum_is_envoys_whole(enum: EnumDescriptor) -> None:
    theirs = {member.name: member.value for member in ENVOY_ENUMS[name_of(enum)]}
    assert {value.name: value.number for value in enum.values} == theirs


def test_the_services_are_envoys() -> None:
    process = ext_proc.ExternalProcessorBase().__mapping__()
    logs = log_service.AccessLogServiceBase().__mapping__()
    assert list(process) == [f"/{wire.PROCESSOR_SERVICE}/Process"]
    assert list(logs) == [f"/{wire.ACCESS_LOG_SERVICE}/StreamAccessLogs"]


def test_the_generated_code_is_what_make_proto_generates(tmp_path: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    command = re.search(r"^proto:.*\n\t@\S+/python (-m grpc_tools\.protoc .*)$", makefile, re.MULTILINE)
    assert command is not None
    arguments = shlex.split(command[1].replace("=extproc/_pb", f"={tmp_path}"))
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)  # noqa: S603 - the Makefile's own command
    generated = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(generated) == {"ext_proc_pb2.py", "ext_proc_pb2.pyi"}
    assert generated == {name: (ROOT / "extproc" / "_pb" / name).read_bytes() for name in generated}


# --- what Envoy sends ------------------------------------------------------------------------------------------------

DUPLEX = filters.ProcessingModeBodySendMode.FULL_DUPLEX_STREAMED
STREAMED = filters.ProcessingModeBodySendMode.STREAMED


def header_map(*fields: tuple[str, bytes]) -> core.HeaderMap:
    return core.HeaderMap(headers=[core.HeaderValue(key=name, raw_value=value) for name, value in fields])


def attributes(**values: str) -> dict[str, Struct]:
    fields = {name.replace("__", "."): Value(string_value=text) for name, text in values.items()}
    return {"envoy.filters.http.ext_proc": Struct(fields=fields)}


def test_request_headers_of_envoy_are_read_with_all_that_comes_along() -> None:
    message = ext_proc.ProcessingRequest(
        request_headers=ext_proc.HttpHeaders(
            headers=header_map((":path", b"/x"), ("x-name", "Jürgen".encode("latin-1")), ("x-name", b"again")),
            end_of_stream=True,
        ),
        metadata_context=core.Metadata(filter_metadata={"other": Struct(fields={})}),
        attributes=attributes(source__address="192.0.2.7:5555", request__id="1"),
        protocol_config=ext_proc.ProtocolConfiguration(
            request_body_mode=DUPLEX, response_body_mode=DUPLEX, send_body_without_waiting_for_header_response=True
        ),
    )
    assert wire.decode(bytes(message)) == RequestHeaders(
        headers=[(":path", "/x"), ("x-name", "Jürgen"), ("x-name", "again")],
        end_of_stream=True,
        client_address="192.0.2.7:5555",
        full_duplex=True,
    )


def test_headers_without_a_raw_value_are_read_from_their_text() -> None:
    headers = core.HeaderMap(headers=[core.HeaderValue(key="a", value="text"), core.HeaderValue(key="empty")])
    event = wire.decode(bytes(ext_proc.ProcessingRequest(request_headers=ext_proc.HttpHeaders(headers=headers))))
    assert isinstance(event, RequestHeaders)
    assert event.headers == [("a", "text"), ("empty", "")]
    assert event.client_address is None


@pytest.mark.parametrize(
    ("config", "observing"),
    [
        (None, False),
        (ext_proc.ProtocolConfiguration(request_body_mode=DUPLEX), False),
        (ext_proc.ProtocolConfiguration(request_body_mode=DUPLEX, response_body_mode=STREAMED), False),
        (ext_proc.ProtocolConfiguration(request_body_mode=STREAMED, response_body_mode=DUPLEX), False),
        (ext_proc.ProtocolConfiguration(request_body_mode=DUPLEX, response_body_mode=DUPLEX), True),
    ],
)
def test_any_mode_in_which_bytes_could_pass_unseen_is_not_full_duplex(
    config: ext_proc.ProtocolConfiguration | None,
    observing: bool,  # noqa: FBT001
) -> None:
    message = ext_proc.ProcessingRequest(
        request_headers=ext_proc.HttpHeaders(), protocol_config=config, observability_mode=observing
    )
    event = wire.decode(bytes(message))
    assert isinstance(event, RequestHeaders)
    assert event.full_duplex is False


@pytest.mark.parametrize(("details", "from_upstream"), [("via_upstream", True), ("no_healthy_upstream", False)])
def test_response_headers_say_whether_the_upstream_answered(details: str, from_upstream: bool) -> None:  # noqa: FBT001
    message = ext_proc.ProcessingRequest(
        response_headers=ext_proc.HttpHeaders(headers=header_map((":status", b"200"))),
        attributes=attributes(response__code_details=details),
    )
    expected = ResponseHeaders([(":status", "200")], end_of_stream=False, from_upstream=from_upstream)
    assert wire.decode(bytes(message)) == expected


def test_a_response_of_which_nobody_says_whence_it_came_is_not_the_upstreams() -> None:
    event = wire.decode(bytes(ext_proc.ProcessingRequest(response_headers=ext_proc.HttpHeaders())))
    assert event == ResponseHeaders([], end_of_stream=False, from_upstream=False)


@given(st.binary(max_size=100), st.booleans())
def test_bodies_are_read(data: bytes, last: bool) -> None:  # noqa: FBT001
    body = ext_proc.HttpBody(body=data, end_of_stream=last)
    assert wire.decode(bytes(ext_proc.ProcessingRequest(request_body=body))) == RequestBody(data, last)
    assert wire.decode(bytes(ext_proc.ProcessingRequest(response_body=body))) == ResponseBody(data, last)


def test_of_trailers_the_names_are_read() -> None:
    trailers = ext_proc.HttpTrailers(trailers=header_map(("x-checksum", b"1"), ("grpc-status", b"0")))
    names = ["x-checksum", "grpc-status"]
    assert wire.decode(bytes(ext_proc.ProcessingRequest(request_trailers=trailers))) == RequestTrailers(names)
    assert wire.decode(bytes(ext_proc.ProcessingRequest(response_trailers=trailers))) == ResponseTrailers(names)


@pytest.mark.parametrize(
    "message", [b"", b"\xff", b"\x12\x05a", bytes(pb.ProcessingRequest(observability_mode=True).SerializeToString())]
)
def test_a_message_without_a_phase_fails_the_stream(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode(message)


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(message: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(message), EnvoyEvent)


# --- the CONNECT around a request ------------------------------------------------------------------------------------

BASIC = "Basic bWU6dG9rZW4="
NOTED = {
    "filter_state['gateway.connect']": "d1 api.githubcopilot.com:443",
    "filter_state['gateway.proxy_authorization']": BASIC,
    "filter_state['gateway.client_address']": "192.0.2.7:5555",
}
CONNECT = Connect("d1", "api.githubcopilot.com:443", Secret(BASIC))


def headers_with(values: dict[str, str]) -> RequestHeaders:
    message = ext_proc.ProcessingRequest(request_headers=ext_proc.HttpHeaders(), attributes=attributes(**values))
    event = wire.decode(bytes(message))
    assert isinstance(event, RequestHeaders)
    return event


def test_the_connect_around_a_request_is_read_from_what_the_proxy_noted_of_it() -> None:
    event = headers_with({**NOTED, "source.address": "envoy://internal", "connection.requested_server_name": "a.b"})
    assert event.connect == CONNECT
    # The address of the inner connection is Envoy's own.
    assert event.client_address == "192.0.2.7:5555"
    assert event.server_name == "a.b"


def test_without_a_connect_the_address_is_the_connections_and_what_is_left_of_one_counts_for_nothing() -> None:
    found = headers_with({"source.address": "192.0.2.8:1", **dict(list(NOTED.items())[1:])})
    assert (found.connect, found.client_address, found.server_name) == (None, "192.0.2.8:1", "")


def test_a_connect_without_an_address_of_its_client_has_none() -> None:
    found = headers_with({"source.address": "envoy://internal", "filter_state['gateway.connect']": "d1 a.b:443"})
    assert found.connect == Connect("d1", "a.b:443", Secret(""))
    assert found.client_address is None


def test_the_authorization_of_a_connect_is_not_shown() -> None:
    assert BASIC not in repr(headers_with(NOTED))


# --- what we answer --------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)


def answered(reply: Reply) -> ext_proc.ProcessingResponse:
    return ext_proc.ProcessingResponse.parse(wire.encode(reply))


def mutated(mutation: ext_proc.HeaderMutation | None) -> tuple[list[tuple[str, str]], list[str]]:
    assert mutation is not None
    for option in mutation.set_headers:
        assert option.append_action is core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD
    pairs = [option.header for option in mutation.set_headers if option.header is not None]
    return [(pair.key, pair.raw_value.decode("latin-1")) for pair in pairs], list(mutation.remove_headers)


def our_metadata(response: ext_proc.ProcessingResponse) -> dict[str, Value]:
    assert response.dynamic_metadata is not None
    namespace = response.dynamic_metadata.fields[wire_writing.METADATA_NAMESPACE].struct_value
    assert namespace is not None
    return namespace.fields


@given(HEADERS, st.lists(NAMES, max_size=4))
def test_request_headers_are_overwritten_and_a_route_is_chosen_anew(
    headers: list[tuple[str, str]], remove: list[str]
) -> None:
    response = answered(PassRequestHeaders(headers, remove, "d1"))
    assert response.request_headers is not None
    common = response.request_headers.response
    assert common is not None
    assert mutated(common.header_mutation) == (headers, remove)
    assert common.clear_route_cache is True
    assert our_metadata(response) == {"decision_id": Value(string_value="d1")}


@given(HEADERS, st.lists(NAMES, max_size=4))
def test_response_headers_are_overwritten(headers: list[tuple[str, str]], remove: list[str]) -> None:
    response = answered(PassResponseHeaders(headers, remove))
    assert response.response_headers is not None
    common = response.response_headers.response
    assert common is not None
    assert mutated(common.header_mutation) == (headers, remove)
    assert common.clear_route_cache is False
    assert response.dynamic_metadata is None


@given(st.binary(max_size=100), st.booleans())
def test_bodies_are_streamed_responses(data: bytes, last: bool) -> None:  # noqa: FBT001
    for found in (
        answered(PassRequestBody(data, last)).request_body,
        answered(PassResponseBody(data, last)).response_body,
    ):
        assert found is not None
        assert found.response is not None
        assert found.response.body_mutation is not None
        piece = found.response.body_mutation.streamed_response
        assert piece is not None
        assert (piece.body, piece.end_of_stream) == (data, last)


def test_trailers_lose_the_named_fields() -> None:
    for found in (
        answered(PassRequestTrailers(["a", "b"])).request_trailers,
        answered(PassResponseTrailers(["a", "b"])).response_trailers,
    ):
        assert found is not None
        assert mutated(found.header_mutation) == ([], ["a", "b"])


def test_an_answer_of_ours_is_an_immediate_response_that_says_it_is_ours() -> None:
    response = answered(Respond(422, [("content-type", "application/json")], b"{}", "policy.denied", "d1"))
    immediate = response.immediate_response
    assert immediate is not None
    assert immediate.status is not None
    assert immediate.status.code == types.StatusCode.UnprocessableEntity
    assert mutated(immediate.headers) == ([("content-type", "application/json")], [])
    assert (immediate.body, immediate.details) == (b"{}", "policy.denied")
    assert our_metadata(response) == {"decision_id": Value(string_value="d1"), "answered": Value(bool_value=True)}


# --- Envoy's access log ----------------------------------------------------------------------------------------------


def log_message(*entries: log_data.HttpAccessLogEntry) -> bytes:
    logs = log_service.StreamAccessLogsMessageHttpAccessLogEntries(log_entry=list(entries))
    return bytes(log_service.StreamAccessLogsMessage(http_logs=logs))


def log_entry(flags: log_data.ResponseFlags | None, decision_id: str = "d1") -> log_data.HttpAccessLogEntry:
    ours = Struct(fields={"decision_id": Value(string_value=decision_id)})
    common = log_data.AccessLogCommon(
        response_flags=flags,
        metadata=core.Metadata(filter_metadata={wire_writing.METADATA_NAMESPACE: ours, "x": Struct()}),
    )
    return log_data.HttpAccessLogEntry(common_properties=common)


@pytest.mark.parametrize(
    ("flags", "end"),
    [
        (log_data.ResponseFlags(downstream_connection_termination=True), End.CLIENT),
        (log_data.ResponseFlags(downstream_remote_reset=True), End.CLIENT),
        (log_data.ResponseFlags(downstream_protocol_error=True), End.CLIENT),
        (log_data.ResponseFlags(downstream_remote_reset=True, upstream_remote_reset=True), End.CLIENT),
        (log_data.ResponseFlags(upstream_remote_reset=True), End.UPSTREAM),
        (log_data.ResponseFlags(upstream_connection_failure=True), End.UPSTREAM),
        (log_data.ResponseFlags(upstream_connection_termination=True), End.UPSTREAM),
        (log_data.ResponseFlags(upstream_protocol_error=True), End.UPSTREAM),
        (log_data.ResponseFlags(upstream_request_timeout=True), End.UPSTREAM),
        (log_data.ResponseFlags(stream_idle_timeout=True), End.TIMEOUT),
        (log_data.ResponseFlags(upstream_max_stream_duration_reached=True), End.TIMEOUT),
        (log_data.ResponseFlags(local_reset=True), End.ENVOY),
        (log_data.ResponseFlags(), End.ENVOY),
        (None, End.ENVOY),
    ],
)
def test_the_flags_of_a_log_entry_say_who_ended_the_exchange(flags: log_data.ResponseFlags | None, end: End) -> None:
    assert wire.decode_log(log_message(log_entry(flags))) == [("d1", Ended(end))]


def test_a_log_entry_says_how_much_went_through_a_tunnel() -> None:
    entry = log_entry(None)
    entry.request = log_data.HttpRequestProperties(request_body_bytes=1 << 40, request_headers_bytes=7)
    entry.response = log_data.HttpResponseProperties(response_body_bytes=5, response_headers_bytes=9)
    assert wire.decode_log(log_message(entry)) == [("d1", Ended(End.ENVOY, received=1 << 40, sent=5))]


def test_entries_that_never_met_us_are_left_out() -> None:
    stranger = log_data.HttpAccessLogEntry(common_properties=log_data.AccessLogCommon())
    ended = Ended(End.ENVOY)
    found = wire.decode_log(log_message(log_entry(None, "a"), stranger, log_entry(None, "b")))
    assert found == [("a", ended), ("b", ended)]


def test_a_log_message_without_entries_ends_nothing() -> None:
    assert wire.decode_log(log_message()) == []
    assert wire.decode_log(connections()) == []
    assert log_service.StreamAccessLogsResponse.parse(wire.ACCESS_LOG_REPLY) == log_service.StreamAccessLogsResponse()


@pytest.mark.parametrize("message", [b"\xff", b"\x12\x05a"])
def test_a_log_message_that_is_none_is_refused(message: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_log(message)


@given(st.binary(max_size=60))
def test_no_bytes_of_a_log_raise_anything_else(message: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode_log(message), list)


# In Envoy's own words.
UNKNOWN_CA = "TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:TLS_error_end"
RESET = "TLS_error:|33554536:system library:OPENSSL_internal:Connection reset by peer:TLS_error_end"
NO_TLS = UNKNOWN_CA.replace("TLSV1_ALERT_UNKNOWN_CA", "HTTP_REQUEST")
NO_VERSION = UNKNOWN_CA.replace("TLSV1_ALERT_UNKNOWN_CA", "UNSUPPORTED_PROTOCOL")
BOTH = "UNSUPPORTED_PROTOCOL TLSV1_ALERT_UNKNOWN_CA"
STATE = {name.removeprefix("filter_state['").removesuffix("']"): text for name, text in NOTED.items()}


def connection(reason: str, state: dict[str, str], tls: str = "TLSv1.3 4") -> log_data.TcpAccessLogEntry:
    packed = {name: envoy_api.Any.pack(StringValue(value=text)) for name, text in state.items()}
    common = log_data.AccessLogCommon(
        filter_state_objects=packed, downstream_transport_failure_reason=reason, custom_tags={"tls": tls}
    )
    return log_data.TcpAccessLogEntry(common_properties=common)


def connections(*entries: log_data.TcpAccessLogEntry) -> bytes:
    logs = log_service.StreamAccessLogsMessageTcpAccessLogEntries(log_entry=list(entries))
    return bytes(log_service.StreamAccessLogsMessage(tcp_logs=logs))


def test_a_client_that_does_not_know_our_authority_is_told_of_with_its_connect() -> None:
    expected = TlsFailed(CONNECT, "192.0.2.7:5555", "TLSV1_ALERT_UNKNOWN_CA")
    assert wire.decode_log(connections(connection(UNKNOWN_CA, STATE))) == [expected]


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (UNKNOWN_CA + RESET, "TLSV1_ALERT_UNKNOWN_CA"),
        (NO_TLS + RESET + NO_VERSION + UNKNOWN_CA, BOTH),
    ],
)
def test_of_what_failed_only_the_reasons_of_tls_are_kept(reason: str, said: str) -> None:
    (found,) = wire.decode_log(connections(connection(reason, STATE)))
    assert isinstance(found, TlsFailed)
    assert found.reason == said


@pytest.mark.parametrize("reason", ["", RESET, NO_TLS, UNKNOWN_CA.replace("TLSV1_ALERT_UNKNOWN_CA", "lower case")])
def test_a_connection_that_was_only_reset_or_spoke_plain_http_did_not_fail_for_its_tls(reason: str) -> None:
    assert wire.decode_log(connections(connection(reason, STATE))) == []


@pytest.mark.parametrize("reason", ["", RESET])
@pytest.mark.parametrize("tls", ["TLSv1.3 ", "TLSv1.2 -"])
def test_a_client_that_hung_up_once_it_had_our_certificate_is_told_of(reason: str, tls: str) -> None:
    (found,) = wire.decode_log(connections(connection(reason, STATE, tls)))
    assert found == TlsFailed(CONNECT, "192.0.2.7:5555", "the client hung up")


@pytest.mark.parametrize("tls", ["- -", " ", "", "TLSv1.2 0", "TLSv1.3 12"])
def test_a_client_that_hung_up_before_that_or_after_tls_was_agreed_on_did_not_fail(tls: str) -> None:
    assert wire.decode_log(connections(connection(RESET, STATE, tls))) == []


def test_a_failure_outside_any_connect_is_nobodys() -> None:
    without = {name: text for name, text in STATE.items() if name != "gateway.connect"}
    assert wire.decode_log(connections(connection(UNKNOWN_CA, without), connection(UNKNOWN_CA, {}))) == []


def test_state_that_is_no_string_is_passed_over() -> None:
    entry = connection(UNKNOWN_CA, STATE)
    assert entry.common_properties is not None
    entry.common_properties.filter_state_objects["gateway.client_address"] = envoy_api.Any.pack(Struct())
    (found,) = wire.decode_log(connections(entry))
    assert isinstance(found, TlsFailed)
    assert (found.connect, found.client_address) == (CONNECT, None)
