"""`/chat/completions` of the demo upstream, in the form in which Copilot answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from extproc.dev.upstream_model import Asked, event, is_objects, need, need_common, openai_error
from extproc.dev.upstream_script import Script

_ROLES = {"system", "developer", "user", "assistant", "tool", "function"}
DONE = b"data: [DONE]\n\n"


class ChatWire:
    """Implement `Wire` for chat completions."""

    def read(self, body: dict[str, Any]) -> Asked:
        """Check a request and say what is asked; raises BadRequestError."""
        need_common(body)
        messages, tools = body.get("messages"), body.get("tools") or []
        need(messages and is_objects(messages), "messages", "a non-empty list of objects")
        calls: set[str] = set()
        for at, message in enumerate(body["messages"]):
            _need_message(f"messages[{at}]", message, calls)
        for at, tool in enumerate(tools):
            named = tool.get(tool.get("type"))
            is_named = isinstance(named, dict) and isinstance(named.get("name"), str)
            need(is_named and tool["type"] in {"function", "custom"}, f"tools[{at}]", "a function or a custom tool")
        return Asked(body, body["model"], body["messages"], tools, stream=body.get("stream") is True)

    def whole(self, asked: Asked, script: Script, created: int) -> dict[str, Any]:
        """Return the answer as one completion."""
        message: dict[str, Any] = {"role": "assistant", "content": script.text() or None}
        if script.tool_call is not None:
            message["tool_calls"] = [_call(script, script.tool_call.arguments)]
        choice = {"index": 0, "message": message, "finish_reason": _finish_reason(script)}
        return _object(asked, "chat.completion", created, [choice]) | {"usage": usage(asked, script)}

    def events(self, asked: Asked, script: Script, created: int) -> Iterator[bytes]:
        """Yield the answer as Copilot streams it: filter results first, with no choices; the usage last."""

        def delta(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
            return event(_object(asked, "chat.completion.chunk", created, [choice]))

        filters = {"hate": {"filtered": False, "severity": "safe"}}
        results = [{"prompt_index": 0, "content_filter_results": filters}]
        yield event({"choices": [], "created": 0, "id": "", "prompt_filter_results": results})
        yield delta({"role": "assistant", "content": ""})
        for piece in script.pieces:
            yield delta({"content": piece})
        if script.tool_call is not None:
            yield delta({"tool_calls": [{"index": 0} | _call(script, "")]})
            kind, member = ("custom", "input") if script.is_custom else ("function", "arguments")
            for fragment in script.argument_pieces():
                yield delta({"tool_calls": [{"index": 0, kind: {member: fragment}}]})
        yield delta({}, _finish_reason(script))
        yield event(_object(asked, "chat.completion.chunk", created, []) | {"usage": usage(asked, script)})
        yield DONE

    def error(self, _status: int, code: str, message: str, param: str | None) -> dict[str, Any]:
        """Return the body of an error."""
        return openai_error(code, message, param)


def usage(asked: Asked, script: Script) -> dict[str, int]:
    """Return the usage in the form of chat and legacy completions."""
    prompt, completion = asked.prompt_tokens(), script.tokens()
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _need_message(at: str, message: dict[str, Any], calls: set[str]) -> None:
    """Check a message; `calls` are the ids of the tool calls before it."""
    need(message.get("role") in _ROLES, f"{at}.role", f"one of {', '.join(sorted(_ROLES))}")
    content = message.get("content")
    is_text = isinstance(content, str) or (is_objects(content) and content)
    # An assistant's turn may be nothing but tool calls.
    need(is_text or (content is None and message["role"] == "assistant"), f"{at}.content", "a string or parts")
    need(is_objects(message.get("tool_calls") or []), f"{at}.tool_calls", "a list of objects")
    calls.update(call["id"] for call in message.get("tool_calls") or [] if isinstance(call.get("id"), str))
    if message["role"] == "tool":
        need(message.get("tool_call_id") in calls, f"{at}.tool_call_id", "the id of a tool call before it")


def _call(script: Script, arguments: str) -> dict[str, Any]:
    call = script.tool_call
    if call is None:
        raise ValueError("a script without a tool call")
    if script.is_custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _object(asked: Asked, kind: str, created: int, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{asked.id()}",
        "object": kind,
        "created": created,
        "model": asked.model,
        "choices": choices,
    }


def _finish_reason(script: Script) -> str:
    return "stop" if script.tool_call is None else "tool_calls"
