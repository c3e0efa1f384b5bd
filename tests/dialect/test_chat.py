from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Piece, Prompt
from extproc.dialect.chat import ChatDialect
from extproc.dialect.port import BadAnswer, BadRequest, Dialect
from extproc.errors import Code, Refusal
from tests.streaming import channels, events_of, play

DIALECT: Dialect = ChatDialect()
GOLDEN = Path(__file__).parents[1] / "golden" / "chat"
STREAMS = sorted(path.name for path in GOLDEN.glob("*.sse"))
ANSWERS = sorted(path.name for path in GOLDEN.glob("*.json"))
NOTICE = "The gateway ended this answer."


def golden(name: str) -> tuple[bytes, Any]:
    return (GOLDEN / name).read_bytes(), json.loads((GOLDEN / f"{name}.expected").read_bytes())


def run(*chunks: bytes) -> dict[str, Any]:
    stream = DIALECT.stream()
    readings, pieces = play(stream, *chunks)
    return {
        "channels": channels(readings),
        "closes": [name for reading in readings for name in reading.closes],
        "pieces": [[piece.channel, piece.text] for piece in pieces],
        "answer": asdict(stream.answer()),
    }


def joined(pieces: list[list[str]]) -> dict[str, str]:
    texts: dict[str, str] = {}
    for channel, text in pieces:
        texts[channel] = texts.get(channel, "") + text
    return texts


MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "ls?"}], "name": "alice"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "function": {"name": "bash", "arguments": "{}"}}],
    },
    {"role": "assistant"},
]
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]


def test_a_request_is_read_as_it_was_sent() -> None:
    body = json.dumps({"model": "gpt-4.1", "messages": MESSAGES, "tools": TOOLS, "stream": True, "n": 1}).encode()
    assert DIALECT.parse_request(body) == Prompt("gpt-4.1", MESSAGES, TOOLS, stream=True)


@pytest.mark.parametrize("rest", ["", ',"tools":null,"stream":null', ',"tools":[],"stream":false'])
def test_tools_and_stream_may_be_missing_or_null(rest: str) -> None:
    body = f'{{"model":"m","messages":[{{"role":"user","content":"hi"}}]{rest}}}'.encode()
    assert DIALECT.parse_request(body) == Prompt("m", [{"role": "user", "content": "hi"}], [], stream=False)


def test_a_request_of_the_copilot_cli_is_read_as_its_golden_says() -> None:
    body, expected = golden("cli_second_turn.request")
    assert asdict(DIALECT.parse_request(body)) == expected


def request(**changes: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "SECRET"}], **changes}).encode()


BAD_REQUESTS = {
    "an empty body": (b"", "the body is empty; expected a JSON object"),
    "two models": (b'{"model":"a","messages":[{"role":"user"}],"model":"b"}', "the body has a top-level field twice"),
    "no model": (b'{"messages":[{"role":"user"}]}', "model: expected a non-empty string"),
    "an empty model": (request(model=""), "model: expected a non-empty string"),
    "a model that is a number": (request(model=4), "model: expected a non-empty string"),
    "no messages": (b'{"model":"m"}', "messages: expected a non-empty list of objects"),
    "empty messages": (request(messages=[]), "messages: expected a non-empty list of objects"),
    "messages as an object": (request(messages={"a": 1}), "messages: expected a non-empty list of objects"),
    "a message that is a string": (request(messages=["SECRET"]), "messages[0]: expected an object"),
    "a message without a role": (
        request(messages=[{"role": "user"}, {"content": "SECRET"}]),
        "messages[1].role: expected a string",
    ),
    "a role that is null": (request(messages=[{"role": None}]), "messages[0].role: expected a string"),
    "content that is an object": (
        request(messages=[{"role": "user", "content": {"text": "SECRET"}}]),
        "messages[0].content: expected a string, a list of parts or null",
    ),
    "content that is a number": (
        request(messages=[{"role": "user", "content": 0}]),
        "messages[0].content: expected a string, a list of parts or null",
    ),
    "tools as an object": (request(tools={"name": "SECRET"}), "tools: expected a list of objects"),
    "a tool that is a string": (request(tools=["SECRET"]), "tools: expected a list of objects"),
    "stream as a string": (request(stream="true"), "stream: expected true or false"),
    "stream as a number": (request(stream=1), "stream: expected true or false"),
}


