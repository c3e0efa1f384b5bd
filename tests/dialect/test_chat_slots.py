from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.chat import ChatStream
from extproc.dialect.chat_answer import MAX_CHOICES
from extproc.dialect.chat_calls import MAX_TOOL_CALLS
from extproc.dialect.chat_slots import SlotReader
from extproc.dialect.completions import CompletionsStream
from extproc.dialect.port import Form, Reading


def shown(reading: Reading) -> list[tuple[str, str]]:
    return [(slot.channel, slot.holder[slot.key]) for slot in reading.slots]


def read(*entries: object) -> list[tuple[str, str]]:
    return shown(SlotReader().read({"choices": list(entries)}))


@pytest.mark.parametrize("name", ["delta", "message"])
def test_every_text_of_a_delta_and_of_a_message_has_its_channel(name: str) -> None:
    texts = ["content", "refusal", "reasoning_content", "reasoning", "reasoning_text", "thinking", "cot_summary"]
    message = {text: text[:3] for text in texts} | {"role": "assistant", "reasoning_opaque": "b3BhcXVl", "other": "x"}
    assert read({"index": 3, name: message}) == [(f"3.{text}", text[:3]) for text in texts]


def test_a_slot_holds_the_place_of_its_text_in_the_tree() -> None:
    tree = {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}]}
    (slot,) = SlotReader().read(tree).slots
    slot.holder[slot.key] = "masked"
    assert "masked" in json.dumps(tree)


def test_parts_of_content_continue_the_content() -> None:
    parts = [{"type": "text", "text": "a"}, "b", {"text": 1}, {"type": "text", "text": "c"}]
    assert read({"delta": {"content": parts}}) == [("0.content", "a"), ("0.content", "c")]


def test_tool_calls_have_channels_for_name_and_arguments_or_input() -> None:
    calls = [
        {"index": 4, "id": "x", "function": {"name": "a", "arguments": "{"}},
        {"index": 7, "id": "y", "custom": {"name": "b", "input": "***"}},
    ]
    reading = SlotReader().read({"choices": [{"delta": {"tool_calls": calls, "function_call": {"arguments": "["}}}]})
    assert [(slot.channel, slot.holder[slot.key], slot.form) for slot in reading.slots] == [
        ("0.tool.0.name", "a", Form.PLAIN),
        ("0.tool.0.arguments", "{", Form.JSON),
        ("0.tool.1.name", "b", Form.PLAIN),
        ("0.tool.1.input", "***", Form.PLAIN),
        ("0.tool.2.arguments", "[", Form.JSON),
    ]


def test_tokens_are_text_once_more() -> None:
    chat = {"content": [{"token": "a", "logprob": -1}, {"token": "b"}], "refusal": None}
    legacy = {"tokens": ["c", "d"], "text_offset": [0, 1], "token_logprobs": [-1, -2]}
    assert read({"logprobs": chat}, {"index": 1, "text": "cd", "logprobs": legacy}) == [
        ("0.logprobs.content", "a"),
        ("0.logprobs.content", "b"),
        ("1.text", "cd"),
        ("1.logprobs.tokens", "c"),
        ("1.logprobs.tokens", "d"),
    ]


def test_a_finish_reason_closes_its_choice_and_nothing_else() -> None:
    reader = SlotReader()
    entries = [
        {"index": 1, "finish_reason": "stop"},
        {"index": 10},
        {"finish_reason": None},
        {"index": 2, "finish_reason": []},
    ]
    assert reader.read({"choices": entries}).closes == ("1.",)
    assert reader.read({"choices": [{"finish_reason": "stop", "delta": {"content": "a"}}]}).closes == ("0.",)


@pytest.mark.parametrize("index", [0, None, 0.0, "0", False])
def test_an_index_is_what_a_lenient_client_takes_it_for(index: object) -> None:
    assert read({"index": index, "delta": {"content": "a"}}) == [("0.content", "a")]


@pytest.mark.parametrize("index", [-1, 2**31, 2**70, "x", "9" * 5000, [0], {"a": 0}, float("inf")])
def test_what_is_no_index_shares_a_channel(index: object) -> None:
    assert read({"index": index, "delta": {"content": "a"}}, {"index": "?", "delta": {"content": "b"}}) == [
        ("other.content", "a"),
        ("other.content", "b"),
    ]
    call = {"index": index, "function": {"arguments": "{"}}
    assert read({"delta": {"tool_calls": [call, call]}}) == [("0.tool.0.arguments", "{")] * 2


def test_texts_over_a_bound_share_a_channel() -> None:
    reader = SlotReader()
    reader.read({"choices": [{"index": index} for index in range(MAX_CHOICES)]})
    entries = [{"index": MAX_CHOICES + more, "delta": {"content": "x"}} for more in (0, 1)]
    assert shown(reader.read({"choices": entries})) == [("more.content", "x")] * 2
    calls = [{"index": index, "function": {"arguments": "x"}} for index in range(MAX_TOOL_CALLS + 2)]
    assert {channel for channel, _ in read({"delta": {"tool_calls": calls}})} == {
        f"0.tool.{number}.arguments" for number in range(MAX_TOOL_CALLS + 1)
    }


NAMES = st.sampled_from(
    [
        "choices",
        "delta",
        "message",
        "content",
        "text",
        "index",
        "id",
        "tool_calls",
        "function",
        "custom",
        "name",
        "arguments",
        "input",
        "function_call",
        "finish_reason",
        "logprobs",
        "tokens",
        "token",
        "error",
        "usage",
        "model",
    ]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=20,
)
ODD = st.one_of(TREES, st.sampled_from([0, 1, -1, "x", ""]))
FRAGMENTS = st.fixed_dictionaries(
    {}, optional={"index": ODD, "id": ODD, **dict.fromkeys(["function", "custom"], st.dictionaries(NAMES, ODD))}
)
MESSAGES = st.fixed_dictionaries(
    {}, optional={"content": ODD, "tool_calls": st.lists(FRAGMENTS | ODD, max_size=3), "function_call": ODD}
)
ENTRIES = st.fixed_dictionaries(
    {}, optional={"index": ODD, "delta": MESSAGES | ODD, "message": MESSAGES, "text": ODD, "finish_reason": ODD}
)
EVENTS = st.one_of(
    st.dictionaries(NAMES, TREES), st.fixed_dictionaries({"choices": st.lists(ENTRIES | ODD, max_size=3), "id": ODD})
)


@pytest.mark.parametrize("kind", [ChatStream, CompletionsStream])
@given(trees=st.lists(EVENTS, max_size=4))
def test_no_tree_makes_a_stream_raise_and_every_text_taken_is_in_a_slot(
    kind: type[ChatStream], trees: list[dict[str, Any]]
) -> None:
    stream = kind()
    for tree in trees:
        reading = stream.read("message", tree)
        places = [(id(slot.holder), slot.key) for slot in reading.slots]
        assert len(places) == len(set(places))
        texts = [slot.holder[slot.key] for slot in reading.slots]
        assert all(isinstance(text, str) for text in texts)
        for piece in stream.take("message", tree):
            if piece.channel.endswith("unparsed"):
                assert piece.text == msgspec.json.encode(tree).decode()
            else:
                assert piece.text in "".join(texts)
    assert stream.answer() == stream.answer()
    assert stream.ending("The end.").endswith(b"\n\ndata: [DONE]\n\n")
