from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.conversation import ToolCall
from extproc.dialect.port import BadAnswer, BadRequest, Dialect, Form
from extproc.dialect.responses import ResponsesDialect
from extproc.dialect.responses_texts import MAX_ITEMS
from extproc.errors import Code, Refusal
from tests.responses_events import ITEM_TYPES, KINDS, added, completed, delta, function_call, message, said, sse
from tests.streaming import channels, play

DIALECT: Dialect = ResponsesDialect()
GOLDEN = Path(__file__).parents[1] / "golden" / "responses"
REQUESTS = sorted(path.name for path in (GOLDEN / "requests").glob("*.json"))
STREAMS = sorted(path.name for path in GOLDEN.glob("*.sse"))
ANSWERS = sorted(path.name for path in GOLDEN.glob("*.json"))


def golden(name: str) -> tuple[bytes, Any]:
    return (GOLDEN / name).read_bytes(), json.loads((GOLDEN / f"{name}.expected").read_bytes())


def test_the_goldens_are_there() -> None:
    assert (len(REQUESTS), len(STREAMS), len(ANSWERS)) == (3, 15, 5)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_read_as_it_was_sent(name: str) -> None:
    body, expected = golden(f"requests/{name}")
    assert asdict(DIALECT.parse_request(body)) == expected


def test_what_was_said_elsewhere_comes_before_the_instructions() -> None:
    prompt = {"id": "pmpt_1", "variables": {"city": "Ulm"}}
    body = {"model": "m", "input": "hi", "instructions": "Be brief.", "prompt": prompt, "conversation": "conv_1"}
    assert DIALECT.parse_request(json.dumps(body).encode()).messages == [
        {"conversation": "conv_1"},
        {"prompt": prompt},
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]


def request(**changes: object) -> bytes:
    return json.dumps({"model": "m", "input": "SECRET", **changes}).encode()


@pytest.mark.parametrize("changes", [{"tools": None, "stream": None, "instructions": None}, {"tools": []}, {}])
def test_tools_stream_and_instructions_may_be_missing_or_null(changes: dict[str, object]) -> None:
    prompt = DIALECT.parse_request(request(**changes))
    assert (prompt.messages, prompt.tools, prompt.stream) == ([{"role": "user", "content": "SECRET"}], [], False)


BAD_REQUESTS = {
    "an empty body": (b"", "the body is empty; expected a JSON object"),
    "two inputs": (b'{"model":"m","input":"a","input":"b"}', "the body has a top-level field twice"),
    "an input in capitals": (b'{"model":"m","input":"a","INPUT":"b"}', "input: expected the name in lower case"),
    "no model": (b'{"input":"SECRET"}', "model: expected a non-empty string"),
    "a model that is a number": (request(model=4), "model: expected a non-empty string"),
    "no input": (b'{"model":"m"}', "input: expected a non-empty string or a non-empty list of objects"),
    "an empty input": (request(input=""), "input: expected a non-empty string or a non-empty list of objects"),
    "an empty list": (request(input=[]), "input: expected a non-empty string or a non-empty list of objects"),
    "an object": (request(input={"a": 1}), "input: expected a non-empty string or a non-empty list of objects"),
    "an item that is a string": (
        request(input=[{}, "SECRET"]),
        "input: expected a non-empty string or a non-empty list of objects",
    ),
    "instructions as a list": (request(instructions=["SECRET"]), "instructions: expected a string"),
    "tools as an object": (request(tools={"name": "SECRET"}), "tools: expected a list of objects"),
    "a tool that is a string": (request(tools=["SECRET"]), "tools: expected a list of objects"),
    "stream as a string": (request(stream="true"), "stream: expected true or false"),
}


