from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from extproc.console.showing.marks import Findings
from extproc.console.showing.messages import REPEATED_CHARS, Kind, Message, Page, Teller, begin_of_turn, place_of
from extproc.dialect.chat import ChatDialect
from extproc.dialect.messages import MessagesDialect
from extproc.dialect.responses import ResponsesDialect
from extproc.masking.finding import Direction
from tests.console.rendered import Read

GOLDEN = Path(__file__).parents[2] / "golden"


def told(message: Any, findings: Any = (), place: str | None = None) -> Message:
    return Teller(Page(1000), "x1", Findings(findings), Direction.PROMPT).message(message, place)


def parts(message: Any) -> list[tuple[str, str, str]]:
    """Return kind, label and text of each part."""
    return [(one.kind.value, one.label, Read(str(one.body)).text) for one in told(message).parts]


def kinds(messages: list[Any]) -> list[tuple[str, list[str]]]:
    return [(one.role, [part.kind.value for part in one.parts]) for one in map(told, messages)]


# --- the dialects, as they are read on the wire ----------------------------------------------------------------------


def test_chat_with_calls_and_their_results() -> None:
    prompt = ChatDialect().parse_request((GOLDEN / "chat" / "cli_second_turn.request").read_bytes())
    assert kinds(prompt.messages) == [
        ("system", ["text"]),
        ("user", ["text"]),
        ("assistant", ["text", "call"]),
        ("tool", ["result"]),
    ]
    assert begin_of_turn(prompt.messages) == 3
    assert told(prompt.messages[0]).folded
    assert not told(prompt.messages[1]).folded


def test_messages_with_blocks() -> None:
    prompt = MessagesDialect().parse_request((GOLDEN / "messages" / "requests" / "cli_turn_2.json").read_bytes())
    shown = kinds(prompt.messages)
    assert shown[0][0] == "system"
    assert ("assistant", ["text", "call"]) in shown or any("call" in found for _, found in shown)
    assert shown[-1][0] == "user"
    assert "result" in shown[-1][1]
    assert begin_of_turn(prompt.messages) == len(shown) - 1


def test_responses_with_items_that_have_no_role() -> None:
    body = {
        "model": "m",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "type": "message", "content": [{"type": "input_text", "text": "Make it."}]},
            {
                "type": "reasoning",
                "id": "r",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "gA==",
            },
            {
                "type": "custom_tool_call",
                "name": "apply_patch",
                "input": "*** Begin Patch\n+a\n*** End Patch",
                "call_id": "c",
            },
            {"type": "custom_tool_call_output", "call_id": "c", "output": "Done."},
        ],
    }
    messages = ResponsesDialect().parse_request(json.dumps(body).encode()).messages
    assert begin_of_turn(messages) == 4
    assert [[kind for kind, _, _ in parts(one)] for one in messages] == [
        ["text"],
        ["text"],
        ["reasoning"],
        ["call"],
        ["result"],
    ]
    assert parts(messages[2]) == [("reasoning", "", "Hm.")]
    assert parts(messages[3])[0][1] == "apply_patch"
    assert parts(messages[4]) == [("result", "", "Done.")]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("text", [("text", "", "text")]),
        (7, [("other", "", "7")]),
        ({"role": "user", "content": None}, []),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, "image_url"),
        (
            {"role": "user", "content": "a", "refusal": "no"},
            [("text", "", "a"), ("other", "other members", '{\n  "refusal": "no"\n}')],
        ),
        ({"type": "local_shell_call", "call_id": "c", "action": {"command": ["ls"]}}, "ls"),
        ({"jsonrpc": "2.0", "method": "initialize"}, "initialize"),
        ({"input": "x" * 300, "n": 1}, [("result", "input", "x" * 300), ("other", "", '{\n  "n": 1\n}')]),
        ({"role": "assistant", "tool_calls": [{"odd": 1}]}, "odd"),
        ({"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}]}, [("reasoning", "", "Hm.")]),
        (
            {"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "r"}]}]},
            [("result", "", "r")],
        ),
    ],
)
def test_whatever_else_is_sent_is_shown(message: Any, expected: Any) -> None:
    found = parts(message)
    if isinstance(expected, str):
        assert any(expected in text for _, _, text in found)
    else:
        assert found == expected


def test_a_request_without_roles_is_all_new() -> None:
    assert begin_of_turn([{"jsonrpc": "2.0"}, "x", None]) == 0


# --- findings --------------------------------------------------------------------------------------------------------


def test_findings_are_of_the_message_that_they_were_found_in() -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    assert [place_of("chat", messages, at) for at in (0, 1)] == ["messages[0]", "messages[1]"]
    assert [place_of("messages", messages, at) for at in (0, 1)] == ["system", "messages[0]"]
    assert place_of("messages", messages[1:], 0) == "messages[0]"
    assert place_of("responses", messages, 0) is None
    found = [
        {
            "rule": "r",
            "direction": "prompt",
            "where": f"messages[{at}].content",
            "offset": 0,
            "action": "mask",
            "fingerprint": f"f{at}",
        }
        for at in range(2)
    ]
    body = told({"role": "user", "content": "[MASKED:r]"}, found, "messages[1]").parts[0].body
    assert re.findall("fingerprint (f.)", body)[0] == "f1"


# --- long texts ------------------------------------------------------------------------------------------------------


def test_a_long_text_is_cut_and_says_how_much_is_left_out() -> None:
    (part,) = told({"role": "user", "content": "x" * 1500}).parts
    assert (part.chars, part.more, Read(str(part.body)).text) == (1500, 500, "x" * 1000)


def test_a_long_text_that_was_shown_on_the_page_is_not_shown_again() -> None:
    page, text = Page(10_000), "x" * REPEATED_CHARS
    for exchange, expected in (("x1", None), ("x1", None), ("x2", "x1"), ("x3", "x1")):
        teller = Teller(page, exchange, Findings([]), Direction.PROMPT)
        part = teller.part(Kind.TEXT, "", text)
        assert (part.as_in, bool(part.body)) == (expected, expected is None)
        assert teller.part(Kind.TEXT, "", "short").as_in is None
    assert Teller(page, "x4", Findings([]), Direction.ANSWER).part(Kind.TEXT, "", text).as_in is None
