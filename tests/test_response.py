from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Answer
from extproc.dialect.chat import ChatDialect
from extproc.encoding import decoder
from extproc.endpoint import MODEL_ENDPOINTS, EndpointKind
from extproc.errors import Code, Refusal
from extproc.events import Headers
from extproc.masking.finding import Action, Direction
from extproc.masking.masker import Masker
from extproc.masking.policy import MaskingPolicy, RuleSetPolicy
from extproc.recording.document import Timing
from extproc.response import MAX_RATIO, Body, Compressed, HeldAnswer, StreamedAnswer, TextAnswer, body_for
from extproc.rules import DIALECTS, STREAMING
from extproc.secret import Secret
from tests.detecting import masking

CHAT = ChatDialect()
KEY = "gho_GatewayCredential0123456789"
MASK = "[MASKED:gateway-credential]"
NPM = "npm_aB3dE5gH7jK9mN1pQ3sT5vW7xY9zA2cD4eF6"
MASKED_NPM = "[MASKED:npmjsaccesstoken]"
BLOCKING = MaskingPolicy((RuleSetPolicy("secrets", None, Action.MASK, Action.BLOCK),))


def masker(policy: MaskingPolicy | None = None) -> Masker:
    return masking(policy).masker(Direction.ANSWER, (Secret(KEY),))


def answering(content_type: str | None, *extra: tuple[str, str]) -> Headers:
    return [*extra, *([] if content_type is None else [("content-type", content_type)])]


def chosen(headers: Headers, status: int = 200, kind: EndpointKind = EndpointKind.CHAT) -> Body | Refusal:
    return body_for(
        headers, status, kind, DIALECTS[kind], masker(), timing=Timing(), max_bytes=10_000, max_event_bytes=1000
    )


def held(policy: MaskingPolicy | None = None, *, is_error: bool = False, max_bytes: int = 10_000) -> HeldAnswer:
    return HeldAnswer(CHAT, masker(policy), is_error=is_error, max_bytes=max_bytes)


def streamed(
    policy: MaskingPolicy | None = None,
    timing: Timing | None = None,
    *,
    max_bytes: int = 10_000,
    max_event_bytes: int = 1000,
) -> StreamedAnswer:
    timing = timing or Timing()
    return StreamedAnswer(CHAT, masker(policy), timing, max_bytes=max_bytes, max_event_bytes=max_event_bytes)


def event(text: str, channel: str = "content", index: int = 0) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": index, "delta": {channel: text}}]}).encode() + b"\n\n"


def answer_saying(text: str) -> bytes:
    return json.dumps({"model": "m", "choices": [{"index": 0, "message": {"content": text}}], "new": 1.5}).encode()


def answered(body: Body) -> Answer:
    answer = body.answer()
    assert answer is not None
    return answer


def code_of(result: bytes | Refusal) -> Code | None:
    return result.code if isinstance(result, Refusal) else None


# --- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "status", "expected"),
    [
        ("application/json", 200, HeldAnswer),
        ("application/json; charset=utf-8", 200, HeldAnswer),
        ("Application/JSON", 201, HeldAnswer),
        ("application/problem+json", 200, HeldAnswer),
        ("text/event-stream", 200, StreamedAnswer),
        ("text/event-stream; charset=utf-8", 200, StreamedAnswer),
        ("text/event-stream", 500, StreamedAnswer),
        ("application/json", 500, HeldAnswer),
        ("text/plain", 400, HeldAnswer),
        (None, 400, HeldAnswer),
        (None, 204, TextAnswer),
        (None, 304, TextAnswer),
    ],
)
@pytest.mark.parametrize("kind", [EndpointKind.CHAT, EndpointKind.MESSAGES])
def test_a_model_answer_is_read_by_its_type(
    content_type: str | None, status: int, expected: type[object], kind: EndpointKind
) -> None:
    assert isinstance(chosen(answering(content_type), status, kind), expected)


@pytest.mark.parametrize("kind", DIALECTS)
def test_only_endpoints_that_stream_may_answer_with_a_stream(kind: EndpointKind) -> None:
    found = chosen(answering("text/event-stream"), 200, kind)
    assert isinstance(found, StreamedAnswer if kind in STREAMING else Refusal)


