from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc._pb import ext_proc_pb2 as pb
from extproc.wire_writing import METADATA_NAMESPACE, body_reply, request_headers_reply, response_headers_reply

NAMES = st.text(st.characters(codec="utf-8"), max_size=20)
VALUES = st.one_of(
    st.text(st.characters(max_codepoint=0xFF), max_size=20),
    st.integers(100, 140).map(lambda size: "v" * size),
    st.integers(16_370, 16_400).map(lambda size: "v" * size),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=5)
# Around each size at which one more byte is needed to write it.
SIZES = [*range(3), *range(100, 140), *range(16_350, 16_400), *range(2_097_120, 2_097_160)]


def mutate(mutation: pb.HeaderMutation, set_headers: list[tuple[str, str]], remove: list[str]) -> None:
    mutation.SetInParent()
    for name, value in set_headers:
        option = mutation.set_headers.add()
        option.header.key = name
        option.header.raw_value = value.encode("latin-1")
        option.append_action = pb.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    mutation.remove_headers.extend(remove)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("end_of_stream", [False, True])
def test_pieces_of_bodies_are_written_as_the_library_does(size: int, end_of_stream: bool) -> None:  # noqa: FBT001
    data = b"x" * size
    for is_request in (False, True):
        response = pb.ProcessingResponse()
        reply = response.request_body if is_request else response.response_body
        piece = reply.response.body_mutation.streamed_response
        piece.body = data
        piece.end_of_stream = end_of_stream
        written = body_reply(data, end_of_stream=end_of_stream, is_request=is_request)
        assert written == response.SerializeToString()


@given(HEADERS, st.lists(NAMES, max_size=4))
def test_headers_of_responses_are_written_as_the_library_does(
    set_headers: list[tuple[str, str]], remove: list[str]
) -> None:
    response = pb.ProcessingResponse()
    mutate(response.response_headers.response.header_mutation, set_headers, remove)
    assert response_headers_reply(set_headers, remove) == response.SerializeToString()


@given(HEADERS, st.lists(NAMES, max_size=4), st.text(st.characters(codec="ascii"), max_size=200))
def test_headers_of_requests_are_written_as_the_library_does(
    set_headers: list[tuple[str, str]], remove: list[str], decision_id: str
) -> None:
    response = pb.ProcessingResponse()
    common = response.request_headers.response
    common.clear_route_cache = True
    mutate(common.header_mutation, set_headers, remove)
    namespace = response.dynamic_metadata.fields[METADATA_NAMESPACE].struct_value
    namespace.fields["decision_id"].string_value = decision_id
    assert request_headers_reply(set_headers, remove, decision_id) == response.SerializeToString()


def test_a_value_that_is_not_latin_1_is_not_written() -> None:
    with pytest.raises(UnicodeEncodeError):
        response_headers_reply([("x-name", "\u2192")], [])