@pytest.mark.parametrize(("body", "message"), BAD_REQUESTS.values(), ids=BAD_REQUESTS.keys())
def test_a_bad_request_is_refused_with_the_field_and_the_type_it_needs(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as refused:
        DIALECT.parse_request(body)
    assert str(refused.value) == message


@pytest.mark.parametrize("name", ANSWERS)
def test_a_json_answer_says_what_its_golden_says(name: str) -> None:
    body, expected = golden(name)
    assert asdict(DIALECT.parse_answer(body)) == expected["answer"]


BAD_ANSWERS = {
    "empty": (b"", "the answer: Input data was truncated"),
    "not JSON": (b"Bad gateway SECRET", "the answer: JSON is malformed: invalid character (byte 0)"),
    "a list": (b'["SECRET"]', "the answer is no object with output or an error"),
    "not UTF-8": (b'{"output":[],"x":"\xff"}', "the answer is not UTF-8"),
    "too deep": (b'{"x":' + b"[" * 99_999 + b"]" * 99_999 + b"}", "the answer is nested too deeply"),
    "nothing known": (b'{"message":"SECRET"}', "the answer is no object with output or an error"),
    "output as an object": (b'{"output":{"a":"SECRET"}}', "the answer is no object with output or an error"),
}


@pytest.mark.parametrize(("body", "message"), BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_a_json_answer_that_is_not_understood_is_refused_without_quoting_it(body: bytes, message: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        DIALECT.parse_answer(body)
    assert str(refused.value) == message


def test_two_items_of_a_json_answer_with_the_same_id_are_both_kept() -> None:
    body = {"status": "completed", "output": [function_call("1"), function_call("2"), message("a"), message("b")]}
    only = DIALECT.parse_answer(json.dumps(body).encode()).choices[0]
    assert (only.text, only.tool_calls) == ("ab", [ToolCall("c", "bash", "1"), ToolCall("c", "bash", "2")])


def test_no_json_answer_is_amended() -> None:
    tree = json.loads((GOLDEN / "calls.json").read_bytes())
    assert not DIALECT.amend(tree)
    assert tree == json.loads((GOLDEN / "calls.json").read_bytes())


@pytest.mark.parametrize("name", STREAMS)
def test_a_streamed_answer_says_what_its_golden_says(name: str) -> None:
    data, expected = golden(name)
    stream = DIALECT.stream()
    readings, pieces = play(stream, data)
    assert channels(readings) == expected["channels"]
    assert [[piece.channel, piece.text] for piece in pieces] == expected["pieces"]
    assert asdict(stream.answer()) == expected["answer"]


@given(name=st.sampled_from(STREAMS), data=st.data())
def test_channels_and_answer_do_not_depend_on_where_the_bytes_are_cut(name: str, data: st.DataObject) -> None:
    body, expected = golden(name)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=20)))
    stream = DIALECT.stream()
    readings, _ = play(stream, *[body[i:j] for i, j in zip([0, *cuts], [*cuts, len(body)], strict=True)])
    assert channels(readings) == expected["channels"]
    assert asdict(stream.answer()) == expected["answer"]


@given(texts=st.lists(st.text()), stem=st.sampled_from(["output_text", "refusal", "reasoning_text"]))
def test_a_text_does_not_depend_on_where_the_deltas_are_cut(texts: list[str], stem: str) -> None:
    whole = "".join(texts)
    answer = said(
        *[delta(text, stem) for text in texts], delta("", stem) | {"type": f"response.{stem}.done", "text": whole}
    )
    assert (answer.choices[0].text + answer.choices[0].reasoning, answer.unparsed) == (whole, None)


def test_the_arguments_of_a_function_are_json_and_everything_else_is_plain() -> None:
    forms = {}
    for stem in ("function_call_arguments", "mcp_call_arguments", "custom_tool_call_input", "output_text", "dream"):
        [slot] = DIALECT.stream().read("message", delta("x", stem)).slots
        forms[stem] = slot.form
    assert {stem for stem, form in forms.items() if form is Form.JSON} == {
        "function_call_arguments",
        "mcp_call_arguments",
    }
    [begun] = DIALECT.stream().read("message", added(function_call('{"a"'))).slots
    assert begun.form is Form.JSON


