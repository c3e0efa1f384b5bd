from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.chat import ChatDialect
from extproc.errors import Code, Refusal
from extproc.events import Headers
from extproc.recording.document import Timing
from extproc.response import Body, HeldAnswer, Metadata, StreamedAnswer, body_for
from extproc.secret import Secret

CHAT = ChatDialect()
KEY = "gho_GatewayCredential0123456789"
SECRETS = (Secret(KEY),)
MASK = "[MASKED:gateway-credential]"


def answering(content_type: str | None, *extra: tuple[str, str]) -> Headers:
    return [*extra, *([] if content_type is None else [("content-type", content_type)])]


def chosen(headers: Headers, status: int = 200, *, metadata: bool = False) -> Body | Refusal:
    dialect = None if metadata else CHAT
    return body_for(headers, status, dialect, SECRETS, Timing(), max_bytes=10_000, max_event_bytes=1000)


def streamed(timing: Timing | None = None, *, max_bytes: int = 10_000, max_event_bytes: int = 1000) -> StreamedAnswer:
    return StreamedAnswer(CHAT, SECRETS, timing or Timing(), max_bytes=max_bytes, max_event_bytes=max_event_bytes)


def event(text: str, channel: str = "content", index: int = 0) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": index, "delta": {channel: text}}]}).encode() + b"\n\n"


# --- the choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "status", "kind"),
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
    ],
)
def test_a_model_answer_is_read_by_its_type(content_type: str | None, status: int, kind: type[object]) -> None:
    assert isinstance(chosen(answering(content_type), status), kind)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "text/event-stream", None])
@pytest.mark.parametrize("status", [200, 304, 404])
def test_metadata_passes_unread(content_type: str | None, status: int) -> None:
    assert isinstance(chosen(answering(content_type), status, metadata=True), Metadata)


@pytest.mark.parametrize(
    ("content_type", "status", "metadata"),
    [
        ("text/html", 200, False),
        ("text/html", 404, False),
        ("text/plain", 200, False),
        (None, 200, False),
        ("application/octet-stream", 200, False),
        ("text/html", 200, True),
        ("image/png", 200, True),
    ],
)
def test_any_other_type_is_refused(content_type: str | None, status: int, metadata: bool) -> None:  # noqa: FBT001
    refusal = chosen(answering(content_type), status, metadata=metadata)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (502, Code.UPSTREAM_CONTENT_TYPE)


@pytest.mark.parametrize(
    ("content_type", "shown"), [("text/html", "text/html"), (KEY, "something"), ("text/\x1b[31m", "something")]
)
def test_only_a_known_type_is_named_to_the_client(content_type: str, shown: str) -> None:
    refusal = chosen(answering(content_type))
    assert isinstance(refusal, Refusal)
    assert refusal.message == f"The upstream answered {shown} where JSON was expected."


def test_a_repeated_encoding_or_type_does_not_hide_the_first() -> None:
    found = chosen([*answering("application/json", ("content-encoding", "gzip")), ("content-encoding", "identity")])
    assert getattr(found, "code", None) is Code.UPSTREAM_ENCODED
    found = chosen([*answering("text/html"), ("content-type", "application/json")])
    assert getattr(found, "code", None) is Code.UPSTREAM_CONTENT_TYPE


@pytest.mark.parametrize("metadata", [False, True])
@pytest.mark.parametrize(
    ("encoding", "refused"), [("gzip", True), ("GZIP", True), ("br, identity", True), ("identity", False), ("", False)]
)
def test_compressed_answers_are_refused(encoding: str, refused: bool, metadata: bool) -> None:  # noqa: FBT001
    found = chosen(answering("application/json", ("content-encoding", encoding)), metadata=metadata)
    assert isinstance(found, Refusal) is refused
    assert not isinstance(found, Refusal) or found.code is Code.UPSTREAM_ENCODED


# --- held ------------------------------------------------------------------------------------------------------------

ANSWER = b'{"model":"m","choices":[{"index":0,"message":{"content":"hi"}}],"unknown":1.50}'


