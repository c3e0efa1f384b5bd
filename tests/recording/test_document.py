from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from extproc.conversation import Answer, Choice, Prompt, ToolCall, Usage
from extproc.errors import Code, Refusal
from extproc.headers import client_facts
from extproc.identity.principal import Principal
from extproc.masking.finding import Action, Direction, Finding
from extproc.policy import Decision, Effect
from extproc.recording.document import Outcome, Timing, closing, merged, opening

ALICE = Principal(
    id="https://issuer#alice",
    name="alice",
    kind="person",
    issuer="https://issuer",
    subject="alice",
    groups=frozenset({"b", "a"}),
    claims={"azp": "cli"},
)
CHOICE = Choice(0, "Hello", "because", [ToolCall("c1", "create", '{"path":"x"}')], "stop")
FINDING = Finding("npm-token", Direction.PROMPT, "messages[0].content", 4, Action.MASK, 0.5, "f" * 32)
FOUND = {
    "rule": "npm-token",
    "direction": "prompt",
    "where": "messages[0].content",
    "offset": 4,
    "action": "mask",
    "at": 0.5,
    "fingerprint": "f" * 32,
}
ANSWER = Answer("gpt-5", [CHOICE], Usage(3, 5), complete=True)


def opened(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "exchange_id": "x1",
        "session": "s1",
        "opened_at": 100.0,
        "principal": ALICE,
        "decision": Decision(Effect.ALLOW, "developers", "", "github"),
        "policy_digest": "d" * 64,
        "client": client_facts([("user-agent", "cli/1")]),
        "client_address": "192.0.2.7:5555",
        "request": {"method": "POST", "path": "/chat/completions"},
        "prompt": Prompt("gpt-5", [{"role": "user", "content": "hi"}], [{"type": "function"}], stream=True),
        "body_bytes": 12,
    }
    return opening(**{**values, **changes})


def closed(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "exchange_id": "x1",
        "opened_at": 100.0,
        "closed_at": 100.25,
        "outcome": Outcome.COMPLETED,
        "refusal": None,
        "status": 200,
        "upstream_status": 200,
        "content_type": "application/json",
        "body_bytes": 34,
        "answer": ANSWER,
        "timing": Timing(1.0, 2.0, [(3.0, "0.text", 5)]),
    }
    return closing(**{**values, **changes})


def test_an_opening_says_who_asked_what_and_what_was_decided() -> None:
    assert opened() == {
        "v": 1,
        "id": "x1",
        "session": "s1",
        "turn": None,
        "opened_at": 100.0,
        "principal": {
            "id": "https://issuer#alice",
            "name": "alice",
            "kind": "person",
            "issuer": "https://issuer",
            "groups": ["a", "b"],
            "roles": [],
            "claims": {"azp": "cli"},
        },
        "decision": {
            "id": "x1",
            "effect": "allow",
            "rule": "developers",
            "reason": "",
            "credential": "github",
            "policy": "d" * 64,
        },
        "client": {
            "address": "192.0.2.7:5555",
            "tunnel": None,
            "trace": None,
            "user_agent": "cli/1",
            **dict.fromkeys(
                ("editor_version", "editor_plugin_version", "integration_id", "initiator", "interaction_id"), None
            ),
            **dict.fromkeys(("interaction_type", "session_id", "intent", "repository", "task_id"), None),
            **dict.fromkeys(("vision_request", "api_version", "anthropic_version", "anthropic_beta"), None),
        },
        "request": {
            "method": "POST",
            "path": "/chat/completions",
            "body_bytes": 12,
            "model": "gpt-5",
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function"}],
            "stream": True,
        },
        "findings": [],
        "masking": None,
    }


def test_an_opening_says_which_turn_the_exchange_belongs_to() -> None:
    turn = {"id": "t1", "retry_of": "x0", "purpose": "title"}
    assert opened(turn=turn) == {**opened(), "turn": turn}


def test_an_opening_of_what_was_refused_early_has_the_same_keys() -> None:
    entry = opened(principal=None, decision=None, prompt=None, client_address=None)
    assert entry.keys() == opened().keys()
    assert (entry["principal"], entry["decision"]) == (None, None)
    assert entry["request"] == {"method": "POST", "path": "/chat/completions", "body_bytes": 12, "model": None}


