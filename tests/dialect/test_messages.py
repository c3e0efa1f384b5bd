from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Prompt
from extproc.dialect.messages import MAX_CHANNELS, MessagesDialect
from extproc.dialect.port import BadAnswer, BadRequest, Dialect, Form, Reading
from extproc.errors import Code, Refusal
from tests.streaming import channels, events_of, play

DIALECT: Dialect = MessagesDialect()
GOLDEN = Path(__file__).parents[1] / "golden" / "messages"
STREAMS = sorted(path.name for path in GOLDEN.glob("*.sse"))
ANSWERS = sorted(path.name for path in GOLDEN.glob("*.json"))
REQUESTS = sorted(path.name for path in GOLDEN.glob("requests/*.json"))


def golden(name: str) -> tuple[bytes, Any]:
    return (GOLDEN / name).read_bytes(), json.loads((GOLDEN / f"{name}.expected").read_bytes())


def run(*chunks: bytes) -> dict[str, Any]:
    stream = DIALECT.stream()
    readings, pieces = play(stream, *chunks)
    return {
        "channels": channels(readings),
        "pieces": [[piece.channel, piece.text] for piece in pieces],
        "answer": asdict(stream.answer()),
    }


def event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def read(kind: str, **members: object) -> Reading:
    return DIALECT.stream().read(kind, {"type": kind, **members})


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_the_copilot_cli_is_read_as_it_was_sent_with_the_system_prompt_first(name: str) -> None:
    body = (GOLDEN / "requests" / name).read_bytes()
    sent = json.loads(body)
    messages = [{"role": "system", "content": sent["system"]}, *sent["messages"]]
    assert DIALECT.parse_request(body) == Prompt("claude-sonnet-4.6", messages, sent["tools"], stream=True)


def request(**changes: object) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "SECRET"}], **changes}).encode()


@pytest.mark.parametrize("rest", [{}, {"system": None, "tools": None, "stream": None}, {"tools": [], "stream": False}])
def test_system_tools_and_stream_may_be_missing_or_null(rest: dict[str, object]) -> None:
    expected = Prompt("m", [{"role": "user", "content": "SECRET"}], [], stream=False)
    assert DIALECT.parse_request(request(**rest)) == expected


def test_a_system_prompt_may_be_one_string() -> None:
    assert DIALECT.parse_request(request(system="Be brief.")).messages[0] == {"role": "system", "content": "Be brief."}