@pytest.mark.parametrize("content_type", ["text/plain", "application/vnd.github.v3.diff; charset=utf-8", None])
@pytest.mark.parametrize("kind", DIALECTS)
def test_only_files_logs_and_tools_may_answer_with_plain_text(kind: EndpointKind, content_type: str | None) -> None:
    # An account's addresses are changed, for which it must be JSON.
    may = {EndpointKind.GITHUB, EndpointKind.MCP, EndpointKind.METADATA, EndpointKind.TELEMETRY}
    assert isinstance(chosen(answering(content_type), 200, kind), TextAnswer if kind in may else Refusal)


@pytest.mark.parametrize("kind", DIALECTS)
@pytest.mark.parametrize("status", [200, 304, 404])
@pytest.mark.parametrize("content_type", ["text/html", "image/png", "application/octet-stream"])
def test_any_other_type_is_refused(content_type: str, status: int, kind: EndpointKind) -> None:
    refusal = chosen(answering(content_type), status, kind)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (502, Code.UPSTREAM_CONTENT_TYPE)


@pytest.mark.parametrize(
    ("content_type", "shown"), [("text/html", "text/html"), (KEY, "something"), ("text/\x1b[31m", "something")]
)
def test_only_a_known_type_is_named_to_the_client(content_type: str, shown: str) -> None:
    refusal = chosen(answering(content_type))
    assert isinstance(refusal, Refusal)
    assert refusal.message == f"The upstream answered {shown} where JSON was expected."


def test_a_repeated_type_or_encoding_does_not_hide_the_first() -> None:
    found = chosen([*answering("text/html"), ("content-type", "application/json")])
    assert getattr(found, "code", None) is Code.UPSTREAM_CONTENT_TYPE
    found = chosen([*answering("application/json", ("content-encoding", "gzip")), ("content-encoding", "identity")])
    assert isinstance(found, Compressed)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("gzip", Compressed),
        ("GZIP", Compressed),
        ("br, identity", Compressed),
        ("identity", HeldAnswer),
        ("", HeldAnswer),
    ],
)
def test_a_compressed_answer_is_decoded(encoding: str, expected: type[object]) -> None:
    assert isinstance(chosen(answering("application/json", ("content-encoding", encoding))), expected)


@pytest.mark.parametrize("encoding", ["dcb", "gzip, gzip, gzip", "aes128gcm"])
def test_an_encoding_nobody_knows_is_refused(encoding: str) -> None:
    found = chosen(answering("application/json", ("content-encoding", encoding)))
    assert isinstance(found, Refusal)
    assert (found.status, found.code) == (502, Code.UPSTREAM_ENCODED)


def test_every_model_endpoint_that_streams_is_one_whose_answers_are_read() -> None:
    assert MODEL_ENDPOINTS | {EndpointKind.MCP} >= STREAMING


# --- held ------------------------------------------------------------------------------------------------------------


def test_a_held_answer_is_released_whole_and_byte_for_byte() -> None:
    body, whole = held(), answer_saying("hi there, all of you")
    assert body.holds
    assert body.feed(whole[:10], 1.0) == b""
    assert body.feed(whole[10:], 2.0) == b""
    assert body.held_bytes() == len(whole)
    assert body.answer() is None
    assert not body.passed_whole()
    assert body.finish(3.0) == whole
    assert answered(body).choices[0].text == "hi there, all of you"


def test_the_bound_of_a_held_answer_is_exact() -> None:
    body = held(max_bytes=10)
    assert body.feed(b"x" * 10, 0.0) == b""
    assert code_of(body.feed(b"x", 0.0)) is Code.UPSTREAM_TOO_LARGE


