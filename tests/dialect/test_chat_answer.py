from __future__ import annotations

from typing import Any

import msgspec
import pytest

from extproc.conversation import Piece
from extproc.dialect.chat_answer import MAX_CHOICES, AnswerBuilder


def take(builder: AnswerBuilder, value: object) -> tuple[bool, list[Piece]]:
    pieces: list[Piece] = []
    return builder.take(value, pieces), pieces


def delta(**fields: object) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields}]}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text", "thinking", "cot_summary"])
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


def test_content_may_be_a_list_of_parts() -> None:
    builder = AnswerBuilder()
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]
    assert take(builder, delta(content=parts)) == (True, [Piece("0.text", "ab")])
    assert builder.answer().choices[0].text == "ab"


def test_a_choice_of_legacy_completions_has_its_text_and_no_message() -> None:
    builder = AnswerBuilder()
    assert take(builder, {"choices": [{"index": 1, "text": "a"}, {"index": 1, "text": ""}]}) == (
        True,
        [Piece("1.text", "a")],
    )
    assert builder.answer().choices[0].text == "a"


def test_a_stream_that_says_message_instead_of_delta_is_understood() -> None:
    builder = AnswerBuilder()
    event = {"choices": [{"delta": {"content": "a"}, "message": {"content": "b"}, "finish_reason": "stop"}]}
    assert take(builder, event) == (True, [Piece("0.text", "a"), Piece("0.text", "b")])


ERRORS = {
    "an object": ({"message": "overloaded", "code": 1}, "overloaded"),
    "a string": ("overloaded", "overloaded"),
    "an object without a message": ({"code": 1}, '{"code":1}'),
    "an object whose message is none": ({"message": ["x"]}, '{"message":["x"]}'),
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
    with pytest.raises(msgspec.ValidationError):
        builder.take(event, pieces)
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


def test_the_unfinished_choices_are_those_that_said_something_and_have_no_finish_reason() -> None:
    builder = AnswerBuilder()
    take(builder, {"choices": [{"index": 2}, {"index": 0, "finish_reason": "stop"}, {"index": 1}]})
    assert builder.unfinished() == [1, 2]
    assert (builder.has(0), builder.has(3)) == (True, False)
    assert builder.spoiling(3) == []