BAD_REQUESTS = {
    "an empty body": (b"", "the body is empty; expected a JSON object"),
    "two systems": (b'{"system":"a","messages":[],"system":"b"}', "the body has a top-level field twice"),
    "another case": (request(System="SECRET"), "system: expected the name in lower case"),
    "no model": (b'{"messages":[]}', "model: expected a non-empty string"),
    "an empty model": (request(model=""), "model: expected a non-empty string"),
    "no messages": (b'{"model":"m"}', "messages: expected a non-empty list of objects"),
    "messages as an object": (request(messages={"a": 1}), "messages: expected a non-empty list of objects"),
    "a message that is a string": (request(messages=["SECRET"]), "messages[0]: expected an object"),
    "a message without a role": (request(messages=[{"content": "SECRET"}]), "messages[0].role: expected a string"),
    "content that is an object": (
        request(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": {"text": "SECRET"}}]),
        "messages[1].content: expected a string or a list of blocks",
    ),
    "no content": (request(messages=[{"role": "user"}]), "messages[0].content: expected a string or a list of blocks"),
    "system as an object": (request(system={"text": "SECRET"}), "system: expected a string or a list of blocks"),
    "a system of strings": (request(system=["SECRET"]), "system: expected a string or a list of blocks"),
    "tools as an object": (request(tools={"name": "SECRET"}), "tools: expected a list of objects"),
    "a tool that is a string": (request(tools=["SECRET"]), "tools: expected a list of objects"),
    "stream as a number": (request(stream=1), "stream: expected true or false"),
}


@pytest.mark.parametrize(("body", "message"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused_with_the_field_and_the_type_it_needs(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


def test_the_goldens_are_there() -> None:
    assert (len(STREAMS), len(ANSWERS), len(REQUESTS)) == (10, 3, 2)


@pytest.mark.parametrize("name", ANSWERS)
def test_a_json_answer_says_what_its_golden_says(name: str) -> None:
    body, expected = golden(name)
    assert asdict(DIALECT.parse_answer(body)) == expected["answer"]


UNKNOWN = "the answer has neither content, a count of tokens nor an error, or too many blocks"
BAD_ANSWERS = {
    "empty": (b"", "the answer: Input data was truncated"),
    "not JSON": (b"Bad gateway SECRET", "the answer: JSON is malformed: invalid character (byte 0)"),
    "a list": (b'["SECRET"]', "the answer: Expected `object`, got `array`"),
    "not UTF-8": (b'{"content":[],"x":"\xff"}', "the answer is not UTF-8"),
    "too deep": (b'{"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}", "the answer is nested too deeply"),
    "an unexpected type": (
        b'{"content":[{"text":["SECRET"]}]}',
        "the answer: Expected `str | null`, got `array` - at `$.content[0].text`",
    ),
    "nothing known": (b'{"message":"SECRET"}', UNKNOWN),
    "no error": (b'{"type":"error","error":null}', UNKNOWN),
    "too many blocks": (json.dumps({"content": [{"type": "text", "text": ""}] * 1025}).encode(), UNKNOWN),
}


@pytest.mark.parametrize(("body", "message"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_json_answer_that_is_not_understood_is_refused_without_quoting_it(body: bytes, message: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        DIALECT.parse_answer(body)
    assert str(refused.value) == message


def test_nothing_is_taken_out_of_a_whole_answer() -> None:
    tree = json.loads(golden("message.json")[0])
    assert not DIALECT.amend(tree)
    assert tree == json.loads(golden("message.json")[0])


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_answer_says_what_its_golden_says(name: str) -> None:
    data, expected = golden(name)
    assert run(data) == expected


EVENTS = [part + b"\n\n" for name in STREAMS for part in golden(name)[0].split(b"\n\n") if part]


@given(st.lists(st.sampled_from(EVENTS), max_size=8), st.lists(st.integers(min_value=0)))
def test_what_is_read_and_gathered_never_depends_on_where_chunks_are_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    assert run(*(data[start:end] for start, end in itertools.pairwise(edges))) == run(data)


@given(st.text(), st.text(), st.sets(st.integers(min_value=0)), st.sampled_from(["text", "thinking"]))
def test_what_is_read_and_gathered_never_depends_on_how_the_upstream_cuts_a_text(
    first: str, rest: str, cuts: set[int], kind: str
) -> None:
    edges = [0, *sorted(cut % (len(rest) + 1) for cut in cuts), len(rest)]
    parts = [rest[start:end] for start, end in itertools.pairwise(edges)]
    said = run(
        event("content_block_start", index=3, content_block={"type": kind, kind: first}),
        *(event("content_block_delta", index=3, delta={"type": f"{kind}_delta", kind: part}) for part in parts),
    )
    assert said["channels"] == {f"3.{kind}": first + rest}
    choices = said["answer"]["choices"]
    assert (choices[0]["reasoning"] + choices[0]["text"] if choices else "") == first + rest


TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 2, -1, 2**31, 10**400, 0.5])
    | st.sampled_from(["content_block_start", "content_block_delta", "content_block_stop", "text", "text_delta"])
    | st.sampled_from(["message_start", "message_delta", "message_stop", "error", "tool_use", "input_json_delta", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "index", "delta", "content_block", "message", "usage", "error", "content", "text", "other"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
NAMES = st.sampled_from(["message", "error", "content_block_delta", "message_stop", ""])


@given(st.lists(st.tuples(NAMES, st.dictionaries(st.sampled_from(["type", "delta", "index"]), TREES) | TREES)))
def test_no_tree_makes_reading_taking_or_ending_fail(events: list[tuple[str, Any]]) -> None:
    stream = DIALECT.stream()
    for name, tree in events:
        if isinstance(tree, dict):
            assert all(isinstance(slot.holder[slot.key], str) for slot in stream.read(name, tree).slots)
            stream.take(name, tree)
    stream.answer()
    stream.ending("x")


def test_a_tree_deeper_than_pythons_stack_is_survived() -> None:
    tree: dict[str, Any] = {"type": "content_block_start", "index": 0}
    tree["content_block"] = {"type": "tool_use", "input": [], "text": "a"}
    inner = tree["content_block"]["input"]
    for _ in range(99_999):
        inner.append([])
        inner = inner[0]
    stream = DIALECT.stream()
    assert [slot.channel for slot in stream.read("message", tree).slots] == ["0.text"]
    assert stream.take("message", tree)[0].text == "(nested too deeply)"


def test_arguments_have_the_form_of_json_and_texts_have_not() -> None:
    delta = {"type": "new_delta", "text": "a", "partial_json": "{", "arguments": "[", "signature": "s", "n": 1}
    reading = read("content_block_delta", index=1, delta=delta)
    assert {slot.channel: slot.form for slot in reading.slots} == {
        "1.text": Form.PLAIN,
        "1.partial_json": Form.JSON,
        "1.arguments": Form.JSON,
    }


def test_what_is_signed_or_encrypted_is_opaque_but_the_text_of_a_document_is_not() -> None:
    assert {"signature", "encrypted_content", "tool_use_id"} <= DIALECT.opaque
    assert "data" not in DIALECT.opaque
    assert read("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "EqoB"}) == Reading()


@pytest.mark.parametrize("kind", ["tool_use", "mcp_tool_use", "web_search_tool_result", "redacted_thinking"])
def test_what_a_block_says_once_and_whole_is_in_no_slot(kind: str) -> None:
    block = {"type": kind, "id": "i", "name": "n", "data": "d", "content": "c", "input": {"text": "t"}}
    assert read("content_block_start", index=0, content_block=block) == Reading()


def test_what_the_message_starts_with_is_continued_by_deltas() -> None:
    content = [{"type": "thinking", "thinking": "a"}, None, {"type": "text", "text": "b"}]
    assert channels([read("message_start", message={"content": content})]) == {"0.thinking": "a", "2.text": "b"}


@pytest.mark.parametrize(
    ("kind", "members", "closes"),
    [
        ("content_block_stop", {"index": 1}, ("1.",)),
        ("content_block_stop", {"index": [1]}, ("?.",)),
        ("message_stop", {}, ("",)),
        ("error", {"error": {}}, ("",)),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": "END"}}, ()),
        ("ping", {}, ()),
    ],
)
def test_channels_close_with_their_block_and_all_with_the_answer(
    kind: str, members: dict[str, object], closes: tuple[str, ...]
) -> None:
    assert read(kind, **members) == Reading([], closes)


@pytest.mark.parametrize("index", [None, -1, 2**31, 10**400, 0.5, True, "1", [], {}])
def test_a_delta_whose_index_is_none_has_a_channel_all_the_same(index: object) -> None:
    reading = read("content_block_delta", index=index, delta={"type": "text_delta", "text": "a"})
    assert channels([reading]) == {"?.text": "a"}


def test_channels_over_the_bound_share_one() -> None:
    stream = DIALECT.stream()
    delta = {"type": "new_delta"} | {f"m{number}": "a" for number in range(MAX_CHANNELS + 2)}
    said = channels([stream.read("message", {"type": "content_block_delta", "index": 0, "delta": delta})])
    assert len(said) == MAX_CHANNELS + 1
    assert said["?.more"] == "aa"
    again = stream.read("message", {"type": "content_block_delta", "index": 0, "delta": {"m0": "b"}})
    assert channels([again]) == {"0.m0": "b"}


class Client:
    """Assemble a message as the API reference asks of clients, and stumble over events in the wrong order."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.open: set[int] = set()
        self.stop_reason: str | None = None
        self.is_started = False
        self.last = ""

    def take(self, data: bytes) -> None:
        try:
            tree = json.loads(data)
            kind, index = tree["type"], tree.get("index")
        except (ValueError, TypeError):
            return
        assert (kind == "message_start") != self.is_started, kind
        assert self.last not in {"message_stop", "error"}, kind
        self.last = kind
        if kind == "message_start":
            self.is_started = tree["message"]["role"] == "assistant"
        elif kind == "content_block_start":
            assert index == len(self.blocks)
            self.open.add(index)
            self.blocks.append(dict(tree["content_block"]))
        elif kind == "content_block_stop":
            self.open.remove(tree["index"])
        elif kind == "content_block_delta":
            if index in self.open and isinstance(tree["delta"].get("text"), str):
                self.blocks[tree["index"]]["text"] += tree["delta"]["text"]
        elif kind == "message_delta":
            self.stop_reason = tree["delta"]["stop_reason"]


def prefixes(name: str) -> Iterator[tuple[Client, bytes]]:
    """Cut a golden stream after each of its events; yield a client that saw the rest, and the ending."""
    events = [each for each in events_of([golden(name)[0]]) if each.data]
    for count in range(len(events) + 1):
        stream, client = DIALECT.stream(), Client()
        for each in events[:count]:
            play(stream, f"event: {each.event}\ndata: ".encode() + (each.data or b"") + b"\n\n")
            client.take(each.data or b"")
        yield client, stream.ending("Held.")


@pytest.mark.parametrize("name", STREAMS)
def test_an_answer_can_be_ended_after_any_of_its_events(name: str) -> None:
    for client, ending in prefixes(name):
        if client.last in {"message_stop", "error"}:
            assert ending == b""
            continue
        open_calls = {index for index in client.open if client.blocks[index]["type"].endswith("tool_use")}
        for each in events_of([ending]):
            assert each.event == json.loads(each.data or b"")["type"]
            client.take(each.data or b"")
        assert client.last == "message_stop"
        assert client.stop_reason == "end_turn"
        assert client.blocks[-1]["type"] == "text"
        assert client.blocks[-1]["text"].endswith("Held.")
        # No client runs a call before its block is stopped.
        assert client.open == open_calls


def test_an_ending_goes_on_in_the_open_text_on_a_line_of_its_own() -> None:
    stream = DIALECT.stream()
    start = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    play(stream, event("message_start", message={"usage": {"output_tokens": 7}}), start)
    assert b'"delta":{"type":"text_delta","text":"Held."}' in stream.ending("Held.")
    play(stream, event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Half"}))
    ending = stream.ending("Held.")
    assert b'"index":0,"delta":{"type":"text_delta","text":"\\nHeld."}' in ending
    assert b'"usage":{"output_tokens":7}' in ending
    assert b"content_block_start" not in ending


def test_after_an_error_there_is_nothing_to_end() -> None:
    stream = DIALECT.stream()
    play(stream, golden("error_in_stream.sse")[0])
    assert stream.ending("Held.") == b""


def test_the_dialect_knows_no_done() -> None:
    stream = DIALECT.stream()
    stream.done()
    assert not stream.answer().complete


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_refusal_is_an_error_object_of_the_api(status: int, kind: str) -> None:
    body = DIALECT.error_body(Refusal(status, Code.POLICY_DENIED, 'No "claude" für you.'), "d-1")
    error = {"type": kind, "message": 'No "claude" für you.', "code": "policy.denied", "decision_id": "d-1"}
    assert json.loads(body) == {"type": "error", "error": error}
