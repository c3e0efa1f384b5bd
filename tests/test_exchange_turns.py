"""Turns and retries as they are recorded, and the headers that say so to GitHub on their way there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from extproc.effects import PassRequestHeaders
from extproc.events import CredentialReady, End, Ended, Identified, Recorded, RequestBody, ResponseBody
from extproc.exchange import Exchange
from extproc.rules import Rules
from tests.playbook import ALICE, ANSWER, CREDENTIAL, MASKED, PROMPT, SECRET, Playbook, request, response, rules

CLI = (("x-client-session-id", "s-1"), ("x-interaction-id", "i-1"))
TITLE = (("x-interaction-type", "agent-session-name-generation"),)

BILLING = {
    "x-initiator": ("initiator", "user"),
    "x-interaction-id": ("interaction_id", "i-1"),
    "x-interaction-type": ("interaction_type", "conversation-user"),
    "openai-intent": ("intent", "conversation-agent"),
    "copilot-integration-id": ("integration_id", "copilot-developer-cli"),
    "x-agent-task-id": ("task_id", "t-1"),
    "x-client-session-id": ("session_id", "s-1"),
    "copilot-vision-request": ("vision_request", "true"),
    "anthropic-version": ("anthropic_version", "2023-06-01"),
    "anthropic-beta": ("anthropic_beta", "interleaved-thinking-2025-05-14"),
    "x-github-api-version": ("api_version", "2026-08-01"),
}


class Client:
    """Send one prompt after the other to one gateway."""

    def __init__(self) -> None:
        self._rules: Rules = rules()
        self._count = 0

    def send(self, *headers: tuple[str, str], body: bytes = PROMPT, status: int | None = 200) -> dict[str, Any]:
        """Return the turn that is recorded; `status` is the upstream's answer, None where the client hangs up."""
        self._count += 1
        book = Playbook(Exchange(f"x{self._count}", self._rules))
        book.skip(request("POST", "/chat/completions", *headers)).skip(Identified(ALICE))
        book.skip(RequestBody(body, end_of_stream=True)).skip(CredentialReady(CREDENTIAL)).skip(Recorded())
        if status is None:
            book.skip(Ended(End.CLIENT))
        else:
            book.skip(response(status)).skip(ResponseBody(ANSWER, end_of_stream=True))
        assert book.closing["outcome"] == {None: "aborted", 200: "completed"}.get(status, "upstream_error")
        turn: dict[str, Any] = book.opening["turn"]
        return turn


def turn(of: str | None, retry_of: str | None = None, purpose: str | None = None) -> dict[str, str | None]:
    return {"id": of, "retry_of": retry_of, "purpose": purpose}


def prompt(*messages: dict[str, Any]) -> bytes:
    return json.dumps({"model": "gpt-5", "messages": messages}).encode()


def test_a_retry_of_the_command_line_client_is_recorded_as_one() -> None:
    client = Client()
    assert client.send(*CLI, ("x-initiator", "user"), status=500) == turn("i-1")
    assert client.send(*CLI, ("x-initiator", "agent"), status=500) == turn("i-1", retry_of="x1")
    assert client.send(*CLI, ("x-initiator", "agent")) == turn("i-1", retry_of="x1")


@pytest.mark.parametrize("status", [None, 429, 500])
def test_a_client_without_ids_tries_again_what_failed_and_asks_anew_what_was_answered(status: int | None) -> None:
    client = Client()
    assert client.send(status=status) == turn("x1")
    assert client.send() == turn("x1", retry_of="x1")
    assert client.send() == turn("x3")


def test_results_of_tools_stay_in_the_turn_of_a_masked_prompt() -> None:
    asked = {"role": "user", "content": f"use {SECRET}"}
    client, called = Client(), {"role": "assistant", "content": "", "tool_calls": []}
    assert client.send(body=prompt(asked)) == turn("x1")
    # A client that was shown what was masked sends that the next time.
    for content in (asked["content"], f"use {MASKED}"):
        again = prompt({"role": "user", "content": content}, called, {"role": "tool", "content": "ok"})
        assert client.send(body=again)["id"] == "x1"


def test_a_title_is_told_from_the_prompt_it_is_for() -> None:
    client, named = Client(), (("x-session-id", "ses_1"), ("x-interaction-id", "ses_1"), ("x-initiator", "user"))
    assert client.send(*named, *TITLE) == turn(None, purpose="title")
    assert client.send(*named) == turn("x2")


def test_what_is_refused_before_it_is_read_is_recorded_in_its_turn() -> None:
    book = Playbook().skip(request("POST", "/chat/completions", *CLI, token=None))
    assert book.opening["turn"] == turn("i-1")


def test_where_no_model_is_asked_there_is_no_turn() -> None:
    book = Playbook().skip(request("GET", "/models", *CLI, end_of_stream=True)).skip(Identified(ALICE))
    book.skip(CredentialReady(CREDENTIAL))
    assert book.opening["turn"] is None


@pytest.mark.parametrize("name", BILLING)
def test_what_github_bills_by_goes_upstream_as_it_came_and_is_recorded(name: str) -> None:
    fact, value = BILLING[name]
    book = Playbook().skip(request("POST", "/chat/completions", (name, value))).skip(Identified(ALICE))
    book.skip(RequestBody(PROMPT, end_of_stream=True))
    # An operator may set headers together with a credential; here none does.
    book.skip(CredentialReady(replace(CREDENTIAL, headers={}))).skip(Recorded())
    passed = book.first(PassRequestHeaders)
    assert name not in {changed for changed, _ in passed.set_headers}
    assert name not in passed.remove_headers
    assert book.opening["client"][fact] == value