@pytest.mark.parametrize("spelled", [NPM, "".join(f"\\u{ord(char):04x}" for char in NPM)])
def test_a_secret_in_a_held_answer_is_masked_for_the_client_and_in_the_record(spelled: str) -> None:
    body = held()
    body.feed(answer_saying("use HERE now").replace(b"HERE", spelled.encode()), 0.0)
    released = body.finish(7.0)
    assert isinstance(released, bytes)
    assert json.loads(released)["choices"][0]["message"]["content"] == f"use {MASKED_NPM} now"
    assert json.loads(released)["new"] == 1.5
    assert answered(body).choices[0].text == f"use {MASKED_NPM} now"


@pytest.mark.parametrize(
    "message",
    [
        {"content": KEY},
        {"reasoning_content": f"so {KEY}"},
        {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": json.dumps({"k": KEY})}}]},
        {"unheard-of": {KEY: [KEY]}},
    ],
)
def test_the_gateways_credential_is_masked_wherever_it_is_and_however_it_is_spelled(message: dict[str, Any]) -> None:
    for spelled in (KEY, "".join(f"\\u{ord(char):04x}" for char in KEY)):
        body = held()
        text = json.dumps({"choices": [{"index": 0, "message": message}]})
        body.feed(text.replace(KEY, spelled).encode(), 0.0)
        released = body.finish(0.0)
        assert isinstance(released, bytes)
        assert MASK.encode() in released
        assert KEY not in json.dumps(json.loads(released))
        assert KEY not in repr(body.answer())


@pytest.mark.parametrize("broken", ['{"choices": "HERE', '{"thing": "HERE"}', '["HERE"]', "HERE", '{"a": "HERE", }'])
def test_a_held_answer_that_cannot_be_read_passes_as_masked_text_and_is_recorded_as_that(broken: str) -> None:
    body = held()
    body.feed(broken.replace("HERE", NPM).encode(), 0.0)
    expected = broken.replace("HERE", MASKED_NPM)
    released = body.finish(0.0)
    assert isinstance(released, bytes)
    assert released.decode().replace('":"', '": "') == expected
    assert answered(body).unparsed == [released.decode()]
    assert answered(body).complete


def whole(body: bytes, *, is_error: bool = False) -> bytes | Refusal:
    """Let an answer pass that something must be taken out of."""

    def amend(tree: Any) -> bool:
        tree["seen"] = True
        return True

    held_ = HeldAnswer(CHAT, masker(), is_error=is_error, max_bytes=10_000, amend=amend)
    held_.feed(body, 0.0)
    return held_.finish(0.0)


@pytest.mark.parametrize("body", [b"{", b'{"endpoints": {},}', b"\xef\xbb\xbf{", b'{"a": NaN}', b"\xff", b"[" * 9999])
def test_an_answer_that_nothing_could_be_taken_out_of_does_not_pass(body: bytes) -> None:
    refusal = whole(body)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (502, Code.UPSTREAM_CONTENT_TYPE)


@pytest.mark.parametrize("body", [b"{}", "\ufeff{}".encode(), "{}".encode("utf-16")])
def test_what_is_to_be_taken_out_of_an_answer_is_however_it_is_encoded(body: bytes) -> None:
    assert whole(body) == b'{"seen":true}'


def test_an_error_and_an_empty_answer_pass_although_nothing_can_be_taken_out_of_them() -> None:
    assert whole(b"not found", is_error=True) == b"not found"
    assert whole(b"") == b""


def test_bytes_that_are_no_text_pass_as_they_are() -> None:
    body = held()
    body.feed(b"\x00\xff\xfe", 0.0)
    assert body.finish(0.0) == b"\x00\xff\xfe"
    assert answered(body).unparsed == ["\x00��"]


def test_the_text_of_an_error_is_kept_masked() -> None:
    body = held(is_error=True)
    body.feed(f"no \xff {KEY[:5]}".encode("latin-1"), 0.0)
    body.feed(f"{KEY[5:]} and {NPM}".encode(), 0.0)
    assert body.finish(0.0) == b"no \xff " + f"{MASK} and {MASKED_NPM}".encode()
    assert answered(body).error == f"no � {MASK} and {MASKED_NPM}"


def test_a_held_answer_that_policy_blocks_is_refused() -> None:
    body = held(BLOCKING)
    body.feed(answer_saying(NPM), 0.0)
    refusal = body.finish(0.0)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (422, Code.MASKING_BLOCKED)
    assert "npmjsaccesstoken" in refusal.message
    assert NPM not in refusal.message + repr(body.answer())


def test_an_empty_body_was_not_looked_at_and_says_nothing() -> None:
    looking = masker()
    for body in (
        HeldAnswer(CHAT, looking, is_error=False, max_bytes=10),
        TextAnswer(looking, max_bytes=10),
        StreamedAnswer(CHAT, looking, Timing(), max_bytes=10, max_event_bytes=10),
    ):
        assert body.feed(b"", 0.0) == b""
        assert body.finish(0.0) == b""
        assert answered(body).unparsed is None
    assert not looking.ran


# --- streamed --------------------------------------------------------------------------------------------------------


def test_a_stream_is_released_event_by_event_and_its_rhythm_is_noted() -> None:
    timing = Timing()
    stream = streamed(timing=timing)
    assert not stream.holds
    assert stream.feed(event("Hel, "), 10.0) == event("Hel, ")
    half = event("lo. ")
    # What an event says is known when it is whole.
    assert stream.feed(half[:12], 20.0) == b""
    assert stream.feed(half[12:], 30.0) == half
    assert stream.feed(event("a ") + event("b ") + event("c ", "reasoning_content"), 35.0)
    assert stream.finish(40.0) == b""
    assert timing.pieces == [(10.0, "0.text", 5), (30.0, "0.text", 4), (35.0, "0.text", 4), (35.0, "0.reasoning", 2)]
    answer = stream.answer()
    assert (answer.choices[0].text, answer.complete) == ("Hel, lo. a b ", False)


def test_text_that_waits_is_noted_when_it_leaves() -> None:
    timing = Timing()
    stream = streamed(timing=timing)
    assert stream.feed(event(KEY[:9]), 10.0) == b""
    assert timing.pieces == []
    assert stream.feed(event(" is how it begins "), 20.0) == event(KEY[:9]) + event(" is how it begins ")
    assert timing.pieces == [(20.0, "0.text", 27)]


def test_how_long_masking_held_what_leaves_together_is_noted_by_its_oldest_event() -> None:
    timing = Timing()
    stream = streamed(timing=timing)
    stream.feed(event("Go "), 10.0)
    assert timing.held == [0.0]
    stream.feed(event(KEY[:5]), 100.0)
    stream.feed(event(KEY[5:9]), 150.0)
    # A comment leaves at once, and tells nothing of what waits.
    stream.feed(b": ping\n\n", 170.0)
    assert timing.held == [0.0]
    stream.feed(event(" ends it. "), 350.0)
    assert timing.held == [0.0, 0.25]
    stream.feed(event(KEY[:5]), 400.0)
    stream.finish(1400.0)
    assert timing.held == [0.0, 0.25, 1.0]


def test_what_is_kept_for_approval_is_not_held_by_masking() -> None:
    timing = Timing()
    stream = StreamedAnswer(
        CHAT, masker(), timing, max_bytes=100_000, max_event_bytes=10_000, is_privileged=lambda _: True
    )
    call = {"index": 0, "id": "c1", "function": {"name": "edit", "arguments": '{"path": "a.tf", "text": "x"}'}}
    proposed = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}).encode() + b"\n\n"
    assert stream.feed(proposed, 10.0) == b""
    ending = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
    assert stream.feed(b"data: " + json.dumps(ending).encode() + b"\n\ndata: [DONE]\n\n", 30.0) == b""
    assert stream.release(60_000.0)
    assert timing.held == [0.0, 0.0]