def test_the_calls_that_a_client_makes_are_in_the_request_with_the_files_they_touch() -> None:
    call = ToolCall("", "create_file", '{"path":"src/a.py"}')
    request = opened(prompt=Prompt(None, [], [], stream=False, tool_calls=[call]))["request"]
    assert request["tool_calls"] == [
        {"id": "", "name": "create_file", "arguments": '{"path":"src/a.py"}', "paths": ["src/a.py"]}
    ]
    assert "tool_calls" not in opened()["request"]


def test_a_closing_says_what_was_answered_and_when() -> None:
    assert closed() == {
        "v": 1,
        "id": "x1",
        "closed_at": 100.25,
        "outcome": "completed",
        "error": None,
        "response": {
            "status": 200,
            "upstream_status": 200,
            "content_type": "application/json",
            "body_bytes": 34,
            "model": "gpt-5",
            "text": "Hello",
            "reasoning": "because",
            "tool_calls": [{"id": "c1", "name": "create", "arguments": '{"path":"x"}', "paths": ["x"]}],
            "finish_reason": "stop",
            "usage": {"input_tokens": 3, "output_tokens": 5},
            "complete": True,
            "error": None,
        },
        "timing": {
            "released": 1.0,
            "response_headers": 2.0,
            "first_piece": 3.0,
            "pieces": [(3.0, "0.text", 5)],
            "closed": 250.0,
        },
        "findings": [],
        "masking": None,
        "approvals": [],
    }


def test_a_closing_without_an_answer_has_no_answers_fields() -> None:
    entry = closed(answer=None, refusal=Refusal(422, Code.POLICY_DENIED, "No."), timing=Timing())
    assert entry["error"] == {"code": "policy.denied", "message": "No."}
    assert set(entry["response"]) == {"status", "upstream_status", "content_type", "body_bytes"}
    assert entry["timing"]["first_piece"] is None


def test_an_answer_without_choices_has_its_fields_empty() -> None:
    response = closed(answer=Answer(None, [], None, complete=True, error="quota"))["response"]
    assert (response["text"], response["tool_calls"], response["usage"], response["error"]) == (None, [], None, "quota")


def test_several_choices_and_what_nobody_understood_are_kept_beside_the_first() -> None:
    answer = replace(ANSWER, choices=[CHOICE, replace(CHOICE, index=1, text="Hi")], unparsed=["?"])
    response = closed(answer=answer)["response"]
    assert response["text"] == "Hello"
    assert [choice["text"] for choice in response["choices"]] == ["Hello", "Hi"]
    assert response["unparsed"] == ["?"]
    assert "choices" not in closed()["response"]
    assert "unparsed" not in closed()["response"]


def test_both_entries_are_json_and_come_back_the_same() -> None:
    for entry in (opened(findings=[FINDING]), closed(findings=[FINDING])):
        again = msgspec.json.decode(msgspec.json.encode(entry))
        assert msgspec.json.encode(again) == msgspec.json.encode(entry)


def test_a_document_joins_both_entries() -> None:
    assert merged(opened(), closed()) == {**opened(), **closed()}
    # Neither entry hides a field of the other; these two are joined.
    assert opened().keys() & closed().keys() == {"v", "id", "findings", "masking"}


def test_each_entry_has_its_own_findings_and_the_document_has_all_in_order() -> None:
    of_answer = msgspec.structs.replace(FINDING, direction=Direction.ANSWER, where="0.text")
    opening_entry = opened(findings=[FINDING], masking={"prompt": {"detectors": "d1"}})
    closing_entry = closed(findings=[of_answer], masking={"answer": {"detectors": "d2"}})
    assert opening_entry["findings"] == [FOUND]
    document = merged(opening_entry, closing_entry)
    assert document["findings"] == [FOUND, {**FOUND, "direction": "answer", "where": "0.text"}]
    assert document["masking"] == {"prompt": {"detectors": "d1"}, "answer": {"detectors": "d2"}}


def test_old_entries_join_to_a_document_without_findings_and_approvals() -> None:
    old_opening, old_closing = (
        {key: value for key, value in entry.items() if key not in {"findings", "masking", "approvals"}}
        for entry in (opened(), closed())
    )
    assert merged(old_opening, old_closing) == merged(opened(), closed())


def test_a_document_has_the_approvals_of_its_closing() -> None:
    asked = [{"id": "x1-1", "state": "approved"}]
    assert merged(opened(), closed(approvals=asked))["approvals"] == asked
    assert merged(opened(), closed())["approvals"] == []
