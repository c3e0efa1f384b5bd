from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.conversation import Answer, Prompt
from extproc.dialect.agents import AgentsDialect
from extproc.dialect.chat import ChatDialect
from extproc.dialect.port import BadAnswer, BadRequest, Dialect
from tests.streaming import play

DIALECT: Dialect = AgentsDialect()
MESSAGES = [{"role": "user", "content": "hi"}]
JOB = {"problem_statement": "mend it", "event_type": "x"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": MESSAGES, "stream": True}, Prompt(None, MESSAGES, [], stream=True)),
        (
            {"model": "m", "messages": MESSAGES, "tools": [{"a": 1}], "stream": None},
            Prompt("m", MESSAGES, [{"a": 1}], stream=False),
        ),
        ({"model": "", "messages": []}, Prompt(None, [], [], stream=False)),
        (JOB, Prompt(None, [JOB], [], stream=False)),
        ([1], Prompt(None, [[1]], [], stream=False)),
    ],
)
def test_a_conversation_or_the_whole_body_is_what_is_asked(body: Any, expected: Prompt) -> None:
    assert DIALECT.parse_request(json.dumps(body).encode()) == expected


def test_a_request_without_a_body_asks_nothing() -> None:
    assert DIALECT.parse_request(b"") == Prompt(None, [], [], stream=False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"model":5}', "model: expected a string"),
        (b'{"messages":"SECRET"}', "messages: expected a list"),
        (b'{"tools":{}}', "tools: expected a list"),
        (b'{"stream":"true"}', "stream: expected true or false"),
        (b'{"Messages":[]}', "messages: expected the name in lower case"),
        (b'{"messages":[],"messages":[]}', "the body has a top-level field twice"),
    ],
)
def test_a_bad_request_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


SPOKEN = {"model": "m", "choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("body", [SPOKEN, {"error": {"message": "no"}}])
def test_what_an_agent_says_is_read_as_in_chat(body: Any) -> None:
    raw = json.dumps(body).encode()
    answer = DIALECT.parse_answer(raw)
    assert answer == ChatDialect().parse_answer(raw)
    assert answer.choices or answer.error


@pytest.mark.parametrize("body", [b"", b"[]", b'{"enabled":true}', b'{"sessions":[],"error":null}'])
def test_other_json_is_a_complete_answer(body: bytes) -> None:
    assert DIALECT.parse_answer(body) == Answer(None, [], None, complete=True)


@pytest.mark.parametrize("body", [b'{"choices":"SECRET"}', b"SECRET"])
def test_what_is_neither_is_no_answer(body: bytes) -> None:
    with pytest.raises(BadAnswer) as refused:
        DIALECT.parse_answer(body)
    assert "SECRET" not in str(refused.value)


def test_a_stream_is_read_as_in_chat() -> None:
    stream = DIALECT.stream()
    event = b'data: {"choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    readings, _ = play(stream, event)
    assert [slot.holder[slot.key] for slot in readings[0].slots] == ["hello"]
    assert stream.answer().choices[0].text == "hello"
    assert stream.answer().complete


def test_what_is_opaque_in_chat_is_so_here() -> None:
    assert (DIALECT.opaque, DIALECT.json_texts) == (ChatDialect().opaque, ChatDialect().json_texts)