def test_what_could_begin_a_secret_is_released_at_the_end() -> None:
    stream = streamed()
    assert stream.feed(event(KEY[:-1]), 1.0) == b""
    assert stream.finish(2.0) == event(KEY[:-1])


@pytest.mark.parametrize("channel", ["content", "reasoning_content"])
@pytest.mark.parametrize(("secret", "mask"), [(KEY, MASK), (NPM, MASKED_NPM)])
def test_a_secret_over_several_events_is_masked_where_it_began(channel: str, secret: str, mask: str) -> None:
    stream = streamed()
    parts = [f"is {secret[:2]}", secret[2:9], secret[9:], " so"]
    released = [stream.feed(event(part, channel), 1.0) for part in parts]
    released.append(stream.finish(2.0))
    assert all(isinstance(one, bytes) for one in released)
    events = b"".join(one for one in released if isinstance(one, bytes)).split(b"\n\n")[:-1]
    texts = [json.loads(one.removeprefix(b"data: "))["choices"][0]["delta"][channel] for one in events]
    assert texts == [f"is {mask}", "", "", " so"]
    choice = stream.answer().choices[0]
    assert (choice.text or choice.reasoning) == f"is {mask} so"


def test_the_terminal_event_passes_last_and_then_the_client_has_all_there_is() -> None:
    stream = streamed()
    assert not stream.passed_whole()
    stream.feed(event(KEY[:9]) + b"data: [DONE]\n\n", 1.0)
    assert stream.passed_whole()
    assert stream.finish(2.0) == b""


