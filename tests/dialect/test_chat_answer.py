from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.conversation import Choice, Piece, ToolCall
from extproc.dialect.chat_answer import MALFORMED, MAX_CHOICES, MAX_TOOL_CALLS, AnswerBuilder


def take(builder: AnswerBuilder, value: object) -> tuple[bool, list[Piece]]:
    pieces: list[Piece] = []
    return builder.take(json.dumps(value).encode(), pieces), pieces


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
    builder = AnswerBuilder()
    pieces = []
    for group in [fragments] if together else [[fragment] for fragment in fragments]:
        understood, said = take(builder, delta(tool_calls=group))
        assert understood
        pieces += said
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


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
def test_reasoning_is_gathered_under_each_of_its_names(name: str) -> None:
    builder = AnswerBuilder()
    assert take(builder, delta(**{name: "hm"})) == (True, [Piece("0.reasoning", "hm")])
    assert builder.answer().choices[0].reasoning == "hm"


def test_reasoning_under_two_names_counts_once_when_equal_and_twice_when_not() -> None:
    builder = AnswerBuilder()
    take(builder, delta(reasoning="a", reasoning_content="a"))
    take(builder, delta(reasoning="c", reasoning_content="b", thinking=""))
    assert builder.answer().choices[0].reasoning == "abc"


def test_a_refusal_is_text_and_empty_text_is_no_piece() -> None:
    builder = AnswerBuilder()
    assert take(builder, delta(content="", refusal=None)) == (True, [])
    assert take(builder, delta(refusal="I cannot.")) == (True, [Piece("0.text", "I cannot.")])


def test_a_stream_that_says_message_instead_of_delta_is_understood() -> None:
    builder = AnswerBuilder()
    event = {"choices": [{"delta": {"content": "a"}, "message": {"content": "b"}, "finish_reason": "stop"}]}
    assert take(builder, event) == (True, [Piece("0.text", "a"), Piece("0.text", "b")])


ERRORS = {
    "an object": ({"message": "overloaded", "code": 1}, "overloaded"),
    "a string": ("overloaded", "overloaded"),
    "an object without a message": ({"code": 1}, '{"code": 1}'),
    "something else": (7, "7"),
    "null": (None, None),
}


@pytest.mark.parametrize(("error", "text"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_is_its_message_or_all_of_it(error: object, text: str | None) -> None:
    builder = AnswerBuilder()
    assert take(builder, {"error": error}) == (text is not None, [])
    assert builder.answer().error == text


def test_errors_add_up_the_first_model_and_the_last_usage_count() -> None:
    builder = AnswerBuilder()
    for number in (1, 2):
        usage = {"prompt_tokens": number, "completion_tokens": None}
        take(builder, {"error": f"e{number}", "model": f"m{number}", "usage": usage})
    answer = builder.answer()
    assert (answer.error, answer.model) == ("e1\ne2", "m1")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 0)


def test_an_object_with_nothing_we_know_is_not_understood() -> None:
    assert take(AnswerBuilder(), {"copilot_confirmation": {"title": "?"}}) == (False, [])
    assert take(AnswerBuilder(), {"choices": []}) == (True, [])


def test_more_choices_than_the_bound_are_left_out_and_reported() -> None:
    builder = AnswerBuilder()
    entries = [{"index": index, "delta": {"content": "x"}} for index in range(MAX_CHOICES)]
    assert take(builder, {"choices": entries})[0]
    assert take(builder, {"choices": [{"index": MAX_CHOICES, "delta": {"content": "y"}}, entries[3]]}) == (
        False,
        [Piece("3.text", "x")],
    )
    assert len(builder.answer().choices) == MAX_CHOICES


def test_more_tool_calls_than_the_bound_are_left_out_and_reported() -> None:
    builder = AnswerBuilder()
    assert take(builder, delta(tool_calls=[fragment("x", index=index) for index in range(MAX_TOOL_CALLS)]))[0]
    fragments = [fragment("y", index=MAX_TOOL_CALLS), fragment("z", index=7)]
    assert take(builder, delta(tool_calls=fragments)) == (False, [Piece("0.tool.7", "z")])
    assert take(builder, delta(function_call={"name": "f"})) == (False, [])
    assert len(builder.answer().choices[0].tool_calls) == MAX_TOOL_CALLS


@pytest.mark.parametrize(
    "event",
    [
        {"choices": {}},
        {"choices": [None]},
        {"choices": [{"index": -1, "delta": {}}]},
        {"choices": [{"index": 2**31, "delta": {}}]},
        {"choices": [{"index": "0", "delta": {}}]},
        {"choices": [{"delta": {"content": "a"}}, {"delta": {"content": ["b"]}}]},
        {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": {}}}]}}]},
        {"choices": [], "usage": {"prompt_tokens": -1}},
        [],
    ],
)
def test_an_unexpected_type_raises_and_adds_nothing(event: object) -> None:
    builder = AnswerBuilder()
    pieces: list[Piece] = []
    with pytest.raises(MALFORMED):
        builder.take(json.dumps(event).encode(), pieces)
    assert pieces == []
    assert builder.answer() == AnswerBuilder().answer()


def test_an_answer_is_complete_when_every_choice_has_its_finish_reason() -> None:
    builder = AnswerBuilder()
    assert not builder.answer().complete
    take(builder, {"choices": [{"index": 0, "finish_reason": "stop"}, {"index": 1}]})
    assert not builder.answer().complete
    take(builder, {"choices": [{"index": 1, "finish_reason": "length"}]})
    take(builder, {"choices": [{"index": 1, "finish_reason": None}]})
    assert builder.answer().complete
