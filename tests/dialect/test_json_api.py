from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Answer, Piece, Prompt
from extproc.dialect.agents import AgentsDialect
from extproc.dialect.embeddings import EmbeddingsDialect
from extproc.dialect.github import GitHubDialect, GraphqlDialect
from extproc.dialect.json_api import JsonDialect, UnreadStream, as_text, read_tree
from extproc.dialect.models import ModelsDialect
from extproc.dialect.port import AnswerStream, BadAnswer, BadRequest, Dialect, Reading
from extproc.errors import Code, Refusal
from tests.streaming import play

DIALECT: Dialect = JsonDialect()
ALL: list[Dialect] = [
    DIALECT,
    AgentsDialect(),
    EmbeddingsDialect(),
    GitHubDialect(),
    GraphqlDialect(),
    ModelsDialect(),
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["model", "embedding_model", "input", "inputs", "messages", "tools", "stream"]
) | st.sampled_from(
    ["query", "variables", "operationName", "usage", "prompt_tokens", "choices", "error", "supported_endpoints"]
)
TREES = st.dictionaries(NAMES, JSON | st.dictionaries(NAMES, JSON) | st.just(["ws:/responses", 1]))


def prompt(*messages: Any) -> Prompt:
    return Prompt(None, list(messages), [], stream=False)


@pytest.mark.parametrize("value", [{"a": [1, {"b": None}]}, [1], [], "text", 5, 1.5, False, {}])
def test_any_json_value_is_the_message_of_a_request(value: Any) -> None:
    assert DIALECT.parse_request(json.dumps(value).encode()) == prompt(value)


@pytest.mark.parametrize("body", [b"", b"\r\n", b"null"])
def test_a_request_without_a_value_has_no_message(body: bytes) -> None:
    assert DIALECT.parse_request(body) == prompt()


BAD_REQUESTS = {
    "a form": (b"a=SECRET&b=1", "the body: JSON is malformed: invalid character (byte 0); expected JSON"),
    "two values": (b'1,"x":2', "the body: JSON is malformed: trailing characters (byte 2); expected JSON"),
    "two objects": (b"{} {}", "the body: JSON is malformed: trailing characters (byte 4); expected JSON"),
    "an object that ends another": (
        b"1}, {2",
        "the body: JSON is malformed: trailing characters (byte 2); expected JSON",
    ),
    "cut": (b'{"a":', "the body: Input data was truncated; expected JSON"),
    "not UTF-8": (b'{"a":"\xff"}', "the body is not UTF-8; expected a JSON object"),
    "not UTF-8, in a list": (b'["\xff"]', "the body is not UTF-8; expected a JSON object"),
    "a field twice": (b'{"a":1,"a":2}', "the body has a top-level field twice"),
    "a number out of range": (b'{"a":1e999}', "the body has a number that is out of range"),
    "deep": (b"[" * 150 + b"]" * 150, "the body is nested too deeply"),
    "very deep": (b"[" * 20000 + b"]" * 20000, "the body is nested too deeply"),
}


@pytest.mark.parametrize(("body", "message"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_what_is_not_one_json_value_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


def test_a_known_name_in_another_case_is_refused() -> None:
    assert read_tree(b'{"Query":1}') == {"Query": 1}
    with pytest.raises(BadRequest, match="query: expected the name in lower case"):
        read_tree(b'{"Query":1}', frozenset({"query"}))


@pytest.mark.parametrize("body", [b"", b" ", b"null", b"[]", b'"text"', b"{}"])
def test_any_json_value_and_none_are_a_complete_answer(body: bytes) -> None:
    assert DIALECT.parse_answer(body) == Answer(None, [], None, complete=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"SECRET", "the answer: JSON is malformed: invalid character (byte 0)"),
        (b'"\xff"', "the answer is not UTF-8"),
        (b"[" * 20000 + b"]" * 20000, "the answer is nested too deeply"),
    ],
)
def test_what_is_no_json_is_no_answer(body: bytes, message: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        DIALECT.parse_answer(body)
    assert str(refused.value) == message


def test_a_stream_is_kept_and_never_complete() -> None:
    stream: AnswerStream = UnreadStream()
    readings, pieces = play(stream, b'data: {"a":"b"}\n\ndata: text\n\ndata: [DONE]\n\n')
    assert readings == [Reading()]
    assert pieces == [Piece("unparsed", '{"a":"b"}'), Piece("unparsed", "text")]
    assert stream.answer() == Answer(None, [], None, complete=False, unparsed=['{"a":"b"}', "text"])
    assert stream.ending("no") == b""


def test_a_refusal_is_an_error_that_openai_clients_show() -> None:
    error = json.loads(DIALECT.error_body(Refusal(422, Code.POLICY_DENIED, "Not here."), "d1"))["error"]
    assert (error["message"], error["code"], error["decision_id"]) == ("Not here.", "policy.denied", "d1")


def test_what_is_too_deep_to_be_written_is_named() -> None:
    tree: list[Any] = []
    for _ in range(5000):
        tree = [tree]
    assert as_text(tree) == "(nested too deeply)"


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: type(dialect).__name__)
@given(body=st.binary() | JSON.map(json.dumps).map(str.encode) | TREES.map(json.dumps).map(str.encode))
def test_no_body_makes_a_json_dialect_raise_anything_else(dialect: Dialect, body: bytes) -> None:
    with suppress(BadRequest):
        asked = dialect.parse_request(body)
        assert asked.model is None or asked.model
    with suppress(BadAnswer):
        assert dialect.parse_answer(body).complete


@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: type(dialect).__name__)
@given(tree=JSON | TREES)
def test_no_tree_makes_a_json_dialect_raise(dialect: Dialect, tree: Any) -> None:
    amended = dialect.amend(tree)
    assert not dialect.amend(tree)
    assert not amended or isinstance(dialect, ModelsDialect)