def test_a_client_that_waits_for_an_undecided_text_has_not_all_there_is() -> None:
    stream = streamed()
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    stream.feed(b"data: " + json.dumps(finish).encode() + b"\n\n", 1.0)
    assert stream.passed_whole()
    stream.feed(event(KEY[:9]), 2.0)
    assert not stream.passed_whole()


def test_a_stream_that_policy_blocks_ends_as_the_dialect_ends_and_nothing_follows() -> None:
    stream = streamed(BLOCKING)
    assert stream.feed(event("fine, "), 1.0) == event("fine, ")
    ending = stream.feed(event(f"{NPM} "), 2.0)
    assert isinstance(ending, bytes)
    assert ending.endswith(b"data: [DONE]\n\n")
    assert b"npmjsaccesstoken" in ending
    assert NPM.encode() not in ending
    assert stream.passed_whole()
    assert stream.feed(event("more "), 3.0) == stream.finish(4.0) == b""
    assert stream.answer().choices[0].text == "fine, "


def test_the_bounds_of_a_stream_are_exact() -> None:
    stream = streamed(max_bytes=100)
    assert isinstance(stream.feed(b": " + b"x" * 98, 1.0), bytes)
    assert code_of(stream.feed(b"x", 1.0)) is Code.UPSTREAM_TOO_LARGE
    assert code_of(streamed(max_event_bytes=50).feed(b"x" * 51, 1.0)) is Code.UPSTREAM_TOO_LARGE


@given(st.data())
def test_wherever_a_stream_is_cut_it_comes_out_the_same_and_never_with_a_secret(data: st.DataObject) -> None:
    texts = st.lists(
        st.sampled_from(["hello ", KEY[:3], KEY[:12], KEY[12:], "gho_", KEY, NPM, "x", "é\u2028"]), max_size=6
    )
    whole = b"".join(event(text) for text in data.draw(texts))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]

    def released(parts: list[bytes]) -> bytes:
        stream = streamed()
        found = [*(stream.feed(part, 0.0) for part in parts), stream.finish(0.0)]
        return b"".join(one for one in found if isinstance(one, bytes))

    passed = released([whole[edges[at] : edges[at + 1]] for at in range(len(edges) - 1)])
    assert passed == released([whole])
    said = "".join(
        json.loads(one.removeprefix(b"data: "))["choices"][0]["delta"]["content"] for one in passed.split(b"\n\n")[:-1]
    )
    assert KEY not in said
    assert NPM not in said


# --- text ------------------------------------------------------------------------------------------------------------


def test_text_passes_word_by_word_masked_and_is_kept() -> None:
    looking = masker()
    body = TextAnswer(looking, max_bytes=1000)
    assert not body.holds
    assert body.feed(b"+ see ", 1.0) == b"+ see "
    assert body.feed(NPM[:10].encode(), 2.0) == b""
    assert body.feed(f"{NPM[10:]}\n".encode(), 3.0) == f"{MASKED_NPM}\n".encode()
    assert body.feed(KEY.encode(), 4.0) == b""
    assert body.finish(5.0) == MASK.encode()
    assert answered(body).unparsed == [f"+ see {MASKED_NPM}\n{MASK}"]
    assert not body.passed_whole()
    assert [(one.rule, one.where, one.at) for one in looking.findings] == [
        ("npmjsaccesstoken", "body", 3.0),
        ("gateway-credential", "body", 5.0),
    ]