def test_a_held_answer_is_released_whole_and_byte_for_byte() -> None:
    held = HeldAnswer(CHAT, SECRETS, max_bytes=1000)
    assert held.feed(ANSWER[:10], 1.0) == b""
    assert held.feed(ANSWER[10:], 2.0) == b""
    assert held.answer() is None
    assert held.finish(3.0) == ANSWER
    answer = held.answer()
    assert answer is not None
    assert answer.choices[0].text == "hi"


def test_the_bound_of_a_held_answer_is_exact() -> None:
    held = HeldAnswer(CHAT, SECRETS, max_bytes=10)
    assert held.feed(b"x" * 10, 0.0) == b""
    assert getattr(held.feed(b"x", 0.0), "code", None) is Code.UPSTREAM_TOO_LARGE


def test_a_held_answer_that_is_not_one_is_refused_and_not_recorded() -> None:
    held = HeldAnswer(CHAT, SECRETS, max_bytes=1000)
    held.feed(b'{"error', 0.0)
    assert getattr(held.finish(0.0), "code", None) is Code.UPSTREAM_MALFORMED
    assert held.answer() is None


def test_the_text_of_an_error_is_kept_without_the_credential() -> None:
    held = HeldAnswer(None, SECRETS, max_bytes=1000)
    held.feed(f"no \xff {KEY[:5]}".encode("latin-1"), 0.0)
    held.feed(KEY[5:].encode(), 0.0)
    assert held.finish(0.0) == b"no \xff " + MASK.encode()
    answer = held.answer()
    assert answer is not None
    assert answer.error == f"no � {MASK}"


@pytest.mark.parametrize(
    "message",
    [
        {"content": KEY},
        {"reasoning_content": KEY},
        {"tool_calls": [{"id": "1", "function": {"name": "f", "arguments": KEY}}]},
    ],
)
def test_a_credential_in_escapes_withholds_the_answer(message: dict[str, object]) -> None:
    escaped = "".join(f"\\u{ord(char):04x}" for char in KEY)
    body = json.dumps({"choices": [{"index": 0, "message": message}]}).replace(KEY, escaped).encode()
    held = HeldAnswer(CHAT, SECRETS, max_bytes=10_000)
    held.feed(body, 0.0)
    assert getattr(held.finish(0.0), "code", None) is Code.UPSTREAM_ECHO
    assert held.answer() is None


# --- streamed --------------------------------------------------------------------------------------------------------


def test_a_stream_is_released_as_it_comes_and_its_rhythm_is_noted() -> None:
    timing = Timing()
    stream = streamed(timing)
    assert stream.feed(event("Hel"), 10.0) == event("Hel")
    half = event("lo")
    # Bytes of an event that is not complete are no danger, so they do not wait.
    assert stream.feed(half[:12], 20.0) == half[:12]
    assert stream.feed(half[12:], 30.0) == half[12:]
    assert stream.finish(40.0) == b""
    assert timing.pieces == [(10.0, "0.text", 3), (30.0, "0.text", 2)]
    answer = stream.answer()
    assert answer is not None
    assert (answer.choices[0].text, answer.complete) == ("Hello", False)


def test_what_could_begin_the_credential_waits_until_it_does_not() -> None:
    stream = streamed()
    assert stream.feed(event(KEY[:4]), 1.0) == b""
    assert stream.feed(event(KEY[4:9]), 2.0) == b""
    assert stream.feed(event("!"), 3.0) == event(KEY[:4]) + event(KEY[4:9]) + event("!")


def test_what_could_begin_the_credential_is_released_at_the_end() -> None:
    stream = streamed()
    assert stream.feed(event(KEY[:-1]), 1.0) == b""
    assert stream.finish(2.0) == event(KEY[:-1])


def test_channels_are_watched_each_on_its_own() -> None:
    stream = streamed()
    assert stream.feed(event(KEY[:9]), 1.0) == b""
    # The rest of the credential in another channel does not make it one.
    released = stream.feed(event(KEY[9:], "reasoning_content"), 2.0)
    assert released == event(KEY[:9]) + event(KEY[9:], "reasoning_content")
    assert stream.feed(event(KEY[9:], index=1), 3.0) == event(KEY[9:], index=1)
    assert stream.finish(4.0) == b""


