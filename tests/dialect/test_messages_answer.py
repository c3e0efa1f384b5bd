from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import Answer, Piece, ToolCall, Usage
from extproc.dialect.messages_answer import MAX_BLOCKS, AnswerBuilder, is_block_known, kind_of


def take(*trees: dict[str, Any], event: str = "message") -> tuple[list[Piece], Answer]:
    builder = AnswerBuilder()
    pieces = [piece for tree in trees for piece in builder.take_event(event, tree)]
    return pieces, builder.answer()


def start(index: int, **block: object) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int, kind: str, **members: object) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **members}}


def stop(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def test_nothing_said_is_an_answer_without_choices() -> None:
    assert take({"type": "ping"})[1] == Answer(None, [], None, complete=False)


def test_the_type_in_the_data_counts_before_that_of_the_event_except_for_errors() -> None:
    assert kind_of("ping", {"type": "message_stop"}) == "message_stop"
    assert kind_of("message_stop", {"type": 7}) == "message_stop"
    assert kind_of("error", {"type": "overloaded_error"}) == "error"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ({"type": "overloaded_error", "message": "Busy"}, "Busy"),
        ("Busy", "Busy"),
        ({"code": 7}, '{"code":7}'),
        (["a"], '["a"]'),
    ],
)
def test_an_error_is_recorded_whatever_its_form(error: object, text: str) -> None:
    pieces, answer = take({"type": "error", "error": error})
    assert (pieces, answer.error, answer.complete) == ([], text, False)


def test_an_error_that_is_no_member_is_the_event_itself() -> None:
    assert take({"type": "overloaded_error", "message": "Busy"}, event="error")[1].error == "Busy"


def test_later_usage_replaces_what_it_names() -> None:
    pieces, answer = take(
        {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "message_delta", "usage": {"output_tokens": 8}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 6}},
    )
    assert (pieces, answer.usage) == ([], Usage(6, 8))
    assert answer.choices[0].finish_reason == "end_turn"


CALL = {"type": "tool_use", "id": "t", "name": "ls"}


@pytest.mark.parametrize(
    ("given_input", "deltas", "arguments"),
    [
        ({}, [], "{}"),
        (None, [""], "{}"),
        ({}, ['{"a"', ":1}"], '{"a":1}'),
        ({"a": [1, "é"]}, [], '{"a":[1,"é"]}'),
        ([], [], "[]"),
        ("text", [], '"text"'),
    ],
)
def test_arguments_are_what_was_streamed_or_given_whole(given_input: object, deltas: list[str], arguments: str) -> None:
    steps = [delta(0, "input_json_delta", partial_json=part) for part in deltas]
    pieces, answer = take(start(0, **CALL, input=given_input), *steps, stop(0))
    assert answer.choices[0].tool_calls == [ToolCall("t", "ls", arguments)]
    assert "".join(piece.text for piece in pieces) == arguments


def test_arguments_that_were_cut_off_before_their_beginning_are_empty() -> None:
    assert take(start(0, **CALL, input={}))[1].choices[0].tool_calls == [ToolCall("t", "ls", "")]


@pytest.mark.parametrize("kind", ["text", "thinking", "tool_use", "server_tool_use", "bash_tool_result"])
def test_blocks_of_the_api_are_known(kind: str) -> None:
    assert is_block_known(kind)


@pytest.mark.parametrize("kind", ["compaction", "", None, 7, ["text"]])
def test_other_blocks_are_not_known(kind: object) -> None:
    assert not is_block_known(kind)


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"type": ["ping"]},
        {"type": "weather"},
        {"type": "message_start"},
        {"type": "message_start", "message": {"content": "text"}},
        {"type": "content_block_start", "index": 0},
        {"type": "content_block_start", "content_block": {"type": "text"}},
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_stop", "index": -1},
        start(2**31, type="text"),
        delta(0, "text_delta", text=7),
        delta(0, "new_delta", text="a"),
        delta(0, "input_json_delta", partial_json="{"),
    ],
)
def test_what_does_not_fit_is_kept_as_unparsed(tree: dict[str, Any]) -> None:
    pieces, answer = take(tree)
    assert [piece.channel.removeprefix("0.tool.") for piece in pieces] == ["unparsed"]
    assert answer.unparsed == [pieces[0].text]


def test_arguments_for_a_block_that_is_no_call_are_unparsed() -> None:
    assert take(start(0, type="text", text=""), delta(0, "input_json_delta", partial_json="{"))[1].unparsed is not None


def test_blocks_over_the_bound_are_unparsed() -> None:
    pieces, answer = take(*(start(index, **CALL) for index in range(MAX_BLOCKS + 2)))
    assert len(answer.choices[0].tool_calls) == MAX_BLOCKS
    assert [piece.channel for piece in pieces[MAX_BLOCKS:]] == ["0.tool.unparsed"] * 2


def test_the_answer_can_be_asked_for_at_any_moment_and_earlier_ones_do_not_change() -> None:
    builder = AnswerBuilder()
    builder.take_event("message", start(0, type="text", text="a"))
    builder.take_unparsed("x")
    early = builder.answer()
    builder.take_event("message", delta(0, "text_delta", text="b"))
    builder.take_unparsed("y")
    builder.take_event("message_stop", {"type": "message_stop"})
    assert (early.choices[0].text, early.unparsed, early.complete) == ("a", ["x"], False)
    late = builder.answer()
    assert (late.choices[0].text, late.unparsed, late.complete) == ("ab", ["x", "y"], True)


TEXT = st.sampled_from(["", "a", "{}", '{"b"'])
INDEX = st.integers(min_value=0, max_value=2)
EVENTS = st.one_of(
    st.builds(lambda index, text: start(index, type="text", text=text), INDEX, TEXT),
    st.builds(lambda index, text: start(index, type="thinking", thinking=text), INDEX, TEXT),
    st.builds(lambda index, value: start(index, **CALL, input=value), INDEX, st.sampled_from([None, {}, {"a": 1}])),
    st.builds(lambda index, text: delta(index, "text_delta", text=text), INDEX, TEXT),
    st.builds(lambda index, text: delta(index, "thinking_delta", thinking=text), INDEX, TEXT),
    st.builds(lambda index, text: delta(index, "input_json_delta", partial_json=text), INDEX, TEXT),
    st.builds(stop, INDEX),
)


@given(st.lists(EVENTS, max_size=12))
def test_pieces_join_to_what_the_answer_says(trees: list[dict[str, Any]]) -> None:
    pieces, answer = take(*trees)
    said: defaultdict[str, str] = defaultdict(str)
    for piece in pieces:
        said[piece.channel] += piece.text
    for choice in answer.choices:
        assert (said["0.text"], said["0.reasoning"]) == (choice.text, choice.reasoning)
        assert [said[f"0.tool.{n}"] for n in range(len(choice.tool_calls))] == [c.arguments for c in choice.tool_calls]
    assert [piece.text for piece in pieces if piece.channel.endswith("unparsed")] == (answer.unparsed or [])