@given(st.lists(st.integers(0, 60), max_size=6))
def test_text_that_needs_no_change_passes_byte_for_byte_however_it_is_cut(cuts: list[int]) -> None:
    whole = "caf\u00e9 \u4e16\u754c ".encode() + b"\xff\x00 diff --git a/x b/x\r\n+ word\n \xc3"
    edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    body = TextAnswer(masker(), max_bytes=1000)
    parts = [body.feed(whole[edges[at] : edges[at + 1]], 0.0) for at in range(len(edges) - 1)]
    assert b"".join(part for part in [*parts, body.finish(0.0)] if isinstance(part, bytes)) == whole


def test_text_that_policy_blocks_is_refused_before_the_secret() -> None:
    body = TextAnswer(masker(BLOCKING), max_bytes=1000)
    assert body.feed(b"fine ", 1.0) == b"fine "
    assert code_of(body.feed(f"{NPM} ".encode(), 2.0)) is Code.MASKING_BLOCKED
    assert answered(body).unparsed == ["fine "]


def test_the_bound_of_text_is_exact() -> None:
    body = TextAnswer(masker(), max_bytes=10)
    assert isinstance(body.feed(b"x" * 10, 0.0), bytes)
    assert code_of(body.feed(b"x", 0.0)) is Code.UPSTREAM_TOO_LARGE


# --- compressed ------------------------------------------------------------------------------------------------------


def compressed(body: Body, *, max_bytes: int = 10_000_000) -> Compressed:
    decoding = decoder("gzip", max_ratio=MAX_RATIO, max_bytes=max_bytes)
    assert decoding is not None
    return Compressed(body, decoding)


def test_a_compressed_answer_is_released_decoded_and_masked() -> None:
    body = compressed(held())
    assert body.holds
    packed = gzip.compress(answer_saying(f"it is {NPM}"))
    assert body.feed(packed[:20], 1.0) == body.feed(packed[20:], 2.0) == b""
    assert body.held_bytes() == len(answer_saying(f"it is {NPM}"))
    released = body.finish(3.0)
    assert isinstance(released, bytes)
    assert json.loads(released)["choices"][0]["message"]["content"] == f"it is {MASKED_NPM}"
    assert answered(body).choices[0].text == f"it is {MASKED_NPM}"
    assert not body.passed_whole()


def test_a_compressed_stream_stays_a_stream() -> None:
    body = compressed(streamed())
    assert not body.holds
    packing = zlib.compressobj(wbits=31)
    first = packing.compress(event("one ")) + packing.flush(zlib.Z_SYNC_FLUSH)
    assert body.feed(first, 1.0) == event("one ")
    last = packing.compress(b"data: [DONE]\n\n") + packing.flush()
    assert body.feed(last, 2.0) == b"data: [DONE]\n\n"
    assert body.passed_whole()
    assert body.finish(3.0) == b""


@pytest.mark.parametrize("spoil", ["cut", "garbage", "trailing"])
def test_a_compressed_answer_that_is_not_whole_is_refused(spoil: str) -> None:
    packed = gzip.compress(answer_saying("hello"))
    wire = {"cut": packed[:-9], "garbage": b"no gzip at all", "trailing": packed + b"more"}[spoil]
    body = compressed(held())
    result = body.feed(wire, 0.0)
    result = body.finish(0.0) if result == b"" else result
    assert code_of(result) is Code.UPSTREAM_ENCODED
    assert body.answer() is None


def test_a_compressed_answer_that_grows_without_measure_is_refused() -> None:
    result = compressed(held(max_bytes=100_000_000)).feed(gzip.compress(b"\0" * 8_000_000), 0.0)
    assert code_of(result) is Code.UPSTREAM_ENCODED
