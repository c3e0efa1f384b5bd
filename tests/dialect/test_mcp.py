from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Answer, Prompt, ToolCall
from extproc.dialect.mcp import McpDialect
from extproc.dialect.port import BadAnswer, BadRequest, Dialect
from extproc.errors import Code, Refusal

DIALECT: Dialect = McpDialect()
GOLDEN = Path(__file__).parents[1] / "golden" / "mcp"

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
NAMES = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "name", "arguments", "x"])
MESSAGES = st.dictionaries(NAMES, JSON | st.sampled_from(["2.0", "tools/call", {"name": "a", "arguments": {}}]))


def request(name: str) -> tuple[bytes, Any]:
    body = (GOLDEN / f"{name}.request.json").read_bytes()
    return body, json.loads(body)


def test_a_message_that_calls_no_tool_is_kept_as_it_is() -> None:
    body, message = request("initialize")
    assert DIALECT.parse_request(body) == Prompt(None, [message], [], stream=False)


def test_a_call_of_a_tool_has_its_name_and_its_arguments_in_compact_json() -> None:
    body, message = request("call")
    call = ToolCall("7", "get_file_contents", '{"owner":"acme","repo":"app","path":"infra/main.tf"}')
    assert DIALECT.parse_request(body) == Prompt(None, [message], [], stream=False, tool_calls=[call])


def test_every_message_of_a_batch_is_kept_and_every_call_found() -> None:
    body, messages = request("batch")
    prompt = DIALECT.parse_request(body)
    assert prompt.messages == messages
    assert prompt.tool_calls == [ToolCall("1", "list_issues", "{}"), ToolCall("3", "search_code", '{"q":"x"}')]


@pytest.mark.parametrize("body", [b"", b" \n"])
def test_a_request_that_only_opens_or_ends_a_stream_has_no_messages(body: bytes) -> None:
    assert DIALECT.parse_request(body) == Prompt(None, [], [], stream=False)


def test_an_error_of_the_client_is_an_answer_to_the_server() -> None:
    message = {"jsonrpc": "2.0", "id": "e1", "error": {"code": -1, "message": "declined"}}
    assert DIALECT.parse_request(json.dumps(message).encode()).messages == [message]


def call(params: str) -> bytes:
    return b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + params.encode() + b"}"


BAD_REQUESTS = {
    "a string": (b'"SECRET"', "the body: expected a JSON object"),
    "cut": (b'{"jsonrpc":"2.0"', "the body: Input data was truncated"),
    "two values": (b'{"jsonrpc":"2.0"} {}', "the body: JSON is malformed: trailing characters (byte 19)"),
    "an empty batch": (b"[]", "the body: expected at least one JSON-RPC message"),
    "a cut batch": (b'[{"jsonrpc":"2.0"}', "the body: expected a JSON-RPC message or a list of them"),
    "a batch of strings": (b'["SECRET"]', "the body: expected a JSON object"),
    "a nested batch": (b"[[]]", "the body: expected a JSON object"),
    "another version": (b'{"jsonrpc":"1.0","method":"a"}', 'jsonrpc: expected "2.0"'),
    "no version": (b'{"method":"a"}', 'jsonrpc: expected "2.0"'),
    "an id that is an object": (
        b'{"jsonrpc":"2.0","id":{},"method":"a"}',
        "id: expected a string or an integer",
    ),
    "an id that is null": (b'{"jsonrpc":"2.0","id":null,"method":"a"}', "id: expected a string or an integer"),
    "an id that is true": (b'{"jsonrpc":"2.0","id":true,"method":"a"}', "id: expected a string or an integer"),
    "a method that is a list": (b'{"jsonrpc":"2.0","method":["SECRET"]}', "method: expected a string"),
    "params that are a list": (b'{"jsonrpc":"2.0","method":"a","params":[]}', "params: expected an object"),
    "nothing": (b'{"jsonrpc":"2.0","id":1}', "the body: expected one of method, result and error"),
    "both": (
        b'{"jsonrpc":"2.0","id":1,"method":"a","result":{}}',
        "the body: expected one of method, result and error",
    ),
    "two methods": (
        b'{"jsonrpc":"2.0","method":"ping","method":"tools/call"}',
        "the body has a top-level field twice",
    ),
    # Servers in Go take any case.
    "a method in capitals": (b'{"jsonrpc":"2.0","Method":"tools/call"}', "method: expected the name in lower case"),
    "another field": (
        b'{"jsonrpc":"2.0","method":"a","SECRET":1}',
        "the body: expected no other fields than those of JSON-RPC, and 1 are",
    ),
    "a call without params": (
        b'{"jsonrpc":"2.0","method":"tools/call"}',
        "params: the body is empty; expected a JSON object",
    ),
    "a call without a name": (call("{}"), "params.name: expected a non-empty string"),
    "a name that is a number": (call('{"name":1}'), "params.name: expected a non-empty string"),
    "two names": (call('{"name":"a","name":"b"}'), "params: the body has a top-level field twice"),
    "a name in capitals": (call('{"name":"a","NAME":"b"}'), "params: name: expected the name in lower case"),
    "arguments as text": (call('{"name":"a","arguments":"SECRET"}'), "params.arguments: expected an object"),
    "deep": (call('{"name":"a","arguments":' + '{"a":' * 200 + "1" + "}" * 201), "the body is nested too deeply"),
    "very deep": (b"[" * 20000 + b"]" * 20000, "the body is nested too deeply"),
    "not UTF-8": (b'{"jsonrpc":"2.0","method":"\xff"}', "the body is not UTF-8; expected a JSON object"),
}


