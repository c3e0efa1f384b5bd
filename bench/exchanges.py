"""Exchanges to record: a plain chat of 1 KB, and the turns of an agent's session, which resend all that was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any, Final

from bench import texts
from extproc.conversation import Answer, Choice, Prompt, ToolCall, Usage
from extproc.headers import ClientFacts
from extproc.identity.principal import Principal
from extproc.policy import Decision, Effect
from extproc.recording.document import Outcome, Timing, closing, opening

Entry = dict[str, Any]

NOW: Final = 1_760_000_000.0
_SEED: Final = 5
_POLICY: Final = "9f2c" * 16
_MASKING: Final = {"prompt": {"rules": "5d41402abc4b2a76", "seconds": 0.0004}}

_SUBJECT: Final = "7f9c24e8-3b1a-4f0d-9c55-1d2e3f4a5b6c"
_PRINCIPAL: Final = Principal(
    id=f"https://login.example/tenant/v2.0#{_SUBJECT}",
    name="alice@example.com",
    kind="person",
    issuer="https://login.example/tenant/v2.0",
    subject=_SUBJECT,
    groups=frozenset({"developers", "team-payments"}),
    claims={"email": "alice@example.com", "name": "Alice Example"},
)
_CLIENT: Final = ClientFacts(
    user_agent="copilot/1.0.24 (linux v24.11.1) term/unknown",
    editor_version="copilot-cli/1.0.24",
    editor_plugin_version=None,
    integration_id="copilot-developer-cli",
    initiator="user",
    interaction_id="0f8b2c44-5a1e-4a63-b7d0-53b2a0c1f9e7",
    interaction_type="conversation-agent",
    session_id=None,
    intent="conversation-agent",
    repository="acme/payments",
)
_REQUEST: Final = {
    "method": "POST",
    "path": "/chat/completions",
    "host": "api.githubcopilot.com",
    "endpoint": "chat",
    "upstream": "copilot",
    "repository": "acme/payments",
}

# Of a coding agent that was looked at: a system prompt of 25 KB, 19 tools of 27 KB.
_SYSTEM_CHARS: Final = 25_000
_TOOLS: Final = 19
_TOOL_CHARS: Final = 1_150
_QUESTION_CHARS: Final = 700
_CODE_CHARS: Final = 180
_TOOL_RESULT_CHARS: Final = (200, 1_000, 2_500, 2_500, 6_000)


@dataclass(frozen=True, slots=True)
class Exchange:
    """What is recorded of an exchange: opening, what goes to the client in pieces, closing."""

    opening: Entry
    pieces: list[bytes]
    closing: Entry


def plain_chats(count: int, *, per_session: int = 10, start: int = 0) -> Iterator[Exchange]:
    """Yield chats of one question, 1 KB as it is sent, and an answer of 650 characters, some of them lines of code."""
    question = _prose(_QUESTION_CHARS)
    text = f"{_prose(400)}:\n```python\n{_code(_CODE_CHARS)}\n```\nIt raises OSError where there is none."
    prompt = Prompt("gpt-5", [{"role": "user", "content": question}], [], stream=True)
    for number in range(start, start + count):
        yield _exchange(number, f"session-{number // per_session}", prompt, text, [])


def agent_turns(turns: int, *, session: str = "agent") -> Iterator[Exchange]:
    """Yield the turns of a session in which an agent calls one tool a turn and sends everything again each time."""
    random = Random(_SEED)  # noqa: S311 - the same session each time
    code, prose = _code(400_000), _prose(100_000)
    messages: list[Entry] = [
        {"role": "system", "content": prose[:_SYSTEM_CHARS]},
        {"role": "user", "content": prose[_SYSTEM_CHARS : _SYSTEM_CHARS + 150]},
    ]
    tools = [_tool(number, prose) for number in range(_TOOLS)]
    for turn in range(turns):
        said, written = _somewhere(random, prose, 200), _somewhere(random, code, 500)
        arguments = json.dumps({"path": f"src/module_{turn}.py", "old_str": "", "new_str": written})
        call = ToolCall(f"call_{turn:024}", "edit", arguments)
        yield _exchange(turn, session, Prompt("gpt-5", list(messages), tools, stream=True), said, [call])
        result = _somewhere(random, code, random.choice(_TOOL_RESULT_CHARS))
        messages += [
            {"role": "assistant", "content": said, "tool_calls": [_sent(call)]},
            {"role": "tool", "tool_call_id": call.id, "content": result},
        ]


def in_session(exchange: Exchange, session: str) -> Exchange:
    """Return the same exchange as one of another session."""
    exchange_id = f"{session} {exchange.opening['id']}"
    opened = {**exchange.opening, "id": exchange_id, "session": session}
    return Exchange(opened, exchange.pieces, {**exchange.closing, "id": exchange_id})


@cache
def _prose(chars: int) -> str:
    return texts.prose(chars)


@cache
def _code(chars: int) -> str:
    return texts.code(chars)


def _exchange(number: int, session: str, prompt: Prompt, text: str, calls: list[ToolCall]) -> Exchange:
    exchange_id, opened_at = f"{number:032x}", NOW + number / 100
    written = text + "".join(call.arguments for call in calls)
    third = len(written) // 3
    pieces = [_event(written[:third]), _event(written[third : 2 * third]), _event(written[2 * third :])]
    opened = opening(
        exchange_id=exchange_id,
        session=session,
        opened_at=opened_at,
        principal=_PRINCIPAL,
        decision=Decision(Effect.ALLOW, "developers-chat", "members of developers may use models", "copilot"),
        policy_digest=_POLICY,
        client=_CLIENT,
        client_address="192.0.2.17",
        request=_REQUEST,
        prompt=prompt,
        body_bytes=1024,
        masking=_MASKING,
    )
    answer = Answer(
        "gpt-5-2025", [Choice(0, text, "", calls, "tool_calls" if calls else "stop")], Usage(612, 188), complete=True
    )
    closed = closing(
        exchange_id=exchange_id,
        opened_at=opened_at,
        closed_at=opened_at + 1.25,
        outcome=Outcome.COMPLETED,
        refusal=None,
        status=200,
        upstream_status=200,
        content_type="text/event-stream",
        body_bytes=sum(map(len, pieces)),
        answer=answer,
        timing=Timing(0.9, 410.2, [(420.0 + 300 * n, "0.text", len(one)) for n, one in enumerate(pieces)]),
        masking={"answer": _MASKING["prompt"]},
    )
    return Exchange(opened, pieces, closed)


def _event(text: str) -> bytes:
    event = {"choices": [{"index": 0, "delta": {"content": text}}], "model": "gpt-5-2025"}
    return b"data: %b\n\n" % json.dumps(event).encode()


def _tool(number: int, prose: str) -> Entry:
    about = prose[number * _TOOL_CHARS : (number + 1) * _TOOL_CHARS]
    parameters = {"type": "object", "properties": {"path": {"type": "string", "description": about[:200]}}}
    return {"type": "function", "function": {"name": f"tool_{number}", "description": about, "parameters": parameters}}


def _sent(call: ToolCall) -> Entry:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _somewhere(random: Random, text: str, chars: int) -> str:
    start = random.randrange(len(text) - chars)
    return text[start : start + chars]
