"""Header blocks mean what RFC 7541 says, with the cache and without, and requests are checked."""

from __future__ import annotations

from urllib.parse import unquote

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.carrier import Status
from extproc.http2 import headers
from extproc.http2.frames import ConnectionFault, ErrorCode
from extproc.http2.headers import Blocks, Malformed

REQUEST = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a.B/C"),
    (b":authority", b"ext_proc"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
]


def changed(**values: bytes | None) -> list[tuple[bytes, bytes]]:
    """Return the request with pseudo-header fields changed or, where None, taken out."""
    new = {f":{name}".encode(): value for name, value in values.items()}
    kept = [(name, new.get(name, value)) for name, value in REQUEST]
    return [(name, value) for name, value in kept if value is not None]


def test_a_request_is_read() -> None:
    request = headers.request_of([*REQUEST, (b"x-twice", b"1"), (b"x-twice", b"2"), (b"content-length", b"12")])
    assert (request.method, request.path, request.content_type) == ("POST", "/a.B/C", "application/grpc")
    assert request.content_length == 12
    assert request.metadata["x-twice"] == "2"
    assert ":path" not in request.metadata


@pytest.mark.parametrize(
    "fields",
    [
        changed(method=None),
        changed(scheme=None),
        changed(path=None),
        changed(path=b""),
        changed(path=b"no-slash"),
        changed(path=b"*"),
        changed(method=b"CONNECT"),
        [*REQUEST, (b":method", b"POST")],
        [*REQUEST[:5], (b":status", b"200")],
        [REQUEST[4], *REQUEST[:4]],
        [(b":path", b"/a"), *REQUEST],
        *([*REQUEST, one] for one in [(b"Upper", b""), (b"", b""), (b"a b", b""), (b"a:b", b""), (b"\x80", b"")]),
        *([*REQUEST, (b"x", one)] for one in [b"a\0", b"a\rb", b"\n", b" a", b"a\t"]),
        *([*REQUEST, (one, b"")] for one in [b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"]),
        [*REQUEST, (b"te", b"gzip")],
        [*REQUEST, (b"host", b"another")],
        [*REQUEST, (b"content-length", b"1"), (b"content-length", b"2")],
        [*REQUEST, (b"content-length", b"-1")],
        [*REQUEST, (b"content-length", b"1" * 5000)],
    ],
)
def test_a_malformed_request_is_refused(fields: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Malformed):
        headers.request_of(fields)


def test_trailers_have_no_pseudo_header_fields() -> None:
    headers.check_trailers([(b"x", b"1")])
    with pytest.raises(Malformed):
        headers.check_trailers([(b":path", b"/")])


def test_the_same_block_is_decoded_once() -> None:
    encoder, blocks = hpack.Encoder(), Blocks()
    first, second = encoder.encode(REQUEST), encoder.encode(REQUEST)
    request = blocks.request(first)
    again = blocks.request(second)
    assert again == request
    assert blocks.request(encoder.encode(REQUEST)) is again


def test_a_block_means_something_else_once_the_table_has_changed() -> None:
    blocks = Blocks()
    blocks.decode(hpack.Encoder().encode([(b"x-one", b"1")]))
    # What is not indexed, and field 62: the newest entry of the table.
    block = b"\x83\x86\x04\x02/a\xbe"
    known = blocks.request(block)
    assert blocks.request(block) is known
    assert dict(known.metadata) == {"x-one": "1"}
    blocks.decode(hpack.Encoder().encode([(b"x-two", b"2")]))
    assert dict(blocks.request(block).metadata) == {"x-two": "2"}


def test_a_change_of_the_tables_size_ends_what_was_known() -> None:
    encoder, blocks = hpack.Encoder(), Blocks()
    blocks.request(encoder.encode(REQUEST))
    block = encoder.encode(REQUEST)
    blocks.request(block)
    blocks.decode(b"\x20\x82")
    with pytest.raises(ConnectionFault) as raised:
        blocks.request(block)
    assert raised.value.code == ErrorCode.COMPRESSION_ERROR


def test_a_table_that_shrinks_keeps_its_newest_field_only() -> None:
    blocks = Blocks()
    blocks.decode(hpack.Encoder().encode([(b"x-one", b"1"), (b"x-two", b"2")]))
    # What is not indexed, and field 63: the older one.
    block = b"\x83\x86\x04\x02/a\xbf"
    assert dict(blocks.request(block).metadata) == {"x-one": "1"}
    blocks.decode(b"\x3f\x09\x82")
    assert dict(blocks.request(block[:-1] + b"\xbe").metadata) == {"x-two": "2"}
    with pytest.raises(ConnectionFault):
        blocks.request(block)


NAMES = st.sampled_from([b"x-a", b"x-b", b"x-c", b"x-long" + bytes([97]) * 2000])
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b"", b"1", b"2", b"v" * 1500]), st.booleans()), max_size=4)


@given(st.lists(st.tuples(FIELDS, st.sampled_from([None, None, None, 0, 100, 4096])), max_size=30))
def test_the_cache_never_changes_what_a_block_means(
    requests: list[tuple[list[tuple[bytes, bytes, bool]], int]],
) -> None:
    encoder, blocks, plain = hpack.Encoder(), Blocks(), hpack.Decoder()
    for fields, size in requests:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode([*REQUEST, *fields])
        expected = headers.request_of([(name, value) for name, value in plain.decode(block, raw=True)])
        assert blocks.request(block) == expected


@given(st.binary(max_size=100))
def test_any_bytes_are_a_block_or_a_fault(block: bytes) -> None:
    blocks = Blocks()
    for _ in range(2):
        try:
            blocks.request(block)
        except (ConnectionFault, Malformed):
            return


def test_a_header_list_that_is_too_large_is_a_fault() -> None:
    encoder, blocks = hpack.Encoder(), Blocks()
    blocks.decode(encoder.encode([(b"x", b"v" * 3000)]))
    with pytest.raises(ConnectionFault) as raised:
        blocks.decode(encoder.encode([(b"x", b"v" * 3000)]) * 6)
    assert raised.value.code == ErrorCode.ENHANCE_YOUR_CALM


def read(block: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in hpack.Decoder().decode(block)}


def test_responses_need_no_table() -> None:
    block = headers.NO_TABLE + headers.RESPONSE + headers.OK
    assert read(block) == {":status": "200", "content-type": "application/grpc", "grpc-status": "0"}
    decoder = hpack.Decoder()
    decoder.decode(block)
    assert len(decoder.header_table.dynamic_entries) == 0
    assert read(headers.METHOD_NOT_ALLOWED) == {":status": "405", "allow": "POST"}
    assert read(headers.UNSUPPORTED_MEDIA_TYPE) == {":status": "415"}


@given(st.sampled_from(Status), st.text(max_size=400))
def test_a_status_that_is_not_ok_arrives_with_its_text_and_never_as_ok(status: Status, text: str) -> None:
    got = read(headers.trailers(status, text))
    assert got["grpc-status"] == str(int(status) or 13)
    assert unquote(got["grpc-message"]) == text[:256].encode(errors="replace").decode()
