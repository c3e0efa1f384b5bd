from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.dev.upstream_messages import CountTokensWire, MessagesWire
from extproc.dev.upstream_model import Asked, BadRequestError
from extproc.dev.upstream_script import script_for

WIRE = MessagesWire()
USER = {"role": "user", "content": [{"type": "text", "text": "create a.py"}]}
REQUEST: dict[str, Any] = {
    "model": "claude-sonnet-4.6",
    "max_tokens": 32000,
    "system": [{"type": "text", "text": "Be brief."}],
    "messages": [USER],
    "tools": [{"name": "create", "input_schema": {"properties": {"path": {}, "file_text": {}}}}],
    "thinking": {"type": "adaptive"},
}


def whole(asked: Asked) -> dict[str, Any]:
    return WIRE.whole(asked, script_for(asked.messages, asked.tools, ""), 1)


def test_a_stream_has_the_blocks_of_the_whole_in_the_order_of_the_api() -> None:
    asked = WIRE.read(REQUEST)
    found = [
        json.loads(frame.split(b"data: ")[1])
        for frame in WIRE.events(asked, script_for(asked.messages, asked.tools, ""), 1)
    ]
    kinds = [one["type"] for one in found if one["type"] != "content_block_delta"]
    assert kinds == [
        "message_start", "ping", *["content_block_start", "content_block_stop"] * 2, "message_delta", "message_stop",
    ]  # fmt: skip
    deltas = [one["delta"] for one in found if one["type"] == "content_block_delta"]
    thinking, call = whole(asked)["content"]
    assert "".join(delta.get("thinking", "") for delta in deltas) == thinking["thinking"]
    assert [delta["signature"] for delta in deltas if "signature" in delta] == [thinking["signature"]]
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == call["input"]
    assert call["input"]["path"] == "a.py"
    assert (found[-2]["delta"]["stop_reason"], found[0]["message"]["stop_reason"]) == ("tool_use", None)


def test_a_second_turn_with_what_was_given_ends_the_conversation() -> None:
    content = whole(WIRE.read(REQUEST))["content"]
    result = {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "Created a.py"}
    turns = [USER, {"role": "assistant", "content": content}, {"role": "user", "content": [result]}]
    answer = whole(WIRE.read(REQUEST | {"messages": turns, "thinking": None}))
    assert answer["content"] == [{"type": "text", "text": "Done. The tool answered: Created a.py"}]


def test_tokens_are_counted_without_a_limit() -> None:
    wire = CountTokensWire()
    asked = wire.read({"model": "m", "messages": [USER]})
    assert wire.whole(asked, script_for(asked.messages, [], ""), 1) == {"input_tokens": 2}


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": None},
        {"max_tokens": 0},
        {"messages": []},
        {"messages": [{"role": "assistant", "content": "hi"}]},
        {"messages": [USER, {"role": "system", "content": "hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        {"messages": [{"role": "user", "content": [{"type": "odd"}]}]},
        {
            "messages": [
                USER,
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
            ]
        },
        {
            "messages": [
                USER,
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "", "signature": "x"}]},
            ]
        },
        {"system": 1},
        {"tools": [{"input_schema": {}}]},
    ],
)
def test_what_is_no_messages_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError) as refused:
        WIRE.read(REQUEST | change)
    error = WIRE.error(400, "c", refused.value.message, refused.value.param)
    assert (error["type"], error["error"]["type"]) == ("error", "invalid_request_error")
