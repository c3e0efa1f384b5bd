from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.dev.upstream_model import Asked, BadRequestError, is_sealed
from extproc.dev.upstream_responses import ResponsesWire
from extproc.dev.upstream_script import script_for

WIRE = ResponsesWire()
PATCH = {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}}
REQUEST: dict[str, Any] = {
    "model": "gpt-5.5",
    "instructions": "Be brief.",
    "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "create a.py"}]}],
    "tools": [PATCH, {"type": "web_search"}],
    "reasoning": {"effort": "medium", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
}


def events(asked: Asked) -> list[dict[str, Any]]:
    frames = WIRE.events(asked, script_for(asked.messages, asked.tools, ""), 1)
    found = []
    for frame in frames:
        name, data = frame.decode().removesuffix("\n\n").split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def test_events_are_numbered_and_every_end_repeats_the_whole() -> None:
    found = events(WIRE.read(REQUEST))
    assert [one["sequence_number"] for one in found] == [*range(len(found))]
    assert [one["type"] for one in found if "delta" not in one["type"]] == [
        "response.created", "response.in_progress",
        "response.output_item.added", "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.done", "response.reasoning_summary_part.done", "response.output_item.done",
        "response.output_item.added", "response.custom_tool_call_input.done", "response.output_item.done",
        "response.completed",
    ]  # fmt: skip
    output = found[-1]["response"]["output"]
    assert [one["item"] for one in found if one["type"] == "response.output_item.done"] == output
    deltas = [one["delta"] for one in found if one["type"] == "response.custom_tool_call_input.delta"]
    assert "".join(deltas) == output[1]["input"]
    assert output[1]["input"].startswith("*** Begin Patch\n*** Add File: a.py\n")
    assert is_sealed(output[0]["encrypted_content"])
    assert WIRE.whole(WIRE.read(REQUEST), script_for(REQUEST["input"], [], ""), 1)["usage"]["total_tokens"] > 0


def test_a_second_turn_with_what_was_given_ends_the_conversation() -> None:
    output = events(WIRE.read(REQUEST))[-1]["response"]["output"]
    result = {"type": "custom_tool_call_output", "call_id": output[1]["call_id"], "output": "Added a.py"}
    asked = WIRE.read(REQUEST | {"input": [*REQUEST["input"], *output, result]})
    script = script_for(asked.messages, asked.tools, "")
    assert (script.tool_call, script.text()) == (None, "Done. The tool answered: Added a.py")


USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "change",
    [
        {"input": None},
        {"input": []},
        {"input": ["hi"]},
        {"input": [{"role": "nobody", "content": "hi"}]},
        {"input": [USER, {"type": "function_call_output", "call_id": "c", "output": "x"}]},
        {"input": [{"type": "function_call", "call_id": "c"}]},
        {"input": [USER, {"type": "reasoning", "encrypted_content": "changed"}]},
        {"instructions": 1},
        {"tools": [{"type": "function"}]},
        {"stream": "yes"},
        {"model": None},
    ],
)
def test_what_is_no_responses_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        WIRE.read({"model": "m", "input": "hi"} | change)
