from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Choice, Piece, ToolCall
from extproc.dialect.chat_answer import AnswerBuilder
from extproc.dialect.chat_calls import MAX_TOOL_CALLS
from extproc.dialect.chat_slots import SlotReader


def take(builder: AnswerBuilder, value: object) -> tuple[bool, list[Piece]]:
    pieces: list[Piece] = []
    return builder.take(value, pieces), pieces


def delta(**fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


def fragment(arguments: str | None = None, name: str | None = None, **fields: object) -> dict[str, Any]:
    return {**fields, "function": {"name": name, "arguments": arguments}}


TOOL_CALLS = {
    "the index decides": (
        [fragment("1", "a", index=0, id="x"), fragment("2", "b", index=1, id="y"), fragment("3", index=0)],
        [ToolCall("x", "a", "13"), ToolCall("y", "b", "2")],
        ["0.tool.0", "0.tool.1", "0.tool.0"],
    ),
    "indexes that do not begin at 0": (
        [fragment("1", "a", index=5, id="x"), fragment("2", "b", index=3, id="y")],
        [ToolCall("x", "a", "1"), ToolCall("y", "b", "2")],
        ["0.tool.0", "0.tool.1"],
    ),
    "every call with index 0": (
        [fragment("1", "a", index=0, id="x"), fragment("2", "b", index=0, id="y"), fragment("3", index=0)],
        [ToolCall("x", "a", "1"), ToolCall("y", "b", "23")],
        ["0.tool.0", "0.tool.1", "0.tool.1"],
    ),
    "no index, by id": (
        [fragment("1", "a", id="x"), fragment("2", "b", id="y"), fragment("3", id="x")],
        [ToolCall("x", "a", "13"), ToolCall("y", "b", "2")],
        ["0.tool.0", "0.tool.1", "0.tool.0"],
    ),
    "no index, no id": (
        [fragment("1", "a"), fragment("2"), fragment("3", "b", id=""), fragment("4")],
        [ToolCall("", "a", "12"), ToolCall("", "b", "34")],
        ["0.tool.0", "0.tool.0", "0.tool.1", "0.tool.1"],
    ),
    "the id comes late": (
        [fragment("1", "a", index=0), fragment("2", index=0, id="x"), fragment("3", index=0, id="x")],
        [ToolCall("x", "a", "123")],
        ["0.tool.0"] * 3,
    ),
    "the last name counts": (
        [fragment("1", "a", index=0), fragment("2", "b", index=0)],
        [ToolCall("", "b", "12")],
        ["0.tool.0"] * 2,
    ),
    "a custom tool": (
        [
            {"index": 0, "id": "x", "custom": {"name": "apply_patch", "input": "*** Be"}},
            {"index": 0, "custom": {"input": "gin"}},
        ],
        [ToolCall("x", "apply_patch", "*** Begin")],
        ["0.tool.0"] * 2,
    ),
    "nothing but an index": ([{"index": 0}, {"index": 0}], [ToolCall("", "", "")], ["0.tool.0"]),
}


@pytest.mark.parametrize(("fragments", "calls", "channels"), TOOL_CALLS.values(), ids=TOOL_CALLS.keys())
@pytest.mark.parametrize("together", [True, False])
def test_fragments_find_their_tool_call(
    fragments: list[Any], calls: list[ToolCall], channels: list[str], *, together: bool
) -> None:
    builder, reader = AnswerBuilder(), SlotReader()
    pieces, slots = [], []
    for group in [fragments] if together else [[fragment] for fragment in fragments]:
        slots += reader.read(delta(tool_calls=group)).slots
        understood, said = take(builder, delta(tool_calls=group))
        assert understood
        pieces += said
    # Whoever reads ahead to mask numbers the calls as the record does.
    texts = [slot for slot in slots if slot.key in {"arguments", "input"}]
    assert {slot.channel.rpartition(".")[0] for slot in texts} <= set(channels)
    for position, call in enumerate(calls):
        mine = [slot for slot in texts if slot.channel.startswith(f"0.tool.{position}.")]
        assert "".join(slot.holder[slot.key] for slot in mine) == call.arguments
    assert builder.answer().choices == [Choice(0, "", "", calls, None)]
    assert [piece.channel for piece in pieces] == channels
    assert "".join(piece.text for piece in pieces if piece.channel == "0.tool.0") == calls[0].arguments


def test_a_tool_call_is_announced_before_its_arguments_and_empty_fragments_are_not_repeated() -> None:
    builder = AnswerBuilder()
    assert take(builder, delta(tool_calls=[fragment("", "a", index=0)])) == (True, [Piece("0.tool.0", "")])
    assert take(builder, delta(tool_calls=[fragment("", index=0)])) == (True, [])


def test_a_legacy_function_call_is_one_more_tool_call() -> None:
    builder = AnswerBuilder()
    take(builder, delta(tool_calls=[fragment("1", "a", index=0)]))
    take(builder, delta(function_call={"name": "f", "arguments": "{"}))
    assert take(builder, delta(function_call={"arguments": "}"})) == (True, [Piece("0.tool.1", "}")])
    assert builder.answer().choices[0].tool_calls == [ToolCall("", "a", "1"), ToolCall("", "f", "{}")]


def test_more_tool_calls_than_the_bound_are_left_out_and_reported() -> None:
    builder = AnswerBuilder()
    assert take(builder, delta(tool_calls=[fragment("x", index=index) for index in range(MAX_TOOL_CALLS)]))[0]
    fragments = [fragment("y", index=MAX_TOOL_CALLS), fragment("z", index=7)]
    assert take(builder, delta(tool_calls=fragments)) == (False, [Piece("0.tool.7", "z")])
    assert take(builder, delta(function_call={"name": "f"})) == (False, [])
    assert len(builder.answer().choices[0].tool_calls) == MAX_TOOL_CALLS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text('ab"{}[],: \\', max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab ", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(JSON.map(json.dumps), st.data())
def test_spoiled_arguments_are_json_at_no_point_of_their_stream(arguments: str, data: st.DataObject) -> None:
    said = arguments[: data.draw(st.integers(min_value=0, max_value=len(arguments)))]
    builder = AnswerBuilder()
    take(builder, delta(tool_calls=[fragment(said, "f", index=3, id="x")], function_call={"arguments": said}))
    for spoiler in builder.spoiling(0):
        assert take(builder, {"choices": [{"index": 0, "delta": spoiler}]})[0]
    calls = builder.answer().choices[0].tool_calls
    assert [(call.id, call.name) for call in calls] == [("x", "f"), ("", "")]
    for call in calls:
        assert call.arguments.startswith(said)
        with pytest.raises(json.JSONDecodeError):
            json.loads(call.arguments)


def test_the_spoiler_of_a_call_has_its_kind_and_reaches_all_that_can_be_reached() -> None:
    builder = AnswerBuilder()
    said = [
        {"index": 0, "id": "x", "custom": {"name": "apply_patch", "input": "*** End Patch"}},
        fragment("{}", "a", index=1, id="y"),
        fragment("{}", "b", index=1, id="z"),
        fragment("{}", "c"),
        fragment("{}", "d"),
    ]
    take(builder, delta(tool_calls=said))
    deltas = builder.spoiling(0)
    for spoiler in deltas:
        take(builder, {"choices": [{"index": 0, "delta": spoiler}]})
    whole = {"x": "*** End Patch", "y": "{}", "z": "{}", "": "{}"}
    calls = builder.answer().choices[0].tool_calls
    assert [call.arguments != whole[call.id] for call in calls] == [True, False, True, False, True]
    assert [list(entry) for spoiler in deltas for entry in spoiler["tool_calls"]] == [
        ["index", "custom"],
        ["index", "function"],
        ["function"],
    ]