CHANNELS = {
    "an index": (delta("x"), "0.content.0.output_text"),
    "an index that is a float": (delta("x", output_index=1.0), "1.content.0.output_text"),
    "an index that is a text": (delta("x", output_index="01"), "1.content.0.output_text"),
    "a negative index": (delta("x", output_index=-1), "-1.content.0.output_text"),
    "an endless index": (delta("x", output_index=10**5000), "-.content.0.output_text"),
    "a wrong index": (delta("x", output_index=["SECRET"], content_index=True), "-.content.-.output_text"),
    "an id in place of the index": (delta("x", output_index=None, item_id="SECRET"), "item0.content.0.output_text"),
    "no content index": (delta("x", content_index=None), "0.content.0.output_text"),
    "a summary": (delta("x", "reasoning_summary_text", content_index=None, summary_index=2),
                  "0.summary.2.reasoning_summary_text"),
    "a command": (delta("x", "shell_call_command", content_index=None, command_index=1),
                  "0.command.1.shell_call_command"),
    "a kind that nobody knows": (delta("x", "dream.of"), "0.content.0.dream.of"),
    "a kind that is no word": (delta("x", "SECRET KIND"), "0.content.0.-"),
    "an event that is named outside": ({"delta": "x", "output_index": 4}, "4.content.0.output_text"),
}  # fmt: skip


@pytest.mark.parametrize(("tree", "channel"), CHANNELS.values(), ids=CHANNELS.keys())
def test_every_delta_has_a_channel_that_quotes_nothing(tree: dict[str, Any], channel: str) -> None:
    [slot] = DIALECT.stream().read("response.output_text.delta", tree).slots
    assert (slot.channel, slot.holder[slot.key]) == (channel, "x")


def test_every_member_of_a_delta_that_is_an_object_has_its_own_channel() -> None:
    tree = delta({"stdout": "a", "stderr": "b", "n": 1}, "shell_call_output_content", content_index=None)
    slots = DIALECT.stream().read("message", tree).slots
    assert {slot.channel: slot.holder[slot.key] for slot in slots} == {
        "0.shell_call_output_content.stdout": "a",
        "0.shell_call_output_content.stderr": "b",
    }


def test_pieces_of_sound_are_no_text() -> None:
    assert DIALECT.stream().read("message", {"type": "response.audio.delta", "delta": "aGVsbG8="}).slots == []


def test_items_without_an_index_are_told_apart_by_their_ids() -> None:
    stream = DIALECT.stream()
    texts = [delta(text, output_index=None, item_id=item_id) for text, item_id in ("1a", "2b", "3a")]
    readings, _ = play(stream, sse(*texts))
    assert channels(readings) == {"item0.content.0.output_text": "13", "item1.content.0.output_text": "2"}
    assert stream.answer().choices[0].text == "132"


def test_an_id_finds_the_item_whose_index_was_left_out() -> None:
    item = function_call('{"a"', id="fc_1")
    readings, _ = play(
        DIALECT.stream(),
        sse(
            added(item, 5),
            delta(":1}", "function_call_arguments", output_index=None, content_index=None, item_id="fc_1"),
        ),
    )
    assert channels(readings) == {"5.function_call_arguments": '{"a":1}'}