@pytest.mark.parametrize(("body", "message"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused_with_the_field_and_the_type_it_needs(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


def test_the_goldens_are_there() -> None:
    assert (len(STREAMS), len(ANSWERS)) == (12, 4)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_json_answer_says_what_its_golden_says(name: str) -> None:
    body, expected = golden(name)
    assert asdict(DIALECT.parse_answer(body)) == expected["answer"]


BAD_ANSWERS = {
    "empty": (b"", "the answer: Input data was truncated"),
    "not JSON": (b"Bad gateway SECRET", "the answer: JSON is malformed: invalid character (byte 0)"),
    "a list": (b'["SECRET"]', "the answer: Expected `object`, got `array`"),
    "nothing but white space": (b" ", "the answer: Input data was truncated"),
    "a number out of range": (
        b'{"choices":[],"x":1e999}',
        "the answer: Number out of range - at `$[...]`",
    ),
    "not UTF-8": (b'{"choices":[],"x":"\xff"}', "the answer is not UTF-8"),
    "too deep": (b'{"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}", "the answer is nested too deeply"),
    "an unexpected type": (
        b'{"choices":[{"message":{"content":["SECRET"]}}]}',
        "the answer: Expected `object`, got `str` - at `$.choices[0].message.content[0]`",
    ),
    "nothing known": (
        b'{"message":"SECRET"}',
        "the answer has neither choices nor an error, or too many choices or tool calls",
    ),
}


@pytest.mark.parametrize(("body", "message"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_json_answer_that_is_not_understood_is_refused_without_quoting_it(body: bytes, message: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        DIALECT.parse_answer(body)
    assert str(refused.value) == message


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_answer_says_what_its_golden_says(name: str) -> None:
    data, expected = golden(name)
    assert run(data) == expected


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("step", [1, 2, 3, 64])
def test_a_streamed_answer_is_the_same_in_any_chunks_with_any_line_ends(name: str, line_end: bytes, step: int) -> None:
    data = golden(name)[0].replace(b"\n", line_end)
    chunks = [data[at : at + step] for at in range(0, len(data), step)]
    assert run(*chunks) == run(golden(name)[0])


EVENTS = st.sampled_from(
    [event + b"\n\n" for name in STREAMS for event in golden(name)[0].split(b"\n\n") if event]
    + [
        b"data:\n\n",
        b"data: \xff\xfe\n\n",
        b'data: {"choices":[{"delta":{"content":"\xc3"}}]}\n\n',
        b'data: {"choices":[{"index":2,\ndata: "delta":{"content":"x"}}]}\n\n',
        b'event: error\ndata: {"error":"e"}\n\n',
        b"data: [DONE] \n\n",
    ]
)


@given(st.lists(st.one_of(EVENTS, EVENTS, st.binary(max_size=20)), max_size=8), st.lists(st.integers(min_value=0)))
def test_what_is_gathered_never_depends_on_where_chunks_are_cut(events: list[bytes], positions: list[int]) -> None:
    data = b"".join(events)
    edges = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    gathered = run(*(data[start:end] for start, end in itertools.pairwise(edges)))
    assert gathered == run(data)
    said, answer = joined(gathered["pieces"]), gathered["answer"]
    for choice in answer["choices"]:
        assert said.get(f"{choice['index']}.text", "") == choice["text"]
        assert said.get(f"{choice['index']}.reasoning", "") == choice["reasoning"]
        for position, call in enumerate(choice["tool_calls"]):
            assert said[f"{choice['index']}.tool.{position}"] == call["arguments"]
    unparsed = [text for channel, text in gathered["pieces"] if channel.endswith("unparsed")]
    assert unparsed == (answer["unparsed"] or [])


@given(st.lists(st.binary()))
def test_no_bytes_make_a_stream_fail(chunks: list[bytes]) -> None:
    run(*chunks)


def test_an_event_nested_deeper_than_can_be_written_is_recorded_as_unparsed() -> None:
    tree: dict[str, Any] = {}
    for _ in range(99_999):
        tree = {"x": tree}
    stream = DIALECT.stream()
    assert stream.read("message", tree).slots == []
    assert stream.take("message", tree) == [Piece("0.tool.unparsed", "(nested too deeply)")]
    assert stream.take("message", {"error": tree}) == []
    assert (stream.answer().error, stream.answer().unparsed) == ("(nested too deeply)", ["(nested too deeply)"])


def test_the_answer_can_be_asked_for_at_any_moment_and_earlier_ones_do_not_change() -> None:
    stream = DIALECT.stream()
    play(stream, b'data: {"choices":[{"delta":{"content":"a"}}]}\n\ndata: x\n\n')
    early = stream.answer()
    play(stream, b'data: {"choices":[{"delta":{"content":"b"}}]}\n\ndata: y\n\ndata: [DONE]\n\n')
    assert (early.choices[0].text, early.unparsed, early.complete) == ("a", ["x"], False)
    late = stream.answer()
    assert (late.choices[0].text, late.unparsed, late.complete) == ("ab", ["x", "y"], True)


def test_what_is_read_ahead_is_not_in_the_answer_before_it_is_taken() -> None:
    stream = DIALECT.stream()
    stream.read("message", {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]})
    assert stream.answer() == DIALECT.stream().answer()


@pytest.mark.parametrize("name", STREAMS)
def test_an_ending_completes_the_stream_after_every_event_with_the_text_last(name: str) -> None:
    given_events = [event.raw for event in events_of([golden(name)[0]])]
    for count in range(len(given_events) + 1):
        before = b"".join(given_events[:count])
        stream = DIALECT.stream()
        play(stream, before)
        # The last event may have come without its blank line.
        after = run(before + b"\n\n" + stream.ending(NOTICE))
        ended = [choice.index for choice in stream.answer().choices if choice.finish_reason is None] or [0]
        assert after["answer"]["complete"]
        assert after["pieces"][-1] == [f"{ended[-1]}.text", NOTICE]
        choices = {choice["index"]: choice for choice in after["answer"]["choices"]}
        for index in ended:
            assert choices[index]["text"].endswith(NOTICE)
            assert choices[index]["finish_reason"] == "stop"
        assert all(choice["finish_reason"] for choice in choices.values())
        assert after["answer"]["unparsed"] == run(before)["answer"]["unparsed"]


def test_an_ending_leaves_no_tool_call_that_could_be_run() -> None:
    data, _ = golden("cut_call.sse")
    stream = DIALECT.stream()
    play(stream, data)
    calls = [call for choice in run(data, stream.ending(NOTICE))["answer"]["choices"] for call in choice["tool_calls"]]
    assert [(call["id"], call["name"]) for call in calls] == [("call_a", "bash"), ("call_b", "create"), ("", "legacy")]
    for call in calls:
        with pytest.raises(json.JSONDecodeError):
            json.loads(call["arguments"])


def test_the_events_of_an_ending_have_the_form_of_the_last_one() -> None:
    stream = DIALECT.stream()
    play(stream, golden("plain.sse")[0].partition(b" Gott")[0].rpartition(b"data:")[0])
    play(stream, b'data: {"error":"e"}\n\n')
    shared = {"id": "chatcmpl-7d1", "object": "chat.completion.chunk", "created": 1767225600}
    expected = [
        {"choices": [{"index": 0, "delta": {"content": NOTICE}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    ]
    said, finish, done = [event.data for event in events_of([stream.ending(NOTICE)])]
    assert [json.loads(data or b"") for data in (said, finish)] == [
        {**shared, "model": "gpt-4.1-2025-04-14", **event} for event in expected
    ]
    assert done == b"[DONE]"


def test_an_ending_before_the_first_event_opens_the_first_choice() -> None:
    said, _, _ = [event.data for event in events_of([DIALECT.stream().ending(NOTICE)])]
    assert json.loads(said or b"") == {
        "id": "",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": NOTICE}, "finish_reason": None}],
    }


def test_odd_members_of_an_event_are_not_repeated_in_an_ending() -> None:
    stream = DIALECT.stream()
    stream.take("message", {"id": 7, "object": [], "created": True, "model": "m", "choices": []})
    said = json.loads(events_of([stream.ending(NOTICE)])[0].data or b"")
    assert (said["id"], said["object"], said["created"], said["model"]) == ("", "chat.completion.chunk", 0, "m")


def test_a_whole_answer_is_left_as_it_is() -> None:
    tree = {"choices": [], "endpoints": {"api": "https://api.example"}}
    assert DIALECT.amend(tree) is False
    assert tree == {"choices": [], "endpoints": {"api": "https://api.example"}}


def test_no_text_that_a_person_or_a_tool_reads_is_opaque() -> None:
    texts = {"content", "text", "name", "arguments", "input", "refusal", "reasoning_text", "thinking", "description"}
    assert not DIALECT.opaque & texts
    assert DIALECT.opaque >= {"id", "tool_call_id", "reasoning_opaque", "encrypted_content", "signature"}
    assert DIALECT.json_texts == {"arguments"}


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "invalid_request_error"), (422, "invalid_request_error"), (503, "server_error")]
)
def test_a_refusal_is_an_error_object_of_the_api(status: int, kind: str) -> None:
    body = DIALECT.error_body(Refusal(status, Code.POLICY_DENIED, 'No "chat" für you.'), "d-1")
    assert json.loads(body) == {
        "error": {
            "message": 'No "chat" für you.',
            "type": kind,
            "code": "policy.denied",
            "param": None,
            "decision_id": "d-1",
        }
    }