@pytest.mark.parametrize(("body", "message"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused_with_what_was_expected(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


def test_arguments_may_be_null() -> None:
    assert DIALECT.parse_request(call('{"name":"a","arguments":null}')).tool_calls == [ToolCall("1", "a", "{}")]


@given(st.binary() | MESSAGES.map(json.dumps).map(str.encode) | st.lists(MESSAGES).map(json.dumps).map(str.encode))
def test_no_body_makes_parsing_raise_anything_else(body: bytes) -> None:
    with suppress(BadRequest):
        assert DIALECT.parse_request(body).model is None
    with suppress(BadAnswer):
        assert DIALECT.parse_answer(body).complete


# --- answers ---------------------------------------------------------------------------------------------------------


ANSWERS = sorted(path.name for path in GOLDEN.glob("*.json") if "request" not in path.name)


def test_the_goldens_are_there() -> None:
    assert ANSWERS == ["batch.json", "prompt.json", "tools.json"]


@pytest.mark.parametrize("name", ANSWERS)
def test_a_json_answer_says_what_its_golden_says(name: str) -> None:
    expected = json.loads((GOLDEN / f"{name}.expected").read_bytes())
    assert asdict(DIALECT.parse_answer((GOLDEN / name).read_bytes())) == expected["answer"]


def test_the_empty_answer_to_a_notification_is_complete() -> None:
    assert DIALECT.parse_answer(b"") == Answer(None, [], None, complete=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"SECRET", "the answer: JSON is malformed: invalid character (byte 0)"),
        (b"5", "the answer: expected a JSON-RPC message or a list of them"),
        (b'"\xff"', "the answer is not UTF-8"),
        (b"[" * 20000 + b"]" * 20000, "the answer is nested too deeply"),
    ],
)
def test_what_is_no_json_rpc_is_no_answer(body: bytes, message: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        DIALECT.parse_answer(body)
    assert str(refused.value) == message


def test_a_refusal_is_a_json_rpc_error_with_the_stable_code() -> None:
    body = DIALECT.error_body(Refusal(422, Code.POLICY_DENIED, "Not here."), "d1")
    assert json.loads(body) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32000, "message": "Not here.", "data": {"code": "policy.denied", "decision_id": "d1"}},
    }


def test_nothing_is_amended() -> None:
    tree = {"result": {"supported_endpoints": ["ws:/responses"]}}
    assert not DIALECT.amend(tree)
    assert tree["result"]["supported_endpoints"]