BEGINNINGS = {
    "arguments": (added(function_call('{"a"')), {"0.function_call_arguments": '{"a"'}),
    "content": (
        added(message("a", "b"), 3),
        {"3.content.0.output_text": "a", "3.content.1.output_text": "b"},
    ),
    "a summary": (
        added({"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}),
        {"0.summary.0.reasoning_summary_text": "a"},
    ),
    "a part": (
        {"type": "response.content_part.added", "output_index": 1, "part": {"type": "refusal", "refusal": "No"}},
        {"1.content.0.refusal": "No"},
    ),
    "a summary part": (
        {
            "type": "response.reasoning_summary_part.added",
            "output_index": 1,
            "summary_index": 2,
            "part": {"type": "summary_text", "text": "a"},
        },
        {"1.summary.2.reasoning_summary_text": "a"},
    ),
}


@pytest.mark.parametrize(("event", "expected"), BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_what_an_item_or_part_begins_with_is_joined_to_its_deltas(
    event: dict[str, Any], expected: dict[str, str]
) -> None:
    readings, _ = play(DIALECT.stream(), sse(event))
    assert channels(readings) == expected
    answer = said(event)
    only = answer.choices[0]
    assert "".join([only.text, only.reasoning, *(call.arguments for call in only.tool_calls)]) == "".join(
        expected.values()
    )
    assert answer.unparsed is None


CLOSES = {
    "a text": ({"type": "response.output_text.done", "output_index": 1}, ("1.content.0.output_text",)),
    "arguments": (
        {"type": "response.function_call_arguments.done", "output_index": 1},
        ("1.function_call_arguments",),
    ),
    "a part": (
        {"type": "response.content_part.done", "output_index": 1, "content_index": 2},
        ("1.content.2.",),
    ),
    "a summary part": ({"type": "response.reasoning_summary_part.done", "output_index": 1}, ("1.summary.0.",)),
    "an item": (added({}, 1, "done"), ("1.",)),
    "a finished response": (completed(), ("",)),
    "an incomplete response": ({"type": "response.incomplete"}, ("",)),
    "a failed response": ({"type": "response.failed"}, ("",)),
    "an error": ({"type": "error", "message": "x"}, ("",)),
    "an unknown kind": ({"type": "response.dream.done", "output_index": 1}, ("1.dream",)),
}


@pytest.mark.parametrize(("event", "expected"), CLOSES.values(), ids=CLOSES.keys())
def test_an_end_closes_its_channels_and_repeats_them_outside_of_slots(
    event: dict[str, Any], expected: tuple[str, ...]
) -> None:
    reading = DIALECT.stream().read("message", event | {"text": "repeated"})
    assert (reading.slots, reading.closes) == ([], expected)


def test_what_was_masked_is_what_is_recorded() -> None:
    stream = DIALECT.stream()
    tree = delta("the secret")
    [slot] = stream.read("message", tree).slots
    slot.holder[slot.key] = "[MASKED:x]"
    stream.take("message", tree)
    assert stream.answer().choices[0].text == "[MASKED:x]"


def test_ids_over_the_bound_share_a_channel_and_are_still_read() -> None:
    events = [delta("x", output_index=None, item_id=f"i{n}") for n in range(MAX_ITEMS + 2)]
    readings, _ = play(DIALECT.stream(), sse(*events))
    assert channels(readings)["-.content.0.output_text"] == "xx"


NAMES = st.sampled_from(
    [
        *("delta", "item", "part", "response", "output", "content", "summary", "text", "refusal", "arguments", "input"),
        *("code", "name", "id", "call_id", "item_id", "type", "error", "message", "usage", "model", "status", "result"),
        *("logprobs", "action", "output_index", "content_index", "sequence_number"),
    ]
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ITEM_TYPES
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=3), inner, max_size=5)
)
TREES = st.dictionaries(NAMES, VALUES, max_size=8)


@given(events=st.lists(st.tuples(KINDS, TREES), max_size=6))
def test_no_tree_makes_anything_raise(events: list[tuple[str, dict[str, Any]]]) -> None:
    stream = DIALECT.stream()
    for kind, tree in events:
        for slot in stream.read(kind, tree).slots:
            assert type(slot.holder[slot.key]) is str
        stream.take(kind, tree)
        stream.answer()
    for event in stream.ending("The end.").split(b"\n\n")[:-1]:
        assert msgspec.json.decode(event.partition(b"\ndata: ")[2])["type"].startswith("response.")


def test_a_refusal_is_the_error_object_of_openai() -> None:
    body = DIALECT.error_body(Refusal(403, Code.POLICY_DENIED, "No."), "d-1")
    assert json.loads(body)["error"] == {
        "message": "No.",
        "type": "invalid_request_error",
        "code": "policy.denied",
        "param": None,
        "decision_id": "d-1",
    }


def test_what_is_encrypted_and_ids_pass_byte_for_byte_but_no_text_does() -> None:
    assert {"encrypted_content", "id", "item_id", "call_id", "partial_image_b64"} <= DIALECT.opaque
    assert not {"text", "refusal", "delta", "arguments", "input", "code", "output", "result", "name"} & DIALECT.opaque
    assert frozenset({"arguments"}) == DIALECT.json_texts
