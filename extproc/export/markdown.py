"""Exchanges as a conversation that one can read, in Markdown. Pure.

Whatever was recorded stands in code: so a prompt cannot look like a heading of ours, nor bring HTML to whoever opens
the file. Agents send the whole conversation with each request; only what is new since the last answer is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from extproc.recording.packing import encoded

_LINES: Final = "\n\t"


class Markdown:
    """Write one file; a heading says where another session begins, or goes on."""

    def __init__(self) -> None:
        self._session: str | None = None
        self._begun: set[str] = set()

    def begin(self) -> bytes:
        """Return nothing."""
        return b""

    def add(self, document: Mapping[str, Any]) -> bytes:
        """Return an exchange."""
        return ("\n\n".join([*self._heading(document["session"]), *_exchange(document)]) + "\n\n").encode()

    def end(self) -> bytes:
        """Return nothing."""
        return b""

    def _heading(self, session: str) -> list[str]:
        if session == self._session:
            return []
        again = ", continued" if session in self._begun else ""
        self._session = session
        self._begun.add(session)
        return [f"# Session {_word(session)}{again}"]


def _exchange(document: Mapping[str, Any]) -> Iterator[str]:
    at = datetime.fromtimestamp(document["opened_at"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if "removed" in document:
        who, model = document["facts"].get("user"), document["facts"].get("model")
        yield f"## {at}, {_word(who or 'unidentified')}"
        yield f"- exchange {_word(document['id'])}, model {_word(model or '-')}\n- {_word(document['removed'])}"
        return
    yield f"## {at}, {_word((document.get('principal') or {}).get('name') or 'unidentified')}"
    yield "\n".join(f"- {name}: {_word(value)}" for name, value in _facts(document))
    messages = document["request"].get("messages")
    earlier, new = _new(messages if isinstance(messages, list) else [] if messages is None else [messages])
    if earlier:
        yield f"*{earlier} earlier messages were sent again.*"
    for message in new:
        yield from _message(message)
    response = document.get("response") or {}
    for choice in response.get("choices") or [response]:
        yield from _answer(choice)
    if response.get("error"):
        yield from _block("error of the upstream", response["error"])
    for approval in document.get("approvals") or ():
        yield from _block("approval", approval)


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    request, decision, turn = document["request"], document.get("decision") or {}, document.get("turn") or {}
    yield "exchange", document["id"]
    for name, value in (("turn", "id"), ("retry of", "retry_of"), ("purpose", "purpose")):
        if turn.get(value):
            yield name, turn[value]
    yield "request", f"{request.get('method')} {request.get('host')}{request.get('path')}"
    for name, value in (("model", request.get("model")), ("repository", request.get("repository"))):
        if value:
            yield name, value
    if decision:
        yield "decision", f"{decision.get('effect')} by rule {decision.get('rule')}"
    yield "outcome", str(document.get("outcome"))
    if error := document.get("error"):
        yield "error", f"{error['code']}: {error['message']}"
    for finding in document.get("findings") or ():
        yield "finding", f"{finding['rule']} in {finding['direction']} at {finding['where']}, {finding['action']}"


def _new(messages: list[Any]) -> tuple[int, list[Any]]:
    """Return how many messages had been there before, and those after the last answer."""
    for at in range(len(messages) - 1, -1, -1):
        if isinstance(messages[at], dict) and messages[at].get("role") == "assistant":
            return at + 1, messages[at + 1 :]
    return 0, messages


def _message(message: Any) -> Iterator[str]:  # noqa: ANN401 - a message is JSON as the client sent it
    if not isinstance(message, dict):
        yield from _block("message", message)
        return
    role = str(message.get("role") or message.get("type") or "message")
    content = next((message[name] for name in ("content", "output", "arguments") if message.get(name)), None)
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        content = "\n".join(part["text"] for part in content)
    yield from _block(role, message if content is None else content)


def _answer(choice: Mapping[str, Any]) -> Iterator[str]:
    if choice.get("reasoning"):
        yield from _block("assistant, reasoning", choice["reasoning"])
    if choice.get("text"):
        yield from _block("assistant", choice["text"])
    for call in choice.get("tool_calls") or ():
        yield from _block(f"assistant, tool call {call.get('name')}", call.get("arguments") or "")


def _block(title: str, content: Any) -> Iterator[str]:  # noqa: ANN401 - JSON
    text = content if isinstance(content, str) else encoded(content).decode()
    text = "".join(char for char in text if char.isprintable() or char in _LINES)
    # Longer than any run of backticks in the text, so that none of them ends the block (CommonMark section 4.5).
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    yield f"### {_word(title)}"
    yield f"{fence}text\n{text}\n{fence}"


def _word(text: str) -> str:
    """Return a short text as code on one line."""
    plain = "".join(char for char in str(text) if char.isprintable()).replace("`", "'")
    return f"`{plain or ' '}`"