@pytest.mark.parametrize("tail", [KEY[:1], KEY[:3]])
def test_a_channel_that_ends_like_a_common_word_holds_up_nothing(tail: str) -> None:
    stream = streamed()
    thought = event(f"thinkin{tail}", "reasoning_content")
    assert stream.feed(thought, 1.0) == thought
    assert stream.feed(event("the answer"), 2.0) == event("the answer")


def test_a_credential_in_json_escapes_cuts_the_stream_wherever_it_is_and_however_it_is_cut() -> None:
    spelled = "".join(f"\\u{ord(char):04x}" if at % 2 else char for at, char in enumerate(KEY))
    data = f'data: {{"error": {{"message": "bad token {spelled}"}}}}\n\n'.encode()
    for size in (1, 3, len(data)):
        stream = streamed()
        found = [stream.feed(data[at : at + size], 1.0) for at in range(0, len(data), size)]
        refusals = [one for one in found if isinstance(one, Refusal)]
        assert refusals
        assert refusals[0].code is Code.UPSTREAM_ECHO
        assert stream.answer() is None


def test_a_credential_in_json_escapes_cuts_metadata() -> None:
    spelled = "".join(f"\\u{ord(char):04X}" for char in KEY)
    body = Metadata([Secret(KEY)])
    assert getattr(body.feed(f'{{"token":"{spelled}"}}'.encode(), 1.0), "code", None) is Code.UPSTREAM_ECHO


@pytest.mark.parametrize("channel", ["content", "reasoning_content"])
def test_a_credential_over_several_events_cuts_the_stream_and_leaves_no_answer(channel: str) -> None:
    stream = streamed()
    assert stream.feed(event(KEY[:9], channel), 1.0) == b""
    assert getattr(stream.feed(event(KEY[9:], channel), 2.0), "code", None) is Code.UPSTREAM_ECHO
    assert stream.answer() is None


def test_a_credential_in_the_last_event_without_its_blank_line_cuts_the_stream() -> None:
    stream = streamed()
    assert stream.feed(event(KEY[:9]), 1.0) == b""
    assert stream.feed(event(KEY[9:]).rstrip(b"\n"), 2.0) == b""
    assert getattr(stream.finish(3.0), "code", None) is Code.UPSTREAM_ECHO


def test_the_bounds_of_a_stream_are_exact() -> None:
    stream = streamed(max_bytes=100)
    assert isinstance(stream.feed(b": " + b"x" * 98, 1.0), bytes)
    assert getattr(stream.feed(b"x", 1.0), "code", None) is Code.UPSTREAM_TOO_LARGE
    assert getattr(streamed(max_event_bytes=50).feed(b"x" * 51, 1.0), "code", None) is Code.UPSTREAM_TOO_LARGE


@given(st.data())
def test_wherever_a_stream_is_cut_it_comes_out_the_same_and_never_with_the_credential(data: st.DataObject) -> None:
    texts = st.lists(st.sampled_from(["hello ", KEY[:3], KEY[:12], "gho_", KEY, "x", "é\u2028"]), max_size=6)
    whole = b"".join(event(text) for text in data.draw(texts))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]
    stream, released = streamed(), b""
    found: list[bytes | Refusal] = [stream.feed(whole[edges[i] : edges[i + 1]], 0.0) for i in range(len(edges) - 1)]
    found.append(stream.finish(0.0))
    for one in found:
        if isinstance(one, Refusal):
            assert one.code is Code.UPSTREAM_ECHO
            break
        released += one
    else:
        assert released == whole.replace(KEY.encode(), MASK.encode())
    assert KEY.encode() not in released


# --- metadata --------------------------------------------------------------------------------------------------------


def test_metadata_passes_byte_for_byte_but_for_the_credential() -> None:
    body: Body = Metadata(SECRETS)
    assert body.feed(b"\x00\xff<html>", 0.0) == b"\x00\xff<html>"
    assert body.feed(KEY[:10].encode(), 0.0) == b""
    assert body.feed(KEY[10:].encode() + b"!", 0.0) == MASK.encode() + b"!"
    assert body.feed(KEY[:10].encode(), 0.0) == b""
    assert body.finish(0.0) == KEY[:10].encode()
    assert body.answer() is None
