from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.dialect.responses import ResponsesDialect
from extproc.dialect.responses_transcript import MAX_CALLS, MAX_TEXTS
from tests.responses_events import ITEM_TYPES, KINDS, added, completed, delta, function_call, message, said, sse
from tests.streaming import play

DIALECT = ResponsesDialect()

CALL = {"type": "response.function_call_arguments.delta", "output_index": 0, "delta": "1"}
REPEATS = {
    "an item of another text": ([delta("a"), added(message("b"), 0, "done")], "a", [], True),
    "a part of another text": (
        [
            delta("a"),
            {"type": "response.content_part.done", "output_index": 0, "part": {"type": "output_text", "text": "b"}},
        ],
        "a",
        [],
        True,
    ),
    "other arguments": (
        [CALL, added(function_call("2"), 0, "done"), completed(function_call("2"))],
        "",
        [("c", "bash", "1"), ("c", "bash", "2")],
        False,
    ),
    "another name": (
        [added(function_call("")), CALL, completed(function_call("1", "rm"))],
        "",
        [("c", "bash", "1"), ("c", "rm", "1")],
        False,
    ),
    "another text after the end": ([delta("a"), completed(message("a", "b"))], "ab", [], False),
    "messages that the end has with other ids": (
        [delta("a"), delta("b", output_index=1), completed(message("a", id="x"), message("b", id="y"))],
        "ab",
        [],
        False,
    ),
    "a message that only the end has": ([CALL, completed(function_call("1"), message("b"))], "b",
                                        [("c", "bash", "1")], False),
}  # fmt: skip


@pytest.mark.parametrize(("events", "text", "calls", "is_noted"), REPEATS.values(), ids=REPEATS.keys())
def test_what_says_something_else_than_the_deltas_is_kept_beside_them(
    events: list[dict[str, Any]], text: str, calls: list[tuple[str, str, str]], *, is_noted: bool
) -> None:
    answer = said(*events)
    only = answer.choices[0]
    assert (only.text, [(call.id, call.name, call.arguments) for call in only.tool_calls]) == (text, calls)
    assert answer.unparsed == (['{"0.content.0.output_text":"b"}'] if is_noted else None)


def test_a_difference_is_noted_once_however_often_it_is_repeated() -> None:
    other = message("b")
    assert said(delta("a"), added(other, 0, "done"), completed(other)).unparsed == ['{"0.content.0.output_text":"b"}']


def test_what_a_call_carried_before_its_text_is_noted() -> None:
    shell = {"type": "local_shell_call", "call_id": "c", "action": {"command": ["ls"]}}
    other = shell | {"action": {"command": ["rm"]}}
    answer = said(added(shell), added(other, 0, "done"))
    assert [call.arguments for call in answer.choices[0].tool_calls] == [
        '{"type":"local_shell_call","action":{"command":["rm"]}}'
    ]
    assert answer.unparsed == ['{"type":"local_shell_call","action":{"command":["ls"]}}']


def test_what_a_call_carried_is_noted_when_its_text_comes() -> None:
    shell = {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"]}}
    text = delta("ls", "shell_call_input", content_index=None)
    answer = said(added(shell), text)
    assert [(call.name, call.arguments) for call in answer.choices[0].tool_calls] == [("shell_call", "ls")]
    assert answer.unparsed == ['{"type":"shell_call","action":{"commands":["ls"]}}']


@pytest.mark.parametrize(
    "event",
    [
        delta("a"),
        added(message("a")),
        completed(message("a")),
        {"type": "response.content_part.done", "part": {"type": "output_text", "text": "a"}},
        {"type": "response.output_text.done", "text": "a"},
    ],
    ids=lambda event: event["type"],
)
def test_a_member_that_nobody_knows_is_noted_beside_the_text(event: dict[str, Any]) -> None:
    answer = said(event | {"dream": "of"})
    assert (answer.choices[0].text, answer.unparsed) == ("a", [f'{{"type":"{event["type"]}","dream":"of"}}'])


ERRORS = {
    "an error event": ({"type": "error", "message": "Slow down.", "code": "x"}, "Slow down."),
    "an error event with an object": ({"type": "error", "error": {"message": "Slow down."}}, "Slow down."),
    "an object without a type": ({"error": {"message": "Slow down.", "code": "x"}}, "Slow down."),
    "an error that is a text": ({"error": "Slow down."}, "Slow down."),
    "an error without a message": ({"error": {"code": "x"}}, '{"code":"x"}'),
    "a failed response": ({"type": "response.failed", "response": {"error": {"message": "Slow down."}}}, "Slow down."),
}


@pytest.mark.parametrize(("event", "error"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_is_kept_with_its_message(event: dict[str, Any], error: str) -> None:
    answer = said(event)
    assert (answer.error, answer.unparsed) == (error, None)


def test_an_error_does_not_hide_what_else_an_event_says() -> None:
    answer = said(delta("a", error={"message": "x"}), {"type": "response.dream", "error": "y", "dream": "z"})
    assert (answer.choices[0].text, answer.error) == ("a", "x\ny")
    assert answer.unparsed == ['{"type":"response.dream","error":"y","dream":"z"}']


def test_only_the_terminal_events_of_the_dialect_make_an_answer_complete() -> None:
    stream = DIALECT.stream()
    play(stream, sse(delta("a")), b"data: [DONE]\n\n")
    assert not stream.answer().complete
    play(stream, sse(completed()))
    assert stream.answer().complete


def test_what_is_over_a_bound_is_unparsed() -> None:
    texts = said(*[delta("x", content_index=n) for n in range(MAX_TEXTS + 2)])
    assert len(texts.choices[0].text) == MAX_TEXTS
    assert texts.unparsed == [f'{{"0.content.{MAX_TEXTS + n}.output_text":"x"}}' for n in range(2)]
    calls = said(*[added(function_call("x", call_id=f"c{n}"), n) for n in range(MAX_CALLS + 1)])
    assert len(calls.choices[0].tool_calls) == MAX_CALLS
    assert any(f"c{MAX_CALLS}" in text for text in calls.unparsed or [])


TOLD = st.recursive(
    st.just("mark"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({"type": ITEM_TYPES}, optional={"text": inner, "content": inner, "action": inner})
    ),
)


def marked(value: object, marks: list[str]) -> object:
    """Put another mark in the place of every `mark`."""
    if isinstance(value, dict):
        return {name: said if name == "type" else marked(said, marks) for name, said in value.items()}
    if isinstance(value, list):
        return [marked(said, marks) for said in value]
    marks.append(f"mark{len(marks)}x")
    return marks[-1]


@given(
    events=st.lists(
        st.tuples(
            KINDS.filter(lambda kind: kind not in {"error", "response.created", "response.in_progress"}),
            st.fixed_dictionaries(
                {},
                optional={
                    "item": TOLD,
                    "part": TOLD,
                    "text": TOLD,
                    "delta": TOLD,
                    "arguments": TOLD,
                    "dream": TOLD,
                    "response": st.fixed_dictionaries({"output": st.lists(TOLD, max_size=2)}),
                },
            ),
            st.integers(0, 1),
        ),
        max_size=6,
    )
)
def test_nothing_that_an_event_says_goes_unrecorded(events: list[tuple[str, dict[str, Any], int]]) -> None:
    stream = DIALECT.stream()
    marks: list[str] = []
    for kind, tree, index in events:
        event: Any = marked(tree, marks)
        stream.read(kind, event)
        stream.take(kind, event | {"output_index": index})
    recorded = json.dumps(asdict(stream.answer()))
    assert [mark for mark in marks if mark not in recorded] == []
