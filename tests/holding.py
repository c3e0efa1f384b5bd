"""Exchanges that wait for approvers, for tests: a policy with protections, what it protects, and how it is decided."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from extproc.approval.approval import Approval, Scope, State, Verdict
from extproc.approval.protection import Effect, protection, touch_condition
from extproc.effects import Ask, PassResponseBody, PassResponseHeaders
from extproc.events import Decided, Identified, RequestBody, ResponseBody
from extproc.exchange import Exchange
from extproc.rules import Rules
from tests import approving
from tests.playbook import ALICE, IDENTIFY, POLICY, Playbook, released, request, response, rules

MESSAGE = "This needs a second pair of eyes."
PROTECTIONS = (
    protection("keys", Effect.DENY, [], [touch_condition("files", ["keys/**"])], reason="Nobody touches keys."),
    *(
        protection(name, Effect.REQUIRE_APPROVAL, [], [touched], approval=approving.rule(rule_id=name, message=MESSAGE))
        for name, touched in {
            "infra": touch_condition("files", ["infra/**"]),
            "workflows": touch_condition("files", [".github/workflows/**"]),
            "merges": touch_condition("acts", ["merge"]),
        }.items()
    ),
)

MERGE = "/repos/acme/app/pulls/1/merge"
SAID = "On it. "
INFRA, WORKFLOW, KEYS, PLAIN = "infra/prod.tf", ".github/workflows/ci.yaml", "keys/root", "src/app.py"


def protecting() -> Rules:
    return rules(policy=replace(POLICY, protections=PROTECTIONS))


def arguments(path: str) -> str:
    return msgspec.json.encode({"path": path, "old_str": "a", "new_str": "b"}).decode()


def answer(*paths: str) -> bytes:
    """Return a JSON answer that edits files."""
    calls = [
        {"id": f"c{at}", "type": "function", "function": {"name": "edit", "arguments": arguments(path)}}
        for at, path in enumerate(paths)
    ]
    message = {"role": "assistant", "content": SAID, "tool_calls": calls}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return msgspec.json.encode({"model": "gpt-5", "choices": [choice]})


def chunk(finish: str | None = None, **delta: object) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + msgspec.json.encode({"id": "x", "model": "gpt-5", "choices": [choice]}) + b"\n\n"


def call(path: str, at: int = 0) -> list[bytes]:
    """Return the events of one call, in pieces."""
    text = arguments(path)
    head = {"index": at, "id": f"c{at}", "type": "function", "function": {"name": "edit", "arguments": ""}}
    pieces = [{"index": at, "function": {"arguments": piece}} for piece in (text[:9], text[9:])]
    return [chunk(tool_calls=[one]) for one in (head, *pieces)]


FIRST = chunk(role="assistant", content=SAID)
END = [chunk("tool_calls"), b"data: [DONE]\n\n"]


def events(*paths: str) -> list[bytes]:
    """Return a stream that says something and edits files."""
    return [FIRST, *(event for at, path in enumerate(paths) for event in call(path, at)), *END]


def book(rules_: Rules | None = None) -> Playbook:
    return Playbook(Exchange("4" * 32, rules_ or protecting()))


def holding_request(rules_: Rules | None = None) -> Playbook:
    """Return a merge that waits for its approval."""
    found = book(rules_) >> request("PUT", MERGE) << IDENTIFY >> Identified(ALICE)
    return found >> RequestBody(b"{}", end_of_stream=True) << Ask


def streaming(rules_: Rules | None = None) -> Playbook:
    return released(book(rules_)) >> response(200, "text/event-stream") << PassResponseHeaders


def asking_in_stream(*paths: str) -> Playbook:
    """Return a stream up to where approvers are asked about the edits in it; its formal end is still to come."""
    found = streaming() >> ResponseBody(FIRST, end_of_stream=False) << PassResponseBody(FIRST, end_of_stream=False)
    return found >> ResponseBody(b"".join(events(*paths)[1:]), end_of_stream=False) << Ask


def holding_stream(*paths: str) -> Playbook:
    """Return the same after its end."""
    return asking_in_stream(*paths) >> ResponseBody(b"", end_of_stream=True)


def holding_json(*paths: str) -> Playbook:
    """Return a JSON answer that waits; its headers are out."""
    found = released(book()) >> response() >> ResponseBody(answer(*paths), end_of_stream=True)
    return found << PassResponseHeaders << Ask


def decided(found: Playbook, state: State = State.APPROVED, reason: str = "") -> Decided:
    """Return how what was asked last ended."""
    asked = [one for one in found.effects if isinstance(one, Ask)][-1].request
    given = state in {State.APPROVED, State.DENIED}
    verdict = Verdict("issuer#bob", "bob", state is State.APPROVED, reason, Scope.ONCE, found.now)
    return Decided(Approval(asked, state, (verdict,) if given else (), found.now))


def passed(found: Playbook) -> bytes:
    """Return what the client got of the body."""
    return b"".join(one.data for one in found.effects if isinstance(one, PassResponseBody))
