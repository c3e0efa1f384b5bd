from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.mcp_answer import MAX_REQUESTS, McpStream
from extproc.dialect.port import AnswerStream, Reading
from tests.streaming import play

GOLDEN = Path(__file__).parents[1] / "golden" / "mcp"
STREAMS = sorted(path.name for path in GOLDEN.glob("*.sse"))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)
BLOCKS = st.dictionaries(st.sampled_from(["type", "text", "resource", "content", "messages", "contents"]), JSON)
TREES = st.dictionaries(
    st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x"]),
    JSON | BLOCKS | st.fixed_dictionaries({"content": st.lists(BLOCKS | JSON, max_size=3)}),
)


def test_the_goldens_are_there() -> None:
    assert STREAMS == ["call.sse", "error.sse", "server.sse"]


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("size", [1 << 20, 7])
def test_a_stream_says_what_its_golden_says(name: str, size: int) -> None:
    body = (GOLDEN / name).read_bytes()
    expected = json.loads((GOLDEN / f"{name}.expected").read_bytes())
    stream: AnswerStream = McpStream()
    readings, pieces = play(stream, *(body[at : at + size] for at in range(0, len(body), size)))
    assert readings
    assert all(reading == Reading() for reading in readings)
    assert [[piece.channel, piece.text] for piece in pieces] == expected["pieces"]
    assert asdict(stream.answer()) == expected["answer"]


def test_a_stream_is_complete_when_a_response_was_seen_and_not_before() -> None:
    stream = McpStream()
    assert not stream.answer().complete
    stream.take("message", {"jsonrpc": "2.0", "method": "notifications/progress"})
    stream.done()
    assert not stream.answer().complete
    stream.take("message", {"jsonrpc": "2.0", "id": 1, "result": {}})
    assert stream.answer().complete


def test_requests_over_the_bound_are_kept_as_unparsed() -> None:
    stream = McpStream()
    for number in range(MAX_REQUESTS + 1):
        stream.take("message", {"id": number, "method": "ping"})
    answer = stream.answer()
    assert len(answer.choices[0].tool_calls) == MAX_REQUESTS
    assert answer.unparsed == [f'{{"id":{MAX_REQUESTS},"method":"ping"}}']


def test_an_error_without_a_message_is_kept_whole() -> None:
    stream = McpStream()
    assert stream.take("message", {"id": 1, "error": {"code": 5}}) == []
    assert stream.answer().error == '{"code":5}'


@pytest.mark.parametrize("before", [[], [{"id": 1, "result": {}}]])
def test_a_stream_ends_with_a_log_message_that_any_client_takes(before: list[dict[str, Any]]) -> None:
    stream = McpStream()
    for tree in before:
        stream.take("message", tree)
    ending = stream.ending('Line "1"\nand 2 \u2028')
    assert ending.startswith(b"event: message\ndata: {")
    _, pieces = play(McpStream(), ending)
    (message,) = [json.loads(piece.text) for piece in pieces]
    assert message == {
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": {"level": "error", "logger": "gateway", "data": 'Line "1"\nand 2 \u2028'},
    }


@given(st.lists(TREES | st.dictionaries(st.text(), JSON), max_size=4))
def test_no_tree_makes_a_stream_raise_and_none_is_lost(trees: list[dict[str, Any]]) -> None:
    stream = McpStream()
    for tree in trees:
        assert stream.read("message", tree) == Reading()
        stream.take("message", tree)
    answer = stream.answer()
    kept = len(answer.unparsed or []) + sum(len(choice.tool_calls) for choice in answer.choices)
    responses = [tree for tree in trees if "method" not in tree and ("result" in tree or "error" in tree)]
    assert kept == len(trees) - len(responses)
    assert answer.complete == bool(responses)


def test_a_tree_too_deep_to_be_written_is_still_taken() -> None:
    tree: dict[str, Any] = {}
    for _ in range(5000):
        tree = {"a": tree}
    stream = McpStream()
    stream.read("message", tree)
    stream.take("message", tree)
    assert stream.answer().unparsed == ["(nested too deeply)"]
